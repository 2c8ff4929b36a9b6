"""The taskloader: releases the jobs of tasks in time, ends them, and tells what happens to them.

Job k of a task is released at start + offset + k × period on CLOCK_MONOTONIC, however late earlier
ones were. A job whose whole period was missed, as the machine was asleep or overloaded, ends as
NOT_SCHEDULED without having started.

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
import secrets
import selectors
import signal
import time
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from taskgen_run.task import Task
from taskgen_run.taskloader import jobs
from taskgen_run.taskloader.admission import refusal
from taskgen_run.taskloader.binaries import Binaries, Executable
from taskgen_run.taskloader.jobs import Job, Sandbox
from taskgen_run.taskloader.loaded import LoadedTask
from taskgen_run.taskloader.messages import Event, EventType, LiveTask, ProtocolError
from taskgen_run.taskloader.policies import policies

log = logging.getLogger("taskloader")

KILL_TIMEOUT = 20.0
LEAD_NS = 10_000_000
"""How long before its release the process of a job is made."""
SWEEP_DELAY_NS = 100_000_000
"""How long after a job has ended that is searched for which it has left outside of its group."""


class Loader:
    """The tasks of one client.

    `emit` is called with every event; the data of what is registered with `selector` is a function
    to be called when it is ready. memory_bytes: what the quotas of running jobs may add up to.
    """

    def __init__(
        self,
        sandbox: Sandbox,
        binaries: Binaries,
        selector: selectors.BaseSelector,
        emit: Callable[[Event], None],
        *,
        most_tasks: int,
        memory_bytes: int,
    ) -> None:
        self._sandbox = sandbox
        self._binaries = binaries
        self._selector = selector
        self._emit = emit
        self._most_tasks = most_tasks
        self._memory_bytes = memory_bytes
        self._cores = sorted(os.sched_getaffinity(0))
        self._goal: str | None = None
        self._tasks: dict[int, LoadedTask] = {}
        self._running: dict[int, tuple[LoadedTask, Job]] = {}  # by process id
        self._prepared: dict[int, tuple[LoadedTask, Job]] = {}  # by process id
        self._timers: list[tuple[int, int, Callable[[], None]]] = []
        self._order = itertools.count()
        self._sweep_is_planned = False
        self._warned: set[object] = set()
        self._client = secrets.token_hex(8)

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
        """Start the tasks that are queued: those that were not started yet, or were stopped."""
        queued = [loaded for loaded in self._tasks.values() if loaded.start_ns is None]
        refused = bool(queued) and self._refuses()
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
        was_started = any(loaded.start_ns is not None for loaded in self._tasks.values())
        self._timers.clear()
        self._sweep_is_planned = False
        self.reap()
        for loaded in self._tasks.values():
            loaded.queue()
        stopped_ns = time.monotonic_ns()
        for _, job in self._running.values():
            _condemn(job, EventType.EXIT_EXTERNAL, stopped_ns)
        for pid, status in jobs.kill_all(KILL_TIMEOUT).items():
            self._end(pid, status)
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

    def reap(self) -> None:
        """Take notice of the processes that have ended."""
        for pid, status in jobs.reap():
            self._end(pid, status)

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
        program = loaded.program(executable, self._cores)
        job = jobs.prepare(program, self._sandbox, f"{self._client}-{next(self._order)}")
        loaded.prepared = job
        self._prepared[job.pid] = (loaded, job)
        return job

    def _release(self, loaded: LoadedTask) -> None:
        release_ns = loaded.next_release_ns
        loaded.next_job += 1
        self._plan_release(loaded)
        if loaded.has_next and loaded.next_release_ns <= time.monotonic_ns():
            self._warn("late", "the machine is too slow: the whole period of a job was missed")
            self._skip(loaded)
            return
        if loaded.job is not None:
            self.reap()  # it may have ended just now
        if loaded.job is None:
            self._start_job(loaded, release_ns)
            return
        _condemn(loaded.job, EventType.EXIT_PERIOD, time.monotonic_ns())
        if loaded.waiting_ns is not None:
            self._emit_for(loaded, EventType.NOT_SCHEDULED)
        loaded.waiting_ns = release_ns

    def _start_job(self, loaded: LoadedTask, release_ns: int) -> None:
        executable = self._binaries.get(loaded.name)
        if loaded.refused:
            self._skip(loaded)
            return
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
            self._emit_for(loaded, EventType.OUT_OF_QUOTA)
            self._finish(loaded)
            return
        try:
            job = loaded.prepared or self._make_process(loaded, executable)
        except OSError as error:
            self._warn(("start", error.errno), f"task {loaded.id}: no job can be started: {error}")
            self._fail(loaded)
            return
        self._running[job.pid] = self._prepared.pop(job.pid)
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
        self.reap()
        if job.pid in self._running and self._running[job.pid][1] is job:
            _condemn(job, EventType.EXIT_CRITICAL, time.monotonic_ns())

    def _read_report(self, loaded: LoadedTask, job: Job) -> None:
        """The job has become its program, or cannot."""
        if job.channel < 0 or not job.read_report():
            return
        self._selector.unregister(job.channel)
        os.close(job.channel)
        job.channel = -1
        if job.refusal:
            policy = type(loaded.policy).__name__
            self._warn(
                ("policy", policy, job.refusal),
                f"task {loaded.id}: the machine does not allow {loaded.policy} "
                f"({os.strerror(job.refusal)}); its jobs run as SCHED_OTHER",
            )
        if job.failure != errno.ENOMEM:
            if job.started_ns is None:  # it was killed too early to tell it
                job.started_ns = job.verdict_ns or time.monotonic_ns()
            self._emit(Event(EventType.START, loaded.id, job.started_ns))

    def _end(self, pid: int, status: int) -> None:
        """A process was reaped: a job, or what a job has left."""
        if not self._sweep_is_planned:
            self._sweep_is_planned = True
            self._plan(time.monotonic_ns() + SWEEP_DELAY_NS, self._sweep)
        if pid in self._prepared:
            loaded, job = self._prepared.pop(pid)
            loaded.prepared = None
            os.close(job.channel)
        if pid not in self._running:
            return
        loaded, job = self._running.pop(pid)
        self._read_report(loaded, job)
        loaded.job = None
        loaded.ended_ns = time.monotonic_ns()
        if job.failure == errno.ENOMEM:
            self._emit_for(loaded, EventType.OUT_OF_QUOTA)
        elif job.verdict and os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGKILL:
            loaded.ended_ns = max(job.verdict_ns, job.started_ns or 0)
            self._emit(Event(job.verdict, loaded.id, loaded.ended_ns))
        elif status == 0:
            self._emit(Event(EventType.EXIT, loaded.id, loaded.ended_ns))
        else:
            reason = os.strerror(job.failure) if job.failure else _described(status)
            self._warn(("error", loaded.id), f"task {loaded.id}: a job of {loaded.name!r} {reason}")
            self._emit(Event(EventType.EXIT_ERROR, loaded.id, loaded.ended_ns))
        release_ns, loaded.waiting_ns = loaded.waiting_ns, None
        if release_ns is not None:
            self._start_job(loaded, release_ns)
        else:
            self._finish(loaded)

    def _sweep(self) -> None:
        self._sweep_is_planned = False
        spared = [*self._running.values(), *self._prepared.values()]
        jobs.kill_orphans([job for _, job in spared])

    def _skip(self, loaded: LoadedTask) -> None:
        self._emit_for(loaded, EventType.NOT_SCHEDULED)
        self._finish(loaded)

    def _fail(self, loaded: LoadedTask) -> None:
        self._emit_for(loaded, EventType.START)
        self._emit_for(loaded, EventType.EXIT_ERROR)
        self._finish(loaded)

    def _finish(self, loaded: LoadedTask) -> None:
        """A job has ended; if it was the last one, tell so."""
        if loaded.start_ns is not None and loaded.job is None and not loaded.has_next:
            self._emit_for(loaded, EventType.JOBS_DONE)

    def _emit_for(self, loaded: LoadedTask, event: EventType) -> None:
        self._emit(Event(event, loaded.id, time.monotonic_ns()))

    def _refuses(self) -> bool:
        """Whether the tasks must not be started: all that are loaded, as they run together."""
        if self._goal is None:
            return False
        reason = refusal([loaded.task for loaded in self._tasks.values()], self._cores)
        if reason:
            log.warning("goal %s: the task set is not started: %s", self._goal, reason)
        return reason is not None

    def _warn(self, what: object, text: str) -> None:
        """Log what may happen with every job only once."""
        if what not in self._warned:
            self._warned.add(what)
            log.warning("%s", text)


def _condemn(job: Job, verdict: EventType, now_ns: int) -> None:
    """Kill a job. Its first verdict counts."""
    if job.verdict is None:
        job.verdict, job.verdict_ns = verdict, now_ns
    job.kill()


def _described(status: int) -> str:
    code = os.waitstatus_to_exitcode(status)
    return f"was killed by signal {-code}" if code < 0 else f"has ended with exit value {code}"
