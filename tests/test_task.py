"""Tests of taskgen_run.task."""

from __future__ import annotations

import math
from decimal import Decimal
from fractions import Fraction
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from taskgen_run.errors import ConfigurationError
from taskgen_run.job import Job
from taskgen_run.task import (
    ATTRIBUTES,
    MAX_MS,
    Attribute,
    Kind,
    Task,
    quota_bytes,
    require,
    to_ns,
)
from taskgen_run.values import Random, Range


def test_blocks_merge_from_left_to_right() -> None:
    def block() -> dict[str, Any]:
        return {"period": 2, "priority": 2}

    task = Task({"period": 1, "pkg": "hey", "priority": 1}, block, priority=3)
    assert task == {"period": 2, "pkg": "hey", "priority": 3}
    assert task.jobs == []


def test_config_merges_key_by_key_and_leaves_the_blocks_alone() -> None:
    first = {"config": {"arg1": 1, "a": 1}}
    task = Task(first, {"config": {"arg1": 2}}, config={"b": 3})
    assert task["config"] == {"arg1": 2, "a": 1, "b": 3}
    assert first == {"config": {"arg1": 1, "a": 1}}


def test_a_config_that_is_no_mapping_is_for_check_to_find() -> None:
    task = Task({"config": 5}, {"config": {"arg1": 2}})
    assert task["config"] == {"arg1": 2}
    assert list(Task({"config": {"a": 1}}, config=5).problems()) == [
        "config must be a mapping, got 5"
    ]


def test_copy_is_a_task_without_jobs() -> None:
    task = Task(period=5, config={"arg1": 1})
    task.jobs.append(Job(0, 0))
    twin = task.copy()
    assert type(twin) is Task
    assert twin == task
    assert twin.jobs == []
    twin["period"] = 6
    assert task["period"] == 5


@pytest.mark.parametrize(
    ("attributes", "deadline", "count"),
    [
        ({}, None, 1),
        ({"period": 0}, None, 1),
        ({"period": 5}, 5_000_000, None),
        ({"period": 5, "deadline": 4}, 4_000_000, None),
        ({"period": 5, "deadline": 0}, None, None),
        ({"deadline": 4}, 4_000_000, 1),
        ({"period": 5, "numberofjobs": 0}, 5_000_000, None),
        ({"period": 5, "numberofjobs": 3}, 5_000_000, 3),
        ({"numberofjobs": 0}, None, 1),
        ({"numberofjobs": 1}, None, 1),
    ],
)
def test_defaults(attributes: dict[str, Any], deadline: int | None, count: int | None) -> None:
    task = Task(attributes)
    assert task.deadline_ns == deadline
    assert task.job_count == count
    resolved = task.resolved()
    assert resolved["deadline"] == (deadline or 0) // 1_000_000
    assert resolved["numberofjobs"] == (count or 0)
    assert attributes.items() - {("numberofjobs", 0)} <= resolved.items()


def test_times_in_ns() -> None:
    task = Task(period=8.2, offset=0.000001, executiontime=Decimal("1.5"), criticaltime=3)
    assert task.period_ns == task.deadline_ns == 8_200_000
    assert task.offset_ns == 1
    assert task.executiontime_ns == 1_500_000
    assert task.criticaltime_ns == 3_000_000
    unset = Task()
    assert (unset.period_ns, unset.offset_ns) == (0, 0)
    assert unset.executiontime_ns is unset.criticaltime_ns is None
    assert Task(criticaltime=0).criticaltime_ns is None


@given(st.integers(0, MAX_MS), st.integers(0, 999_999))
def test_to_ns_is_exact(ms: int, ns: int) -> None:
    assert to_ns(Decimal(f"{ms}.{ns:06}")) == ms * 1_000_000 + ns
    assert to_ns(ms) == ms * 1_000_000


@pytest.mark.parametrize(
    ("quota", "size"),
    [(0, 0), (4096, 4096), ("4096", 4096), ("64K", 65536), ("1M", 2**20), ("2G", 2**31)],
)
def test_quota_bytes(quota: int | str, size: int) -> None:
    assert quota_bytes(quota) == size


@pytest.mark.parametrize("quota", ["", "M", "1m", "1.5M", "-1", "1MB", "1 M", "١M"])
def test_no_quota(quota: str) -> None:
    with pytest.raises(ValueError, match="quota must be bytes"):
        quota_bytes(quota)
    assert list(Task(quota=quota).problems()) == [
        f"quota must be bytes as a whole number, with K, M or G, got {quota!r}"
    ]


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("period", 0),
        ("period", 0.000001),
        ("period", Decimal("5.0000000000")),
        ("period", MAX_MS),
        ("deadline", 8.2),
        ("priority", 0),
        ("priority", 128),
        ("coreoffset", -1),
        ("caps", 2**63 - 1),
        ("quota", 2**63 - 1),
        ("pkg", "a" * 15),
        ("config", {}),
        ("period", [1, 2.5]),
        ("period", Range(1, 10**9)),
        ("priority", Random(Range(0, 128))),
        ("period", iter([1])),
    ],
)
def test_valid(name: str, value: Any) -> None:
    assert list(Task({name: value}).problems()) == []


