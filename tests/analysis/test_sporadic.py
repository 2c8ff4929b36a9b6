"""Tests of taskgen_run.analysis.sporadic."""

from __future__ import annotations

from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from taskgen_run.analysis.sporadic import (
    SporadicTask,
    from_task,
    from_taskset,
    fullness,
    total_load,
)
from taskgen_run.errors import ConfigurationError
from taskgen_run.task import Task
from taskgen_run.taskset import TaskSet


@pytest.mark.parametrize(
    ("task", "analysed"),
    [
        (
            Task(period=8.2, executiontime=0.000001, priority=3),
            SporadicTask(1, 8_200_000, 8_200_000, 3),
        ),
        (
            Task(period=5, executiontime=2, deadline=12, offset=4, criticaltime=1),
            SporadicTask(2_000_000, 5_000_000, 12_000_000),
        ),
        (
            Task(period=5, executiontime=2, deadline=0, numberofjobs=3),
            SporadicTask(2_000_000, 5_000_000, None, None, 3),
        ),
        (Task(executiontime=7), SporadicTask(7_000_000, 0, None, None, 1)),
        (Task(period=0, executiontime=0, deadline=9), SporadicTask(1, 0, 9_000_000, None, 1)),
    ],
)
def test_tasks_are_understood_with_their_defaults(task: Task, analysed: SporadicTask) -> None:
    assert from_task(task, "a task") == analysed
    assert from_taskset(TaskSet([task, task])) == [analysed] * 2


def test_an_execution_time_is_needed() -> None:
    taskset = TaskSet([Task(period=5, executiontime=1), Task(period=5)], "mine")
    with pytest.raises(ConfigurationError) as raised:
        from_taskset(taskset)
    assert str(raised.value) == (
        "task 1 of task set 'mine': executiontime must be set for a schedulability analysis; "
        "add `executiontime:` to the task"
    )


@pytest.mark.parametrize(
    ("name", "values"),
    [
        ("execution_ns ≥ 1, got 0", (0, 5)),
        ("period_ns ≥ 0, got -1", (1, -1)),
        ("deadline_ns ≥ 1, got 0", (1, 5, 0)),
        ("jobs ≥ 1, got 0", (1, 5, 5, 0, 0)),
    ],
)
def test_impossible_values_are_refused(name: str, values: tuple[int, ...]) -> None:
    message = name.replace(" ≥", " must be ≥")
    with pytest.raises(ConfigurationError, match=f"a task to be analysed: {message}"):
        SporadicTask(*values)


@given(st.integers(1, 9), st.one_of(st.none(), st.integers(1, 4)), st.integers(-3, 50))
def test_releases_of_an_interval(period: int, jobs: int | None, interval: int) -> None:
    every = list(range(0, max(interval, 0), period))
    assert SporadicTask(1, period, jobs=jobs).releases(interval) == len(every[:jobs])
    assert SporadicTask(1, 0).releases(interval) == (interval > 0)


def test_releases_are_counted_exactly() -> None:
    task = SporadicTask(1, 10**17)
    assert [task.releases(3 * 10**17 + n) for n in (-1, 0, 1)] == [3, 3, 4]


def test_the_load_is_that_of_tasks_without_end() -> None:
    assert SporadicTask(3, 7).load == Fraction(3, 7)
    assert SporadicTask(3, 7, jobs=2).load == SporadicTask(3, 0).load == 0
    tasks = [SporadicTask(1, 3), SporadicTask(1, 6), SporadicTask(9, 0), SporadicTask(9, 5, jobs=9)]
    assert total_load(tasks) == Fraction(1, 2)
    assert total_load([]) == 0


def test_how_full_a_processor_is_is_told_exactly() -> None:
    third, rest = SporadicTask(10**17, 3 * 10**17), SporadicTask(2, 3)
    assert fullness([third, rest]) == 0
    assert fullness([third, rest, SporadicTask(1, 10**30)]) == 1
    assert fullness([third, SporadicTask(2 * 10**30 - 1, 3 * 10**30)]) == -1
    assert fullness([third]) == -1
    assert fullness([third, rest, rest]) == 1
    assert fullness([SporadicTask(9, 9), SporadicTask(9, 0), SporadicTask(9, 5, jobs=9)]) == 0
    assert fullness([]) == -1


@given(st.lists(st.tuples(st.integers(1, 9), st.integers(1, 9)), max_size=4))
def test_how_full_a_processor_is_follows_from_the_load(pairs: list[tuple[int, int]]) -> None:
    tasks = [SporadicTask(*pair) for pair in pairs]
    load = total_load(tasks)
    assert fullness(tasks) == (load > 1) - (load < 1)


def test_the_last_release() -> None:
    assert SporadicTask(1, 7).last_release_ns == 0
    assert SporadicTask(1, 7, jobs=3).last_release_ns == 14
    assert SporadicTask(1, 0).last_release_ns == 0
