"""Tests of taskgen_run.analysis.nonpreemptive."""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from schedules import PERIODS, task_sets

from taskgen_run.analysis import processor_demand, response_time, sporadic
from taskgen_run.analysis.nonpreemptive import (
    is_schedulable,
    is_schedulable_by_edf,
    response_times_ns,
)
from taskgen_run.analysis.processor_demand import demand_ns
from taskgen_run.analysis.sporadic import SporadicTask, total_load
from taskgen_run.errors import ConfigurationError

CHECKED = settings(max_examples=200, deadline=None, derandomize=True)

US = 1_000

CAN = [
    SporadicTask(1000 * US, 2500 * US, 2500 * US, 1),
    SporadicTask(1000 * US, 3500 * US, 3250 * US, 2),
    SporadicTask(1000 * US, 3500 * US, 3250 * US, 3),
]
"""The example with which R. Davis, A. Burns, R. Bril and J. Lukkien, 2007, refute the analysis that
looks at the first job only: the second one of message C responds in 3.5 ms, after its deadline."""


def test_a_textbook_example() -> None:
    assert response_times_ns(CAN) == [2000 * US - 1, 3000 * US - 1, 3500 * US]
    assert not is_schedulable(CAN)
    assert is_schedulable([*CAN[:2], replace(CAN[2], deadline_ns=3500 * US)])
    first_only = [*CAN[:2], replace(CAN[2], jobs=1)]
    assert response_times_ns(first_only) == [2000 * US - 1, 3000 * US - 1, 3000 * US]


def test_the_longest_job_below_is_waited_for() -> None:
    tasks = [SporadicTask(1, 9, 9, 0), SporadicTask(4, 20, 20, 1), SporadicTask(6, 50, 50, 2)]
    assert response_times_ns(tasks) == [6, 10, 11]
    assert response_times_ns(tasks[::-1]) == [11, 10, 6]
    assert response_times_ns(tasks[:1]) == [1]
    assert response_times_ns([]) == []


def test_equal_priorities_wait_for_each_other_and_do_not_block() -> None:
    equals = [SporadicTask(3, 20, 20, 1), SporadicTask(5, 20, 20, 1)]
    assert response_times_ns(equals) == [8, 8]


def test_a_load_without_end_has_no_bound() -> None:
    full = [SporadicTask(1, 2, 2, 0), SporadicTask(2, 4, 4, 1)]
    assert response_times_ns(full) == [2, 3]
    assert response_times_ns([*full, SporadicTask(2, 0, 9, 2)]) == [2, None, None]
    assert response_times_ns([*full, SporadicTask(2, 9, 9, 2)]) == [2, None, None]
    assert response_times_ns([SporadicTask(3, 2, 2, 0)]) == [None]
    assert not is_schedulable([SporadicTask(3, 2, 2, 0)])
    assert is_schedulable([SporadicTask(3, 2, None, 0)])


def test_a_priority_is_needed() -> None:
    with pytest.raises(ConfigurationError, match="task 0: priority must be set"):
        response_times_ns([SporadicTask(1, 5, 5)])


def test_edf_by_example() -> None:
    """At each deadline: the demand up to it, and a later job of which 1 ns is done."""
    assert is_schedulable_by_edf([SporadicTask(1, 4, 4), SporadicTask(4, 12, 12)])
    assert not is_schedulable_by_edf([SporadicTask(1, 4, 4), SporadicTask(5, 12, 12)])
    assert processor_demand.is_schedulable([SporadicTask(1, 4, 4), SporadicTask(5, 12, 12)])
    assert is_schedulable_by_edf([SporadicTask(1, 4, 4), SporadicTask(4, 0)])
    assert not is_schedulable_by_edf([SporadicTask(1, 4, 4), SporadicTask(5, 0)])
    # The demands at 10, 15, 20 and 30 are 5, 11, 16 and 27: least is left after all deadlines.
    tight = [SporadicTask(5, 10, 10), SporadicTask(6, 15, 15)]
    assert is_schedulable_by_edf([*tight, SporadicTask(4, 0)])
    assert not is_schedulable_by_edf([*tight, SporadicTask(5, 0)])
    assert is_schedulable_by_edf([])
    assert is_schedulable_by_edf([SporadicTask(9, 0), SporadicTask(3, 2)])
    assert not is_schedulable_by_edf([SporadicTask(3, 2, 2)])


def test_it_does_not_take_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sporadic, "MOST_EVALUATIONS", 10_000)
    endless = [SporadicTask(10007, 20014, 20013, 0), SporadicTask(10009, 20018, 20018, 1)]
    for analyse in (response_times_ns, is_schedulable_by_edf):
        with pytest.raises(ConfigurationError, match="must end after at most 10000 evaluations"):
            analyse(endless)


