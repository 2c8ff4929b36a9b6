from __future__ import annotations

import os
import signal
from collections.abc import Sequence
from typing import Any

import pyarrow as pa
import pytest

from taskgen_run.distributor import BATCH, BATCH_ROWS, Distributor
from taskgen_run.errors import BugError, ConfigurationError, TargetError, TaskgenError
from taskgen_run.hosts import TargetRange
from taskgen_run.interrupts import Interrupted, Interrupts
from taskgen_run.job import SEGMENT_SCHEMA, Job, JobBatch, Outcome
from taskgen_run.monitor import AbstractMonitor
from taskgen_run.session import AbstractSession
from taskgen_run.task import Task
from taskgen_run.taskset import TaskSet
from taskgen_run.values import Range
from taskgen_run.variants import Stream


class Counting(AbstractSession):
    """Runs every task for two steps: its one job starts in the first and ends in the second."""

    computes = True
    log: list[str]

    def __init__(self, host: str, port: int = 0) -> None:
        self.host = host
        self.log.append(f"connect {host}")
        self._step = 0

    def start(self, taskset: TaskSet, *params: Any) -> None:
        self.log.append(f"start {taskset.variant} {list(params)}")
        self._step = 0
        self._jobs = [Job(task=position, job=0, release_ns=0) for position in range(len(taskset))]

    def run(self, taskset: TaskSet) -> list[Job]:
        self._step += 1
        for job in self._jobs:
            if self._step == 1:
                job.start_ns = 1
            elif job.task == 0:
                job.end_ns, job.outcome = 2, Outcome.FINISHED
        return self._jobs

    def is_running(self, taskset: TaskSet) -> bool:
        return self._step < 2

    def stop(self) -> None:
        self.log.append("stop")

    def close(self) -> None:
        self.log.append(f"close {self.host}")


class Recorder(AbstractMonitor):
    def __init__(self) -> None:
        self.told: list[tuple[Any, ...]] = []
        self.jobs: list[Job] = []
        self.segments: list[pa.RecordBatch] = []

    def on_start(self, taskset: TaskSet, host: str, attempt: int) -> None:
        self.told.append(("start", taskset.variant, host))

    def on_jobs(self, jobs: JobBatch) -> None:
        self.told.append(("jobs", len(jobs)))
        self.jobs += jobs

    def on_segments(self, segments: pa.RecordBatch) -> None:
        self.segments.append(segments)

    def on_finish(self, taskset: TaskSet, host: str, attempt: int) -> None:
        self.told.append(("finish", taskset.variant, host))

    def on_stop(self, taskset: TaskSet, host: str, attempt: int) -> None:
        self.told.append(("stop", taskset.variant, host))

    def on_fail(self, taskset: TaskSet, host: str, attempt: int, error: Exception) -> None:
        self.told.append(("fail", taskset.variant, host, str(error)))


@pytest.fixture
def monitor() -> Recorder:
    Counting.log = []
    return Recorder()


def _taskset(variants: int, tasks: int = 1) -> TaskSet:
    first = Task(period=5, executiontime=Range(1, variants))
    return TaskSet([first, *(Task(period=5) for _ in range(tasks - 1))], "mine")


def _run(
    monitor: AbstractMonitor,
    taskset: TaskSet,
    session: Any = Counting,
    targets: Any = "127.0.0.1",
    **options: Any,
) -> None:
    with Interrupts() as interrupts:
        Distributor(session, TargetRange(targets), monitor, interrupts, **options).run(
            taskset.variants()
        )


def test_a_variant_is_started_watched_and_finished(monitor: Recorder) -> None:
    _run(monitor, _taskset(1), params=["goal"])
    assert monitor.told == [
        ("start", 0, "127.0.0.1"),
        ("jobs", 1),
        ("jobs", 1),
        ("finish", 0, "127.0.0.1"),
    ]
    assert monitor.jobs[0].outcome is None
    assert monitor.jobs[1].outcome is Outcome.FINISHED
    assert Counting.log == ["connect 127.0.0.1", "start 0 ['goal']", "close 127.0.0.1"]


def test_jobs_that_are_open_at_the_end_are_unfinished(monitor: Recorder) -> None:
    _run(monitor, _taskset(1, tasks=2))
    last = monitor.jobs[-1]
    assert (last.task, last.outcome, last.end_ns) == (1, Outcome.UNFINISHED, None)


def test_the_host_of_a_variant_is_decided_by_its_number(monitor: Recorder) -> None:
    _run(monitor, _taskset(5), targets=["10.0.0.1", "10.0.0.2"])
    finished = [told[1:] for told in monitor.told if told[0] == "finish"]
    assert finished == [(n, f"10.0.0.{1 + n % 2}") for n in range(5)]
    assert {job.host for job in monitor.jobs if job.taskset == 1} == {"10.0.0.2"}


