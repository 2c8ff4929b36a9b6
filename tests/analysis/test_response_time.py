"""Tests of taskgen_run.analysis.response_time."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from schedules import fixed_priority, long_enough, schedule, task_sets

from taskgen_run.analysis import sporadic
from taskgen_run.analysis.response_time import is_schedulable, response_times_ns
from taskgen_run.analysis.sporadic import SporadicTask, from_taskset, total_load
from taskgen_run.errors import ConfigurationError
from taskgen_run.sessions.simso import SimSoSession
from taskgen_run.task import Task
from taskgen_run.taskset import TaskSet

CHECKED = settings(max_examples=200, deadline=None, derandomize=True)


def by_order(*tasks: tuple[int, ...]) -> list[SporadicTask]:
    """Tasks (C, T) or (C, T, D), the highest priority first; D is T if it is not given."""
    return [
        SporadicTask(task[0], task[1], task[-1] if task[2:] else task[1], priority)
        for priority, task in enumerate(tasks)
    ]


@pytest.mark.parametrize(
    ("tasks", "responses"),
    [
        # A. Burns and A. Wellings, "Real-Time Systems and Programming Languages": three examples
        # of response-time analysis, the last one with deadline-monotonic priorities.
        (by_order((3, 7), (3, 12), (5, 20)), [3, 6, 20]),
        (by_order((5, 20), (10, 40), (40, 80)), [5, 15, 80]),
        (by_order((3, 20, 5), (3, 15, 7), (4, 10, 10), (3, 20, 20)), [3, 6, 10, 20]),
        # J. Lehoczky, "Fixed priority scheduling of periodic task sets with arbitrary deadlines",
        # 1990: the fifth job of the second task responds last.
        (by_order((26, 70, 70), (62, 100, 118)), [26, 118]),
    ],
)
def test_textbook_examples(tasks: list[SporadicTask], responses: list[int]) -> None:
    assert response_times_ns(tasks) == responses
    assert is_schedulable(tasks)
    for position, response in enumerate(responses):
        tight = [
            replace(task, deadline_ns=response - (index == position))
            for index, (task, response) in enumerate(zip(tasks, responses, strict=True))
        ]
        assert not is_schedulable(tight), (position, response)


def test_every_job_of_the_busy_period_counts() -> None:
    """The responses that Lehoczky's paper lists, job by job: 114, 102, 116, 104, 118, 106, 94."""
    busy = by_order((26, 70), (62, 100))
    listed = [114, 102, 116, 104, 118, 106, 94]
    for count in range(1, 9):
        limited = [busy[0], replace(busy[1], jobs=count)]
        assert response_times_ns(limited)[1] == max(listed[:count])


def test_the_order_of_the_tasks_does_not_matter() -> None:
    tasks = by_order((3, 7), (3, 12), (5, 20))
    assert response_times_ns(tasks[::-1]) == [20, 6, 3]
    assert response_times_ns([]) == []
    assert is_schedulable([])


def test_the_processor_may_be_loaded_fully() -> None:
    assert response_times_ns(by_order((1, 2), (1, 4), (2, 8))) == [1, 2, 8]
    assert response_times_ns(by_order((2, 2))) == [2]


def test_an_overload_has_no_bound() -> None:
    tasks = by_order((2, 3), (2, 4), (1, 100))
    assert response_times_ns(tasks) == [2, None, None]
    assert not is_schedulable(tasks)
    assert is_schedulable([tasks[0], *(replace(task, deadline_ns=None) for task in tasks[1:])])


def test_nothing_is_left_below_a_full_load() -> None:
    single = SporadicTask(1, 0, None, 9)
    assert response_times_ns([*by_order((1, 2), (2, 4)), single]) == [1, 4, None]


def test_a_full_load_may_go_on_for_ever_with_bounded_responses() -> None:
    first = SporadicTask(5, 0, None, 0)
    others = [SporadicTask(1, 2, 2, 1), SporadicTask(2, 4, 4, 2)]
    assert response_times_ns([first, *others]) == [5, 6, 14]


def test_single_jobs_interfere_once() -> None:
    periodic = SporadicTask(2, 5, 5, 1)
    for single in (SporadicTask(3, 0, None, 0), SporadicTask(3, 4, None, 0, jobs=1)):
        assert response_times_ns([single, periodic]) == [3, 5]
    assert response_times_ns([SporadicTask(3, 4, None, 0, jobs=2), periodic]) == [3, 8]
    assert response_times_ns([SporadicTask(7, 0, None, 2), periodic]) == [13, 2]


def test_equal_priorities_are_safe_whatever_the_order() -> None:
    equals = [SporadicTask(2, 10, 10, 5), SporadicTask(3, 12, 12, 5), SporadicTask(1, 15, 15, 5)]
    assert response_times_ns(equals) == [6, 6, 6]
    twins = [SporadicTask(2, 4, 4, 0)] * 2
    assert response_times_ns(twins) == [4, 4]
    assert is_schedulable(twins)


def test_a_priority_is_needed() -> None:
    tasks = [SporadicTask(1, 5, 5, 0), SporadicTask(1, 5, 5)]
    for analyse in (response_times_ns, is_schedulable):
        with pytest.raises(ConfigurationError, match="task 1: priority must be set"):
            analyse(tasks)


