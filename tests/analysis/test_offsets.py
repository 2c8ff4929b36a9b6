"""Tests of taskgen_run.analysis.offsets."""

from __future__ import annotations

import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from schedules import SimulatedJob, earliest_deadline, fixed_priority, schedule, task_sets

from taskgen_run.analysis import processor_demand, response_time, sporadic
from taskgen_run.analysis.offsets import Placed, is_schedulable, is_schedulable_by_edf
from taskgen_run.analysis.sporadic import SporadicTask, total_load
from taskgen_run.errors import ConfigurationError

CHECKED = settings(max_examples=200, deadline=None, derandomize=True)

LEUNG_MERRILL: list[Placed] = [(SporadicTask(1, 2, 1, 0), 0), (SporadicTask(1, 2, 1, 1), 1)]
"""Two tasks that have no instant to share, each with all the processor when it needs it."""


def test_offsets_can_do_what_no_worst_case_allows() -> None:
    tasks = [task for task, _ in LEUNG_MERRILL]
    assert not processor_demand.is_schedulable(tasks)
    assert not response_time.is_schedulable(tasks)
    assert is_schedulable_by_edf(LEUNG_MERRILL)
    assert is_schedulable(LEUNG_MERRILL)
    together = [(task, 7) for task in tasks]
    assert not is_schedulable_by_edf(together)
    assert not is_schedulable(together)


def test_a_miss_may_come_late() -> None:
    """With periods of 6 and 10 and offsets of 0 and 2 the tasks meet at 12; with 1, never."""
    apart: list[Placed] = [(SporadicTask(1, 6, 1, 0), 0), (SporadicTask(1, 10, 1, 1), 1)]
    assert is_schedulable_by_edf(apart)
    assert is_schedulable(apart)
    meeting = [apart[0], (apart[1][0], 2)]
    assert not is_schedulable_by_edf(meeting)
    assert not is_schedulable(meeting)


def test_what_an_early_backlog_leaves_behind_counts() -> None:
    """With a load of 1 a single job delays all that follows, also after a hyperperiod."""
    full: list[Placed] = [(SporadicTask(1, 2, 3, 0), 1), (SporadicTask(2, 4, 7, 1), 0)]
    for length, fits in [(2, True), (4, False)]:
        single = (SporadicTask(length, 0, None, 0), 40)
        assert is_schedulable([*full, single]) is fits
        due = (SporadicTask(length, 0, length, 0), 40)
        assert is_schedulable_by_edf([*full, due]) is fits


def test_ties_are_lost_or_do_not_count() -> None:
    twins: list[Placed] = [(SporadicTask(2, 6, 3, 5), 0), (SporadicTask(2, 6, 3, 5), 1)]
    assert not is_schedulable(twins)
    assert is_schedulable(twins, ties_lost=False)


def test_an_overload_is_one_with_any_offsets() -> None:
    many: list[Placed] = [(SporadicTask(2, 3, 10**9, n), 5 * n) for n in range(2)]
    assert not is_schedulable_by_edf(many)
    assert not is_schedulable(many)
    assert is_schedulable([(SporadicTask(9, 3, None, 0), 4)])
    assert is_schedulable_by_edf([(SporadicTask(9, 3), 4)])
    before = (SporadicTask(3, 0, 3, 9), 0)
    assert is_schedulable([(SporadicTask(1, 1, None, 0), 3), before], sporadic.Effort(10**4))


def test_a_priority_is_needed() -> None:
    with pytest.raises(ConfigurationError, match="task 0: priority must be set"):
        is_schedulable([(SporadicTask(1, 5, 5), 0)])


def test_a_growing_backlog_does_not_take_for_ever() -> None:
    """What waits is looked at in every hyperperiod, which is 2 ns here: that counts, too."""
    overload: list[Placed] = [(SporadicTask(1, 1, None, 0), 0), (SporadicTask(1, 2, None, 0), 0)]
    looked_at: list[int] = []

    class Counting(sporadic.Effort):
        def spend(self, tasks: int) -> None:
            looked_at.append(tasks)
            super().spend(tasks)

    with pytest.raises(sporadic.EffortError):
        is_schedulable([*overload, (SporadicTask(1, 0, 10**9, 1), 5)], Counting(100_000))
    assert max(looked_at) > 100
    assert len(looked_at) < 3000