def test_one_connection_serves_all_variants_of_a_host(monitor: Recorder) -> None:
    _run(monitor, _taskset(3))
    assert [line for line in Counting.log if "connect" in line] == ["connect 127.0.0.1"]


class FailsAtOne(Counting):
    error: Exception = ConfigurationError("not this one")

    def start(self, taskset: TaskSet, *params: Any) -> None:
        if taskset.variant == 1:
            raise self.error
        super().start(taskset, *params)


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (ConfigurationError("not this one"), "not this one"),
        (TargetError("it froze"), "it froze"),
        (ConnectionResetError("reset by peer"), "reset by peer"),
        (KeyError("x"), "the session failed while running: KeyError: 'x'"),
    ],
)
def test_a_variant_that_fails_does_not_stop_the_others(
    monitor: Recorder, error: Exception, message: str, caplog: pytest.LogCaptureFixture
) -> None:
    session = type("FailsAtOne", (FailsAtOne,), {"error": error})
    _run(monitor, _taskset(3), session)
    assert [told[:2] for told in monitor.told if told[0] != "jobs"] == [
        ("start", 0),
        ("finish", 0),
        ("start", 1),
        ("fail", 1),
        ("start", 2),
        ("finish", 2),
    ]
    (failed,) = [told for told in monitor.told if told[0] == "fail"]
    assert failed[:3] == ("fail", 1, "127.0.0.1")
    assert failed[3].partition(" (test_distributor.py:")[0] == message
    assert Counting.log.count("connect 127.0.0.1") == 2, "a session that failed is not used again"
    assert bool(caplog.records) is isinstance(error, KeyError), "only bugs are logged with a trace"


def test_an_invalid_later_variant_fails_alone(monitor: Recorder) -> None:
    class Values:
        def __iter__(self) -> Any:
            return iter([1, -5, 2])

    _run(monitor, TaskSet([Task(period=Values())], "mine"))
    failed = [told for told in monitor.told if told[0] == "fail"]
    assert failed == [
        ("fail", 1, "127.0.0.1", "task 0 of task set 'mine': period must be ≥ 0 ms, got -5")
    ]
    assert len([told for told in monitor.told if told[0] == "finish"]) == 2


def test_a_host_that_cannot_be_connected_fails_its_variants(monitor: Recorder) -> None:
    class Refusing(Counting):
        def __init__(self, host: str, port: int = 0) -> None:
            if host == "10.0.0.1":
                raise ConnectionRefusedError("refused")
            super().__init__(host)

    _run(monitor, _taskset(4), Refusing, targets=["10.0.0.1", "10.0.0.2"])
    assert [told for told in monitor.told if told[0] == "fail"] == [
        ("fail", 0, "10.0.0.1", "refused"),
        ("fail", 2, "10.0.0.1", "refused"),
    ]
    assert [told[1] for told in monitor.told if told[0] == "finish"] == [1, 3]


def test_an_error_of_a_monitor_ends_the_run_and_closes_the_session(monitor: Recorder) -> None:
    class Full(Recorder):
        def on_jobs(self, jobs: JobBatch) -> None:
            raise BugError("full")

    full = Full()
    with pytest.raises(BugError, match="full"):
        _run(full, _taskset(3))
    assert full.told == [("start", 0, "127.0.0.1")]
    assert Counting.log[-1] == "close 127.0.0.1"


def test_a_signal_stops_the_session_and_tells_the_monitor(monitor: Recorder) -> None:
    class Signalled(Counting):
        def run(self, taskset: TaskSet) -> list[Job]:
            if taskset.variant == 1:
                os.kill(os.getpid(), signal.SIGTERM)
            return super().run(taskset)

    with pytest.raises(Interrupted):
        _run(monitor, _taskset(3), Signalled)
    assert monitor.told[-1] == ("stop", 1, "127.0.0.1")
    assert Counting.log[-2:] == ["stop", "close 127.0.0.1"]


def test_a_session_that_does_not_close_is_logged(
    monitor: Recorder, caplog: pytest.LogCaptureFixture
) -> None:
    class Sticky(Counting):
        def close(self) -> None:
            raise OSError("sticky")

    _run(monitor, _taskset(1), Sticky)
    assert monitor.told[-1] == ("finish", 0, "127.0.0.1")
    assert "closing the session on 127.0.0.1 failed: sticky" in caplog.text


