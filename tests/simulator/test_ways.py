"""The direct ways for one and for several processors give what the event list gives."""

from __future__ import annotations

import random

import pytest
from ways import SCHEDULERS, differences, random_sets

from taskgen_run.simulator import layout

SETS = 1000


@pytest.mark.parametrize("skip_next", [False, True])
@pytest.mark.parametrize("plain", [True, False])
@pytest.mark.parametrize("scheduler", range(len(SCHEDULERS)))
def test_one_processor(scheduler: int, plain: bool, skip_next: bool) -> None:
    rng = random.Random(f"one {scheduler} {plain} {skip_next}")
    tasks, parts = random_sets(rng, SETS, plain=plain)
    parts["cpus"] = 1
    options = {"scheduler": scheduler, "skip_next": skip_next}
    assert list(differences(tasks, parts, trace=True, **options)) == []


@pytest.mark.parametrize("trace", [False, True])
@pytest.mark.parametrize("plain", [True, False])
@pytest.mark.parametrize("scheduler", [layout.RM, layout.FP, layout.EDF])
def test_several_processors(scheduler: int, plain: bool, trace: bool) -> None:
    rng = random.Random(f"several {scheduler} {plain} {trace}")
    tasks, parts = random_sets(rng, 3 * SETS, plain=plain)
    assert list(differences(tasks, parts, scheduler=scheduler, trace=trace)) == []