def test_what_would_take_too_long_is_not_begun() -> None:
    long: list[Placed] = [(SporadicTask(1, 10**9 + n, 10**9, n), n) for n in range(5)]
    for analyse in (is_schedulable, is_schedulable_by_edf):
        with pytest.raises(sporadic.EffortError, match="must end after at most 5000000 evaluat"):
            analyse(long)


def test_a_job_that_never_gets_the_processor_is_never_accepted() -> None:
    full = (SporadicTask(1, 1, None, 0), 0)
    with pytest.raises(sporadic.EffortError):
        is_schedulable([full, (SporadicTask(1, 0, 10**9, 1), 5)], sporadic.Effort(10**4))


def test_a_job_that_never_gets_the_processor_misses_when_its_deadline_has_passed() -> None:
    full: list[Placed] = [(SporadicTask(1, 2, 2, 0), 0), (SporadicTask(1, 2, 2, 1), 1)]
    starving = (SporadicTask(1, 10, 10, 2, jobs=3), 0)
    assert not is_schedulable([*full, starving], sporadic.Effort(1000))


@pytest.mark.parametrize(("execution", "done"), [(3, 4), (4, 5), (5, 6)])
def test_a_job_that_is_done_at_its_deadline_has_met_it(execution: int, done: int) -> None:
    """Also at an instant at which the schedule may repeat, as 5, or others are released, as 6."""
    before = (SporadicTask(1, 4, None, 0), 2)
    assert is_schedulable([before, (SporadicTask(execution, 0, done, 1), 0)])
    assert not is_schedulable([before, (SporadicTask(execution, 0, done - 1, 1), 0)])


def misses(placed: list[Placed], until: int, *, by_edf: bool) -> bool:
    """Whether the schedule made one unit of time after the other misses a deadline.

    Tasks are as late as their offsets say: single jobs at the instants of their releases.
    """
    jobs: list[SporadicTask] = []
    firsts: list[int] = []
    for task, offset in placed:
        count = task.most_jobs
        releases = list(range(offset, until, task.period_ns or until))
        for release in releases if count is None else releases[:count]:
            jobs.append(SporadicTask(task.execution_ns, 0, task.deadline_ns, task.priority))
            firsts.append(release)
    order = earliest_deadline if by_edf else fixed_priority(jobs)
    pending = [
        SimulatedJob(n, first, math.inf if job.deadline_ns is None else first + job.deadline_ns,
                     job.execution_ns)
        for n, (job, first) in enumerate(zip(jobs, firsts, strict=True))
    ]  # fmt: skip
    now = 0
    while pending and now <= 2 * until:
        ready = [job for job in pending if job.release <= now]
        now += 1
        if ready:
            job = min(ready, key=order)
            job.left -= 1
            if not job.left:
                pending.remove(job)
                if now > job.deadline:
                    return True
    return any(job.deadline <= now for job in pending)


@CHECKED
@given(task_sets(3), st.lists(st.integers(0, 12), min_size=3, max_size=3))
def test_schedulable_are_those_whose_schedule_misses_no_deadline(
    tasks: list[SporadicTask], offsets: list[int]
) -> None:
    placed = list(zip(tasks, offsets, strict=False))
    effort = sporadic.Effort(200_000)
    until = 40 + 4 * math.lcm(*(task.period_ns for task in tasks if task.most_jobs is None))
    if total_load(tasks) > 1:
        until *= 4
    assert is_schedulable_by_edf(placed, effort) == (not misses(placed, until, by_edf=True))
    assert is_schedulable(placed, effort) == (not misses(placed, until, by_edf=False))


@CHECKED
@given(task_sets(), st.integers(0, 9))
def test_with_the_same_offsets_it_is_the_worst_case(tasks: list[SporadicTask], offset: int) -> None:
    placed = [(task, offset) for task in tasks]
    effort = sporadic.Effort(200_000)
    assert is_schedulable_by_edf(placed, effort) == processor_demand.is_schedulable(tasks)
    assert is_schedulable(placed, effort) == response_time.is_schedulable(tasks)


def test_the_schedules_compared_with_are_those_of_the_other_tests() -> None:
    tasks = [SporadicTask(1, 3, 2, 0), SporadicTask(2, 4, 3, 1), SporadicTask(1, 6, 6, 2)]
    for by_edf, order in [(True, earliest_deadline), (False, fixed_priority(tasks))]:
        late = any(job.finish > job.deadline for job in schedule(tasks, 24, order))
        assert misses([(task, 0) for task in tasks], 24, by_edf=by_edf) is late
