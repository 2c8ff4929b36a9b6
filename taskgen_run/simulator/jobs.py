"""SimSo's tasks and jobs: releases, execution, ends and kills, as its processes do them."""

from __future__ import annotations

from typing import Any

from taskgen_run.simulator.compiling import compiled
from taskgen_run.simulator.events import post
from taskgen_run.simulator.layout import (
    ACTIVATE,
    FOREIGN,
    HOLDING,
    JOB,
    NEW,
    NONE,
    OVER,
    PASSIVE,
    TASK,
    TERMINATE,
    TIMER_END,
    TIMER_START,
)
from taskgen_run.simulator.notes import leave_note
from taskgen_run.simulator.policies import may_be_ready, on_terminated
from taskgen_run.simulator.stretches import begin_stretch, end_stretch, note_loss


@compiled
def post_job(w: Any, job: int, delay: int) -> None:
    """Post an event for a job, which has none."""
    record = w.jobs[job]
    record.next_time = w.clock[0].now + delay
    record.seq = post(w, JOB, job, delay)


@compiled
def reactivate(w: Any, job: int) -> None:
    """Resume a job now, instead of when it was to be."""
    if w.jobs[job].stage != OVER:
        post_job(w, job, 0)  # an event with another number than the record's is cancelled


@compiled
def interrupt(w: Any, job: int) -> None:
    """Resume a job that executes, and tell it that it was interrupted."""
    record = w.jobs[job]
    if record.stage == HOLDING and record.next_time != NONE:
        # Its turn would come in this instant, and nothing that comes before looks at it.
        record.seq = 0
        record.next_time = NONE
        record.stage = PASSIVE
        end_stretch(w, job)
    elif record.next_time != NONE and not record.interrupted:
        record.interrupted = 1
        reactivate(w, job)


@compiled
def step_task(w: Any, task: int) -> None:
    """Begin, or release the next job; and post the event of the one after it."""
    state, given, clock = w.tasks[task], w.inputs[task], w.clock[0]
    if state.begun:
        _release(w, task)
        state.next_release += given.period
    state.begun = 1
    if state.created < given.count:
        post(w, TASK, task, state.next_release - clock.now)


@compiled
def _release(w: Any, task: int) -> None:
    state, given, clock = w.tasks[task], w.inputs[task], w.clock[0]
    job = state.base + state.created
    skipped = clock.skipping and _is_late(w, task)
    state.created += 1
    record = w.jobs[job]
    record.task = task
    record.release = clock.now
    record.deadline = clock.now + given.deadline
    record.wcet = given.wcet
    record.executed = 0
    record.since = record.executing_since = NONE
    record.start = record.end = record.last_stop = record.next_time = NONE
    record.seq = 0
    record.preemptions = record.migrations = 0
    record.last_segment = record.stretch_cpu = record.last_cpu = NONE
    record.listed = record.unlisted = 0
    record.stage = NEW
    record.interrupted = record.announced = record.aborted = record.skipped = 0
    record.context_ok = 1
    if skipped:
        record.skipped = 1
        record.stage = OVER
        return
    if state.current == NONE:
        state.current = job
        post_job(w, job, 0)
        may_be_ready(w, job)
    if given.kill_after != NONE:
        post(w, TIMER_START, job, 0)


@compiled
def _is_late(w: Any, task: int) -> bool:
    """Whether a job that was released before has missed its deadline, and does not end now."""
    first = w.tasks[task].current
    if first != NONE and _ends_now(w, first):
        first = _following(w, first)
    return bool(first != NONE and w.jobs[first].deadline <= w.clock[0].now)


@compiled
def _following(w: Any, job: int) -> int:
    """The job of its task that follows `job`, if it was released."""
    state = w.tasks[w.jobs[job].task]
    following = job + 1
    while following < state.base + state.created and w.jobs[following].skipped:
        following += 1
    return int(following) if following < state.base + state.created else NONE


@compiled
def _ends_now(w: Any, job: int) -> bool:
    """Whether a job executes and its work is done at this instant."""
    record = w.jobs[job]
    return bool(
        record.since != NONE and record.executed + w.clock[0].now - record.since >= record.wcet
    )


@compiled
def step_job(w: Any, job: int) -> None:
    """Resume a job where it stands."""
    record = w.jobs[job]
    record.seq = 0
    if record.stage == NEW:
        leave_note(w, w.tasks[record.task].cpu, ACTIVATE, job)
    elif record.stage == PASSIVE:
        if record.interrupted:
            record.interrupted = 0
        else:
            begin_stretch(w, job)
            left = record.wcet - record.executed
            if left > 0:
                record.stage = HOLDING
                post_job(w, job, left)
                return
            _finish(w, job)
    else:
        _finish(w, job)
    record.next_time = NONE
    record.stage = PASSIVE if record.end == NONE else OVER


@compiled
def _finish(w: Any, job: int) -> None:
    record = w.jobs[job]
    end_stretch(w, job)
    record.end = w.clock[0].now
    if record.start == NONE:
        record.start = record.end
    _follow(w, job)
    cpu = w.tasks[record.task].cpu
    leave_note(w, cpu, TERMINATE, job)
    if w.cpus[cpu].running == job:
        w.cpus[cpu].running = NONE


@compiled
def _follow(w: Any, job: int) -> None:
    """Let the next job of its task take the place of `job`."""
    state = w.tasks[w.jobs[job].task]
    if state.current != job:
        w.clock[0].status = FOREIGN
        return
    following = _following(w, job)
    if following != NONE:
        state.current = following
        post_job(w, following, 0)
        may_be_ready(w, following)
    else:
        state.current = NONE


@compiled
def kill(w: Any, job: int) -> None:
    """Kill a job, unless it has ended or does so now."""
    record = w.jobs[job]
    now = w.clock[0].now
    if record.end != NONE:
        return
    if _ends_now(w, job):
        return
    record.seq = 0
    record.next_time = NONE
    end_stretch(w, job)
    record.end = now
    note_loss(w, job)
    record.aborted = 1
    _follow(w, job)
    place = w.tasks[record.task].cpu
    cpu = w.cpus[place]
    known = record.announced or cpu.running == job
    if cpu.running == job:
        cpu.running = NONE
    if known:
        on_terminated(w, job)
        leave_note(w, place, TERMINATE, NONE)


@compiled
def start_timer(w: Any, job: int) -> None:
    """Begin to wait for the instant at which a job is to be killed."""
    post(w, TIMER_END, job, w.inputs[w.jobs[job].task].kill_after)


@compiled
def close(w: Any, job: int) -> None:
    """End the record of a job at the horizon, which is now."""
    record = w.jobs[job]
    now = w.clock[0].now
    finished = record.next_time == now and _ends_now(w, job)
    end_stretch(w, job)
    note_loss(w, job)
    kill_after = w.inputs[record.task].kill_after
    if finished or (kill_after != NONE and record.release + kill_after == now):
        record.end = now
        record.aborted = not finished
