"""A task: a dict of attributes merged from blocks, and what each attribute may hold."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from decimal import Decimal, InvalidOperation
from enum import StrEnum
from functools import lru_cache
from math import isfinite
from numbers import Integral, Real
from typing import TYPE_CHECKING, Any

from taskgen_run.errors import ConfigurationError, unknown_name
from taskgen_run.values import samples

if TYPE_CHECKING:
    from taskgen_run.job import Job

Block = Mapping[str, Any] | Callable[[], Mapping[str, Any]]
"""A part of a task: a mapping of attributes, or a function that returns one."""

NS_PER_MS = 1_000_000
MAX_MS = 10**12
"""About 31 years; beyond it absolute times in ns would leave int64."""

_QUOTA = re.compile(r"([0-9]+)([KMG]?)")
_QUOTA_UNIT = {"": 1, "K": 2**10, "M": 2**20, "G": 2**30}
_NS = Decimal("0.000001")


class Kind(StrEnum):
    """What an attribute holds."""

    MS = "a number of ms"
    INTEGER = "a whole number"
    NUMBER = "a number"
    BYTES = "bytes as a whole number, with K, M or G"
    TEXT = "text"
    NAME = "a file name of at most 15 ASCII characters"
    MAPPING = "a mapping"


@dataclass(frozen=True, slots=True)
class Attribute:
    """What one attribute of a task may hold; the bounds are inclusive, in the kind's unit."""

    kind: Kind
    minimum: int | None = 0
    maximum: int | None = None

    def problem(self, value: object) -> str | None:
        """What is wrong with one `value`, as 'must be …, got …'; None if nothing is."""
        if isinstance(value, bool) or not _HAS_KIND[self.kind](value):
            return f"must be {self.kind}, got {value!r}"
        if self.kind not in _UNITS:
            return None
        unit, limit = _UNITS[self.kind]
        number: Any = quota_bytes(value) if isinstance(value, str) else value
        maximum = limit if self.maximum is None else min(self.maximum, limit)
        if self.minimum is not None and number < self.minimum:
            return f"must be ≥ {self.minimum}{unit}, got {value}"
        if number > maximum or number < -limit:
            bound = f"≤ {maximum}" if number > maximum else f"≥ {-limit}"
            return f"must be {bound}{unit}, got {value}"
        if self.kind is Kind.MS and not isinstance(value, int) and not _is_whole_ns(value):
            return f"must be a whole number of ns (at most 6 decimals), got {value} ms"
        return None


def _is_number(value: object) -> bool:
    if isinstance(value, int):
        return True
    if type(value) is float:
        return isfinite(value)
    try:
        return isinstance(value, (Real, Decimal)) and Decimal(str(value)).is_finite()
    except InvalidOperation:  # a number that has no decimal form, such as a Fraction
        return False


def _is_integer(value: object) -> bool:
    return isinstance(value, (int, Integral))


def _is_bytes(value: object) -> bool:
    return _is_integer(value) or (isinstance(value, str) and bool(_QUOTA.fullmatch(value)))


def _is_name(value: object) -> bool:
    return (
        isinstance(value, str)
        and 0 < len(value) <= 15
        and value.isascii()
        and value.isprintable()
        and "/" not in value
        and value not in (".", "..")
    )


def _is_whole_ns(ms: object) -> bool:
    if type(ms) is float:
        return round(ms, 6) == ms  # it is written with 6 decimals, or fewer
    exact = Decimal(str(ms))
    return exact == exact.quantize(_NS)


_HAS_KIND: Mapping[Kind, Callable[[object], bool]] = {
    Kind.MS: _is_number,
    Kind.INTEGER: _is_integer,
    Kind.NUMBER: _is_number,
    Kind.BYTES: _is_bytes,
    Kind.TEXT: lambda value: isinstance(value, str),
    Kind.NAME: _is_name,
    Kind.MAPPING: lambda value: isinstance(value, Mapping),
}
_UNITS: Mapping[Kind, tuple[str, float]] = {
    Kind.MS: (" ms", MAX_MS),
    Kind.INTEGER: ("", 2**63 - 1),
    Kind.NUMBER: ("", float("inf")),
    Kind.BYTES: (" bytes", 2**63 - 1),
}
"""The unit of the kinds that have bounds, and the largest number that can be stored."""


