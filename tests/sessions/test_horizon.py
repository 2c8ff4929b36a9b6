from __future__ import annotations

import pytest

from taskgen_run.sessions.horizon import longer_horizon_ns, natural_horizon_ns, releases_ns
from taskgen_run.task import Task
from taskgen_run.taskset import TaskSet


def test_periodic_tasks_take_the_maximum_offset_and_two_hyperperiods() -> None:
    taskset = TaskSet([Task(period=4), Task(period=6, offset=5), Task(period=0, offset=1)])
    assert natural_horizon_ns(taskset) == (5 + 2 * 12) * 10**6


def test_the_hyperperiod_is_exact_in_ns() -> None:
    taskset = TaskSet([Task(period=8.2), Task(period=0.000003)])
    assert natural_horizon_ns(taskset) == 2 * 8_200_000 * 3


def test_single_jobs_take_the_maximum_offset_and_all_their_work() -> None:
    taskset = TaskSet([Task(executiontime=3, offset=2), Task(executiontime=4.5)])
    assert natural_horizon_ns(taskset) == 9_500_000


def test_a_horizon_covers_a_single_job_without_work() -> None:
    taskset = TaskSet([Task(executiontime=0, offset=2)])
    horizon = natural_horizon_ns(taskset)
    assert list(releases_ns(taskset[0], horizon)) == [2_000_000]


def test_a_horizon_doubles_up_to_the_cap() -> None:
    assert longer_horizon_ns(10, 35) == 20
    assert longer_horizon_ns(20, 35) == 35
    assert longer_horizon_ns(35, 35) is None


@pytest.mark.parametrize(
    ("task", "horizon", "expected"),
    [
        (Task(period=5), 15, [0, 5, 10]),
        (Task(period=5), 16, [0, 5, 10, 15]),
        (Task(period=5, offset=2), 12, [2, 7]),
        (Task(period=5, numberofjobs=2), 100, [0, 5]),
        (Task(period=0, offset=3), 100, [3]),
        (Task(period=0, offset=3), 3, []),
        (Task(period=5, offset=20), 10, []),
    ],
)
def test_releases_come_before_the_horizon(task: Task, horizon: int, expected: list[int]) -> None:
    assert [ns // 10**6 for ns in releases_ns(task, horizon * 10**6)] == expected


def test_endless_releases_cost_no_memory() -> None:
    assert len(releases_ns(Task(period=0.000001), 2**52)) == 2**52
