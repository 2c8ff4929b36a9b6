from __future__ import annotations

import logging

import pytest

import taskgen_run.monitors
from taskgen_run.errors import TargetError
from taskgen_run.job import Job, JobBatch, Outcome
from taskgen_run.monitors import ProgressMonitor, StdOutMonitor
from taskgen_run.task import Task
from taskgen_run.taskset import TaskSet

TASKSET = TaskSet([Task(period=5)], "mine")


def _batch(*jobs: Job) -> JobBatch:
    return JobBatch.from_jobs(jobs, taskset=7, attempt=0, host="172.25.1.1")


def test_stdout_prints_a_line_per_job_as_it_ends(capsys: pytest.CaptureFixture[str]) -> None:
    running = Job(task=1, job=3, release_ns=5_000_000, start_ns=5_000_001)
    monitor = StdOutMonitor()
    monitor.on_jobs(_batch(running))
    assert capsys.readouterr().out == ""
    running.end_ns, running.outcome = 6_250_000, Outcome.FINISHED
    monitor.on_jobs(_batch(running, Job(task=0, job=0, outcome=Outcome.NOT_SCHEDULED)))
    assert capsys.readouterr().out.splitlines() == [
        "172.25.1.1  variant 7  task 1  job 3  finished  release 5 ms  start 5.000001 ms  "
        "end 6.25 ms",
        "172.25.1.1  variant 7  task 0  job 0  not_scheduled",
    ]


def test_without_a_terminal_progress_is_logged_now_and_then(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(taskgen_run.monitors, "LOG_SECONDS", 0.0)
    with caplog.at_level(logging.INFO):
        monitor = ProgressMonitor(total=10, done=4)
        running = Job(0, 0)
        monitor.on_jobs(_batch(running, Job(0, 1, outcome=Outcome.FINISHED)))
        running.outcome = Outcome.KILLED
        monitor.on_jobs(_batch(running))
        monitor.on_finish(TASKSET, "h", 0)
        monitor.close()
    assert [record.getMessage() for record in caplog.records] == [
        "4 of 10 variants, 1 jobs",
        "4 of 10 variants, 2 jobs",
        "5 of 10 variants, 2 jobs",
    ]


def test_a_failure_is_logged_with_its_reason(caplog: pytest.LogCaptureFixture) -> None:
    monitor = ProgressMonitor(total=None, done=0)
    monitor.on_fail(TASKSET, "172.25.1.1", 0, TargetError("it froze"))
    monitor.close()
    assert [record.getMessage() for record in caplog.records] == [
        "variant 0 on 172.25.1.1 failed: it froze"
    ]
