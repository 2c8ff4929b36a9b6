"""Sessions that compute, on all cores: their hosts are simulated machines.

The first second is computed here, and some more while processes start; what is left then goes to
those, in chunks of variants. Each runs the same distributor and records what that tells its
monitor, and the records are told to the real monitor in the order of the variants. So results
depend neither on the number of processes nor on timing.
"""

from __future__ import annotations

import ctypes
import logging
import os
import signal
import time
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import pyarrow as pa

from taskgen_run.distributor import Distributor
from taskgen_run.errors import InfrastructureError
from taskgen_run.interrupts import Interrupts
from taskgen_run.job import JobBatch
from taskgen_run.monitor import AbstractMonitor, Batch
from taskgen_run.taskset import TaskSet
from taskgen_run.variants import Stream, TaskSets, Variants

ALONE_SECONDS = 1.0
"""What is done by then is not worth other processes, which take about as long to start."""

START_SECONDS = 5.0
"""For how long, at most, computing goes on here while processes start."""

CHUNK_SECONDS = 0.2
"""About how long a process computes at a time."""

CHUNK_VARIANTS = 1024
"""How many variants go to a process at a time at most …"""

CHUNK_ROWS = 2**18
"""… and after how many rows it hands in what it has done of them."""

Call = tuple[str, tuple[Any, ...]]
"""A method of a monitor and its arguments, in which a task set is its position and what was
learned of it: horizon and verdicts."""


@dataclass
class Computing:
    """Runs the variants of `alone` in `workers` processes; see the module.

    Whatever makes the session of `alone` must be picklable to be sent to them.
    """

    alone: Distributor
    workers: int

    def run(self, variants: Iterator[TaskSet]) -> None:
        """Process every variant. Raises Interrupted, InfrastructureError when a process dies,
        and what a monitor raises.
        """
        if self.workers == 1:
            self.alone.run(variants)
            return
        end = time.monotonic() + ALONE_SECONDS
        stream = variants if isinstance(variants, Stream) else Stream(variants)
        self.alone.run(stream, lambda: time.monotonic() < end)
        if first := stream.take(1):
            stream.put_back(len(first))
            self._run_in_processes(stream)

    def _run_in_processes(self, variants: Stream) -> None:
        # Imported here: most experiments are over before.
        from loky import ProcessPoolExecutor
        from loky.process_executor import BrokenProcessPool

        remote = replace(self.alone, monitor=AbstractMonitor(), interrupts=Interrupts())
        pool = ProcessPoolExecutor(self.workers, initializer=_begin, initargs=(os.getpid(),))

        def submit(chunk: TaskSets) -> tuple[TaskSets, Any]:
            return chunk, pool.submit(_compute, remote, chunk)

        size = 1
        waiting: deque[tuple[TaskSets, Any]] = deque()
        try:
            started, end = pool.submit(os.getpid), time.monotonic() + START_SECONDS
            self.alone.run(variants, lambda: time.monotonic() < end and not started.done())
            while True:
                while len(waiting) < 2 * self.workers and (chunk := variants.take(size)):
                    waiting.append(submit(chunk))
                if not waiting:
                    return
                chunk, future = waiting.popleft()
                with self.alone.interrupts.allowed():
                    done = future.result()
                if rest := chunk[done.count :]:
                    waiting.appendleft(submit(rest))
                self._tell(chunk, done)
                each = done.seconds / done.count
                size = max(1, min(CHUNK_VARIANTS, int(CHUNK_SECONDS / max(each, 1e-9))))
        except BrokenProcessPool as error:
            raise InfrastructureError(
                "a process that computed variants died, perhaps for want of memory; what is "
                "finished is kept, the same command continues, with fewer workers if need be"
            ) from error
        finally:
            pool.shutdown(wait=True, kill_workers=True)

    def _tell(self, chunk: TaskSets, done: _Done) -> None:
        for method, arguments in done.calls:
            if method == "log":
                logging.getLogger(arguments[0]).log(*arguments[1:])
            elif method in ("on_jobs", "on_segments"):
                getattr(self.alone.monitor, method)(*arguments)
            elif method == "on_batch":
                self.alone.monitor.on_batch(_whole(chunk, *arguments))
            else:
                position, learned, *others = arguments
                taskset = chunk[position]
                taskset.horizon_ns, taskset.verdicts = learned
                getattr(self.alone.monitor, method)(taskset, *others)