def worst_responses(tasks: list[SporadicTask], until: int, *, by_edf: bool) -> list[int]:
    """The worst responses of all schedules in which one job begins 1 before the others come.

    Those of one task blocking, or none; the obvious way, one unit of time after the other.
    """
    worst = [0] * len(tasks)
    for blocker in (None, *range(len(tasks))):
        jobs = []
        for position, task in enumerate(tasks):
            first = 0 if position == blocker else 1
            count = task.most_jobs
            releases = range(first, until, task.period_ns or until)
            jobs += [
                (position, release, release + (task.deadline_ns or 10**9))
                for release in (releases if count is None else releases[:count])
            ]
        now = 0
        while jobs:
            ready = [job for job in jobs if job[1] <= now]
            if not ready:
                now = min(job[1] for job in jobs)
                continue
            if by_edf:
                chosen = min(ready, key=lambda job: (job[2], job[0]))
            else:
                chosen = min(ready, key=lambda job: (tasks[job[0]].priority or 0, job[1]))
            jobs.remove(chosen)
            now += tasks[chosen[0]].execution_ns
            worst[chosen[0]] = max(worst[chosen[0]], now - chosen[1])
    return worst


@CHECKED
@given(task_sets())
def test_bounds_are_reached_by_the_worst_release_pattern(tasks: list[SporadicTask]) -> None:
    """Which is: the longest job below begins, and all others come 1 ns later."""
    bounds = response_times_ns(tasks)
    until = 60 if total_load(tasks) < Fraction(3, 4) else 300
    worst = worst_responses(tasks, until, by_edf=False)
    for bound, found in zip(bounds, worst, strict=True):
        assert bound is None or bound == found


@CHECKED
@given(task_sets())
def test_no_deadline_is_missed_by_edf_where_it_is_accepted(tasks: list[SporadicTask]) -> None:
    if is_schedulable_by_edf(tasks):
        worst = worst_responses(tasks, 80, by_edf=True)
        for task, found in zip(tasks, worst, strict=True):
            assert task.deadline_ns is None or found <= task.deadline_ns


@st.composite
def fair_task_sets(draw: st.DrawFn) -> list[SporadicTask]:
    """Tasks without end, with deadlines, and a load that leaves something over."""
    tasks: list[SporadicTask] = []
    for priority, period in enumerate(draw(st.permutations([*PERIODS, 16, 24]))):
        room = int((1 - total_load(tasks)) * period) - 1
        if room > 0:
            execution = draw(st.integers(1, room))
            deadline = draw(st.integers(execution, 3 * period))
            tasks.append(SporadicTask(execution, period, deadline, priority))
    return tasks


@CHECKED
@given(fair_task_sets())
def test_intervals_that_are_skipped_would_have_fitted(tasks: list[SporadicTask]) -> None:
    due = sorted(
        {
            task.deadline_ns + n * task.period_ns
            for task in tasks
            for n in range(60)
            if task.deadline_ns
        }
    )
    fits = all(
        demand_ns(tasks, length)
        + max((t.execution_ns - 1 for t in tasks if (t.deadline_ns or 0) > length), default=0)
        <= length
        for length in due
    )
    assert is_schedulable_by_edf(tasks) == fits


@CHECKED
@given(fair_task_sets())
def test_preemption_never_harms(tasks: list[SporadicTask]) -> None:
    """What EDF schedules without preemption, it schedules with it."""
    assert is_schedulable_by_edf(tasks) <= processor_demand.is_schedulable(tasks)
    highest = min(tasks, key=lambda task: task.priority or 0)
    preemptive = response_time.response_times_ns(tasks)[tasks.index(highest)]
    found = response_times_ns(tasks)[tasks.index(highest)]
    assert found is not None
    assert preemptive is not None
    assert found >= preemptive


@CHECKED
@given(fair_task_sets())
def test_the_package_response_time_analysis_says_the_same(tasks: list[SporadicTask]) -> None:
    """Of fixed priorities the same bounds; of EDF the same verdict."""
    analysis = pytest.importorskip("response_time_analysis.analysis")
    model = pytest.importorskip("response_time_analysis.model")
    members = [
        model.Task(
            model.Periodic(task.period_ns),
            model.FullyNonPreemptive(model.WCET(task.execution_ns)),
            model.Deadline(task.deadline_ns),
            model.Priority(20 - (task.priority or 0)),
        )
        for task in tasks
    ]
    together, processor = model.taskset(members), model.IdealProcessor()
    fixed = [analysis.fp.rta(together, member, processor, horizon=10_000) for member in members]
    assert [found.response_time_bound for found in fixed] == response_times_ns(tasks)
    by_edf = [analysis.edf.rta(together, member, processor, horizon=10_000) for member in members]
    assert is_schedulable_by_edf(tasks) == all(
        found.response_time_bound is not None and found.response_time_bound <= task.deadline_ns
        for found, task in zip(by_edf, tasks, strict=True)
    )
