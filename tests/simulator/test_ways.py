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
@pytest.mark.parametrize("non_preemptive", [False, True])
@pytest.mark.parametrize("scheduler", [layout.RM, layout.FP, layout.EDF])
def test_any_processors(scheduler: int, non_preemptive: bool, plain: bool, trace: bool) -> None:
    rng = random.Random(f"any {scheduler} {non_preemptive} {plain} {trace}")
    tasks, parts = random_sets(rng, 2 * SETS, plain=plain)
    options = {"scheduler": scheduler, "non_preemptive": non_preemptive}
    assert list(differences(tasks, parts, trace=trace, **options)) == []
