"""SimSo's processor: its loop, from one wait to the next."""

from __future__ import annotations

from typing import Any

from taskgen_run.simulator.compiling import compiled
from taskgen_run.simulator.events import is_alone, post
from taskgen_run.simulator.jobs import interrupt, reactivate
from taskgen_run.simulator.layout import (
    ACTIVATE,
    BEGINNING,
    CONTEXT,
    CPU,
    DECIDED,
    DECIDING,
    EDF_MONO,
    HANDLED,
    LOADING,
    NONE,
    NOTE_BITS,
    NOTE_MASK,
    RESCHED,
    RM_MONO,
    SAVING,
    TERMINATE,
    WAITING,
)
from taskgen_run.simulator.notes import leave_note, note_preemption, take_note
from taskgen_run.simulator.policies import may_be_ready, on_activate, on_terminated, schedule


@compiled
def step_cpu(w: Any, own: int) -> bool:
    """Go on to the next wait; whether what it waits for is so already, and it goes on at once."""
    cpu, clock = w.cpus[own], w.clock[0]
    stage = cpu.stage
    if stage == CONTEXT:
        return _hold(w, own, LOADING, clock.context_load)
    if stage == LOADING:
        job = cpu.job
        w.jobs[job].interrupted = 0
        reactivate(w, job)
        w.jobs[job].context_ok = 0
        return _wait(w, own, WAITING)
    if stage == WAITING:
        if cpu.job != NONE:
            interrupt(w, cpu.job)
            return _hold(w, own, SAVING, clock.context_save)
        if cpu.idle_since < clock.now:
            cpu.occupant = NONE
        cpu.idle_since = NONE
    elif stage == SAVING:
        w.jobs[cpu.job].context_ok = 1
        clock.dirty = 1
    elif stage == DECIDING:
        schedule(w, own)
        return _hold(w, own, DECIDED, clock.schedule_overhead)
    else:
        if stage == DECIDED:
            _apply(w, own)
            clock.locked = 0
            clock.dirty = 1
        if cpu.head == cpu.tail:
            return _without_notes(w, own)
    return _handle_notes(w, own)


@compiled
def _hold(w: Any, own: int, stage: int, delay: int) -> bool:
    w.cpus[own].stage = stage
    if delay == 0 and is_alone(w):
        return True
    post(w, CPU, own, delay)
    return False


@compiled
def _wait(w: Any, own: int, stage: int) -> bool:
    w.cpus[own].stage = stage
    if holds(w, own):
        return True
    clock = w.clock[0]
    w.waiting[clock.waiting] = own
    clock.waiting += 1
    return False


@compiled
def holds(w: Any, own: int) -> bool:
    """Whether what a processor waits for is so; takes the scheduler's lock if it waits for it."""
    cpu, clock = w.cpus[own], w.clock[0]
    if cpu.stage == WAITING:
        return bool(cpu.head != cpu.tail)
    if cpu.stage == CONTEXT:
        return bool(w.jobs[cpu.job].context_ok)
    if clock.scheduler == RM_MONO or clock.scheduler == EDF_MONO:
        return True
    if clock.locked:
        return False
    clock.locked = 1
    return True


@compiled
def _without_notes(w: Any, own: int) -> bool:
    """Go on with the job that runs here, or idle."""
    cpu = w.cpus[own]
    cpu.job = cpu.running
    if cpu.job != NONE:
        return _wait(w, own, CONTEXT)
    cpu.idle_since = w.clock[0].now
    return _wait(w, own, WAITING)


@compiled
def _handle_notes(w: Any, own: int) -> bool:
    cpu, clock = w.cpus[own], w.clock[0]
    while True:
        note = take_note(w, own)
        kind, job = note & NOTE_MASK, note >> NOTE_BITS
        if kind == RESCHED:
            if cpu.notes == 0:
                return _wait(w, own, DECIDING)
            leave_note(w, own, RESCHED, NONE)
            continue
        if kind == ACTIVATE:
            if not w.jobs[job].aborted:
                w.jobs[job].announced = 1
                on_activate(w, job)
                return _hold(w, own, HANDLED, clock.activate_overhead)
        elif kind == TERMINATE:
            if job != NONE:
                on_terminated(w, job)
            return _hold(w, own, HANDLED, clock.terminate_overhead)
        if cpu.head == cpu.tail:
            return _without_notes(w, own)


@compiled
def _apply(w: Any, own: int) -> None:
    """Carry out what the scheduler decided."""
    job, target = w.cpus[own].decided_job, w.cpus[own].decided_cpu
    if target == NONE or w.cpus[target].running == job:
        return
    if job == NONE:
        _preempt(w, target, NONE)
        return
    record = w.jobs[job]
    if record.end != NONE:
        if record.aborted:
            _preempt(w, target, NONE)
        return
    task = w.tasks[record.task]
    if w.cpus[task.cpu].running == job:
        _preempt(w, task.cpu, NONE)
    _preempt(w, target, job)
    task.cpu = target


@compiled
def _preempt(w: Any, cpu: int, job: int) -> None:
    note_preemption(w, cpu)
    displaced = w.cpus[cpu].running
    w.cpus[cpu].running = job
    if displaced != NONE:
        may_be_ready(w, displaced)


__all__ = ["BEGINNING", "holds", "step_cpu"]
