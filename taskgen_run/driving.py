"""How one session is driven through one task set."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import TYPE_CHECKING, Any

from taskgen_run.analysis.verdicts import Analysis
from taskgen_run.errors import BugError, TargetError, TaskgenError, one_line, place_of
from taskgen_run.job import Job, JobBatch, Outcome
from taskgen_run.session import AbstractSession, TracingSession
from taskgen_run.task import Attribute
from taskgen_run.taskset import TaskSet

if TYPE_CHECKING:
    import pyarrow as pa

log = logging.getLogger(__name__)

Step = tuple[JobBatch | None, "pa.RecordBatch | None"]
"""What is new: jobs, and the stretches of execution behind them; None when there are none."""


def drive(
    session: AbstractSession,
    taskset: TaskSet,
    *,
    host: str,
    attempt: int = 0,
    params: Sequence[Any] = (),
    declared: Mapping[str, Attribute] | None = None,
    analysis: Analysis | None = None,
    waiting: Callable[[], AbstractContextManager[None]] = nullcontext,
) -> Iterator[Step]:
    """Run one concrete task set to its end, yielding what is new after each step.

    What an earlier attempt has left in it is forgotten, apart from the verdicts of `analysis`. The
    last step has the jobs that are still open, as unfinished. A context of `waiting` is entered
    around every call of the session. Raises what the session raises.
    """
    taskset.check(declared)
    taskset.horizon_ns = None
    for task in taskset:
        task.jobs = []
    still_open: dict[tuple[int, int], Job] = {}
    ended: set[tuple[int, int]] = set()
    if analysis is not None and not taskset.verdicts:
        with waiting():
            taskset.verdicts = analysis(taskset)
    with waiting(), _no_exit():
        session.start(taskset, *params)
    running = True
    while running:
        with waiting(), _no_exit():
            jobs = session.run(taskset)
            segments = session.segments() if jobs and isinstance(session, TracingSession) else None
            running = session.is_running(taskset)
        for job in jobs:
            number = job.task, job.job
            if number in ended:
                raise BugError(f"the session changed a job that had ended: {job}")
            if job.outcome is None:
                still_open[number] = job
            else:
                ended.add(number)
                still_open.pop(number, None)
        yield _batch(jobs, taskset, attempt, host), segments
    for job in still_open.values():
        job.outcome = Outcome.UNFINISHED
    if still_open:
        yield _batch(list(still_open.values()), taskset, attempt, host), None


@contextmanager
def _no_exit() -> Iterator[None]:
    try:
        yield
    except SystemExit as error:
        raise BugError("the session must raise an error, not end the process") from error


def _batch(jobs: list[Job], taskset: TaskSet, attempt: int, host: str) -> JobBatch | None:
    if not jobs:
        return None
    return JobBatch.from_jobs(jobs, taskset=taskset.variant, attempt=attempt, host=host)


def blame(error: Exception, doing: str) -> TaskgenError:
    """The error as one of the family: one of the connection is the target's, any other a bug."""
    if isinstance(error, TaskgenError):
        return error
    if isinstance(error, OSError):
        return TargetError(one_line(error))
    log.error("a session failed while %s", doing, exc_info=error)
    what = f"{type(error).__name__}: {one_line(error)}{place_of(error)}"
    return BugError(f"the session failed while {doing}: {what}")


def close(session: AbstractSession, host: str) -> None:
    """Close a session; one that fails to is of no more interest than a line in the log."""
    try:
        session.close()
    except Exception as error:  # sessions are plug-ins: whatever they raise
        log.warning("closing the session on %s failed: %s", host, one_line(error))
