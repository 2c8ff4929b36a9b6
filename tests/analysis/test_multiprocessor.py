"""Tests of taskgen_run.analysis.multiprocessor."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from fractions import Fraction

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from schedules import PERIODS, task_sets

from taskgen_run.analysis import processor_demand, response_time
from taskgen_run.analysis.multiprocessor import bcl_edf, bcl_fixed_priority, gfb
from taskgen_run.analysis.sporadic import SporadicTask
from taskgen_run.errors import ConfigurationError

Test = Callable[[Sequence[SporadicTask], int], bool]

CHECKED = settings(max_examples=300, deadline=None, derandomize=True)


def implicit(*pairs: tuple[int, int]) -> list[SporadicTask]:
    """Tasks (C, T) with deadlines at the periods and priorities in order."""
    return [SporadicTask(c, t, t, priority) for priority, (c, t) in enumerate(pairs)]


def dhall(cpus: int) -> list[SporadicTask]:
    """Tasks of S. Dhall and C. Liu, "On a real-time scheduling problem", 1978.

    So many light ones as there are processors keep a heavy one with a later deadline waiting until
    it is too late, though hardly more than one processor is needed.
    """
    return implicit(*[(2, 1000)] * cpus, (1000, 1001))


@pytest.mark.parametrize("cpus", [2, 3, 8])
@pytest.mark.parametrize("test", [gfb, bcl_edf, bcl_fixed_priority])
def test_the_dhall_effect_is_seen(test: Test, cpus: int) -> None:
    tasks = dhall(cpus)
    assert not test(tasks, cpus)
    assert test([*tasks[:-1], replace(tasks[-1], execution_ns=400)], cpus)
    if test is not gfb:  # which does not see that there is a processor for each
        assert test(tasks, cpus + 1)


@pytest.mark.parametrize(
    ("tasks", "cpus", "accepted"),
    [
        # At the bound: 3/2 = 2 - 1/2, and beyond it by one part in 10^18.
        (implicit((1, 2), (1, 2), (1, 2)), 2, True),
        (implicit((1, 2), (1, 2), (1, 2), (1, 10**18)), 2, False),
        (implicit((1, 2), (1, 2), (10**18 // 2, 10**18)), 2, True),
        (implicit((1, 2), (1, 2), (10**18 // 2 + 1, 10**18)), 2, False),
        # On one processor, and for one task, it is that the density is at most 1.
        (implicit((1, 2), (1, 3), (1, 6)), 1, True),
        (implicit((1, 2), (1, 3), (1, 5)), 1, False),
        (implicit((5, 5)), 7, True),
        (implicit((6, 5)), 7, False),
        ([], 2, True),
        # Densities: a deadline before the period counts, one after it does not.
        ([SporadicTask(1, 4, 2), SporadicTask(1, 4, 2), SporadicTask(1, 4, 2)], 2, True),
        ([SporadicTask(1, 4, 2), SporadicTask(1, 4, 2), SporadicTask(2, 4, 3)], 2, False),
        ([SporadicTask(1, 2, 9), SporadicTask(1, 2, 9), SporadicTask(1, 2, 9)], 2, True),
        ([SporadicTask(1, 2, 9), SporadicTask(1, 2, 9), SporadicTask(2, 3, 9)], 2, False),
        # Single jobs by their deadlines; without deadline nothing counts.
        ([SporadicTask(1, 0, 2), SporadicTask(1, 2, 2), SporadicTask(1, 0, 2)], 2, True),
        ([SporadicTask(2, 0, 3), SporadicTask(1, 2, 2), SporadicTask(1, 0, 2)], 2, False),
        ([*implicit((1, 2), (1, 2), (1, 2)), SporadicTask(9, 9)], 2, True),
    ],
)
def test_gfb(tasks: list[SporadicTask], cpus: int, accepted: bool) -> None:
    assert gfb(tasks, cpus) is accepted


@pytest.mark.parametrize(
    ("tasks", "cpus", "accepted"),
    [
        # In the 12 of the last task others work for 6 with deadlines in it, for 8 in any case; it
        # can do without 12 - C.
        (implicit((4, 10), (4, 10), (4, 12)), 2, True),
        (implicit((4, 10), (4, 10), (7, 12)), 2, False),
        # No more tasks than processors.
        (implicit((9, 10), (3, 10)), 2, True),
        (implicit((10, 10), (10, 10)), 2, True),
        (implicit((11, 10), (1, 10)), 2, False),
        ([], 2, True),
        # Deadlines beyond the periods are not looked into.
        ([SporadicTask(1, 5, 6, 0)], 2, False),
        ([SporadicTask(1, 0, 6, 0)], 2, True),
        # Nothing without a deadline matters that is below.
        ([*implicit((4, 10), (4, 10), (4, 12)), SporadicTask(9, 9, None, 9)], 2, True),
    ],
)
def test_bcl(tasks: list[SporadicTask], cpus: int, accepted: bool) -> None:
    assert bcl_edf(tasks, cpus) is accepted
    assert bcl_fixed_priority(tasks, cpus) is accepted


def test_deadlines_tell_more_under_edf() -> None:
    tasks = implicit((4, 10), (4, 10), (6, 12))
    assert bcl_edf(tasks, 2)
    assert not bcl_fixed_priority(tasks, 2)


def test_gfb_and_bcl_each_accept_what_the_other_does_not() -> None:
    heavy = implicit((9, 10), (3, 10))
    assert (gfb(heavy, 2), bcl_edf(heavy, 2)) == (False, True)
    light = implicit((1, 2), (5, 100), (5, 100))
    assert (gfb(light, 2), bcl_edf(light, 2)) == (True, False)


def test_fixed_priorities_protect_from_what_is_below() -> None:
    """Of three tasks on two processors only the last one may have to wait."""
    tasks = implicit((9, 10), (9, 10), (4, 40))
    assert not bcl_fixed_priority(tasks, 2)
    assert bcl_fixed_priority(tasks, 3)
    assert bcl_fixed_priority([*tasks[:2], replace(tasks[2], deadline_ns=None)], 2)
    endless = [SporadicTask(1, 1000, None, 0), *implicit((1, 2))]
    assert bcl_fixed_priority(endless, 2)
    assert not bcl_fixed_priority(endless, 1)
    equal = [replace(task, priority=0) for task in tasks]
    assert not bcl_fixed_priority([*equal[:2], replace(equal[2], deadline_ns=None)], 2)


def test_priorities_are_needed() -> None:
    with pytest.raises(ConfigurationError, match="task 0: priority must be set"):
        bcl_fixed_priority([SporadicTask(1, 5, 5)], 2)


@st.composite
def constrained(draw: st.DrawFn) -> list[SporadicTask]:
    """Tasks with deadlines up to their periods, some of them single jobs."""
    tasks = []
    for priority in draw(st.permutations(range(5)))[: draw(st.integers(1, 5))]:
        period = draw(st.sampled_from(PERIODS))
        deadline = draw(st.integers(1, period))
        execution = draw(st.integers(1, deadline))
        tasks.append(
            SporadicTask(execution, draw(st.sampled_from([period, period, 0])), deadline, priority)
        )
    return tasks


def due_work(other: SporadicTask, time: int) -> int:
    """The work of `other` with deadlines in an interval that ends with one of them, job by job."""
    count = 1 if not other.period_ns else time // other.period_ns + 1
    return sum(
        max(0, min(other.execution_ns, time - number * other.period_ns)) for number in range(count)
    )


def most_work(other: SporadicTask, time: int) -> int:
    """The most work of `other` in an interval of that length, over all places of the interval.

    Its first job ends at its deadline, the later ones are done as soon as they may be.
    """
    deadline, period = other.deadline_ns or 0, other.period_ns
    executed = set(range(deadline - other.execution_ns, deadline))
    for number in range(1, (time + 2 * deadline) // period + 2 if period else 1):
        executed |= set(range(number * period, number * period + other.execution_ns))
    return max(len(executed & set(range(first, first + time))) for first in range(deadline + 1))


@CHECKED
@given(constrained(), st.integers(1, 4))
def test_bcl_is_what_its_definition_says(tasks: list[SporadicTask], cpus: int) -> None:
    """Interference within bounds that are found by counting."""

    def is_served(task: SporadicTask, work: list[int]) -> bool:
        too_long = (task.deadline_ns or 0) - task.execution_ns + 1
        return sum(min(one, too_long) for one in work) < cpus * too_long

    assert bcl_edf(tasks, cpus) == all(
        is_served(task, [due_work(o, task.deadline_ns or 0) for o in tasks if o is not task])
        for task in tasks
    )
    assert bcl_fixed_priority(tasks, cpus) == all(
        is_served(
            task,
            [
                most_work(o, task.deadline_ns or 0)
                for o in tasks
                if (o.priority or 0) < (task.priority or 0)
            ],
        )
        for task in tasks
    )


@CHECKED
@given(task_sets(), st.integers(1, 4))
def test_gfb_is_what_its_definition_says(tasks: list[SporadicTask], cpus: int) -> None:
    densities = [
        Fraction(task.execution_ns, min(task.deadline_ns, task.period_ns or task.deadline_ns))
        for task in tasks
        if task.deadline_ns
    ]
    densest = max(densities, default=Fraction(0))
    assert gfb(tasks, cpus) == (sum(densities) <= cpus - (cpus - 1) * densest)


@CHECKED
@given(constrained())
def test_on_one_processor_they_accept_what_is_schedulable(tasks: list[SporadicTask]) -> None:
    assert gfb(tasks, 1) <= processor_demand.is_schedulable(tasks)
    assert bcl_edf(tasks, 1) <= processor_demand.is_schedulable(tasks)
    assert bcl_fixed_priority(tasks, 1) <= response_time.is_schedulable(tasks)
