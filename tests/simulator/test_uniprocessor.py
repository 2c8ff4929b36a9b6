"""The shorter way for one processor gives what the event list gives, to the last segment."""

from __future__ import annotations

import random
from dataclasses import replace

import numpy as np
import pytest
from equality import SCHEDULERS, random_case

from taskgen_run.sessions._fastsim_inputs import SCHEDULERS as KINDS
from taskgen_run.sessions._fastsim_inputs import task_table
from taskgen_run.sessions.fastsim import FastSimSession
from taskgen_run.simulator import layout
from taskgen_run.simulator.batch import run_batch
from taskgen_run.taskset import TaskSet

SETS = 400


@pytest.mark.parametrize("scheduler", SCHEDULERS)
@pytest.mark.parametrize("on_miss", ["continue", "abort", "skip-next"])
def test_both_ways_give_the_same(scheduler: str, on_miss: str) -> None:
    rng = random.Random(f"{scheduler} {on_miss}")
    tasksets = [TaskSet(random_case(rng)[0]) for _ in range(SETS)]
    horizons = [rng.randint(1, 80_000_000) for _ in range(SETS - 20)]
    horizons += [rng.randint(1, 80) * 1_000_000 for _ in range(20)]
    options = replace(FastSimSession("", 0)._options, scheduler=scheduler, on_miss=on_miss)
    table = task_table(tasksets, horizons, options)
    sizes = [len(taskset) for taskset in tasksets]
    parts = np.zeros(SETS, layout.PART)
    parts["last"] = np.cumsum(sizes)
    parts["first"] = parts["last"] - sizes
    parts["cpus"] = 1
    parts["horizon"] = horizons
    count = int(table["count"].sum())
    rows, general_rows = (
        layout.Rows(*(np.full(count, unwritten, kind) for kind in ("q", "q", "b", "i", "i")))
        for unwritten in (77, 99)
    )
    segments, general_segments = (
        run_batch(
            table,
            parts,
            written,
            scheduler=KINDS[scheduler],
            skip_next=on_miss == "skip-next",
            trace=True,
            general=general,
        )
        for written, general in ((rows, False), (general_rows, True))
    )
    for name, column, general_column in zip(rows._fields, rows, general_rows, strict=True):
        different = np.flatnonzero(column != general_column)
        assert different.size == 0, f"{name} of rows {different[:5]}"
    assert len(segments) == len(general_segments)
    assert (segments == general_segments).all()
    assert rows.preemptions.any()
    assert (rows.outcome == layout.FINISHED).any()
    assert (rows.outcome == layout.SKIPPED).any() == (on_miss == "skip-next")
