"""Tests of taskgen_run.analysis.processor_demand."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from schedules import PERIODS, earliest_deadline, long_enough, schedule, task_sets

from taskgen_run.analysis import response_time, sporadic
from taskgen_run.analysis.processor_demand import demand_ns, is_schedulable
from taskgen_run.analysis.sporadic import SporadicTask, from_taskset, total_load
from taskgen_run.errors import ConfigurationError
from taskgen_run.sessions.simso import SimSoSession
from taskgen_run.task import Task
from taskgen_run.taskset import TaskSet

CHECKED = settings(max_examples=200, deadline=None, derandomize=True)

BUTTAZZO = [SporadicTask(2, 6, 4), SporadicTask(2, 8, 5), SporadicTask(3, 9, 7)]
"""The example of the processor demand criterion in G. Buttazzo, "Hard Real-Time Computing Systems".
"""


def test_the_demand_of_a_textbook_example() -> None:
    published = {4: 2, 5: 4, 7: 7, 10: 9, 13: 11, 16: 16, 21: 18, 22: 20}
    assert {length: demand_ns(BUTTAZZO, length) for length in published} == published
    assert [demand_ns(BUTTAZZO, length) for length in (-5, 0, 3)] == [0, 0, 0]
    assert is_schedulable(BUTTAZZO)


def test_the_textbook_example_is_as_tight_as_it_looks() -> None:
    """At 7 and at 16 the demand is the length: any earlier deadline there is missed."""
    for position, task in enumerate(BUTTAZZO):
        longer = [*BUTTAZZO]
        longer[position] = replace(task, execution_ns=task.execution_ns + 1)
        assert not is_schedulable(longer)


@pytest.mark.parametrize(
    ("tasks", "schedulable"),
    [
        ([], True),
        # C. Liu and J. Layland, 1973: with deadlines at the periods a load of 1 can be scheduled.
        ([SporadicTask(1, 2, 2), SporadicTask(1, 3, 3), SporadicTask(1, 6, 6)], True),
        ([SporadicTask(1, 2, 2), SporadicTask(1, 3, 3), SporadicTask(1, 5, 5)], False),
        # Shorter deadlines: a load below 1 need not be.
        ([SporadicTask(2, 10, 3), SporadicTask(2, 10, 3)], False),
        ([SporadicTask(2, 10, 4), SporadicTask(2, 10, 4)], True),
        ([SporadicTask(1, 2, 1), SporadicTask(1, 1000, 1)], False),
        ([SporadicTask(1, 2, 1), SporadicTask(1, 2, 2)], True),
        ([SporadicTask(1, 2, 1), SporadicTask(2, 4, 3)], False),
        # Longer deadlines do not help beyond a load of 1, and jobs that have an end may exceed it.
        ([SporadicTask(2, 1, 10**9)], False),
        ([SporadicTask(2, 1, 6, jobs=5)], True),
        ([SporadicTask(2, 1, 5, jobs=5)], False),
        ([SporadicTask(1, 1, 5), SporadicTask(4, 0, 100)], True),
        ([SporadicTask(1, 1, 5), SporadicTask(5, 0, 100)], False),
        # Tasks without deadline come last.
        ([SporadicTask(1, 2, 2), SporadicTask(5, 6)], True),
    ],
)
def test_what_is_schedulable(tasks: list[SporadicTask], schedulable: bool) -> None:
    assert is_schedulable(tasks) is schedulable


def test_times_are_exact_to_the_nanosecond() -> None:
    """The margins are far below what a double can tell."""
    period = 10**18
    half = SporadicTask(period // 2, period, period - 1)
    assert is_schedulable([half, SporadicTask(period // 2 - 1, period, period)])
    assert not is_schedulable([half, SporadicTask(period // 2, period, period - 1)])
    assert is_schedulable([SporadicTask(period - 1, period, period - 1)])


def test_it_does_not_take_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sporadic, "MOST_EVALUATIONS", 10_000)
    endless = [SporadicTask(10007, 20014, 20013), SporadicTask(10009, 20018, 20018)]
    assert total_load(endless) == 1
    with pytest.raises(ConfigurationError, match="must end after at most 10000 evaluations"):
        is_schedulable(endless)


@CHECKED
@given(task_sets())
def test_schedulable_are_those_whose_schedule_misses_no_deadline(tasks: list[SporadicTask]) -> None:
    until = long_enough(tasks)
    if total_load(task for task in tasks if task.deadline_ns is not None) > 1:
        until *= 30  # each hyperperiod leaves some work to the next one, until it is too much
    jobs = schedule(tasks, until, earliest_deadline)
    assert is_schedulable(tasks) == all(job.finish <= job.deadline for job in jobs)


@st.composite
def busy_task_sets(draw: st.DrawFn) -> list[SporadicTask]:
    """Tasks whose total load is close to 1, or 1."""
    tasks: list[SporadicTask] = []
    for period in draw(st.permutations(PERIODS)):
        room = int((1 - total_load(tasks)) * period)
        if room:
            execution = draw(st.integers(max(1, room // 2), room))
            deadline = draw(st.integers(execution, 2 * period))
            tasks.append(SporadicTask(execution, period, deadline))
    return tasks


@CHECKED
@given(busy_task_sets())
def test_schedulable_are_those_whose_demand_always_fits(tasks: list[SporadicTask]) -> None:
    fits = all(demand_ns(tasks, length) <= length for length in range(long_enough(tasks) + 60))
    assert is_schedulable(tasks) == fits
    assert fits == all(
        job.finish <= job.deadline
        for job in schedule(tasks, long_enough(tasks) + 60, earliest_deadline)
    )


@CHECKED
@given(task_sets(), st.integers(2, 10**12))
def test_the_unit_of_time_does_not_matter(tasks: list[SporadicTask], unit: int) -> None:
    scaled = [
        replace(
            task,
            execution_ns=task.execution_ns * unit,
            period_ns=task.period_ns * unit,
            deadline_ns=None if task.deadline_ns is None else task.deadline_ns * unit,
        )
        for task in tasks
    ]
    assert is_schedulable(scaled) == is_schedulable(tasks)


@CHECKED
@given(task_sets())
def test_edf_schedules_what_fixed_priorities_schedule(tasks: list[SporadicTask]) -> None:
    """EDF is optimal on one processor (M. Dertouzos, 1974)."""
    assert is_schedulable(tasks) or not response_time.is_schedulable(tasks)


@settings(max_examples=40, deadline=None, derandomize=True)
@given(
    st.lists(
        st.tuples(st.sampled_from([2, 2.5, 4, 5, 10, 20]), st.integers(1, 60), st.integers(5, 200)),
        min_size=1,
        max_size=4,
    )
)
def test_simso_misses_a_deadline_if_and_only_if_it_is_predicted(
    rows: list[tuple[float, int, int]],
) -> None:
    members = [
        Task(period=period, executiontime=min(tenths / 10, period), deadline=deadline / 10)
        for period, tenths, deadline in rows
    ]
    taskset = TaskSet(members, "simulated")
    session = SimSoSession("127.0.0.1", 0, scheduler="EDF")
    session.start(taskset)
    while session.is_running(taskset):
        session.run(taskset)
    horizon = taskset.horizon_ns
    assert horizon is not None
    missed = any(
        job.deadline_ns is not None and (job.end_ns or horizon + 1) > job.deadline_ns
        for task in taskset
        for job in task.jobs
        if job.deadline_ns is not None and job.deadline_ns <= horizon
    )
    tasks = from_taskset(taskset)
    assert is_schedulable(tasks) <= (not missed)
    if total_load(tasks) <= 1:
        assert is_schedulable(tasks) == (not missed)


@CHECKED
@given(busy_task_sets())
def test_the_package_response_time_analysis_says_the_same(tasks: Sequence[SporadicTask]) -> None:
    """Schedulable is what has response times, under EDF, within the deadlines."""
    edf = pytest.importorskip("response_time_analysis.analysis.edf")
    model = pytest.importorskip("response_time_analysis.model")
    members = [
        model.Task(
            model.Periodic(task.period_ns),
            model.FullyPreemptive(model.WCET(task.execution_ns)),
            model.Deadline(task.deadline_ns),
        )
        for task in tasks
    ]
    theirs = [
        edf.rta(model.taskset(members), member, model.IdealProcessor(), horizon=10_000)
        for member in members
    ]
    assert is_schedulable(tasks) == all(
        found.response_time_bound is not None and found.response_time_bound <= task.deadline_ns
        for found, task in zip(theirs, tasks, strict=True)
    )
