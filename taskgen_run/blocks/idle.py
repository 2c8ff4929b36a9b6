"""Blocks of the workload `idle`, which never ends by itself."""

from __future__ import annotations

from typing import Any

Endless = {"pkg": "idle", "criticaltime": 0, "quota": "1M", "caps": 235, "config": {}}
"""Runs until it is stopped. Without an execution time, so it is not for simulators."""


def Value(criticaltime: int) -> dict[str, Any]:  # noqa: N802 - blocks are named alike
    """Runs until it is killed after `criticaltime` ms, which it may execute all the time."""
    return {**Endless, "criticaltime": criticaltime, "executiontime": criticaltime}
