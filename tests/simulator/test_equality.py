"""Fastsim gives the rows of SimSo: the short form of `equality`."""

from __future__ import annotations

import logging
import random
from collections.abc import Iterator

import pytest
from equality import SCHEDULERS, differences, random_case

SETS = 25


@pytest.fixture(autouse=True)
def _no_warnings_of_the_cap() -> Iterator[None]:
    logging.disable()
    yield
    logging.disable(logging.NOTSET)


@pytest.mark.timeout(300)
@pytest.mark.parametrize("scheduler", SCHEDULERS)
def test_fastsim_equals_simso(scheduler: str) -> None:
    for number in range(SETS):
        members, options = random_case(random.Random(f"{scheduler}/{number}"))
        options["scheduler"] = scheduler
        assert list(differences(members, options)) == [], (members, options)
