"""SimPy's event list: by time, then in the order of posting; and what waits for the present.

An event for the present instant comes after all that were posted for it before, so that those
need a first-in-first-out queue only; what is posted for a later instant goes to a heap.
"""

from __future__ import annotations

from typing import Any

from taskgen_run.simulator.compiling import compiled
from taskgen_run.simulator.layout import FULL, KINDS


@compiled
def post(w: Any, kind: int, subject: int, delay: int) -> int:
    """Post an event for `delay` ns from now; its number in the order of posting."""
    clock = w.clock[0]
    clock.seq += 1
    code = subject * KINDS + kind
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
    return clock.seq


@compiled
def push_event(w: Any, time: int, seq: int, code: int) -> None:
    """Add an event to the heap."""
    clock, heap = w.clock[0], w.events
    place = clock.events
    if place >= heap.size:
        clock.status = FULL
        return
    clock.events = place + 1
    while place > 0:
        parent = (place - 1) >> 1
        above = heap[parent]
        if above.time < time or (above.time == time and above.seq < seq):
            break
        heap[place].time = above.time
        heap[place].seq = above.seq
        heap[place].code = above.code
        place = parent
    heap[place].time = time
    heap[place].seq = seq
    heap[place].code = code


@compiled
def pop_event(w: Any) -> None:
    """Remove the first event of the heap."""
    clock, heap = w.clock[0], w.events
    clock.events -= 1
    size = clock.events
    if size == 0:
        return
    replace_event(w, heap[size].time, heap[size].seq, heap[size].code)


@compiled
def replace_event(w: Any, time: int, seq: int, code: int) -> None:
    """Put another event in the place of the first of the heap."""
    size, heap = w.clock[0].events, w.events
    place = 0
    while True:
        child = 2 * place + 1
        if child >= size:
            break
        if child + 1 < size:
            left, right = heap[child], heap[child + 1]
            if right.time < left.time or (right.time == left.time and right.seq < left.seq):
                child += 1
        below = heap[child]
        if time < below.time or (time == below.time and seq < below.seq):
            break
        heap[place].time = below.time
        heap[place].seq = below.seq
        heap[place].code = below.code
        place = child
    heap[place].time = time
    heap[place].seq = seq
    heap[place].code = code
