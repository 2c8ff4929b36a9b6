"""The taskloader: releases the jobs of tasks in time, ends them, and tells what happens to them.

Job k of a task is released at start + offset + k × period on CLOCK_MONOTONIC, however late earlier
ones were. A job whose whole period was missed, as the machine was asleep or overloaded, ends as
NOT_SCHEDULED without having started.

The events of a task come in the order of its jobs, and their times never go backwards.
NOT_SCHEDULED has the time of the release, unless the job before it ended later; EXIT_PERIOD and
EXIT_CRITICAL have that of the kill.

A job counts as killed only if the agent has killed it: one that ends by itself with the exit value
17 or 19, which those have on other targets, is an EXIT_ERROR. A job that cannot be started, other
than for its quota, is a START and an EXIT_ERROR at once. EXTERNAL tells that STOP or CLEAR has
ended tasks that were started.
"""

from __future__ import annotations

import contextlib
import errno
import heapq
import itertools
import logging
import os
import selectors
import signal
import time
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from taskgen_run.task import Task
from taskgen_run.taskloader.admission import AdmissionTest
from taskgen_run.taskloader.binaries import Binaries, Executable
from taskgen_run.taskloader.jobs import Job, Launcher
from taskgen_run.taskloader.loaded import LoadedTask
from taskgen_run.taskloader.messages import Event, EventType, LiveTask, ProtocolError
from taskgen_run.taskloader.orders import Ended, Failed, Made
from taskgen_run.taskloader.policies import policies

log = logging.getLogger("taskloader")

LEAD_NS = 9_500_000
"""How long before its release the process of a job is made: no whole ms, as others are released at
whole ones."""


