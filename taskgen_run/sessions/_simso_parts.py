"""SimSo's processors, tasks and jobs, with exact records of what executed when.

Nothing is logged or monitored: a job keeps what its row needs. A killed job leaves its processor,
its scheduler and its task without a trace. The order of events is SimSo's own.

Importing this module imports SimSo.
"""

from __future__ import annotations

import warnings
from collections import deque
from collections.abc import Iterator
from typing import Any

with warnings.catch_warnings():
    # SimSo imports the deprecated `imp`, and SimPy 2 was written for Python 2.
    warnings.simplefilter("ignore")
    from SimPy.Simulation import hold, waituntil
    from simso.core import Processor as SimSoProcessor
    from simso.core import Scheduler, Timer
    from simso.core.Job import Job as SimSoJob
    from simso.core.Processor import ACTIVATE, PREEMPT, RESCHED, SPEED, TERMINATE, TIMER
    from simso.core.Scheduler import SchedulerInfo
    from simso.core.Task import SporadicTask


class Silence:
    """Takes the place of SimSo's logger and monitors, and keeps nothing."""

    logs: tuple[()] = ()

    def log(self, message: object, kernel: bool = False) -> None:
        """Forget the message."""

    def observe(self, event: object, t: object = None) -> None:
        """Forget the event."""


SILENCE = Silence()


class Processor(SimSoProcessor):  # type: ignore[misc]  # SimSo ships no types
    """A processor that knows who had it last.

    `occupant` is whose stretch of positive length ended last: a job's, or None's when it was
    idle. The kernel's own overhead is nobody's. `executing` and `since` are the stretch that
    goes on now.
    """

    def __init__(self, model: Any, info: Any) -> None:
        super().__init__(model, info)
        self._evts: deque[tuple[int, Any]] = deque()
        self._running: Job | None = None
        self._internal_id = info.identifier  # SimSo counts in a global variable
        self.monitor = self.timer_monitor = SILENCE
        self.occupant: Job | None = None
        self.executing: Job | None = None
        self.idle_since: int | None = None

    def resched(self) -> None:
        """Ask for a decision of the scheduler."""
        self._evts.append((RESCHED, None))

    def preempt(self, job: Job | None = None) -> None:
        """Take the processor from whoever runs there, and give it to `job`."""
        self._evts = deque(event for event in self._evts if event[0] != PREEMPT)
        self._evts.append((PREEMPT, None))
        self._running = job

    def terminate(self, job: Job) -> None:
        """Note the end of a job; unlike SimSo, go on with another that was given the processor."""
        self._evts.append((TERMINATE, job))
        if self._running is job:
            self._running = None

    def forget(self, job: Job) -> None:
        """Take a killed job from the processor, and from its scheduler, at once.

        Not when its event is handled: another processor may schedule in between, and SimSo's
        schedulers do not ask whether a job that they have waiting is still alive.
        """
        known = job.announced or self._running is job
        if self._running is job:
            self._running = None
        if known:
            self.sched.on_terminated(job)
            self._evts.append((TERMINATE, None))

    def lost_to_other(self, job: Job, now: int) -> bool:
        """Whether, since a stretch of `job` here, the processor was idle or another job's."""
        if self.occupant is not job:
            return True
        if self.idle_since is not None:
            return self.idle_since < now
        return self.executing is not None and self.executing.executing_since < now

    def run(self) -> Iterator[tuple[Any, ...]]:
        """SimSo's own loop, event for event, without its messages and monitors."""
        sim, sched = self.sim, self.sched
        while True:
            if not self._evts:
                job = self._running
                if job:
                    yield waituntil, self, lambda job=job: job.context_ok
                    yield hold, self, self._cl_overhead
                    job.interruptReset()
                    sim.reactivate(job)
                    job.context_ok = False
                else:
                    self.idle_since = sim._t
                yield waituntil, self, lambda: self._evts
                if job:
                    self.interrupt(job)
                    yield hold, self, self._cs_overhead
                    job.context_ok = True
                else:
                    if self.idle_since < sim._t:
                        self.occupant = None
                    self.idle_since = None

            event = self._evts.popleft()
            kind, subject = event
            if kind == RESCHED:
                if any(other[0] != RESCHED for other in self._evts):
                    self._evts.append(event)
                    continue
                yield waituntil, self, sched.get_lock
                decisions = sched.schedule(self)
                yield hold, self, sched.overhead
                self._apply(decisions)
                sched.release_lock()
            elif kind == ACTIVATE:
                if subject.aborted:
                    continue
                subject.announced = True
                sched.on_activate(subject)
                yield hold, self, sched.overhead_activate
            elif kind == TERMINATE:
                if subject is not None:
                    sched.on_terminated(subject)
                yield hold, self, sched.overhead_terminate
            elif kind == TIMER:
                if subject.overhead > 0:
                    yield hold, self, subject.overhead
                subject.call_handler()
            elif kind == SPEED:
                self._speed = subject

    def _apply(self, decisions: Any) -> None:
        for decision in decisions if type(decisions) is list else [decisions]:
            if decision is None:
                continue
            job, cpu = decision
            if cpu.running == job:
                continue
            if job is not None and not job.is_active():
                if job.aborted:
                    # Killed while the scheduler's overhead passed. The scheduler believes that
                    # the job displaced the one that runs there; make that true.
                    cpu.preempt()
                continue
            if job and job.cpu.running == job:
                job.cpu.preempt()
            cpu.preempt(job)
            if job:
                job.task.cpu = cpu

        names = [cpu.running.name for cpu in self._model.processors if cpu.running]
        assert len(set(names)) == len(names), "Try to run a job on 2 processors simultaneously!"


