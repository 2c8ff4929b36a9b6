"""The event loop: one simulation from its first event to its horizon."""

from __future__ import annotations

from typing import Any

from taskgen_run.simulator.compiling import called, compiled
from taskgen_run.simulator.events import pop_event, post
from taskgen_run.simulator.jobs import close, kill, start_timer, step_job, step_task
from taskgen_run.simulator.layout import (
    BEGINNING,
    CPU,
    DONE,
    JOB,
    KIND_BITS,
    KIND_MASK,
    NONE,
    TASK,
    TIMER_END,
    TIMER_START,
)
from taskgen_run.simulator.processor import holds, step_cpu


@called
def simulate(w: Any) -> None:
    """Run what `w` is prepared for; the status is DONE, or why it ended before."""
    _begin(w)
    clock = w.clock[0]
    horizon = clock.horizon
    while clock.status == DONE:
        if clock.events > 0 and w.events[0].first == clock.now:
            seq, code = w.events[0].second, w.events[0].third
            pop_event(w)
        elif clock.fifo_head < clock.fifo_tail:
            posted = w.fifo[clock.fifo_head & (w.fifo.size - 1)]
            clock.fifo_head += 1
            seq, code = posted.seq, posted.code
        elif clock.events > 0:
            time, seq, code = w.events[0].first, w.events[0].second, w.events[0].third
            if code & KIND_MASK == JOB and w.jobs[code >> KIND_BITS].seq != seq:
                pop_event(w)
                continue
            if time >= horizon:
                break
            clock.now = time
            pop_event(w)
        else:
            break
        _step(w, code & KIND_MASK, code >> KIND_BITS, seq)
    _end(w)


@compiled
def _begin(w: Any) -> None:
    clock = w.clock[0]
    clock.now = clock.seq = clock.status = clock.locked = clock.dirty = 0
    clock.events = clock.fifo_head = clock.fifo_tail = clock.waiting = 0
    clock.ready = clock.ready_seq = clock.segments = 0
    for own in range(clock.cpus):
        cpu = w.cpus[own]
        cpu.stage = BEGINNING
        cpu.job = cpu.running = cpu.occupant = cpu.executing = cpu.idle_since = NONE
        cpu.decided_job = cpu.decided_cpu = NONE
        cpu.head = cpu.tail = cpu.notes = cpu.preempts = 0
        post(w, CPU, own, 0)
    base = 0
    for task in range(clock.tasks):
        state = w.tasks[task]
        state.base = base
        state.created = state.begun = state.cpu = 0
        state.current = NONE
        state.next_release = w.inputs[task].offset
        base += w.inputs[task].count
        post(w, TASK, task, 0)


@compiled
def _step(w: Any, kind: int, subject: int, seq: int) -> None:
    if kind == CPU:
        while step_cpu(w, subject):
            _look_at_waiting(w)
    elif kind == JOB:
        if w.jobs[subject].seq != seq:
            return
        step_job(w, subject)
    elif kind == TASK:
        step_task(w, subject)
    elif kind == TIMER_START:
        start_timer(w, subject)
    elif kind == TIMER_END:
        kill(w, subject)
    _look_at_waiting(w)


@compiled
def _look_at_waiting(w: Any) -> None:
    """Wake the processors that wait for what is so now, in the order in which they wait."""
    clock = w.clock[0]
    if not clock.dirty:
        return
    clock.dirty = 0
    kept = 0
    for place in range(clock.waiting):
        own = w.waiting[place]
        if holds(w, own):
            post(w, CPU, own, 0)
        else:
            w.waiting[kept] = own
            kept += 1
    clock.waiting = kept


@compiled
def _end(w: Any) -> None:
    clock = w.clock[0]
    clock.now = clock.horizon
    for task in range(clock.tasks):
        state = w.tasks[task]
        if state.current != NONE:
            for job in range(state.current, state.base + state.created):
                if not w.jobs[job].skipped:
                    close(w, job)