@pytest.mark.parametrize(
    ("name", "value", "problem"),
    [
        ("period", -5, "must be ≥ 0 ms, got -5"),
        ("period", -0.5, "must be ≥ 0 ms, got -0.5"),
        ("period", True, "must be a number of ms, got True"),
        ("period", "5", "must be a number of ms, got '5'"),
        ("period", None, "must be a number of ms, got None"),
        ("period", math.nan, "must be a number of ms, got nan"),
        ("period", math.inf, "must be a number of ms, got inf"),
        ("period", Decimal("sNaN"), "must be a number of ms, got Decimal('sNaN')"),
        ("period", Fraction(1, 3), "must be a number of ms, got Fraction(1, 3)"),
        ("period", 1j, "must be a number of ms, got 1j"),
        ("period", {"a": 1}, "must be a number of ms, got {'a': 1}"),
        ("period", 0.0000001, "must be a whole number of ns (at most 6 decimals), got 1e-07 ms"),
        (
            "period",
            Decimal("1.0000000000000000000000000000000000001"),
            "must be a whole number of ns (at most 6 decimals), got "
            "1.0000000000000000000000000000000000001 ms",
        ),
        ("period", MAX_MS + 1, f"must be ≤ {MAX_MS} ms, got {MAX_MS + 1}"),
        ("period", 1e300, f"must be ≤ {MAX_MS} ms, got 1e+300"),
        ("period", 10**400, f"must be ≤ {MAX_MS} ms, got {10**400}"),
        ("priority", 129, "must be ≤ 128, got 129"),
        ("priority", -1, "must be ≥ 0, got -1"),
        ("priority", 1.0, "must be a whole number, got 1.0"),
        ("coreoffset", -(2**70), f"must be ≥ {1 - 2**63}, got {-(2**70)}"),
        ("caps", 2**63, f"must be ≤ {2**63 - 1}, got {2**63}"),
        ("quota", -1, "must be ≥ 0 bytes, got -1"),
        ("quota", f"{2**60}G", f"must be ≤ {2**63 - 1} bytes, got {2**60}G"),
        ("pkg", "", "must be a file name of at most 15 ASCII characters, got ''"),
        ("pkg", "a" * 16, f"must be a file name of at most 15 ASCII characters, got '{'a' * 16}'"),
        ("pkg", "../hey", "must be a file name of at most 15 ASCII characters, got '../hey'"),
        ("pkg", "..", "must be a file name of at most 15 ASCII characters, got '..'"),
        ("pkg", "héy", "must be a file name of at most 15 ASCII characters, got 'héy'"),
        ("pkg", "hey\n", "must be a file name of at most 15 ASCII characters, got 'hey\\n'"),
        ("config", "x", "must be a mapping, got 'x'"),
        ("period", [1, [2]], "must be a number of ms, got [2]"),
        ("period", Range(-1, 10**9), "must be ≥ 0 ms, got -1"),
        ("period", Range(1, 2 * 10**12), f"must be ≤ {MAX_MS} ms, got {2 * 10**12}"),
        ("priority", Random([1, 200]), "must be ≤ 128, got 200"),
    ],
)
def test_problems_name_attribute_constraint_and_value(name: str, value: Any, problem: str) -> None:
    assert list(Task({name: value}).problems()) == [f"{name} {problem}"]


def test_unknown_attribute() -> None:
    assert list(Task(preiod=5).problems()) == ["unknown attribute 'preiod'; did you mean 'period'?"]
    (problem,) = Task(q=5).problems()
    assert problem.startswith("unknown attribute 'q'; known are: caps, config, coreoffset")


def test_several_jobs_need_a_period() -> None:
    expected = ["numberofjobs must be ≤ 1 when period is 0, got 2; set a period"]
    assert list(Task(numberofjobs=2).problems()) == expected
    assert list(Task(numberofjobs=2, period=0.0).problems()) == expected
    assert list(Task(numberofjobs=2, period=1).problems()) == []
    assert list(Task(numberofjobs=1, period=0).problems()) == []
    assert list(Task(numberofjobs=[1, 2], period=[0, 1]).problems()) == []


@pytest.mark.parametrize(
    ("attribute", "value", "problem"),
    [
        (Attribute(Kind.MS, 1, 9), 0.5, "must be ≥ 1 ms, got 0.5"),
        (Attribute(Kind.MS, 1, 9), 10, "must be ≤ 9 ms, got 10"),
        (Attribute(Kind.MS, 1, 9), 9, None),
        (Attribute(Kind.MS, None), -3, None),
        (Attribute(Kind.NUMBER), 0.25, None),
        (Attribute(Kind.NUMBER), -0.25, "must be ≥ 0, got -0.25"),
        (Attribute(Kind.NUMBER, None), -1e300, None),
        (Attribute(Kind.BYTES, 0, 4096), "8K", "must be ≤ 4096 bytes, got 8K"),
        (Attribute(Kind.TEXT), "any", None),
        (Attribute(Kind.TEXT), 5, "must be text, got 5"),
    ],
)
def test_attributes_of_a_session(attribute: Attribute, value: Any, problem: str | None) -> None:
    assert attribute.problem(value) == problem
    known = {**ATTRIBUTES, "extra": attribute}
    assert list(Task(extra=value).problems(known)) == ([f"extra {problem}"] if problem else [])


def test_require() -> None:
    require(Task(executiontime=0), "executiontime", "task 0", "for a simulator")
    with pytest.raises(ConfigurationError) as caught:
        require(Task(), "executiontime", "task 0 of task set 'x'", "for a simulator")
    assert str(caught.value) == (
        "task 0 of task set 'x': executiontime must be set for a simulator; "
        "add `executiontime:` to the task"
    )


@given(
    st.one_of(
        st.floats(0, 1e12),
        st.decimals(0, 10**12, places=6).map(float),
        st.decimals(0, 1000, places=7).map(float),
        st.integers(0, 2**60).map(lambda n: n / 1e6),
    )
)
def test_a_float_is_a_whole_number_of_ns_as_it_is_written(value: float) -> None:
    said = Attribute(Kind.MS).problem(value)
    exact = Decimal(str(value))
    within = exact <= 10**12
    assert (said is None) == (within and exact == exact.quantize(Decimal("0.000001")))
    assert Attribute(Kind.MS).problem(float("nan")) == "must be a number of ms, got nan"