class Job(SimSoJob):  # type: ignore[misc]
    """A job that keeps its own record; `first_execution` is null until it executes. Times in ns."""

    def __init__(self, task: Task, name: str, pred: Any, monitor: Any, etm: Any, sim: Any) -> None:
        self.number = len(task.jobs)
        self.release: int = sim._t
        self.first_execution: int | None = None
        self.preemptions = 0
        self.migrations = 0
        self.announced = False
        self.kill_at: int | None = None
        self.executing_since = 0
        self.stretches: list[tuple[int, int, int]] = []
        self._stretch_cpu: Processor | None = None
        self._last_cpu: Processor | None = None
        self._last_stop: int | None = None
        super().__init__(task, name, pred, monitor, etm, sim)

    def _on_activate(self) -> None:
        self._etm.on_activate(self)

    def _on_execute(self) -> None:
        cpu = self._stretch_cpu = self._task.cpu
        self._last_exec = self.executing_since = self.sim._t
        self._etm.on_execute(self)
        self._is_preempted = False
        cpu.was_running = cpu.executing = self

    def _on_stop_exec(self) -> None:
        since = self._last_exec
        if since is None:
            return
        now = self.sim._t
        self._last_exec = None
        cpu = self._stretch_cpu
        assert cpu is not None
        cpu.executing = None
        if now > since:
            self._computation_time += now - since
            self._add_stretch(cpu, since, now)

    def _add_stretch(self, cpu: Processor, since: int, now: int) -> None:
        if self.first_execution is None:
            self.first_execution = since
        elif cpu is not self._last_cpu:
            self.preemptions += 1
            self.migrations += 1
        elif cpu.occupant is not self:
            self.preemptions += 1
        cpu.occupant, self._last_cpu = self, cpu
        self._last_stop = now
        if self.sim.trace_stretches:
            stretches = self.stretches
            if stretches and stretches[-1][0] == cpu.internal_id and stretches[-1][2] == since:
                since = stretches.pop()[1]
            stretches.append((cpu.internal_id, since, now))

    def _on_preempted(self) -> None:
        self._on_stop_exec()
        self._etm.on_preempted(self)
        self._is_preempted = True
        self._was_running_on = self._task.cpu

    def _on_terminated(self) -> None:
        self._on_stop_exec()
        self._etm.on_terminated(self)
        self._end_date = self.sim._t
        if self.first_execution is None:
            self.first_execution = self._end_date
        self._task.end_job(self)
        self._task.cpu.terminate(self)

    def _on_abort(self) -> None:
        self.cancel(self)
        self._on_stop_exec()
        self._end_date = self.sim._t
        self._note_loss(self._end_date)
        self._etm.on_abort(self)
        self._aborted = True
        self._task.end_job(self)
        self._task.cpu.forget(self)

    def _note_loss(self, now: int) -> None:
        """Count the preemption of a job that, by `now`, did not go on again."""
        stop, cpu = self._last_stop, self._last_cpu
        if stop is None or stop >= now:
            return
        assert cpu is not None
        if cpu.lost_to_other(self, now):
            self.preemptions += 1

    def close(self) -> None:
        """End the record at the horizon, which is now.

        What is done by now is finished. Otherwise the job is killed if it is to be now.
        """
        now = self.sim._t
        executing = self._last_exec is not None
        finished = executing and self._nextTime == now and self._etm.get_ret(self) <= 0
        self._on_stop_exec()
        self._note_loss(now)
        if finished or now == self.kill_at:
            self._end_date = now
            self._aborted = not finished


class Task(SporadicTask):  # type: ignore[misc]
    """A task that kills each job `kill_after` ns after its release, unless that is None."""

    def __init__(self, sim: Any, info: Any, kill_after: int | None) -> None:
        super().__init__(sim, info)
        self._monitor = SILENCE
        self._kill_after = kill_after

    def create_job(self, pred: Any = None) -> None:
        """Release a job; as in SimSo it waits for those of its task that are before it."""
        self._job_count += 1
        job = Job(self, f"{self.name}_{self._job_count}", pred, SILENCE, self._etm, self.sim)
        waiting = self._activations_fifo
        if not waiting:
            self.job = job
            self.sim.activate(job, job.activate_job())
        waiting.append(job)
        self._jobs.append(job)
        if self._kill_after is not None:
            job.kill_at = job.release + self._kill_after
            Timer(self.sim, _kill, (job,), self._kill_after, in_ms=False).start()

    def unfinished_jobs(self) -> Iterator[Job]:
        """The jobs that were released and have not ended."""
        yield from self._activations_fifo

    def end_job(self, job: Job) -> None:
        """Let the next job take the place of `job`, if it was the first."""
        waiting = self._activations_fifo
        first = waiting[0] is job
        waiting.remove(job)
        if first and waiting:
            self.job = waiting[0]
            self.sim.activate(self.job, self.job.activate_job())


def _kill(job: Job) -> None:
    if job.end_date is not None:
        return
    completes_now = job._last_exec is not None and job._etm.get_ret(job) <= 0
    if not completes_now:
        job.abort()


__all__ = ["SILENCE", "Job", "Processor", "Scheduler", "SchedulerInfo", "Silence", "Task"]
