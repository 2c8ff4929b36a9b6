from __future__ import annotations

from typing import Any

import pyarrow as pa
import pytest

from taskgen_run.errors import BugError, InfrastructureError
from taskgen_run.job import SEGMENT_SCHEMA, Job, JobBatch
from taskgen_run.monitor import AbstractMonitor, Batch, Monitors
from taskgen_run.task import Task
from taskgen_run.taskset import TaskSet
from taskgen_run.variants import TaskSets

TASKSET = TaskSet([Task(period=5)], "mine")


class Recorder(AbstractMonitor):
    def __init__(self, told: list[str], name: str) -> None:
        self._told, self._name = told, name

    def on_start(self, taskset: TaskSet, host: str, attempt: int) -> None:
        self._told.append(f"{self._name} start {host} {attempt}")

    def on_jobs(self, jobs: JobBatch) -> None:
        self._told.append(f"{self._name} jobs {len(jobs)}")

    def close(self) -> None:
        self._told.append(f"{self._name} close")


class Broken(AbstractMonitor):
    def __init__(self, error: Exception) -> None:
        self._error = error

    def on_start(self, taskset: TaskSet, host: str, attempt: int) -> None:
        raise self._error

    def close(self) -> None:
        raise self._error


def test_monitors_are_told_in_order() -> None:
    told: list[str] = []
    monitors = Monitors([Recorder(told, "first"), Recorder(told, "second")])
    monitors.on_start(TASKSET, "h", 1)
    monitors.on_jobs(JobBatch.from_jobs([Job(0, 0)], taskset=0, attempt=0, host="h"))
    monitors.on_finish(TASKSET, "h", 1)
    monitors.close()
    assert told == [
        "first start h 1",
        "second start h 1",
        "first jobs 1",
        "second jobs 1",
        "first close",
        "second close",
    ]


def test_what_a_monitor_raises_becomes_a_bug_that_names_it() -> None:
    with pytest.raises(BugError, match="monitor Broken failed in on_start: ValueError: no"):
        Monitors([Broken(ValueError("no"))]).on_start(TASKSET, "h", 0)


def test_an_error_of_the_family_passes_as_it_is() -> None:
    error = InfrastructureError("disk full")
    with pytest.raises(InfrastructureError) as raised:
        Monitors([Broken(error)]).on_start(TASKSET, "h", 0)
    assert raised.value is error


def test_all_are_closed_although_one_fails() -> None:
    told: list[str] = []
    monitors = Monitors([Broken(ValueError("no")), Recorder(told, "second")])
    with pytest.raises(BugError, match="failed in close"):
        monitors.close()
    assert told == ["second close"]


def test_a_batch_is_told_of_as_its_variants_are() -> None:
    class Recorder(AbstractMonitor):
        def __init__(self) -> None:
            self.told: list[tuple[Any, ...]] = []

        def on_start(self, taskset: TaskSet, host: str, attempt: int) -> None:
            self.told.append(("start", taskset.variant, host, attempt))

        def on_jobs(self, jobs: JobBatch) -> None:
            self.told.append(("jobs", len(jobs)))

        def on_segments(self, segments: pa.RecordBatch) -> None:
            self.told.append(("segments", segments.num_rows))

        def on_finish(self, taskset: TaskSet, host: str, attempt: int) -> None:
            self.told.append(("finish", taskset.variant, host, attempt))

    jobs = JobBatch.from_jobs([Job(0, 0)], taskset=0, attempt=0, host="h")
    segments = pa.RecordBatch.from_pylist([], SEGMENT_SCHEMA)
    recorder = Recorder()
    Monitors([recorder]).on_batch(Batch(TaskSets([TASKSET] * 2), ["a", "b"], 0, jobs, segments))
    assert recorder.told == [
        ("start", 0, "a", 0),
        ("start", 0, "b", 0),
        ("jobs", 1),
        ("segments", 0),
        ("finish", 0, "a", 0),
        ("finish", 0, "b", 0),
    ]
