"""Blocks of `quota`, the RAM of a job, in bytes or as text with K, M or G: '64K', '1M'."""

from __future__ import annotations

from typing import Any

from taskgen_run.errors import ConfigurationError
from taskgen_run.task import ATTRIBUTES, quota_bytes
from taskgen_run.values import Random as RandomValue
from taskgen_run.values import Range


def Value(quota: int | str) -> dict[str, Any]:  # noqa: N802 - blocks are named alike
    """The quota, in bytes or as text."""
    return {"quota": quota}


def Variants(  # noqa: N802
    first: int | str, last: int | str, step: int | str
) -> dict[str, Any]:
    """Each quota from `first` to `last`, both included, `step` apart, in turn.

    All three are in bytes or text; the values are bytes. Raises ConfigurationError.
    """
    return {"quota": _range(first, last, step)}


def Random(  # noqa: N802
    first: int | str, last: int | str, step: int | str
) -> dict[str, Any]:
    """One of the quotas from `first` to `last`, `step` apart, drawn per variant.

    All three are in bytes or text; the values are bytes. Raises ConfigurationError.
    """
    return {"quota": RandomValue(_range(first, last, step))}


def _range(*bounds: int | str) -> Range:
    for bound in bounds:
        if problem := ATTRIBUTES["quota"].problem(bound):
            raise ConfigurationError(f"a range of quotas: a bound {problem}")
    return Range(*(quota_bytes(bound) for bound in bounds))
