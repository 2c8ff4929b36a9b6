from __future__ import annotations

import logging
import os
import signal
import threading
import time
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import psutil
import pyarrow as pa
import pytest

import taskgen_run.computing
from taskgen_run import Experiment, results
from taskgen_run.computing import Computing, usable_cores
from taskgen_run.distributor import BATCH_ROWS, Distributor
from taskgen_run.errors import ConfigurationError, InfrastructureError, TaskgenError
from taskgen_run.hosts import TargetRange
from taskgen_run.interrupts import Interrupted, Interrupts
from taskgen_run.job import Job, JobBatch, Outcome
from taskgen_run.monitor import AbstractMonitor
from taskgen_run.sessions.fastsim import FastSimSession
from taskgen_run.sessions.simso import SimSoSession
from taskgen_run.sessions.stdio import StdIOSession
from taskgen_run.task import Task
from taskgen_run.taskset import TaskSet
from taskgen_run.values import Random, Range
from taskgen_run.variants import Variants


@pytest.fixture(autouse=True)
def at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(taskgen_run.computing, "ALONE_SECONDS", 0.0)
    monkeypatch.setattr(taskgen_run.computing, "START_SECONDS", 0.0)


def simso(host: str) -> SimSoSession:
    return SimSoSession(host, 0, duration_ms=200, trace=True)


class Odd(StdIOSession):
    """Computes a job that tells its process; fails at odd variants, dies at variant 98."""

    def start(self, taskset: TaskSet, *params: Any) -> None:
        logging.getLogger("odd").warning("variant %d", taskset.variant)
        if taskset.variant % 2:
            raise ConfigurationError(f"odd: {taskset.variant}")
        if taskset.variant == 98:
            os.kill(os.getpid(), signal.SIGKILL)

    def run(self, taskset: TaskSet) -> list[Job]:
        return [Job(0, 0, release_ns=os.getpid(), outcome=Outcome.FINISHED)]


class Slow(StdIOSession):
    def start(self, taskset: TaskSet, *params: Any) -> None:
        time.sleep(0.05)


class Recorder(AbstractMonitor):
    def __init__(self) -> None:
        self.told: list[tuple[Any, ...]] = []
        self.jobs: list[Job] = []

    def on_start(self, taskset: TaskSet, host: str, attempt: int) -> None:
        self.told.append(("start", taskset.variant, host))

    def on_jobs(self, jobs: JobBatch) -> None:
        self.told.append(("jobs", jobs.record_batch.to_pylist()))
        self.jobs += jobs

    def on_segments(self, segments: Any) -> None:
        self.told.append(("segments", segments.to_pylist()))

    def on_finish(self, taskset: TaskSet, host: str, attempt: int) -> None:
        self.told.append(("finish", taskset.variant, host, taskset.horizon_ns, taskset[0]))

    def on_fail(self, taskset: TaskSet, host: str, attempt: int, error: Exception) -> None:
        self.told.append(("fail", taskset.variant, host, str(error), type(error)))


def _run(connect: Any, taskset: TaskSet, workers: int, monitor: Recorder | None = None) -> Recorder:
    monitor = monitor or Recorder()
    with Interrupts() as interrupts:
        alone = Distributor(connect, TargetRange("10.0.0.0/29"), monitor, interrupts)
        Computing(alone, workers).run(taskset.variants())
    return monitor


def _taskset(variants: int) -> TaskSet:
    return TaskSet(
        [
            Task(period=10, executiontime=Range(1, variants, 1), priority=1),
            Task(period=Random(Range(5, 50)), executiontime=1),
        ],
        "mine",
    )


def test_what_is_told_does_not_depend_on_the_number_of_processes() -> None:
    one = _run(simso, _taskset(60), 1)
    assert len(one.told) > 180
    for workers in (2, 3):
        assert _run(simso, _taskset(60), workers).told == one.told


def test_other_processes_compute() -> None:
    taskset = TaskSet([Task(period=Range(1, 90))], "mine")
    monitor = _run(partial(Odd, port=0), taskset, 2)
    processes = {job.release_ns for job in monitor.jobs}
    assert os.getpid() not in processes
    assert 1 <= len(processes) <= 2


def test_failures_and_what_is_logged_come_back(caplog: pytest.LogCaptureFixture) -> None:
    taskset = TaskSet([Task(period=Range(1, 6))], "mine")
    monitor = _run(partial(Odd, port=0), taskset, 2)
    failed = [told[1:] for told in monitor.told if told[0] == "fail"]
    assert [(n, text) for n, _, text, _ in failed] == [(n, f"odd: {n}") for n in (1, 3, 5)]
    assert {kind for *_, kind in failed} == {ConfigurationError}
    assert [r.getMessage() for r in caplog.records if r.name == "odd"] == [
        f"variant {n}" for n in range(6)
    ]


