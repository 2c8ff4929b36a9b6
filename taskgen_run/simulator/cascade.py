"""What several processors do at one instant at which more than one thing takes place.

They are as `processor` has them, and each takes the same steps in the same order; but what costs no
time and has no effect is left out. Of a processor's queue, only ACTIVATE and TERMINATE come one in
a step: all are there before the first step that could call the scheduler, so that its calls
(`calls`) and what it is told of another's decision (`told`) come after them and need no place.

A processor that has done nothing yet at this instant waits before all that have, and one note at
most is left from one look at the waiting ones to the next, so that the order of those that have
done nothing does not matter.
"""

from __future__ import annotations

from typing import Any

from taskgen_run.simulator.compiling import compiled
from taskgen_run.simulator.layout import (
    CONTEXT,
    DECIDED,
    DECIDING,
    ENDED,
    FULL,
    HANDLED,
    LOADING,
    NEVER,
    NONE,
    SAVING,
    WAITING,
)
from taskgen_run.simulator.seats import announce, assign, choose_seat, go_on, stop, take_first

# What is posted, `subject | kind << 32`: of an instant, that a job is new, or one ended on a
# processor; then, that a processor takes a step, or a job goes on.
_NEW, _END, _STEP, _GO = 0, 1 << 32, 0, 1 << 32
_SUBJECT = (1 << 32) - 1

# What a processor is told, `task << 1 | note`.
_ACTIVATE, _TERMINATE = 0, 1


@compiled
def post_job(w: Any, task: int) -> None:
    """Post that a job became the first of its task."""
    _post(w, _NEW | task, 0)


@compiled
def post_end(w: Any, own: int, task: int) -> None:
    """Post that the job of a task has ended at a processor."""
    seat = w.seats[own]
    seat.job = ENDED
    seat.touched = 1
    _leave_note(w, own, task << 1 | _TERMINATE)
    _post(w, _END | own, 0)


@compiled
def run_cascade(w: Any) -> None:
    """Carry out what is posted, until nothing is."""
    clock, fifo = w.clock[0], w.fifo
    clock.locked = clock.dirty = clock.waiting = 0
    clock.noted = NONE
    _wake_up(w)
    while clock.fifo_head < clock.fifo_tail:
        posted = fifo[clock.fifo_head & (fifo.size - 1)]
        code, token = posted.code, posted.seq
        clock.fifo_head += 1
        subject = code & _SUBJECT
        if code >= _GO:
            if w.heads[subject].going == token:
                go_on(w, w.heads[subject].cpu, subject)
        else:
            goes_on = True
            while goes_on:
                goes_on = _step(w, subject)
                _look_at_waiting(w)
    for own in range(clock.cpus):
        w.seats[own].touched = 0


@compiled
def _wake_up(w: Any) -> None:
    """The first step of each processor that is told of what is posted; none meets another in it.

    It stops its job, or handles its first note where it has none to stop.
    """
    clock, fifo = w.clock[0], w.fifo
    posted = clock.fifo_tail
    for place in range(posted):
        own = fifo[place].code & _SUBJECT
        if fifo[place].code < _END:
            task, own = own, w.heads[own].cpu
            _leave_note(w, own, task << 1 | _ACTIVATE)
            if w.seats[own].touched:
                continue
            w.seats[own].touched = 1
        w.seats[own].waits = 0
        _post(w, _STEP | own, 0)
    clock.fifo_head = awake = clock.fifo_tail
    for place in range(posted, awake):
        own = fifo[place].code
        seat = w.seats[own]
        if seat.job < 0:
            _handle_note(w, own)
        else:
            _stop_own(w, own)


@compiled
def _post(w: Any, code: int, token: int) -> None:
    clock, fifo = w.clock[0], w.fifo
    tail = clock.fifo_tail
    place = tail & (fifo.size - 1)
    fifo[place].code = code
    fifo[place].seq = token
    clock.fifo_tail = tail + 1
    if tail + 1 - clock.fifo_head >= fifo.size:
        clock.status = FULL


@compiled
def _leave_note(w: Any, own: int, note: int) -> None:
    """Tell a processor of a job that is new or has ended."""
    seat = w.seats[own]
    w.notes[own, seat.notes] = note
    seat.notes += 1


