"""The jobs of one task set, as the events of a target tell of them."""

from __future__ import annotations

from dataclasses import dataclass

from taskgen_run.errors import TargetError
from taskgen_run.job import Job, Outcome
from taskgen_run.task import Task
from taskgen_run.taskloader.protocol import Event, EventType
from taskgen_run.taskset import TaskSet

OUTCOMES = {
    EventType.EXIT: Outcome.FINISHED,
    EventType.EXIT_CRITICAL: Outcome.KILLED,
    EventType.EXIT_PERIOD: Outcome.KILLED,
    EventType.EXIT_EXTERNAL: Outcome.STOPPED,
    EventType.EXIT_ERROR: Outcome.ERROR,
    EventType.OUT_OF_QUOTA: Outcome.OUT_OF_QUOTA,
    EventType.NOT_SCHEDULED: Outcome.NOT_SCHEDULED,
}
"""How a job ended, by the event that says so."""


# Looked up in the enumeration for every event, they would take a third of the time.
_START, _JOBS_DONE, _EXTERNAL = EventType.START, EventType.JOBS_DONE, EventType.EXTERNAL
_NOT_SCHEDULED, _OUT_OF_QUOTA = EventType.NOT_SCHEDULED, EventType.OUT_OF_QUOTA
_EXIT_PERIOD, _EXIT_EXTERNAL = EventType.EXIT_PERIOD, EventType.EXIT_EXTERNAL


@dataclass(slots=True)
class _Observed:
    """What is known of one task."""

    position: int
    identifier: int
    task: Task
    count: int | None
    period_ns: int
    deadline_ns: int | None
    running: Job | None = None
    ended: int = 0
    last_ns: int = 0
    release_ns: int | None = None
    """Of the next job, where the end of the one before tells it."""
    jobs_done: bool = False
    ran: bool = False
    """Whether it has run as often as is waited for: all its jobs, or one if they have no end."""
    over: bool = False
    """Whether no further job comes and none is running."""


class ObservedJobs:
    """Makes the jobs of a concrete `taskset` from the events of the target `peer`.

    A target is believed what can be true. These are lies, and raise TargetError: events of a task
    that was not sent; the end of a job that did not start; a second start before the end of the
    first, as targets end a job that overruns (EXIT_PERIOD); a job after the last one; a task's
    time that goes backwards, a job that ends before it started among it. These are not: times
    that go backwards from one task to the other, as processors report side by side, or around
    NOT_SCHEDULED, which the loader tells itself and not a job; JOBS_DONE
    before all jobs have ended, or fewer than `numberofjobs`, as it is the target that knows;
    OUT_OF_QUOTA after START, which ends the job; EXTERNAL, whatever it is about.

    No event tells when a job was released, but two tell it of themselves: NOT_SCHEDULED comes at
    the release of its job, and EXIT_PERIOD at that of the next one, a period after its own. Of
    other jobs the release is not known.
    """

    def __init__(self, taskset: TaskSet, peer: str) -> None:
        self.peer = peer
        self.running = 0
        """How many jobs have started and not ended."""
        self.settled = False
        """Whether every task was done at some instant: its last job has ended, or for a task
        without end, one job, and then nothing ran."""
        self.exhausted = False
        """Whether no further job comes and none is running."""
        self.last_ns: int | None = None
        """The latest instant that the target has told of, on its clock."""
        self.stopped_ns: int | None = None
        """The instant at which the target first stopped a job, on its clock."""
        self._tasks = {
            identifier: _Observed(
                position, identifier, task, task.job_count, task.period_ns, task.deadline_ns
            )
            for position, (identifier, task) in enumerate(zip(taskset.ids(), taskset, strict=True))
        }
        self._to_run = self._going_on = len(self._tasks)

    def take(self, event: Event) -> Job | None:
        """The job that is new or changed by `event`, if one is. Raises TargetError."""
        kind, identifier, time_ns = event
        if kind is _EXTERNAL:
            return None
        observed = self._tasks.get(identifier)
        if observed is None:
            raise TargetError(
                f"{self.peer}: a task-id must be that of a task of the task set, got "
                f"{identifier} with {kind}"
            )
        if kind is not _NOT_SCHEDULED:
            if time_ns < observed.last_ns:
                raise self._lie(observed, event, f"time went back from {observed.last_ns} ns")
            observed.last_ns = time_ns
        if self.last_ns is None or time_ns > self.last_ns:
            self.last_ns = time_ns
        job = None
        if kind is _START:
            job = self._start(observed, event)
        elif kind is _JOBS_DONE:
            observed.jobs_done = True
        else:
            job = self._end(observed, event)
        self._settle(observed)
        return job

    def _start(self, observed: _Observed, event: Event) -> Job:
        if observed.running is not None:
            raise self._lie(observed, event, f"its job {observed.running.job} has not ended")
        job = self._new(observed, event, observed.release_ns)
        job.start_ns = event.time_ns
        observed.running, observed.release_ns = job, None
        self.running += 1
        return job

    def _end(self, observed: _Observed, event: Event) -> Job:
        kind, _, time_ns = event
        job = observed.running
        if kind is _NOT_SCHEDULED:
            job = self._new(observed, event, time_ns)
            observed.release_ns = None
        elif job is not None:
            observed.running = None
            self.running -= 1
        elif kind is _OUT_OF_QUOTA:
            job = self._new(observed, event, observed.release_ns)
            observed.release_ns = None
        else:
            raise self._lie(observed, event, "no job of it is running")
        if kind is _EXIT_PERIOD and observed.period_ns:
            observed.release_ns = time_ns
            release = time_ns - observed.period_ns
            if job.release_ns is None and job.start_ns is not None and release <= job.start_ns:
                self._release(observed, job, release)
        if kind is _EXIT_EXTERNAL and self.stopped_ns is None:
            self.stopped_ns = time_ns
        job.end_ns, job.outcome = time_ns, OUTCOMES[kind]
        observed.ended += 1
        return job

    def _new(self, observed: _Observed, event: Event, release_ns: int | None) -> Job:
        number = len(observed.task.jobs)
        if observed.jobs_done or number == observed.count:
            raise self._lie(observed, event, f"its {number} jobs are done")
        job = Job(observed.position, number)
        if release_ns is not None:
            self._release(observed, job, release_ns)
        observed.task.jobs.append(job)
        return job

    @staticmethod
    def _release(observed: _Observed, job: Job, release_ns: int) -> None:
        job.release_ns = release_ns
        if observed.deadline_ns is not None:
            job.deadline_ns = release_ns + observed.deadline_ns

    def _settle(self, observed: _Observed) -> None:
        if observed.running is None and not observed.over:
            observed.over = observed.jobs_done or observed.ended == observed.count
            self._going_on -= observed.over
            if not observed.ran and (observed.over or (observed.count is None and observed.ended)):
                observed.ran = True
                self._to_run -= 1
            self.exhausted = not self._going_on
        self.settled = self.settled or not (self._to_run or self.running)

    def _lie(self, observed: _Observed, event: Event, why: str) -> TargetError:
        return TargetError(
            f"{self.peer}: {event.type} of task {observed.position} (id {observed.identifier}) at "
            f"{event.time_ns} ns cannot be: {why}"
        )