def test_a_process_that_dies_ends_the_run_with_an_explanation() -> None:
    taskset = TaskSet([Task(period=Range(1, 200))], "mine")
    monitor = Recorder()
    with pytest.raises(InfrastructureError, match="a process that computed variants died"):
        _run(partial(Odd, port=0), taskset, 2, monitor)
    finished = [told[1] for told in monitor.told if told[0] == "finish"]
    assert finished == sorted(finished)
    assert all(n < 98 for n in finished)


def test_a_signal_leaves_no_process_behind() -> None:
    threading.Timer(1.5, os.kill, (os.getpid(), signal.SIGTERM)).start()
    before = {child.pid for child in psutil.Process().children(recursive=True)}
    with pytest.raises(Interrupted):
        _run(partial(Slow, port=0), TaskSet([Task(period=Range(1, 10**6))], "mine"), 2)
    left = [
        child
        for child in psutil.Process().children(recursive=True)
        if child.pid not in before and "resource_tracker" not in " ".join(child.cmdline())
    ]
    _, alive = psutil.wait_procs(left, timeout=10)
    assert alive == []


def test_short_experiments_are_computed_here(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(taskgen_run.computing, "ALONE_SECONDS", 60.0)
    taskset = TaskSet([Task(period=Range(1, 5))], "mine")
    monitor = _run(partial(Odd, port=0), taskset, 2)
    assert {job.release_ns for job in monitor.jobs} == {os.getpid()}


def test_all_usable_cores_are_used_by_default() -> None:
    assert usable_cores() == len(os.sched_getaffinity(0))


def _written(directory: Path, taskset: TaskSet, workers: int) -> dict[str, bytes]:
    options = {"scheduler": "EDF", "duration_ms": 100, "trace": True}
    targets = ["10.0.0.1", "10.0.0.2"]
    experiment = Experiment(
        taskset,
        FastSimSession,
        options,
        targets=targets,
        workers=workers,
        analysis=["edf_utilization"],
    )
    experiment.run(directory)
    return {path.name: path.read_bytes() for path in directory.glob("*.parquet")}


class Made(TaskSet):
    """Makes its variants itself, and so they cannot be had by columns."""

    def variants(self, start: int = 0) -> Iterator[TaskSet]:
        yield from super().variants(start)


@pytest.mark.parametrize("kind", [TaskSet, Made])
def test_the_files_of_batches_do_not_depend_on_the_number_of_processes(
    tmp_path: Path, kind: type[TaskSet]
) -> None:
    taskset = kind(list(_taskset(300)), "mine")
    alone = _written(tmp_path / "alone", taskset, 1)
    assert alone.keys() == {f"{name}.parquet" for name in ("jobs", "segments", "tasks", "tasksets")}
    assert _written(tmp_path / "shared", taskset, 2) == alone
    verdicts = results.read(tmp_path / "alone", "tasksets")["edf_utilization"].to_pylist()
    assert {True, False} <= set(verdicts)


class Large(FastSimSession):
    """Says of every task set that it is about a batch."""

    def estimate_rows(self, tasksets: Sequence[TaskSet]) -> list[int | TaskgenError]:
        return [BATCH_ROWS] * len(tasksets)

    def run_batch(self, tasksets: Sequence[TaskSet]) -> pa.RecordBatch:
        assert len(tasksets) == 1
        return super().run_batch(tasksets)


class Slowing(StdIOSession):
    """So fast at first that a process gets many variants, and then so slow that it hands in few."""

    def start(self, taskset: TaskSet, *params: Any) -> None:
        time.sleep(0.02 if taskset.variant >= 40 else 0)


def test_what_a_process_hands_back_is_computed_in_its_turn() -> None:
    monitor = _run(partial(Slowing, port=0), TaskSet([Task(period=Range(1, 160))], "mine"), 2)
    assert [told[1] for told in monitor.told if told[0] == "finish"] == list(range(160))


def test_a_process_hands_in_what_it_has_when_that_is_much(monkeypatch: pytest.MonkeyPatch) -> None:
    connect = partial(Large, port=0, duration_ms=100)
    distributor = Distributor(connect, TargetRange("127.0.0.1"), AbstractMonitor(), Interrupts())
    variants = Variants(_taskset(300), range(40))
    monkeypatch.setattr(taskgen_run.computing, "CHUNK_ROWS", 50)
    monkeypatch.setattr(taskgen_run.computing, "CHUNK_SECONDS", 1000.0)
    done = taskgen_run.computing._compute(distributor, variants)
    batches = [arguments[-1] for method, arguments in done.calls if method == "on_batch"]
    assert [n for batch in batches for n in batch.tasksets.numbers] == list(range(done.count))
    assert 50 <= sum(len(batch.jobs) for batch in batches) < 150
    assert done.count < 40
