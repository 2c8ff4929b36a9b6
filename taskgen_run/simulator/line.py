"""The jobs that wait for a processor in the direct simulations, the first of each task at most.

Of few tasks it is an array in which the first comes last; of many, a heap. Both are ordered by key,
then by a number that says which of equals goes first.
"""

from __future__ import annotations

from typing import Any

from taskgen_run.simulator.compiling import compiled
from taskgen_run.simulator.heap import sift_down, sift_up
from taskgen_run.simulator.layout import FEW, FULL


@compiled
def line_up(w: Any, key: int, order: int, job: int) -> None:
    """Add a job to the line."""
    clock = w.clock[0]
    place = clock.ready
    if place >= w.ready.size:
        clock.status = FULL
        return
    clock.ready = place + 1
    if clock.tasks > FEW:
        sift_up(w.ready, place, key, order, job)
        return
    while place > 0:
        before = w.ready[place - 1]
        if before.first > key or (before.first == key and before.second > order):
            break
        w.ready[place].first = before.first
        w.ready[place].second = before.second
        w.ready[place].third = before.third
        place -= 1
    w.ready[place].first = key
    w.ready[place].second = order
    w.ready[place].third = job


@compiled
def first_place(w: Any) -> int:
    """Where the first of the line is, if there is any."""
    clock = w.clock[0]
    return 0 if clock.tasks > FEW else int(clock.ready) - 1


@compiled
def leave_line(w: Any) -> None:
    """Remove the first of the line."""
    clock = w.clock[0]
    clock.ready -= 1
    if clock.tasks > FEW:
        last = w.ready[clock.ready]
        sift_down(w.ready, clock.ready, last.first, last.second, last.third)