def test_times_are_exact_to_the_nanosecond() -> None:
    period = 10**17
    tasks = by_order((1, period), (3 * period, 10 * period))
    assert response_times_ns(tasks) == [1, 3 * period + 4]


def test_it_does_not_take_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sporadic, "MOST_EVALUATIONS", 10_000)
    endless = by_order((5 * 10**8, 10**9), (333_333_331, 999_999_993), (1, 6))
    assert total_load(endless) == 1
    with pytest.raises(ConfigurationError, match="must end after at most 10000 evaluations"):
        response_times_ns(endless)
    assert not is_schedulable(endless)  # a miss is found early


@CHECKED
@given(task_sets())
def test_responses_are_the_worst_of_the_synchronous_schedule(tasks: list[SporadicTask]) -> None:
    found = response_times_ns(tasks)
    for position, response in enumerate(found):
        level = [task for task in tasks if priority_of(task) <= priority_of(tasks[position])]
        until = long_enough(level) + (response or 0)
        worst = worst_responses(level, until)[level.index(tasks[position])]
        if response is None:
            later = worst_responses(level, 2 * until)[level.index(tasks[position])]
            assert later > worst
        else:
            assert response == worst


@CHECKED
@given(task_sets(), st.lists(st.integers(0, 30), min_size=4, max_size=4))
def test_no_schedule_has_longer_responses(tasks: list[SporadicTask], offsets: list[int]) -> None:
    """Other than the synchronous one: each task is late by an offset, like a sporadic one."""
    bounds = response_times_ns(tasks)
    late = [
        replace(task, jobs=max(1, (task.most_jobs or 10) - offset % 3))
        for task, offset in zip(tasks, offsets, strict=False)
    ]
    for bound, response in zip(bounds, worst_responses(late, 80), strict=True):
        assert bound is None or response <= bound


@CHECKED
@given(task_sets())
def test_a_task_set_is_schedulable_when_no_response_exceeds_its_deadline(
    tasks: list[SporadicTask],
) -> None:
    assert is_schedulable(tasks) == all(
        task.deadline_ns is None or (response is not None and response <= task.deadline_ns)
        for task, response in zip(tasks, response_times_ns(tasks), strict=True)
    )


@CHECKED
@given(task_sets(), st.integers(2, 10**12))
def test_responses_scale_with_the_unit_of_time(tasks: list[SporadicTask], unit: int) -> None:
    scaled = [
        replace(task, execution_ns=task.execution_ns * unit, period_ns=task.period_ns * unit)
        for task in tasks
    ]
    assert response_times_ns(scaled) == [
        None if response is None else response * unit for response in response_times_ns(tasks)
    ]


@CHECKED
@given(task_sets(), st.randoms(use_true_random=False))
def test_equal_priorities_bound_every_order(tasks: list[SporadicTask], random: Any) -> None:
    """Analysed as equal, no task is better than in any order of the same tasks."""
    bounds = response_times_ns([replace(task, priority=0) for task in tasks])
    for bound, response in zip(bounds, response_times_ns(tasks), strict=True):
        assert bound is None or (response is not None and response <= bound)


@settings(max_examples=40, deadline=None, derandomize=True)
@given(
    st.lists(
        st.tuples(st.sampled_from([2, 2.5, 4, 5, 10, 20]), st.integers(1, 40)),
        min_size=1,
        max_size=4,
    )
)
def test_simso_simulates_the_responses_that_are_predicted(pairs: list[tuple[float, int]]) -> None:
    members = [
        Task(period=period, executiontime=min(tenths / 10, period), priority=priority)
        for priority, (period, tenths) in enumerate(pairs)
    ]
    taskset = TaskSet(members, "simulated")
    predicted = response_times_ns(from_taskset(taskset))
    session = SimSoSession("127.0.0.1", 0, scheduler="FP")
    session.start(taskset)
    while session.is_running(taskset):
        session.run(taskset)
    for task, response in zip(taskset, predicted, strict=True):
        if response is not None:
            ends = [(job.end_ns, job.release_ns) for job in task.jobs]
            assert response == max(end - start for end, start in ends if end and start is not None)


@CHECKED
@given(task_sets())
def test_the_package_response_time_analysis_says_the_same(tasks: list[SporadicTask]) -> None:
    """With periodic tasks, at least: it knows no others, and does not end in an overload."""
    fp = pytest.importorskip("response_time_analysis.analysis.fp")
    model = pytest.importorskip("response_time_analysis.model")
    endless = [replace(task, jobs=None) for task in tasks if task.period_ns]
    members = [
        model.Task(
            model.Periodic(task.period_ns),
            model.FullyPreemptive(model.WCET(task.execution_ns)),
            priority=model.Priority(10 - priority_of(task)),
        )
        for task in endless
    ]
    for member, response in zip(members, response_times_ns(endless), strict=True):
        theirs = fp.rta(model.taskset(members), member, model.IdealProcessor(), horizon=10_000)
        assert theirs.response_time_bound == response


def priority_of(task: SporadicTask) -> int:
    assert task.priority is not None
    return task.priority


def worst_responses(tasks: Sequence[SporadicTask], until: int) -> list[int]:
    worst = [0] * len(tasks)
    for job in schedule(tasks, until, fixed_priority(tasks)):
        worst[job.task] = max(worst[job.task], job.finish - job.release)
    return worst
