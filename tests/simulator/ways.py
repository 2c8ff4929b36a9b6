"""The direct ways of the simulator against its event list, over sets that are full of ties.

    python tests/simulator/ways.py --sets 100000 [--seed 0]

simulates that many random task sets both ways on 1 to 8 processors, compares every column and
segment, and prints the first that differ.
"""

from __future__ import annotations

import argparse
import random
import sys
from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from taskgen_run.simulator import layout
from taskgen_run.simulator.batch import run_batch

SCHEDULERS = ("RM", "FP", "EDF", "RM_MONO", "EDF_MONO")
FOR_ONE = (layout.RM_MONO, layout.EDF_MONO)
PERIODS = (
    [10],
    [4, 8],
    [5, 10, 20],
    [2, 4, 8, 16],
    [4, 6, 10, 12],
    [3, 5, 7, 11],
    list(range(2, 25)),
)


def random_sets(rng: random.Random, sets: int, *, plain: bool) -> tuple[NDArray[Any], NDArray[Any]]:
    """Tasks and parts; `plain` ones all have work, and none of their jobs is killed."""
    tasks: list[tuple[int, ...]] = []
    parts = []
    units = []
    for _ in range(sets):
        first = len(tasks)
        cpus = rng.choice([1, 2, 2, 3, 3, 4, 4, 5, 6, 7, 8])
        horizon = rng.choice([20, 40, 60, 61, 90])
        periods = rng.choice(PERIODS)
        members = rng.choice([1, 2, 3, 4, 5, 6, 8, 10, 12, 16, 20])
        if rng.random() < 0.01:
            members = rng.randint(layout.FEW - 1, layout.FEW + 30)
        share = rng.choice([0.3, 0.7, 0.9, 1.0, 1.3]) * cpus / members
        for _ in range(members):
            tasks.append(_random_task(rng, rng.choice(periods), horizon, share, plain=plain))
        parts.append((first, len(tasks), cpus, 0, horizon))
        units.append(rng.choice([1, 1, 1_000_000, 3_000_000_017, 2**47, 2**50]))
    table = np.array(tasks, layout.TASK_INPUT)
    of_tasks = np.repeat(units, [part[1] - part[0] for part in parts])
    for name in ("offset", "period", "deadline", "kill_after", "wcet"):
        given = (table[name] != layout.NONE) & (table[name] != layout.NO_DEADLINE)
        table[name] = np.where(given, table[name] * of_tasks, table[name])
    table["row"] = np.cumsum(table["count"]) - table["count"]
    simulations = np.array(parts, layout.PART)
    simulations["horizon"] *= np.array(units)
    return table, simulations


def _random_task(
    rng: random.Random, period: int, horizon: int, share: float, *, plain: bool
) -> tuple[int, ...]:
    wcet = rng.choice([1, 1, 2, 3, *[max(1, round(period * share))] * 2, rng.randint(1, period)])
    offset = rng.choice([0, 0, 0, 0, 1, 2, 3, period])
    deadline = rng.choice([period, period, 1, 2, 4, 5, 8, 20, 50, layout.NO_DEADLINE])
    count = max(0, -((offset - horizon) // period))
    if rng.random() < 0.1:
        count = min(count, rng.randint(0, 3))
    kill_after = layout.NONE
    if not plain and rng.random() < 0.2:
        kill_after = rng.choice([1, 2, 4, period, 2 * period])
    if not plain and rng.random() < 0.1:
        wcet = 0
    if rng.random() < 0.05:
        period, count = 0, int(offset < horizon)
    key = rng.choice([period or layout.INFINITY, period or layout.INFINITY, rng.randint(0, 3)])
    return offset, period, count, deadline, kill_after, wcet, key, 0


def differences(tasks: NDArray[Any], parts: NDArray[Any], **options: Any) -> Iterator[str]:
    """What the two ways find differently; or that there is nothing in which they could differ."""
    count = int(tasks["count"].sum())
    found = []
    for general in (False, True):
        unwritten = 77 + general
        kinds = (np.int64, np.int64, np.int8, np.int32, np.int32)
        rows = layout.Rows(*(np.full(count, unwritten, kind) for kind in kinds))
        found.append((rows, run_batch(tasks, parts, rows, general=general, **options)))
    (rows, segments), (general_rows, general_segments) = found
    preemptive = not options.get("non_preemptive")
    if rows.preemptions.any() != preemptive:
        yield "too few preemptions, or too many"
    if rows.migrations.any() != (preemptive and (parts["cpus"] > 1).any()):
        yield "too few migrations, or too many"
    for outcome in (layout.FINISHED, layout.UNFINISHED):
        if outcome not in rows.outcome:
            yield f"no outcome {outcome}"
    for name, column, general_column in zip(rows._fields, rows, general_rows, strict=True):
        for row in np.flatnonzero(column != general_column)[:3]:
            task = int(np.searchsorted(tasks["row"] + tasks["count"], row, side="right"))
            part = int(np.searchsorted(parts["last"], task, side="right"))
            yield f"{name} of row {row}: {column[row]}, not {general_column[row]}: set {part}"
    if len(segments) != len(general_segments) or (segments != general_segments).any():
        yield f"segments: {len(segments)} and {len(general_segments)}"


def main(arguments: list[str]) -> int:
    """Compare as many task sets as asked for; 1 if any differs."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--sets", type=int, default=100_000)
    parser.add_argument("--seed", type=int, default=0)
    asked = parser.parse_args(arguments)
    compared = failures = 0
    while compared < asked.sets:
        rng = random.Random(f"{asked.seed}/{compared}")
        plain = rng.random() < 0.7
        tasks, parts = random_sets(rng, 1000, plain=plain)
        scheduler = rng.randrange(len(SCHEDULERS))
        if scheduler in FOR_ONE:
            parts["cpus"] = 1
        options = {
            "scheduler": scheduler,
            "skip_next": rng.random() < 0.2,
            "non_preemptive": rng.random() < 0.2 and scheduler not in FOR_ONE,
            "trace": rng.random() < 0.7,
        }
        for difference in differences(tasks, parts, **options):
            print(f"from {compared} on, {SCHEDULERS[scheduler]}, {plain=}, {options}: {difference}")
            failures += 1
        compared += len(parts)
    print(f"{compared} sets: {failures or 'none'} different")
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
