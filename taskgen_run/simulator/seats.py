"""Processors, their jobs, and the global schedulers' decisions, in the direct simulations.

A job is named by its task: only the first one of a task that has not ended may execute.
"""

from __future__ import annotations

from typing import Any

from taskgen_run.simulator.compiling import compiled
from taskgen_run.simulator.layout import (
    EDF,
    FINISHED,
    NEVER,
    NONE,
)
from taskgen_run.simulator.line import first_place, leave_line, line_up
from taskgen_run.simulator.stretches import keep_segment


@compiled
def become_first(w: Any, task: int, number: int) -> None:
    """A job has become the first of its task; EDF, which looks at tasks, may choose it from now."""
    head, given, clock = w.heads[task], w.inputs[task], w.clock[0]
    head.number = number
    head.left = given.wcet
    head.since = head.start = head.last_stop = head.last_segment = NONE
    head.preemptions = head.migrations = 0
    head.going = NONE
    if clock.scheduler == EDF:
        head.key = given.offset + number * given.period + given.deadline
        line_up(w, head.key, task, task)


@compiled
def announce(w: Any, task: int) -> None:
    """Tell the scheduler of a job; those but EDF have a list, to the tail of which it goes."""
    clock = w.clock[0]
    if clock.scheduler != EDF:
        clock.ready_seq += 1
        key = w.inputs[task].key
        w.heads[task].key = key
        line_up(w, key, clock.ready_seq, task)


@compiled
def choose_seat(w: Any, own: int) -> int:
    """Where the first of the line is to go, as the scheduler called on `own` decides; or NONE.

    To an idle processor, or to the one whose job comes last, if that comes after it and may be
    stopped; `own` if it is one of those.
    """
    clock = w.clock[0]
    if clock.ready == 0:
        return NONE
    seats = w.seats
    if seats[own].running == NONE:
        return own
    best, best_key = own, seats[own].key
    for other in range(clock.cpus):
        if seats[other].running == NONE:
            return other
        key = seats[other].key
        if key > best_key:
            best, best_key = other, key
    stops = not clock.keeping and best_key > w.ready[first_place(w)].first
    return best if stops else NONE


@compiled
def take_first(w: Any, target: int) -> int:
    """Take the first job of the line, which goes to `target`; but EDF lists who has that now."""
    task = w.ready[first_place(w)].third
    leave_line(w)
    displaced = w.seats[target].running
    if displaced != NONE and w.clock[0].scheduler != EDF:
        announce(w, displaced)
    return int(task)


@compiled
def assign(w: Any, target: int, task: int) -> None:
    """Give a processor to a job."""
    seat, head = w.seats[target], w.heads[task]
    displaced = seat.running
    seat.running = task
    seat.key = head.key
    head.cpu = target
    if displaced != NONE and w.clock[0].scheduler == EDF:
        line_up(w, w.heads[displaced].key, displaced, displaced)


@compiled
def go_on(w: Any, own: int, task: int) -> None:
    """A job begins or continues to execute."""
    clock, head = w.clock[0], w.heads[task]
    head.since = clock.now
    w.ends[own] = clock.now + head.left
    clock.seq += 1
    w.seats[own].end_seq = clock.seq


@compiled
def stop(w: Any, task: int) -> None:
    """A job stops to execute, if it does."""
    head, now = w.heads[task], w.clock[0].now
    since, own = head.since, head.cpu
    head.since = NONE
    if since in (NONE, now):
        return
    head.left -= now - since
    if head.start == NONE:
        head.start = since
    elif head.last_cpu != own:
        head.preemptions += 1
        head.migrations += 1
    elif head.last_stop < since:
        head.preemptions += 1
    head.last_cpu = own
    head.last_stop = now
    if w.clock[0].tracing:
        keep_segment(w, head, w.inputs[task].row + head.number, own, since, now)


@compiled
def finish(w: Any, rows: Any, own: int) -> int:
    """The job at a processor ends; its task, if that has a job to follow."""
    seat = w.seats[own]
    task = seat.running
    stop(w, task)
    write_row(w, rows, task, w.clock[0].now, FINISHED)
    seat.running = NONE
    w.ends[own] = NEVER
    head = w.heads[task]
    if head.number + 1 < head.created:
        become_first(w, task, head.number + 1)
        return int(task)
    head.number = NONE
    return NONE


@compiled
def write_row(w: Any, rows: Any, task: int, end: int, outcome: int) -> None:
    """Write what is known of the first job of a task."""
    head = w.heads[task]
    row = w.inputs[task].row + head.number
    rows.start[row] = head.start
    rows.end[row] = end
    rows.outcome[row] = outcome
    rows.preemptions[row] = head.preemptions
    rows.migrations[row] = head.migrations