ATTRIBUTES: Mapping[str, Attribute] = {
    "id": Attribute(Kind.INTEGER),
    "executiontime": Attribute(Kind.MS),
    "criticaltime": Attribute(Kind.MS),
    "priority": Attribute(Kind.INTEGER, 0, 128),
    "deadline": Attribute(Kind.MS),
    "period": Attribute(Kind.MS),
    "offset": Attribute(Kind.MS),
    "numberofjobs": Attribute(Kind.INTEGER),
    "quota": Attribute(Kind.BYTES),
    "caps": Attribute(Kind.INTEGER),
    "cores": Attribute(Kind.INTEGER),
    "coreoffset": Attribute(Kind.INTEGER, None),
    "pkg": Attribute(Kind.NAME),
    "config": Attribute(Kind.MAPPING),
}
"""The attributes of every task, those of the wire protocol's task description."""

PRIORITY_EDF = 128
"""The priority that means: scheduled by EDF on the deadline."""


def to_ns(ms: float | Decimal) -> int:
    """Exact ns of a valid number of ms: 8.2 is 8 200 000, whatever its binary fraction."""
    return ms * NS_PER_MS if isinstance(ms, int) else _decimal_to_ns(ms)


@lru_cache(2**14)  # the same few numbers come in variant after variant
def _decimal_to_ns(ms: float | Decimal) -> int:
    return int(Decimal(str(ms)) * NS_PER_MS)


def quota_bytes(quota: int | str) -> int:
    """Bytes of a valid quota, such as 4096, '64K' or '1M' (K, M and G are powers of 1024)."""
    match = _QUOTA.fullmatch(str(quota))
    if match is None:
        raise ValueError(f"quota must be {Kind.BYTES}, got {quota!r}")
    return int(match[1]) * _QUOTA_UNIT[match[2]]


class Task(dict[str, Any]):
    """Attributes of a task, merged from blocks from left to right; later ones win.

    ``Task(hey.HelloWorld, period.Value(10), numberofjobs=3)``. `config` is merged key by key.
    `jobs` holds what its session has reported of it.
    """

    def __init__(self, *blocks: Block, **attributes: Any) -> None:
        super().__init__()
        self.jobs: list[Job] = []
        for block in (*blocks, attributes):
            for name, value in (block() if callable(block) else block).items():
                if name == "config" and _are_mappings(value, self.get("config")):
                    value = {**self["config"], **value}
                self[name] = value

    def copy(self) -> Task:
        """A shallow copy without jobs."""
        twin = Task.__new__(Task)
        twin.update(self)
        twin.jobs = []
        return twin

    @property
    def period_ns(self) -> int:
        """Period; 0 for a single job."""
        return to_ns(self.get("period", 0))

    @property
    def offset_ns(self) -> int:
        """Delay of the first release."""
        return to_ns(self.get("offset", 0))

    @property
    def executiontime_ns(self) -> int | None:
        """Worst-case execution time; None if it is not set."""
        return to_ns(self["executiontime"]) if "executiontime" in self else None

    @property
    def deadline_ns(self) -> int | None:
        """Relative deadline. Unset: the period, none for a single job. 0: none (None)."""
        return to_ns(self.get("deadline", self.get("period", 0))) or None

    @property
    def criticaltime_ns(self) -> int | None:
        """Time after which a job is killed; None for never."""
        return to_ns(self.get("criticaltime", 0)) or None

    @property
    def job_count(self) -> int | None:
        """How many jobs the task releases; None for without end."""
        return self.get("numberofjobs", 0) or (None if self.period_ns else 1)

    def resolved(self) -> dict[str, Any]:
        """The attributes with the defaults of `deadline` and `numberofjobs` filled in."""
        defaults = {"deadline": self.get("period", 0), "numberofjobs": self.job_count or 0}
        return {**defaults, **self, "numberofjobs": defaults["numberofjobs"]}

    def problems(self, known: Mapping[str, Attribute] = ATTRIBUTES) -> Iterable[str]:
        """Yield what is wrong with the task, with all its values and for itself.

        Of a multi-valued attribute those values are looked at that `values.samples` yields.
        """
        for name, value in self.items():
            if name not in known:
                yield unknown_name("attribute", name, known)
                continue
            for single in samples(value):
                problem = known[name].problem(single)
                if problem:
                    yield f"{name} {problem}"
        count, period = self.get("numberofjobs", 0), self.get("period", 0)
        if _is_integer(count) and count > 1 and _is_number(period) and period == 0:
            yield f"numberofjobs must be ≤ 1 when period is 0, got {count}; set a period"


def _are_mappings(*values: object) -> bool:
    return all(isinstance(value, Mapping) for value in values)


def require(task: Task, name: str, place: str, why: str) -> None:
    """Raise ConfigurationError if the attribute `name` is not set."""
    if name not in task:
        raise ConfigurationError(f"{place}: {name} must be set {why}; add `{name}:` to the task")
