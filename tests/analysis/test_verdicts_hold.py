"""What the tests of `taskgen_run.analysis.verdicts` say is what simulation shows."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from taskgen_run.analysis.verdicts import TESTS, Analysis
from taskgen_run.results.misses import missed
from taskgen_run.sessions.fastsim import FastSimSession
from taskgen_run.task import Task
from taskgen_run.taskset import TaskSet

PERIODS_MS = [2, 3, 4, 5, 6, 8, 10, 12]

LONGEST_MS = 60_000
"""In an overload of a 240th a miss comes before that."""


OFFSETS: list[list[float]] = [[0], [0], [3], [0, 1, 2.25, 7]]
EXTRAS: list[dict[str, int]] = [{}, {}, {"numberofjobs": 3}, {"period": 0}, {"criticaltime": 4}]


@st.composite
def tasksets(draw: st.DrawFn, cpus: int) -> TaskSet:
    """Random tasks in quarters of a ms: from hardly any load to too much, with all that tasks have.

    The kind of deadlines and offsets is the same in one set, so that each kind is frequent.
    """
    kind = draw(st.sampled_from(["implicit", "constrained", "arbitrary", "any"]))
    offsets: list[float] = draw(st.sampled_from(OFFSETS))
    divisor = draw(st.sampled_from([1, 2, 3, 4, 8, 16]))
    plain = draw(st.booleans())
    tasks = []
    for _ in range(draw(st.integers(1, 3 + 2 * cpus))):
        period = draw(st.sampled_from(PERIODS_MS))
        task = Task(
            period=period,
            executiontime=draw(st.integers(0, max(1, 4 * period // divisor))) / 4,
            offset=draw(st.sampled_from(offsets)),
            priority=draw(st.integers(0, 6)),
        )
        if kind == "constrained":
            task["deadline"] = draw(st.integers(2 * period, 4 * period)) / 4
        elif kind == "arbitrary":
            task["deadline"] = draw(st.integers(2 * period, 12 * period)) / 4
        elif kind == "any":
            task["deadline"] = draw(st.integers(0, 60)) / 4
        if not plain:
            task.update(draw(st.sampled_from(EXTRAS)))
        tasks.append(task)
    return TaskSet(tasks, "random")


def misses(taskset: TaskSet, **options: Any) -> int:
    """How many jobs miss their deadline in a simulation."""
    jobs = FastSimSession("", 0, **options).run_batch([taskset])
    late = missed(jobs, pa.repeat(pa.scalar(taskset.horizon_ns, pa.int64()), jobs.num_rows))
    return late.to_pylist().count(True)


def misses_in_the_end(taskset: TaskSet, **options: Any) -> bool:
    """Whether a deadline is missed, sooner or later."""
    duration = 100
    while not misses(taskset, duration_ms=duration, **options):
        duration *= 4
        if duration > LONGEST_MS:
            return False
    return True


ONE = {"liu_layland", "hyperbolic", "response_time"}

CASES: list[tuple[dict[str, Any], set[str]]] = [
    ({"scheduler": "RM"}, ONE | {"bcl"}),
    ({"scheduler": "DM"}, ONE | {"bcl"}),
    ({"scheduler": "FP"}, ONE | {"bcl"}),
    ({"scheduler": "FP", "tie": "index"}, ONE | {"bcl"}),
    ({"scheduler": "EDF"}, {"edf_utilization", "processor_demand", "gfb", "bcl"}),
    ({"scheduler": "EDF", "tie": "index"}, {"edf_utilization", "processor_demand", "gfb", "bcl"}),
    ({"scheduler": "NP_FP"}, {"response_time"}),
    ({"scheduler": "NP_EDF"}, {"processor_demand"}),
    ({"scheduler": "RM", "cpus": 2}, {"bcl"}),
    ({"scheduler": "DM", "cpus": 3}, {"bcl"}),
    ({"scheduler": "FP", "cpus": 2}, {"bcl"}),
    ({"scheduler": "EDF", "cpus": 2}, {"gfb", "bcl"}),
    ({"scheduler": "EDF", "cpus": 4}, {"gfb", "bcl"}),
    ({"scheduler": "P_RM", "cpus": 2}, ONE),
    ({"scheduler": "P_RM", "cpus": 3, "packing": "first-fit"}, ONE),
    ({"scheduler": "P_EDF", "cpus": 2}, {"edf_utilization", "processor_demand"}),
    (
        {"scheduler": "P_EDF", "cpus": 3, "packing": "worst-fit"},
        {"edf_utilization", "processor_demand"},
    ),
]

EXACT = {"edf_utilization", "response_time", "processor_demand"}


@pytest.mark.parametrize(
    ("options", "applying"), CASES, ids=["-".join(map(str, o.values())) for o, _ in CASES]
)
@pytest.mark.parametrize("on_miss", ["continue", "abort", "skip-next"])
def test_no_simulation_contradicts_a_verdict(
    options: dict[str, Any], applying: set[str], on_miss: str
) -> None:
    """And each test that applies accepts some, and refutes some if it is exact."""
    seen: Counter[tuple[str, bool | None]] = Counter()
    analysis = Analysis(tuple(TESTS), FastSimSession.scheduling(**options))
    running = {**options, "on_miss": on_miss}

    @settings(max_examples=120, deadline=None, derandomize=True, database=None)
    @given(tasksets(options.get("cpus", 1)))
    def check(taskset: TaskSet) -> None:
        verdicts = analysis(taskset)
        seen.update(verdicts.items())
        given = set(verdicts.values())
        assert not {True, False} <= given, verdicts
        if True in given:
            assert misses(taskset, **running) == 0, verdicts
        if False in given:
            assert misses_in_the_end(taskset, **running), verdicts

    check()
    assert {name for name, verdict in seen if verdict is True} == applying
    assert {name for name, verdict in seen if verdict is False} == applying & EXACT


@pytest.mark.parametrize(
    ("scheduler", "name"), [("FP", "response_time"), ("EDF", "processor_demand")]
)
def test_the_exact_tests_decide_all_that_can_be_decided(scheduler: str, name: str) -> None:
    """With offsets, too: sets in which all jobs need time, none is killed and there are no ties."""
    seen: Counter[tuple[bool, bool | None]] = Counter()
    analysis = Analysis((name,), FastSimSession.scheduling(scheduler=scheduler))

    @settings(max_examples=400, deadline=None, derandomize=True, database=None)
    @given(tasksets(1), st.permutations(range(5)))
    def check(taskset: TaskSet, priorities: list[int]) -> None:
        for task, priority in zip(taskset, priorities, strict=False):
            task.update(priority=priority, executiontime=task["executiontime"] or 0.25)
            task.pop("criticaltime", None)
        verdict = analysis(taskset)[name]
        apart = len({task.offset_ns for task in taskset}) > 1
        seen[apart, verdict] += 1
        assert verdict == (not misses_in_the_end(taskset, scheduler=scheduler))

    check()
    assert set(seen) == {(apart, verdict) for apart in (True, False) for verdict in (True, False)}


STARVING: list[tuple[str, list[dict[str, float]]]] = [
    (
        "FP",
        [
            {"period": 2, "executiontime": 1, "priority": 0},
            {"period": 2, "executiontime": 1, "priority": 1, "offset": 1},
            {"period": 10, "executiontime": 1, "priority": 2, "numberofjobs": 3},
        ],
    ),
    (
        "DM",
        [
            {"period": 12, "executiontime": 2, "deadline": 36, "offset": 50, "numberofjobs": 5},
            {"period": 2, "executiontime": 1, "offset": 50},
            {"period": 3, "executiontime": 3},
        ],
    ),
    (
        "RM",
        [
            {"period": 2, "executiontime": 1},
            {"period": 4, "executiontime": 2, "offset": 1},
            {"period": 0, "executiontime": 1, "deadline": 5},
        ],
    ),
]
"""Tasks with jobs that never get the processor, of which there is an end."""


@pytest.mark.parametrize(("scheduler", "tasks"), STARVING, ids=[name for name, _ in STARVING])
def test_jobs_that_never_get_the_processor_miss(
    scheduler: str, tasks: list[dict[str, float]]
) -> None:
    taskset = TaskSet([Task(task) for task in tasks], "starving")
    analysis = Analysis(("response_time",), FastSimSession.scheduling(scheduler=scheduler))
    assert misses(taskset, scheduler=scheduler, duration_ms=100)
    assert analysis(taskset) == {"response_time": False}
