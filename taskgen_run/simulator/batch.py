"""Many simulations in one call; importing this module imports numba."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from taskgen_run.errors import BugError
from taskgen_run.simulator import layout
from taskgen_run.simulator.layout import (
    DONE,
    FULL,
    Machine,
    Rows,
)
from taskgen_run.simulator.sets import run_parts, sort_segments


class Costs(NamedTuple):
    """What the kernel takes of a processor's time, in ns."""

    schedule: int = 0
    activate: int = 0
    terminate: int = 0
    context_save: int = 0
    context_load: int = 0


FREE = Costs()


def run_batch(
    tasks: NDArray[Any],
    parts: NDArray[Any],
    rows: Rows,
    *,
    scheduler: int,
    costs: Costs = FREE,
    skip_next: bool = False,
    by_index: bool = False,
    non_preemptive: bool = False,
    trace: bool = False,
    general: bool = False,
) -> NDArray[Any]:
    """Simulate each of `parts` (`layout.PART`) with its share of `tasks` (`layout.TASK_INPUT`).

    The results of a task's jobs go to `rows` from its `row` on; the rows of tasks that are in no
    part stay as they are. Returns the segments (`layout.SEGMENT`), ordered by row and time, and
    empty unless asked for. With `general`, all goes through the event list, also that
    for which there is a shorter way. With `skip_next`, jobs that are released while one of their
    task is late are skipped; with `non_preemptive`, a job keeps its processor to its end. With
    `by_index`, of equals the first task goes first, instead of SimSo's order: for parts of one
    processor, without costs.
    """
    rows.migrations.fill(0)  # which a simulation of one processor does not write
    clock = np.zeros(1, layout.CLOCK)
    clock["scheduler"] = scheduler
    clock["skipping"] = skip_next
    clock["by_index"] = by_index
    clock["keeping"] = non_preemptive
    clock["tracing"] = trace
    clock["schedule_overhead"] = costs.schedule
    clock["activate_overhead"] = costs.activate
    clock["terminate_overhead"] = costs.terminate
    clock["context_save"] = costs.context_save
    clock["context_load"] = costs.context_load
    segments: list[NDArray[Any]] = []
    done, room = 0, 1
    while done < len(parts):
        machine = _machine(tasks, parts[done:], clock, room)
        found = np.empty(2 * machine.segments.size if trace else 0, layout.SEGMENT)
        ended, filled = run_parts(machine, tasks, parts, done, rows, found, general)
        segments.append(found[:filled])
        if clock[0]["status"] == FULL:
            room = 2 * room if ended == done else room
        elif clock[0]["status"] != DONE:
            raise BugError(f"simulation {ended} of a batch ended with {clock[0]['status']}")
        done = ended
    if not trace:
        return np.empty(0, layout.SEGMENT)
    together = np.concatenate(segments) if segments else np.empty(0, layout.SEGMENT)
    ordered: NDArray[Any] = sort_segments(together, len(rows.end))
    return ordered


def _machine(tasks: NDArray[Any], parts: NDArray[Any], clock: NDArray[Any], room: int) -> Machine:
    """Memory for any of `parts`, `room` times what most need."""
    before = np.concatenate([[0], np.cumsum(tasks["count"])])
    jobs = int((before[parts["last"]] - before[parts["first"]]).max())
    most = int((parts["last"] - parts["first"]).max())
    cpus = int(parts["cpus"].max())
    waits = _power_of_two(room * (2 * most + 16))
    return Machine(
        clock=clock,
        inputs=tasks,
        tasks=np.empty(most, layout.TASK_STATE),
        heads=np.empty(most, layout.HEAD),
        jobs=np.empty(jobs, layout.JOB_STATE),
        cpus=np.empty(cpus, layout.CPU_STATE),
        events=np.empty(room * (3 * most + 3 * cpus + 64), layout.ENTRY),
        fifo=np.empty(_power_of_two(room * (4 * most + 4 * cpus + 64)), layout.POSTED),
        ready=np.empty(room * (2 * most + 2 * cpus + 16), layout.ENTRY),
        notes=np.empty((cpus, waits), np.int64),
        waiting=np.empty(2 * most + cpus + 16, np.int64),
        starting=np.empty(most + 1, np.int64),
        timers=np.empty(room * (2 * most + 64), layout.ENTRY),
        soon=np.empty(layout.FEW + 1, np.int64),
        times=np.empty(most, np.int64),
        turns=np.empty(most, np.int64),
        seats=np.empty(cpus, layout.SEAT),
        ends=np.empty(cpus, np.int64),
        segments=np.empty(room * (4 * jobs + 64) if clock[0]["tracing"] else 0, layout.SEGMENT),
    )


def _power_of_two(least: int) -> int:
    return 1 << (least - 1).bit_length()
