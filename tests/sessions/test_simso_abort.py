"""on_miss=abort against schedules made by hand."""

from __future__ import annotations

from typing import Any

import pytest
from simso_runs import MS, simulate, tasks

from taskgen_run.job import Outcome
from taskgen_run.task import Task


def rows(members: list[Task], **options: Any) -> list[tuple[int, int, str, float, float]]:
    """(task, job, outcome, start, end) with times in ms, in order."""
    _, jobs, _ = simulate(members, on_miss="abort", **options)
    return [
        (job.task, job.job, str(job.outcome), _ms(job.start_ns), _ms(job.end_ns))
        for job in jobs.values()
    ]


def _ms(ns: int | None) -> float:
    return -1 if ns is None else ns / MS


@pytest.mark.parametrize("scheduler", ["RM", "FP", "DM", "P_RM", "RM_mono"])
def test_the_running_job_survives_that_a_waiting_one_is_killed(scheduler: str) -> None:
    # Task 1 waits behind task 0 and is killed at 3, while task 0 executes until 5.
    members = [
        Task(executiontime=5, period=10, priority=0, deadline=5),
        Task(executiontime=2, period=20, priority=1, deadline=6, offset=0),
        Task(executiontime=2, period=40, priority=2, deadline=6, offset=0),
    ]
    assert rows(members, scheduler=scheduler, duration_ms=10) == [
        (0, 0, "finished", 0, 5),
        (1, 0, "killed", 5, 6),
        (2, 0, "killed", -1, 6),
    ]
    members[1]["deadline"] = 5.5
    members[2]["deadline"] = 5.2
    assert rows(members, scheduler=scheduler, duration_ms=10) == [
        (0, 0, "finished", 0, 5),
        (1, 0, "killed", 5, 5.5) if scheduler != "DM" else (1, 0, "killed", 5.2, 5.5),
        (2, 0, "killed", -1, 5.2) if scheduler != "DM" else (2, 0, "killed", 5, 5.2),
    ]


@pytest.mark.parametrize("scheduler", ["RM", "FP"])
def test_a_killed_waiting_job_does_not_run_later(scheduler: str) -> None:
    members = [
        Task(executiontime=5, period=8, priority=0),
        Task(executiontime=1, period=9, priority=1, deadline=3),
        Task(executiontime=2, period=16, priority=2),
    ]
    assert rows(members, scheduler=scheduler, duration_ms=8) == [
        (0, 0, "finished", 0, 5),
        (1, 0, "killed", -1, 3),
        (2, 0, "finished", 5, 7),
    ]


def test_a_killed_preempted_job_lost_its_processor() -> None:
    members = [*tasks((2, 4), offset=1), Task(executiontime=3, period=20, deadline=2)]
    _, jobs, _ = simulate(members, on_miss="abort", duration_ms=5)
    job = jobs[1, 0]
    assert (job.outcome, job.end_ns, job.preemptions) == (Outcome.KILLED, 2 * MS, 1)
    assert job.migrations == 0


def test_a_running_job_that_is_killed_lost_nothing_before() -> None:
    _, jobs, _ = simulate(tasks((3, 5), deadline=2), on_miss="abort", duration_ms=5)
    assert jobs[0, 0].outcome is Outcome.KILLED
    assert jobs[0, 0].preemptions == 0


@pytest.mark.parametrize("etm", ["wcet", "acet", "fixedpenalty"])
def test_a_job_that_completes_at_its_deadline_is_finished(etm: str) -> None:
    members = tasks((3, 5), deadline=3, acet=3, et_stddev=0)
    _, jobs, _ = simulate(members, on_miss="abort", etm=etm, duration_ms=8)
    assert [(job.outcome, job.end_ns) for job in jobs.values()] == [
        (Outcome.FINISHED, 3 * MS),
        (Outcome.FINISHED, 8 * MS),  # at the horizon
    ]


