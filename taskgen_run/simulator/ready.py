"""The ready list of a scheduler, as a heap by key and order of insertion.

SimSo's is a list, of which `min` takes the first of the smallest; a job may be in it twice.
Removing takes the first entry of a job, which among its entries is also the first to come up.
"""

from __future__ import annotations

from typing import Any

from taskgen_run.simulator.compiling import compiled
from taskgen_run.simulator.heap import sift_down, sift_up
from taskgen_run.simulator.layout import FULL, NONE


@compiled
def push_ready(w: Any, key: int, seq: int, job: int) -> None:
    """Add an entry for a job; entries are ordered by `key` and `seq`."""
    w.jobs[job].listed += 1
    push_entry(w, key, seq, job)


@compiled
def push_entry(w: Any, key: int, seq: int, job: int) -> None:
    """Add an entry, and count it nowhere."""
    clock = w.clock[0]
    place = clock.ready
    if place >= w.ready.size:
        clock.status = FULL
        return
    clock.ready = place + 1
    sift_up(w.ready, place, key, seq, job)


@compiled
def append_ready(w: Any, key: int, job: int) -> None:
    """Add a job at the tail of those with the same key."""
    clock = w.clock[0]
    clock.ready_seq += 1
    push_ready(w, key, clock.ready_seq, job)


@compiled
def remove_ready(w: Any, job: int) -> bool:
    """Remove the first entry of a job; whether there was one."""
    record = w.jobs[job]
    if record.listed == 0:
        return False
    record.listed -= 1
    record.unlisted += 1
    return True


@compiled
def first_ready(w: Any) -> int:
    """The job of the first entry; none when there is none."""
    clock = w.clock[0]
    while clock.ready > 0:
        job = w.ready[0].third
        record = w.jobs[job]
        if record.unlisted == 0:
            return int(job)
        record.unlisted -= 1
        drop_first(w)
    return NONE


@compiled
def pop_ready(w: Any) -> None:
    """Remove the first entry."""
    w.jobs[w.ready[0].third].listed -= 1
    drop_first(w)


@compiled
def drop_first(w: Any) -> None:
    """Remove the first entry, and count it nowhere."""
    clock = w.clock[0]
    clock.ready -= 1
    last = w.ready[clock.ready]
    sift_down(w.ready, clock.ready, last.first, last.second, last.third)