class Batching(Counting):
    """Computes one job per task set; keeps the sizes of its batches."""

    sizes: list[int]

    def run_batch(self, tasksets: Sequence[TaskSet]) -> pa.RecordBatch:
        self.sizes.append(len(tasksets))
        batches = []
        for taskset in tasksets:
            job = Job(task=0, job=0, release_ns=0, outcome=Outcome.FINISHED)
            taskset.horizon_ns = 10
            batch = JobBatch.from_jobs([job], taskset=taskset.variant, attempt=0, host="")
            batches.append(batch.record_batch)
        return pa.Table.from_batches(batches).unify_dictionaries().combine_chunks().to_batches()[0]

    def segments(self) -> pa.RecordBatch:
        return pa.RecordBatch.from_pylist([], SEGMENT_SCHEMA)


def test_batches_are_preferred_and_get_the_hosts_of_their_variants(monitor: Recorder) -> None:
    Batching.sizes = []
    count = BATCH + 3
    _run(monitor, _taskset(count), Batching, targets=["10.0.0.1", "10.0.0.2"])
    assert Batching.sizes == [1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 4]
    assert [(job.taskset, job.host) for job in monitor.jobs] == [
        (n, f"10.0.0.{1 + n % 2}") for n in range(count)
    ]
    assert [told[1] for told in monitor.told if told[0] == "finish"] == list(range(count))
    assert len(monitor.segments) == len(Batching.sizes)


def test_a_batch_that_fails_fails_its_variants(monitor: Recorder) -> None:
    class Failing(Batching):
        def run_batch(self, tasksets: Sequence[TaskSet]) -> pa.RecordBatch:
            raise TargetError("no")

    _run(monitor, _taskset(2), Failing)
    assert [told for told in monitor.told if told[0] == "fail"] == [
        ("fail", 0, "127.0.0.1", "no"),
        ("fail", 1, "127.0.0.1", "no"),
    ]


class Sizing(Batching):
    """Knows how many rows each task set has, and refuses number 5 beforehand, 7 when it runs."""

    rows: int

    def estimate_rows(self, tasksets: Sequence[TaskSet]) -> list[int | TaskgenError]:
        return [
            ConfigurationError("not the sixth") if taskset.variant == 5 else self.rows
            for taskset in tasksets
        ]

    def run_batch(self, tasksets: Sequence[TaskSet]) -> pa.RecordBatch:
        if any(taskset.variant == 7 for taskset in tasksets):
            raise RuntimeError("not the eighth")
        return super().run_batch(tasksets)


@pytest.mark.parametrize(
    ("rows", "most"), [(0, BATCH), (BATCH_ROWS // 10, 10), (BATCH_ROWS, 1), (10 * BATCH_ROWS, 1)]
)
def test_a_batch_has_no_more_rows_than_it_may(monitor: Recorder, rows: int, most: int) -> None:
    Sizing.sizes, Sizing.rows = [], rows
    _run(monitor, _taskset(1500), Sizing)
    assert max(Sizing.sizes) <= most
    if most < BATCH:
        assert max(Sizing.sizes) == most
    ended = [told[1] for told in monitor.told if told[0] in ("finish", "fail")]
    assert sorted(ended) == list(range(1500))


def test_what_fails_in_a_batch_fails_alone(monitor: Recorder) -> None:
    Sizing.sizes, Sizing.rows = [], 0
    _run(monitor, _taskset(40), Sizing)
    failed = {told[1]: told[3] for told in monitor.told if told[0] == "fail"}
    assert failed.keys() == {5, 7}
    assert failed[5] == "not the sixth"
    assert failed[7].startswith("the session failed while running: RuntimeError: not the eighth")
    finished = [told[1] for told in monitor.told if told[0] == "finish"]
    assert finished == [n for n in range(40) if n not in failed]
    assert {job.taskset for job in monitor.jobs} == set(finished)


def test_a_session_that_cannot_estimate_fails_what_it_was_asked_about(monitor: Recorder) -> None:
    class Puzzled(Batching):
        def estimate_rows(self, tasksets: Sequence[TaskSet]) -> list[int | TaskgenError]:
            raise KeyError("how many")

    _run(monitor, _taskset(3), Puzzled)
    failed = [told[1] for told in monitor.told if told[0] == "fail"]
    assert failed == [0, 1, 2]


def test_it_is_asked_before_each_batch_whether_to_go_on(monitor: Recorder) -> None:
    Batching.sizes = []
    answers = iter([True, True, True, False])
    stream = Stream(_taskset(40).variants())
    with Interrupts() as interrupts:
        one = Distributor(Batching, TargetRange("127.0.0.1"), monitor, interrupts)
        one.run(stream, lambda: next(answers))
    assert Batching.sizes == [1, 2, 4]
    assert next(stream).variant == 7
