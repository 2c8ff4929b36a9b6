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

    A job whose task has no relative deadline, but `layout.NO_DEADLINE`, has none. Column by column,
    which compilers make wide instructions of.
    """
    for place in range(tasks.size):
        given = tasks[place]
        row, count, period = given.row, given.count, given.period
        variant[row : row + count] = variants[place]
        task[row : row + count] = positions[place]
        for job in range(count):
            number[row + job] = job
        for job in range(count):
            release[row + job] = given.offset + job * period
        if given.deadline == NO_DEADLINE:
            deadline[row : row + count] = NONE
        else:
            first = given.offset + given.deadline
            for job in range(count):
                deadline[row + job] = first + job * period


@kept
def mark_valid(values: Any, bits: Any) -> int:
    """Set the bit of each value that is there in `bits`, lowest first; how many are not."""
    missing = 0
    whole = values.size // 8
    for byte in range(whole):
        mask = 0
        for bit in range(8):
            there = values[8 * byte + bit] != NONE
            mask |= there << bit
            missing += not there
        bits[byte] = mask
    if 8 * whole < values.size:
        mask = 0
        for place in range(8 * whole, values.size):
            there = values[place] != NONE
            mask |= there << (place & 7)
            missing += not there
        bits[whole] = mask
    return missing
