"""Monitors that people look at: jobs as lines, and how far an experiment is."""

from __future__ import annotations

import logging
import sys
import time
from typing import TYPE_CHECKING

from taskgen_run.errors import InfrastructureError
from taskgen_run.monitor import AbstractMonitor

if TYPE_CHECKING:
    from rich.progress import Progress

    from taskgen_run.job import Job, JobBatch
    from taskgen_run.taskset import TaskSet

log = logging.getLogger(__name__)

LOG_SECONDS = 10.0
"""How often progress is logged where there is no terminal."""


class StdOutMonitor(AbstractMonitor):
    """Prints a line per job as it ends: where it ran, when, and how it ended."""

    def on_jobs(self, jobs: JobBatch) -> None:
        """Raises InfrastructureError when nobody reads the lines any more."""
        try:
            for job in jobs:
                if job.outcome is not None:
                    print(_line(job), flush=True)
        except BrokenPipeError as error:
            raise InfrastructureError(
                "standard output is closed; what is finished is kept, the same command continues"
            ) from error


def _line(job: Job) -> str:
    times = (
        ("release", job.release_ns),
        ("start", job.start_ns),
        ("end", job.end_ns),
        ("deadline", job.deadline_ns),
    )
    shown = "  ".join(f"{name} {_ms(value)}" for name, value in times if value is not None)
    place = f"{job.host}  variant {job.taskset}  task {job.task}  job {job.job}"
    return f"{place}  {job.outcome}  {shown}".rstrip()


def _ms(nanoseconds: int) -> str:
    """Nanoseconds as exact ms, without needless zeros."""
    whole, rest = divmod(nanoseconds, 1_000_000)
    return f"{whole}.{rest:06d}".rstrip("0").rstrip(".") + " ms"


class ProgressMonitor(AbstractMonitor):
    """A progress bar on a terminal; elsewhere a log line now and then.

    `total` is the number of variants, None when it is not known; `done` of them were finished
    before this run.
    """

    def __init__(self, total: int | None, done: int) -> None:
        self._total = total
        self._done = done
        self._failed = 0
        self._jobs = 0
        self._logged = time.monotonic()
        self._bar = _bar() if sys.stderr.isatty() else None
        if self._bar is not None:
            self._bar_task = self._bar.add_task("", total=total, completed=done, note="")
            self._bar.start()

    def on_jobs(self, jobs: JobBatch) -> None:
        self._jobs += len(jobs) - jobs.record_batch.column("outcome").null_count  # have ended
        self._show()

    def on_finish(self, taskset: TaskSet, host: str, attempt: int) -> None:
        self._done += 1
        self._show()

    def on_fail(self, taskset: TaskSet, host: str, attempt: int, error: Exception) -> None:
        self._done += 1
        self._failed += 1
        log.error("variant %d on %s failed: %s", taskset.variant, host, error)
        self._show()

    def close(self) -> None:
        if self._bar is not None:
            self._bar.stop()

    def _show(self) -> None:
        if self._bar is not None:
            self._bar.update(self._bar_task, completed=self._done, note=self._note())
        elif time.monotonic() - self._logged >= LOG_SECONDS:
            self._logged = time.monotonic()
            of = "" if self._total is None else f" of {self._total}"
            log.info("%d%s variants, %s", self._done, of, self._note())

    def _note(self) -> str:
        failed = f", {self._failed} failed" if self._failed else ""
        return f"{self._jobs} jobs{failed}"


def _bar() -> Progress:
    # Imported here: only a terminal needs it, and it is slow to import.
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeElapsedColumn,
        TimeRemainingColumn,
    )

    return Progress(
        TextColumn("variants"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
        TextColumn("{task.fields[note]}"),
        console=Console(stderr=True),
    )