def test_a_job_is_killed_at_the_horizon() -> None:
    _, jobs, _ = simulate(tasks((4, 5), deadline=3), on_miss="abort", duration_ms=8)
    assert [(str(job.outcome), job.end_ns) for job in jobs.values()] == [
        ("killed", 3 * MS),
        ("killed", 8 * MS),
    ]


def test_work_left_decides_not_the_worst_case() -> None:
    # The penalty makes the job execute longer than its execution time: killed all the same.
    members = [
        Task(executiontime=1, period=4, offset=1),
        Task(executiontime=3, period=9, deadline=4),
    ]
    options: dict[str, Any] = {"etm": "fixedpenalty", "duration_ms": 5}
    assert rows(members, **options)[1] == (1, 0, "finished", 0, 4)
    assert rows(members, preemption_penalty_ms=0.5, **options)[1] == (1, 0, "killed", 0, 4)


def test_the_next_job_takes_over_at_the_kill() -> None:
    assert rows(tasks((7, 5)), duration_ms=12) == [
        (0, 0, "killed", 0, 5),
        (0, 1, "killed", 5, 10),
        (0, 2, "unfinished", 10, -1),
    ]


def test_jobs_without_deadline_are_not_killed() -> None:
    members = [Task(executiontime=7, period=5, deadline=0), Task(executiontime=1)]
    assert "killed" not in {row[2] for row in rows(members, duration_ms=20)}


def _tasks(*rows: tuple[int, int, int, int, int]) -> list[Task]:
    names = ("period", "executiontime", "deadline", "offset", "numberofjobs")
    return [Task(dict(zip(names, row, strict=True))) for row in rows]


@pytest.mark.parametrize(
    ("scheduler", "cpus", "overhead", "members"),
    [
        # Another processor schedules between a kill and its announcement.
        ("EDF_US", 3, 2, _tasks((13, 6, 1, 0, 2), (8, 6, 9, 3, 1), (29, 7, 3, 2, 1))),
        # A decision is for a job that is killed while the decision's overhead passes.
        ("EDF_US", 1, 1, _tasks((18, 3, 5, 3, 1), (6, 4, 1, 3, 2), (11, 5, 13, 2, 2))),
        # A job is killed before the scheduler hears of it.
        ("EDF_US", 2, 2, _tasks((11, 4, 3, 3, 2), (16, 7, 4, 2, 2), (8, 6, 1, 2, 2))),
        ("EDF_mono", 1, 2, _tasks((6, 3, 1, 2, 2), (29, 1, 2, 2, 2))),
    ],
)
def test_schedulers_never_meet_killed_jobs(
    scheduler: str, cpus: int, overhead: int, members: list[Task]
) -> None:
    options: dict[str, Any] = {"schedule_overhead_ms": overhead, "duration_ms": 1000}
    ended = rows(members, scheduler=scheduler, cpus=cpus, **options)
    assert len(ended) == sum(task["numberofjobs"] for task in members)
    assert {row[2] for row in ended} <= {"killed", "finished"}


def test_a_processor_goes_on_when_its_job_is_killed_before_the_scheduler_heard_of_it() -> None:
    members = [
        Task(executiontime=50, deadline=200),
        Task(executiontime=4, deadline=100, offset=6),
        Task(executiontime=5, deadline=100, offset=12),
        Task(executiontime=3, deadline=4, offset=12.5),
    ]
    options: dict[str, Any] = {"activate_overhead_ms": 5, "cpus": 2, "scheduler": "EDF"}
    assert rows(members, duration_ms=100, **options)[1:] == [
        (1, 0, "finished", 11, 15),
        (2, 0, "finished", 16.5, 21.5),
        (3, 0, "killed", 15, 16.5),
    ]


def test_a_job_is_killed_at_its_critical_time() -> None:
    task = Task(executiontime=5, period=10, criticaltime=2)
    _, jobs, _ = simulate([task], duration_ms=20)
    first, second = jobs[0, 0], jobs[0, 1]
    assert (first.outcome, first.end_ns) == (Outcome.KILLED, 2_000_000)
    assert (second.outcome, second.end_ns) == (Outcome.KILLED, 12_000_000)
