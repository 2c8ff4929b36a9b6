"""Sessions that compute, on all cores: their hosts are simulated machines.

The first seconds are computed here; what is left then goes, in chunks of variants, to processes.
Each runs the same distributor and records what that tells its monitor, and the records are told
to the real monitor in the order of the variants. So results depend neither on the number of
processes nor on timing.
"""

from __future__ import annotations

import ctypes
import logging
import os
import signal
import time
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from typing import Any

import pyarrow as pa

from taskgen_run.distributor import Distributor
from taskgen_run.errors import InfrastructureError
from taskgen_run.interrupts import Interrupts
from taskgen_run.job import JobBatch
from taskgen_run.monitor import AbstractMonitor
from taskgen_run.taskset import TaskSet

ALONE_SECONDS = 2.0
"""What is done by then is not worth other processes, which take a second to start."""

CHUNK_SECONDS = 0.2
"""About how long a process computes at a time."""

CHUNK_VARIANTS = 1024
"""How many variants go to a process at a time at most."""

Call = tuple[str, tuple[Any, ...]]
"""A method of a monitor and its arguments, in which a number stands for a task set."""

Learned = tuple[int | None, Mapping[str, bool | None]]
"""What is known of a task set after it ran: its horizon and its verdicts."""


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
        self.alone.run(_until(end, variants))
        first = next(variants, None)
        if first is not None:
            self._run_in_processes(first, variants)

    def _run_in_processes(self, first: TaskSet, variants: Iterator[TaskSet]) -> None:
        # Imported here: most experiments are over before.
        from loky import ProcessPoolExecutor
        from loky.process_executor import BrokenProcessPool

        remote = replace(self.alone, monitor=AbstractMonitor(), interrupts=Interrupts())
        chunk, size = [first], 1
        waiting: deque[tuple[list[TaskSet], Any]] = deque()
        pool = ProcessPoolExecutor(self.workers, initializer=_begin, initargs=(os.getpid(),))
        try:
            while chunk or waiting:
                while chunk and len(waiting) < 2 * self.workers:
                    waiting.append((chunk, pool.submit(_compute, remote, chunk)))
                    chunk = list(islice(variants, size))
                tasksets, future = waiting.popleft()
                with self.alone.interrupts.allowed():
                    calls, learned, seconds = future.result()
                self._tell(tasksets, calls, learned)
                each = seconds / len(tasksets)
                size = max(1, min(CHUNK_VARIANTS, int(CHUNK_SECONDS / max(each, 1e-9))))
        except BrokenProcessPool as error:
            raise InfrastructureError(
                "a process that computed variants died, perhaps for want of memory; what is "
                "finished is kept, the same command continues, with fewer workers if need be"
            ) from error
        finally:
            pool.shutdown(wait=True, kill_workers=True)

    def _tell(self, tasksets: Sequence[TaskSet], calls: list[Call], learned: list[Learned]) -> None:
        for taskset, (horizon_ns, verdicts) in zip(tasksets, learned, strict=True):
            taskset.horizon_ns, taskset.verdicts = horizon_ns, verdicts
        for method, arguments in calls:
            if method == "log":
                logging.getLogger(arguments[0]).log(*arguments[1:])
            elif method in ("on_jobs", "on_segments"):
                getattr(self.alone.monitor, method)(*arguments)
            else:
                getattr(self.alone.monitor, method)(tasksets[arguments[0]], *arguments[1:])


def _until(end: float, variants: Iterator[TaskSet]) -> Iterator[TaskSet]:
    while time.monotonic() < end:
        taskset = next(variants, None)
        if taskset is None:
            return
        yield taskset


class _Recorder(AbstractMonitor, logging.Handler):
    """Keeps what a monitor is told, and what is logged meanwhile."""

    def __init__(self, tasksets: Sequence[TaskSet]) -> None:
        logging.Handler.__init__(self)
        self.calls: list[Call] = []
        self._positions = {taskset.variant: n for n, taskset in enumerate(tasksets)}

    def emit(self, record: logging.LogRecord) -> None:
        self.calls.append(("log", (record.name, record.levelno, "%s", record.getMessage())))

    def on_start(self, taskset: TaskSet, host: str, attempt: int) -> None:
        self._keep("on_start", taskset, host, attempt)

    def on_jobs(self, jobs: JobBatch) -> None:
        self.calls.append(("on_jobs", (jobs,)))

    def on_segments(self, segments: pa.RecordBatch) -> None:
        self.calls.append(("on_segments", (segments,)))

    def on_finish(self, taskset: TaskSet, host: str, attempt: int) -> None:
        self._keep("on_finish", taskset, host, attempt)

    def on_fail(self, taskset: TaskSet, host: str, attempt: int, error: Exception) -> None:
        self._keep("on_fail", taskset, host, attempt, error)

    def _keep(self, method: str, taskset: TaskSet, *arguments: Any) -> None:
        self.calls.append((method, (self._positions[taskset.variant], *arguments)))


def _begin(parent: int) -> None:
    """What a process does first: it leaves signals to its parent, and dies with it."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    pr_set_pdeathsig = 1
    ctypes.CDLL(None, use_errno=True).prctl(pr_set_pdeathsig, signal.SIGKILL)
    if os.getppid() != parent:  # it died before we asked to be told
        os._exit(1)


def _compute(
    distributor: Distributor, tasksets: list[TaskSet]
) -> tuple[list[Call], list[Learned], float]:
    """In another process: the calls of the monitor, what is learned, and the seconds it took."""
    recorder = _Recorder(tasksets)
    root = logging.getLogger()
    root.setLevel(logging.INFO)
    root.addHandler(recorder)
    begin = time.perf_counter()
    try:
        replace(distributor, monitor=recorder).run(tasksets)
    finally:
        root.removeHandler(recorder)
    learned = [(taskset.horizon_ns, taskset.verdicts) for taskset in tasksets]
    return recorder.calls, learned, time.perf_counter() - begin


def usable_cores() -> int:
    """How many cores this process may use."""
    return len(os.sched_getaffinity(0))
