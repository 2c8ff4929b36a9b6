"""Columns that are known without a simulation, and which values are there, as Arrow has it."""

from __future__ import annotations

from typing import Any

from taskgen_run.simulator.compiling import kept
from taskgen_run.simulator.layout import NO_DEADLINE, NONE


@kept
def fill_columns(
    tasks: Any,
    variants: Any,
    positions: Any,
    variant: Any,
    task: Any,
    number: Any,
    release: Any,
    deadline: Any,
) -> None:
    """Fill the last five, for each job, from `tasks` and the variant and position of each.

    A job whose task has no relative deadline, but `layout.NO_DEADLINE`, has none.
    """
    for place in range(tasks.size):
        given = tasks[place]
        time, relative = given.offset, given.deadline
        for job in range(given.count):
            row = given.row + job
            variant[row] = variants[place]
            task[row] = positions[place]
            number[row] = job
            release[row] = time
            deadline[row] = NONE if relative == NO_DEADLINE else time + relative
            time += given.period


@kept
def mark_valid(values: Any, bits: Any) -> int:
    """Set the bit of each value that is there in `bits`, lowest first; how many are not."""
    missing = 0
    for byte in range(bits.size):
        mask = 0
        for bit in range(min(8, values.size - 8 * byte)):
            if values[8 * byte + bit] != NONE:
                mask |= 1 << bit
            else:
                missing += 1
        bits[byte] = mask
    return missing
