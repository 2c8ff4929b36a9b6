"""The contract of a monitor: what watches an experiment."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import pyarrow as pa

    from taskgen_run.job import JobBatch
    from taskgen_run.taskset import TaskSet


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

    def close(self) -> None:
        """Called once at the end, whatever happened."""