class Loader:
    """The tasks of one client.

    `emit` is called with every event; the data of what is registered with `selector` is a function
    to be called when it is ready. memory_bytes: what the quotas of running jobs may add up to.
    """

    def __init__(
        self,
        launcher: Launcher,
        binaries: Binaries,
        selector: selectors.BaseSelector,
        emit: Callable[[Event], None],
        *,
        most_tasks: int,
        memory_bytes: int,
    ) -> None:
        self._launcher = launcher
        self._binaries = binaries
        self._selector = selector
        self._emit = emit
        self._most_tasks = most_tasks
        self._memory_bytes = memory_bytes
        self._cores = sorted(os.sched_getaffinity(0))
        self._goal: str | None = None
        self._tasks: dict[int, LoadedTask] = {}
        self._running: dict[int, tuple[LoadedTask, Job]] = {}  # by number
        self._prepared: dict[int, tuple[LoadedTask, Job]] = {}  # by number
        self._test: AdmissionTest | None = None
        self._timers: list[tuple[int, int, Callable[[], None]]] = []
        self._order = itertools.count()
        self._warned: set[object] = set()

    def add(self, tasks: Iterable[Mapping[str, Any]]) -> None:
        """Queue tasks. Raises ProtocolError for what cannot be taken; then none is."""
        added = [LoadedTask(Task(attributes)) for attributes in tasks]
        for loaded in added:
            if loaded.id in self._tasks:
                raise ProtocolError(f"task {loaded.id}: id must be unique, and is loaded already")
        count = len(self._tasks) + len(added)
        if count > self._most_tasks:
            raise ProtocolError(f"tasks must be ≤ {self._most_tasks} in all, got {count}")
        self._tasks.update((loaded.id, loaded) for loaded in added)

    def optimize(self, goal: str | None) -> None:
        """Set the goal: with any, the tasks of a START must pass a schedulability test."""
        self._goal = goal

    def start(self) -> None:
        """Start the tasks that are queued: those that were not started yet, or were stopped.

        With a goal they start when the test has admitted them, all that are loaded together.
        """
        self._end_test()
        queued = [loaded for loaded in self._tasks.values() if loaded.start_ns is None]
        if self._goal is None or not queued:
            self._begin(queued, refused=False)
            return
        test = AdmissionTest([loaded.task for loaded in self._tasks.values()], self._cores)
        self._test = test
        self._selector.register(test, selectors.EVENT_READ, lambda: self._admit(test, queued))
        self._plan(test.deadline_ns, lambda: self._admit(test, queued))

    def _admit(self, test: AdmissionTest, queued: Iterable[LoadedTask]) -> None:
        if test is not self._test:
            return
        reason = test.refusal()
        self._end_test()
        if reason:
            log.warning("goal %s: the task set is not started: %s", self._goal, reason)
        self._begin(queued, refused=bool(reason))

    def _end_test(self) -> None:
        if self._test is not None:
            self._selector.unregister(self._test)
            self._test.close()
            self._test = None

    def _begin(self, queued: Iterable[LoadedTask], *, refused: bool) -> None:
        every = list(self._tasks.values())
        for loaded, policy in zip(every, policies([one.task for one in every]), strict=True):
            loaded.policy = policy
        for loaded in queued:
            loaded.refused = refused
            if loaded.task.offset_ns < LEAD_NS:
                self._prepare(loaded)
        # Only now, so that jobs which are released together also start so, however many there are.
        start_ns = time.monotonic_ns()
        for loaded in queued:
            loaded.start_ns = start_ns
            self._plan_release(loaded)

    def stop(self) -> None:
        """End all tasks and jobs. The tasks are queued again.

        Raises InfrastructureError if a process cannot be killed.
        """
        was_started = self._test is not None or any(
            loaded.start_ns is not None for loaded in self._tasks.values()
        )
        self._end_test()
        self._timers.clear()
        self.take_notice()
        for loaded in self._tasks.values():
            loaded.queue()
        stopped_ns = time.monotonic_ns()
        for _, job in self._running.values():
            job.verdict = job.verdict or EventType.EXIT_EXTERNAL
        for report in self._launcher.kill_all():
            self._take(report)
        if was_started:
            self._emit(Event(EventType.EXTERNAL, -1, stopped_ns))

    def clear(self) -> None:
        """End all tasks and jobs, and forget them and the goal. Executables are kept.

        Raises InfrastructureError if a process cannot be killed.
        """
        self.stop()
        self._tasks.clear()
        self._warned.clear()
        self._goal = None

    def live(self) -> list[LiveTask]:
        """What there is to tell of each task now."""
        return [loaded.live() for loaded in self._tasks.values()]

    @property
    def next_ns(self) -> int | None:
        """When `advance` is to be called; None if nothing is planned."""
        return self._timers[0][0] if self._timers else None

    def advance(self) -> None:
        """Do what is due by now."""
        now_ns = time.monotonic_ns()
        due = []
        while self._timers and self._timers[0][0] <= now_ns:
            due.append(heapq.heappop(self._timers)[2])
        for act in due:
            act()

    def take_notice(self) -> None:
        """Take notice of what the launcher tells."""
        for report in self._launcher.hear():
            self._take(report)

    def _take(self, report: Made | Failed | Ended) -> None:
        match report:
            case Made(number, pid):
                for jobs in (self._prepared, self._running):
                    if number in jobs:
                        jobs[number][1].pid = pid
            case Failed():
                self._take_failure(report)
            case Ended():
                self._take_end(report)

    def _plan(self, time_ns: int, act: Callable[[], None]) -> None:
        heapq.heappush(self._timers, (time_ns, next(self._order), act))

    def _plan_release(self, loaded: LoadedTask) -> None:
        if loaded.has_next:
            self._plan(loaded.next_release_ns - LEAD_NS, lambda: self._prepare(loaded))
            self._plan(loaded.next_release_ns, lambda: self._release(loaded))

    def _prepare(self, loaded: LoadedTask) -> None:
        executable = self._binaries.get(loaded.name)
        if loaded.prepared is None and executable is not None and not loaded.refused:
            # What fails now is tried again, and told, when the job is released.
            with contextlib.suppress(OSError):
                self._make_process(loaded, executable)

    def _make_process(self, loaded: LoadedTask, executable: Executable) -> Job:
        """The process of the task's next job. Raises OSError if it cannot be made."""
        job = self._launcher.make(loaded.program(executable, self._cores))
        loaded.prepared = job
        self._prepared[job.number] = (loaded, job)
        return job

    def _release(self, loaded: LoadedTask) -> None:
        release_ns = loaded.next_release_ns
        loaded.next_job += 1
        self._plan_release(loaded)
        if loaded.job is not None:
            self._condemn(loaded.job, EventType.EXIT_PERIOD)
        if loaded.waiting_ns is not None:
            loaded.missed_ns.append(loaded.waiting_ns)
            loaded.waiting_ns = None
        if loaded.has_next and loaded.next_release_ns <= time.monotonic_ns():
            self._warn("late", "the machine is too slow: the whole period of a job was missed")
            loaded.missed_ns.append(release_ns)
        else:
            loaded.waiting_ns = release_ns
        if loaded.job is None:
            self._go_on(loaded)

    def _go_on(self, loaded: LoadedTask) -> None:
        """No job of the task runs: tell of those that were missed, and start the one that waits."""
        for missed_ns in loaded.missed_ns:
            self._tell(loaded, EventType.NOT_SCHEDULED, missed_ns)
        loaded.missed_ns.clear()
        release_ns, loaded.waiting_ns = loaded.waiting_ns, None
        if release_ns is None:
            self._finish(loaded)
        elif loaded.refused:
            self._tell(loaded, EventType.NOT_SCHEDULED, release_ns)
            self._finish(loaded)
        else:
            self._start_job(loaded, release_ns)

    def _start_job(self, loaded: LoadedTask, release_ns: int) -> None:
        executable = self._binaries.get(loaded.name)
        if executable is None:
            self._warn(
                ("missing", loaded.name), f"task {loaded.id}: binary {loaded.name!r} was not sent"
            )
            self._fail(loaded)
            return
        used = sum(other.quota_bytes for other, _ in self._running.values())
        quota = loaded.quota_bytes
        if quota and (quota < executable.needed_bytes or used + quota > self._memory_bytes):
            self._warn(
                ("quota", loaded.id),
                f"task {loaded.id}: quota must be ≥ {executable.needed_bytes} bytes for "
                f"{loaded.name!r}, and ≤ {self._memory_bytes - used} that are left, got {quota}",
            )
            self._tell(loaded, EventType.OUT_OF_QUOTA)
            self._finish(loaded)
            return
        try:
            job = loaded.prepared or self._make_process(loaded, executable)
        except OSError as error:
            self._warn_of_start(loaded, error.errno or 0)
            self._fail(loaded)
            return
        self._running[job.number] = self._prepared.pop(job.number)
        loaded.job, loaded.last, loaded.prepared = job, job, None
        loaded.ended_ns = None
        job.release(release_ns)
        self._selector.register(
            job.channel, selectors.EVENT_READ, lambda: self._read_report(loaded, job)
        )
        if loaded.task.criticaltime_ns is not None:
            self._plan(
                release_ns + loaded.task.criticaltime_ns, lambda: self._reach_critical_time(job)
            )

    def _reach_critical_time(self, job: Job) -> None:
        if job.number in self._running:
            self._condemn(job, EventType.EXIT_CRITICAL)

    def _condemn(self, job: Job, verdict: EventType) -> None:
        """Have a job killed, if it has not ended by then. Its first verdict counts."""
        if job.verdict is None:
            job.verdict = verdict
            self._launcher.kill(job)

    def _read_report(self, loaded: LoadedTask, job: Job) -> None:
        """The job has become its program, or cannot."""
        if job.channel < 0 or not job.read_report():
            return
        self._selector.unregister(job.channel)
        job.close()
        if job.refusal:
            policy = type(loaded.policy).__name__
            self._warn(
                ("policy", policy, job.refusal),
                f"task {loaded.id}: the machine does not allow {loaded.policy} "
                f"({os.strerror(job.refusal)}); its jobs run as SCHED_OTHER",
            )
        if job.failure != errno.ENOMEM:
            if job.started_ns is None:  # it was killed too early to tell it
                job.started_ns = time.monotonic_ns()
            self._tell(loaded, EventType.START, job.started_ns)

    def _take_failure(self, failed: Failed) -> None:
        """There is no process for a job. Of one that is to come it is told when it is released."""
        if failed.number in self._prepared:
            loaded, job = self._prepared.pop(failed.number)
            loaded.prepared = None
            job.close()
        elif failed.number in self._running:
            loaded, job = self._running.pop(failed.number)
            self._selector.unregister(job.channel)
            job.close()
            loaded.job = None
            loaded.ended_ns = time.monotonic_ns()
            self._warn_of_start(loaded, failed.errno)
            self._tell(loaded, EventType.START)
            self._tell(loaded, EventType.EXIT_ERROR)
            self._go_on(loaded)

    def _take_end(self, ended: Ended) -> None:
        if ended.number in self._prepared:
            loaded, job = self._prepared.pop(ended.number)
            loaded.prepared = None
            job.close()
        if ended.number not in self._running:
            return
        loaded, job = self._running.pop(ended.number)
        self._read_report(loaded, job)
        loaded.job = None
        loaded.ended_ns = ended.ended_ns
        status = ended.status
        if job.failure == errno.ENOMEM:
            self._tell(loaded, EventType.OUT_OF_QUOTA)
        elif job.verdict and ended.killed_ns and status == signal.SIGKILL:
            loaded.ended_ns = max(ended.killed_ns, job.started_ns or 0)
            self._tell(loaded, job.verdict, loaded.ended_ns)
        elif status == 0:
            self._tell(loaded, EventType.EXIT, loaded.ended_ns)
        else:
            reason = os.strerror(job.failure) if job.failure else _described(status)
            self._warn(("error", loaded.id), f"task {loaded.id}: a job of {loaded.name!r} {reason}")
            self._tell(loaded, EventType.EXIT_ERROR, loaded.ended_ns)
        self._go_on(loaded)

    def _fail(self, loaded: LoadedTask) -> None:
        self._tell(loaded, EventType.START)
        self._tell(loaded, EventType.EXIT_ERROR)
        self._finish(loaded)

    def _finish(self, loaded: LoadedTask) -> None:
        """A job has ended; if it was the last one, tell so."""
        if loaded.start_ns is not None and not loaded.has_next:
            self._tell(loaded, EventType.JOBS_DONE)

    def _tell(self, loaded: LoadedTask, event: EventType, time_ns: int | None = None) -> None:
        """An event of the task, which is later than the one before it; now, if no time is given."""
        time_ns = time.monotonic_ns() if time_ns is None else time_ns
        loaded.told_ns = max(loaded.told_ns, time_ns)
        self._emit(Event(event, loaded.id, loaded.told_ns))

    def _warn_of_start(self, loaded: LoadedTask, number: int) -> None:
        text = f"task {loaded.id}: no job can be started: {os.strerror(number)}"
        self._warn(("start", number), text)

    def _warn(self, what: object, text: str) -> None:
        """Log what may happen with every job only once."""
        if what not in self._warned:
            self._warned.add(what)
            log.warning("%s", text)


def _described(status: int) -> str:
    code = os.waitstatus_to_exitcode(status)
    return f"was killed by signal {-code}" if code < 0 else f"has ended with exit value {code}"