@compiled
def _wake(w: Any, own: int) -> None:
    """A processor has something to do, which it sees if it waits for that."""
    seat = w.seats[own]
    if seat.waits and seat.stage == WAITING:
        w.clock[0].noted = own


@compiled
def _look_at_waiting(w: Any) -> None:
    """Post the steps of those that wait for what is so now, in the order in which they wait."""
    clock = w.clock[0]
    noted = clock.noted
    clock.noted = NONE
    if noted != NONE and not w.seats[noted].touched:
        w.seats[noted].touched = 1
        w.seats[noted].waits = 0
        _post(w, _STEP | noted, 0)
        noted = NONE
    if noted == NONE and not clock.dirty:
        return
    clock.dirty = 0
    kept = 0
    for place in range(clock.waiting):
        own = w.waiting[place]
        if _holds(w, own):
            w.seats[own].waits = 0
            _post(w, _STEP | own, 0)
        else:
            w.waiting[kept] = own
            kept += 1
    clock.waiting = kept


@compiled
def _holds(w: Any, own: int) -> bool:
    """Whether what a processor waits for is so; takes the scheduler's lock if it waits for it."""
    seat, clock = w.seats[own], w.clock[0]
    if seat.stage == WAITING:
        return bool(seat.taken < seat.notes or seat.calls > 0 or seat.told > 0)
    if clock.locked:
        return False
    clock.locked = 1
    return True


@compiled
def _wait(w: Any, own: int, stage: int) -> bool:
    """Whether what a processor waits for is so already."""
    w.seats[own].stage = stage
    if _holds(w, own):
        return True
    clock = w.clock[0]
    w.seats[own].waits = 1
    w.waiting[clock.waiting] = own
    clock.waiting += 1
    return False


@compiled
def _step(w: Any, own: int) -> bool:
    """Go on to the next wait; whether what it waits for is so already, and it goes on at once."""
    seat, clock = w.seats[own], w.clock[0]
    stage = seat.stage
    if stage == WAITING:
        if seat.job != NONE:
            return _stop_own(w, own)
    elif stage == CONTEXT:
        return _pause(w, own, LOADING)
    elif stage == LOADING:
        clock.seq += 1
        w.heads[seat.job].going = clock.seq
        _post(w, _GO | seat.job, clock.seq)
        return _wait(w, own, WAITING)
    elif stage == DECIDING:
        seat.target = choose_seat(w, own)
        if seat.target != NONE:
            seat.chosen = take_first(w, seat.target)
        return _pause(w, own, DECIDED)
    elif stage == DECIDED:
        if seat.target != NONE:
            assign(w, seat.target, seat.chosen)
            w.seats[seat.target].told = 1
            _wake(w, seat.target)
        clock.locked = 0
        clock.dirty = 1
    return _handle_notes(w, own)


@compiled
def _pause(w: Any, own: int, stage: int) -> bool:
    w.seats[own].stage = stage
    _post(w, _STEP | own, 0)
    return False


@compiled
def _stop_own(w: Any, own: int) -> bool:
    task = w.seats[own].job
    stop(w, task)
    w.ends[own] = NEVER
    w.heads[task].going = NONE
    return _pause(w, own, SAVING)


@compiled
def _handle_note(w: Any, own: int) -> bool:
    seat = w.seats[own]
    note = w.notes[own, seat.taken]
    seat.taken += 1
    task = note >> 1
    if note & 1 == _ACTIVATE:
        announce(w, task)
    caller = w.heads[task].cpu
    w.seats[caller].calls += 1
    _wake(w, caller)
    return _pause(w, own, HANDLED)


@compiled
def _handle_notes(w: Any, own: int) -> bool:
    seat = w.seats[own]
    if seat.taken < seat.notes:
        return _handle_note(w, own)
    seat.taken = seat.notes = seat.told = 0
    if seat.calls > 0:
        seat.calls -= 1
        return _wait(w, own, DECIDING)
    seat.job = seat.running
    if seat.job == NONE:
        return _wait(w, own, WAITING)
    seat.stage = CONTEXT
    return True
