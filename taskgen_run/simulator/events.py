"""SimPy's event list: by time, then in the order of posting; and what waits for the present.

An event for the present instant comes after all that were posted for it before, so that those
need a first-in-first-out queue only; what is posted for a later instant goes to a heap.
"""

from __future__ import annotations

from typing import Any

from taskgen_run.simulator.compiling import compiled
from taskgen_run.simulator.heap import sift_down, sift_up
from taskgen_run.simulator.layout import FULL, KIND_BITS


@compiled
def post(w: Any, kind: int, subject: int, delay: int) -> int:
    """Post an event for `delay` ns from now; its number in the order of posting."""
    clock = w.clock[0]
    clock.seq += 1
    code = subject << KIND_BITS | kind
    if delay == 0:
        fifo, tail = w.fifo, clock.fifo_tail
        place = tail & (fifo.size - 1)
        fifo[place].code = code
        fifo[place].seq = clock.seq
        clock.fifo_tail = tail + 1
        if tail + 1 - clock.fifo_head >= fifo.size:
            clock.status = FULL
    else:
        push_event(w, clock.now + delay, clock.seq, code)
    return int(clock.seq)


@compiled
def is_alone(w: Any) -> bool:
    """Whether an event that is posted for now would be the next."""
    clock = w.clock[0]
    return bool(
        clock.fifo_head == clock.fifo_tail and (clock.events == 0 or w.events[0].first > clock.now)
    )


@compiled
def push_event(w: Any, time: int, seq: int, code: int) -> None:
    """Add an event to the heap."""
    clock = w.clock[0]
    place = clock.events
    if place >= w.events.size:
        clock.status = FULL
        return
    clock.events = place + 1
    sift_up(w.events, place, time, seq, code)


@compiled
def pop_event(w: Any) -> None:
    """Remove the first event of the heap."""
    clock = w.clock[0]
    clock.events -= 1
    last = w.events[clock.events]
    sift_down(w.events, clock.events, last.first, last.second, last.third)
