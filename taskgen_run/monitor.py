"""The contract of a monitor: what watches an experiment."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from taskgen_run.errors import BugError, TaskgenError, one_line, place_of

if TYPE_CHECKING:
    import pyarrow as pa

    from taskgen_run.job import JobBatch
    from taskgen_run.taskset import TaskSet
    from taskgen_run.variants import TaskSets


@dataclass(frozen=True, slots=True)
class Batch:
    """Variants that were computed together: each of `tasksets` on that one of `hosts`.

    `jobs` has all of their jobs, each with an outcome, in the order of the variants, and
    `segments` their stretches of execution, if they were traced.
    """

    tasksets: TaskSets
    hosts: Sequence[str]
    attempt: int
    jobs: JobBatch
    segments: pa.RecordBatch | None = None


class AbstractMonitor:
    """Watches one experiment. Every method does nothing until a subclass overrides it.

    Calls come in order from one thread. `taskset` is a concrete task set and `taskset.variant`
    its number; `attempt` counts from 0. An error raised by a monitor ends the experiment, and
    what was finished until then is kept.
    """

    def on_start(self, taskset: TaskSet, host: str, attempt: int) -> None:
        """Called when a task set is about to start on a host."""

    def on_jobs(self, jobs: JobBatch) -> None:
        """Called with new or changed jobs; those with an outcome are final."""

    def on_segments(self, segments: pa.RecordBatch) -> None:
        """Called with stretches of execution (`job.SEGMENT_SCHEMA`) when a session traces."""

    def on_finish(self, taskset: TaskSet, host: str, attempt: int) -> None:
        """Called when a task set has finished; no more of its jobs come."""

    def on_stop(self, taskset: TaskSet, host: str, attempt: int) -> None:
        """Called when a task set was stopped from outside before it had finished."""

    def on_fail(self, taskset: TaskSet, host: str, attempt: int, error: Exception) -> None:
        """Called when a task set has failed for good, with the reason."""

    def on_batch(self, batch: Batch) -> None:
        """Called for variants that were computed together, instead of the calls for each of them.

        Makes those calls, unless a subclass has a faster way.
        """
        for taskset, host in zip(batch.tasksets, batch.hosts, strict=True):
            self.on_start(taskset, host, batch.attempt)
        self.on_jobs(batch.jobs)
        if batch.segments is not None:
            self.on_segments(batch.segments)
        for taskset, host in zip(batch.tasksets, batch.hosts, strict=True):
            self.on_finish(taskset, host, batch.attempt)

    def on_host_fail(self, host: str, error: Exception, *, put_aside: bool) -> None:
        """Called when a host has failed, with the reason, and whether it is asked no more.

        What it was running is told of by `on_fail`, or started again on any host.
        """

    def close(self) -> None:
        """Called once at the end, whatever happened."""


class Monitors(AbstractMonitor):
    """Several monitors as one; each is told in turn, the first one first.

    Raises BugError, naming the monitor, when one raises what is not of the error family.
    """

    def __init__(self, monitors: Sequence[AbstractMonitor]) -> None:
        self._monitors = monitors

    def on_start(self, taskset: TaskSet, host: str, attempt: int) -> None:
        self._tell("on_start", taskset, host, attempt)

    def on_jobs(self, jobs: JobBatch) -> None:
        self._tell("on_jobs", jobs)

    def on_segments(self, segments: pa.RecordBatch) -> None:
        self._tell("on_segments", segments)

    def on_finish(self, taskset: TaskSet, host: str, attempt: int) -> None:
        self._tell("on_finish", taskset, host, attempt)

    def on_stop(self, taskset: TaskSet, host: str, attempt: int) -> None:
        self._tell("on_stop", taskset, host, attempt)

    def on_fail(self, taskset: TaskSet, host: str, attempt: int, error: Exception) -> None:
        self._tell("on_fail", taskset, host, attempt, error)

    def on_batch(self, batch: Batch) -> None:
        self._tell("on_batch", batch)

    def on_host_fail(self, host: str, error: Exception, *, put_aside: bool) -> None:
        self._tell("on_host_fail", host, error, put_aside=put_aside)

    def close(self) -> None:
        """Close every monitor, also after one has failed to; then raise the first failure."""
        failures = []
        for monitor in self._monitors:
            try:
                _call(monitor, "close")
            except TaskgenError as error:
                failures.append(error)
        if failures:
            raise failures[0]

    def _tell(self, what: str, *args: Any, **keywords: Any) -> None:
        for monitor in self._monitors:
            _call(monitor, what, *args, **keywords)


def make_monitor(make: Callable[[], AbstractMonitor]) -> AbstractMonitor:
    """A monitor of the user's own. Raises BugError if it cannot be made."""
    try:
        return make()
    except TaskgenError:
        raise
    except (Exception, SystemExit) as error:  # monitors are plug-ins: whatever they raise
        raise BugError(
            f"a monitor could not be made: {type(error).__name__}: {one_line(error)}"
        ) from error


def _call(monitor: AbstractMonitor, what: str, *args: Any, **keywords: Any) -> None:
    method: Callable[..., None] = getattr(monitor, what)
    try:
        method(*args, **keywords)
    except TaskgenError:
        raise
    except (Exception, SystemExit) as error:  # monitors are plug-ins: whatever they raise
        name = type(monitor).__name__
        raise BugError(
            f"monitor {name} failed in {what}: {type(error).__name__}: {one_line(error)}"
            f"{place_of(error)}"
        ) from error