@dataclass(frozen=True, slots=True)
class _Done:
    """What a process has done of a chunk: its first `count` variants."""

    calls: list[Call]
    count: int
    seconds: float


class _Recorder(AbstractMonitor, logging.Handler):
    """Keeps what a monitor is told, and what is logged meanwhile."""

    def __init__(self, tasksets: TaskSets) -> None:
        logging.Handler.__init__(self)
        self.calls: list[Call] = []
        self.rows = 0
        self._positions = {variant: n for n, variant in enumerate(tasksets.numbers)}

    def emit(self, record: logging.LogRecord) -> None:
        self.calls.append(("log", (record.name, record.levelno, "%s", record.getMessage())))

    def on_start(self, taskset: TaskSet, host: str, attempt: int) -> None:
        self._keep("on_start", taskset, host, attempt)

    def on_jobs(self, jobs: JobBatch) -> None:
        self.calls.append(("on_jobs", (jobs,)))
        self.rows += len(jobs)

    def on_segments(self, segments: pa.RecordBatch) -> None:
        self.calls.append(("on_segments", (segments,)))
        self.rows += segments.num_rows

    def on_batch(self, batch: Batch) -> None:
        if isinstance(batch.tasksets, Variants):  # columns: cheaper to send than to draw again
            self.calls.append(("on_batch", (None, None, batch)))
        else:
            positions = [self._positions[number] for number in batch.tasksets.numbers]
            learned = batch.tasksets.horizons_ns, batch.tasksets.verdicts
            without = replace(batch, tasksets=TaskSets([]))
            self.calls.append(("on_batch", (positions, learned, without)))
        self.rows += len(batch.jobs) + (0 if batch.segments is None else batch.segments.num_rows)

    def on_finish(self, taskset: TaskSet, host: str, attempt: int) -> None:
        self._keep("on_finish", taskset, host, attempt)

    def on_fail(self, taskset: TaskSet, host: str, attempt: int, error: Exception) -> None:
        self._keep("on_fail", taskset, host, attempt, error)

    def _keep(self, method: str, taskset: TaskSet, *arguments: Any) -> None:
        position = self._positions[taskset.variant]
        learned = taskset.horizon_ns, taskset.verdicts
        self.calls.append((method, (position, learned, *arguments)))


def _whole(chunk: TaskSets, positions: Sequence[int] | None, learned: Any, batch: Batch) -> Batch:
    """The batch with its task sets, which stayed here if `positions` tells which they are."""
    if positions is None:
        return batch
    tasksets = chunk.only(positions)
    tasksets.horizons_ns, tasksets.verdicts = learned
    return replace(batch, tasksets=tasksets)


def _begin(parent: int) -> None:
    """What a process does first: it leaves signals to its parent, and dies with it."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    pr_set_pdeathsig = 1
    ctypes.CDLL(None, use_errno=True).prctl(pr_set_pdeathsig, signal.SIGKILL)
    if os.getppid() != parent:  # it died before we asked to be told
        os._exit(1)


def _compute(distributor: Distributor, tasksets: TaskSets) -> _Done:
    """In another process: run the first of these variants, for a time and up to some rows."""
    recorder = _Recorder(tasksets)
    stream = Stream(tasksets)
    root = logging.getLogger()
    root.setLevel(logging.INFO)
    root.addHandler(recorder)
    begin = time.perf_counter()

    def go_on() -> bool:
        return recorder.rows < CHUNK_ROWS and time.perf_counter() - begin < 2 * CHUNK_SECONDS

    try:
        replace(distributor, monitor=recorder).run(stream, go_on)
    finally:
        root.removeHandler(recorder)
    return _Done(recorder.calls, stream.position, time.perf_counter() - begin)


def usable_cores() -> int:
    """How many cores this process may use."""
    return len(os.sched_getaffinity(0))
