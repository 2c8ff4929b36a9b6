"""Blocks of the workload `namaste`, which prints a greeting and ends."""

from __future__ import annotations

HelloWorld = {
    "pkg": "namaste",
    "executiontime": 1,
    "criticaltime": 0,
    "quota": "1M",
    "caps": 235,
    "config": {},
}
"""A greeting: at most 1 ms, never killed."""
