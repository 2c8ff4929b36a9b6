"""Task sets of the literature, with the numbers that were published of them."""

from __future__ import annotations

from collections import defaultdict
from typing import Any

import pytest

from taskgen_run.job import JobBatch
from taskgen_run.sessions.fastsim import FastSimSession
from taskgen_run.task import Task
from taskgen_run.taskset import TaskSet

MS = 1_000_000


def tasks(*times: tuple[float, float]) -> list[Task]:
    """Tasks of period and execution time in ms, the first with the highest priority."""
    return [
        Task(period=period, executiontime=wcet, priority=place)
        for place, (period, wcet) in enumerate(times)
    ]


def responses(members: list[Task], **options: Any) -> dict[int, list[float]]:
    """The response times in ms of the jobs of each task, those that have ended."""
    jobs = JobBatch(FastSimSession("", 0, **options).run_batch([TaskSet(members, "published")]))
    found = defaultdict(list)
    for job in jobs:
        assert job.release_ns is not None
        if job.end_ns is not None:
            found[job.task].append((job.end_ns - job.release_ns) / MS)
    return found


def misses(members: list[Task], **options: Any) -> set[int]:
    """The tasks of which a job ends after its period."""
    found = responses(members, **options)
    return {task for task, times in found.items() if max(times) > members[task]["period"]}


@pytest.mark.parametrize(("scheduler", "late"), [("RM", {1}), ("EDF", set())])
def test_liu_and_layland(scheduler: str, late: set[int]) -> None:
    """C. Liu and J. Layland, 1973: beyond 0.828 RM may miss, where EDF meets up to 1."""
    assert misses(tasks((5, 2), (7, 4)), scheduler=scheduler) == late


def test_burns_and_wellings() -> None:
    """A. Burns and A. Wellings, Real-Time Systems and Programming Languages, on fixed priorities.

    A set above the bound that fails, one above it that does not, and one with response times.
    """
    late = responses(tasks((50, 12), (40, 10), (30, 10)), scheduler="RM")
    assert late[0][0] == 52  # at 50, it has had 10 of its 12
    full = responses(tasks((80, 40), (40, 10), (20, 5)), scheduler="RM")
    assert [max(full[task]) for task in range(3)] == [80, 15, 5]
    found = responses(tasks((7, 3), (12, 3), (20, 5)), scheduler="RM")
    assert [max(found[task]) for task in range(3)] == [3, 6, 20]


def test_lehoczky_with_a_deadline_beyond_the_period() -> None:
    """J. Lehoczky, 1990: not the first job of the busy period has the longest response time."""
    found = responses(tasks((70, 26), (100, 62)), scheduler="FP", duration_ms=700)
    assert found[1] == [114, 102, 116, 104, 118, 106, 94]


def test_dhall_and_liu() -> None:
    """S. Dhall and C. Liu, 1978: late on all processors together, not in parts."""
    members = tasks((1, 0.2), (1, 0.2), (1.1, 1))
    for scheduler in ("RM", "EDF"):
        assert misses(members, scheduler=scheduler, cpus=2) == {2}
    for scheduler in ("P_RM", "P_EDF"):
        assert misses(members, scheduler=scheduler, cpus=2, packing="first-fit") == set()


def test_davis_and_others_on_a_bus() -> None:
    """R. Davis, A. Burns, R. Bril and J. Lukkien, 2007: the second instance of C is the latest."""
    members = tasks((2.5, 1), (3.5, 1), (3.5, 1))
    found = responses(members, scheduler="NP_FP", duration_ms=7)
    assert found[2] == [3, 3.5]
