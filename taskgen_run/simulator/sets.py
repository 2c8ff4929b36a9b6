"""Simulations one after the other, and their results in columns."""

from __future__ import annotations

from typing import Any

import numpy as np

from taskgen_run.simulator.compiling import compiled, kept
from taskgen_run.simulator.layout import (
    DONE,
    FINISHED,
    FULL,
    KILLED,
    NEVER,
    NONE,
    SKIPPED,
    UNFINISHED,
    Machine,
)
from taskgen_run.simulator.loop import simulate
from taskgen_run.simulator.multiprocessor import simulate_many
from taskgen_run.simulator.uniprocessor import simulate_one


@kept
def run_parts(
    w: Any, inputs: Any, parts: Any, first: int, rows: Any, found: Any, general: bool
) -> tuple[int, int]:
    """Simulate `parts` from number `first` on; how many are done then, and segments in `found`.

    With `general`, also those go through the event list for which there is a shorter way. It ends
    early, with a status in the clock, at one for which the memory does not suffice.
    """
    filled = 0
    clock = w.clock[0]
    clock.status = DONE
    for number in range(first, parts.size):
        part = parts[number]
        v = Machine(
            w.clock,
            inputs[part.first : part.last],
            w.tasks,
            w.heads,
            w.jobs,
            w.cpus,
            w.events,
            w.fifo,
            w.ready,
            w.notes,
            w.waiting,
            w.starting,
            w.timers,
            w.soon,
            w.times,
            w.turns,
            w.seats,
            w.ends,
            w.segments,
        )
        clock.horizon = part.horizon
        clock.tasks = part.last - part.first
        clock.cpus = part.cpus
        direct = not general and _costs_nothing(w) and part.horizon < NEVER
        if direct and part.cpus == 1:
            simulate_one(v, rows)
        elif direct and _is_plain(v):
            simulate_many(v, rows)
        else:
            direct = False
            simulate(v)
        if clock.status != DONE:
            return number, filled
        if filled + clock.segments > found.size:
            clock.status = FULL
            return number, filled
        if not direct:
            _write_rows(v, rows)
        for place in range(clock.segments):
            segment, given = found[filled], v.segments[place]
            segment.job = given.job
            if not direct:
                task = v.jobs[given.job].task
                segment.job += v.inputs[task].row - v.tasks[task].base
            segment.cpu = given.cpu + part.cpu
            segment.start = given.start
            segment.end = given.end
            filled += 1
    return parts.size, filled


@compiled
def _costs_nothing(w: Any) -> bool:
    clock = w.clock[0]
    return bool(
        clock.schedule_overhead
        + clock.activate_overhead
        + clock.terminate_overhead
        + clock.context_save
        + clock.context_load
        == 0
    )


@compiled
def _is_plain(w: Any) -> bool:
    """Whether `simulate_many` has all that is asked for."""
    clock = w.clock[0]
    if clock.skipping or clock.by_index:
        return False
    for task in range(clock.tasks):
        if w.inputs[task].wcet == 0 or w.inputs[task].kill_after != NONE:
            return False
    return True


@compiled
def _write_rows(w: Any, rows: Any) -> None:
    for task in range(w.clock[0].tasks):
        row, base = w.inputs[task].row, w.tasks[task].base
        for number in range(w.inputs[task].count):
            job = w.jobs[base + number]
            place = row + number
            rows.start[place] = job.start
            rows.end[place] = job.end
            rows.preemptions[place] = job.preemptions
            rows.migrations[place] = job.migrations
            if job.skipped:
                rows.outcome[place] = SKIPPED
            elif job.end == NONE:
                rows.outcome[place] = UNFINISHED
            elif job.aborted:
                rows.outcome[place] = KILLED
            else:
                rows.outcome[place] = FINISHED


@kept
def sort_segments(segments: Any, rows: int) -> Any:
    """The segments ordered by the row of their job, and as they are for the same one."""
    places = np.zeros(rows + 1, np.int64)
    for segment in segments:
        places[segment.job + 1] += 1
    for row in range(rows):
        places[row + 1] += places[row]
    ordered = np.empty_like(segments)
    for segment in segments:
        ordered[places[segment.job]] = segment
        places[segment.job] += 1
    return ordered
