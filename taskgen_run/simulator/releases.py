"""The next release of each task: by time, then in the order in which they were posted.

Few tasks are a sorted array of numbers, time and task in one. What takes the place of the first
goes behind all that are not later, as it was posted after them; which keeps the order of posting
without a comparison. Many tasks are a heap, of times and turns: the number of the posting and the
task in one. A task of which nothing more is released stays, with the time NEVER.
"""

from __future__ import annotations

from typing import Any

from taskgen_run.simulator.compiling import compiled
from taskgen_run.simulator.heap import replace_first, rise
from taskgen_run.simulator.layout import (
    FEW,
    FEW_BITS,
    FEW_MASK,
    INFINITY,
    NEVER,
    TASK_BITS,
    TASK_MASK,
)


@compiled
def begin_releases(w: Any) -> None:
    """Post the first release of every task."""
    clock = w.clock[0]
    if clock.tasks <= FEW:
        w.soon[:] = INFINITY
    for task in range(clock.tasks):
        given, head = w.inputs[task], w.heads[task]
        clock.seq += 1
        head.posted = clock.seq
        time = given.offset if given.count > 0 else NEVER
        if clock.tasks <= FEW:
            place = task
            while place > 0 and w.soon[place - 1] >> FEW_BITS > time:
                w.soon[place] = w.soon[place - 1]
                place -= 1
            w.soon[place] = time << FEW_BITS | task
        else:
            rise(w.times, w.turns, task, time, clock.seq << TASK_BITS | task)


@compiled
def next_release(w: Any) -> int:
    """When the next one is."""
    if w.clock[0].tasks <= FEW:
        return int(w.soon[0] >> FEW_BITS)
    return int(w.times[0])


@compiled
def next_task(w: Any) -> int:
    """Whose the next one is."""
    if w.clock[0].tasks <= FEW:
        return int(w.soon[0] & FEW_MASK)
    return int(w.turns[0] & TASK_MASK)


@compiled
def post_release(w: Any, task: int, time: int) -> None:
    """Put the release at `time` in the place of the first, which is of the same task."""
    clock = w.clock[0]
    clock.seq += 1
    w.heads[task].posted = clock.seq
    if clock.tasks <= FEW:
        later = (time + 1) << FEW_BITS
        entry = time << FEW_BITS | task
        place = 0
        while w.soon[place + 1] < later:
            w.soon[place] = w.soon[place + 1]
            place += 1
        w.soon[place] = entry
    else:
        replace_first(w.times, w.turns, clock.tasks, time, clock.seq << TASK_BITS | task)
