"""Tests of taskgen_run.analysis.utilization."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from fractions import Fraction

import pytest
from hypothesis import given, settings
from schedules import task_sets

from taskgen_run.analysis import processor_demand, response_time
from taskgen_run.analysis.sporadic import SporadicTask
from taskgen_run.analysis.utilization import edf, hyperbolic, is_overloaded, liu_layland
from taskgen_run.errors import ConfigurationError

CHECKED = settings(max_examples=300, deadline=None, derandomize=True)


def rate_monotonic(*pairs: tuple[int, int]) -> list[SporadicTask]:
    """Tasks (C, T) with deadlines at the periods."""
    return [SporadicTask(execution, period, period, period) for execution, period in pairs]


@pytest.mark.parametrize(
    ("tasks", "bounded", "by_product", "schedulable"),
    [
        # C. Liu and J. Layland, 1973: C2 may grow from 1 to 2, though not to 3.
        (rate_monotonic((1, 2), (1, 5)), True, True, True),
        (rate_monotonic((1, 2), (2, 5)), False, False, True),
        (rate_monotonic((1, 2), (3, 5)), False, False, False),
        # A. Burns and A. Wellings, "Real-Time Systems and Programming Languages", task sets A, B
        # and C: utilizations of 0.82, 0.775 and 1 against a bound of 0.78.
        (rate_monotonic((12, 50), (10, 40), (10, 30)), False, False, False),
        (rate_monotonic((32, 80), (5, 40), (4, 16)), True, True, True),
        (rate_monotonic((40, 80), (10, 40), (5, 20)), False, False, True),
        # (1 + 1/2) (1 + 1/3) is 2, and 1/2 + 1/3 more than 0.828.
        (rate_monotonic((1, 2), (1, 3)), False, True, True),
        (rate_monotonic((500, 1000), (1001, 3000)), False, False, True),
        (rate_monotonic((7, 7)), True, True, True),
        (rate_monotonic((8, 7)), False, False, False),
        ([], True, True, True),
    ],
)
def test_bounds_for_fixed_priorities(
    tasks: list[SporadicTask], bounded: bool, by_product: bool, schedulable: bool
) -> None:
    assert liu_layland(tasks) is bounded
    assert hyperbolic(tasks) is by_product
    assert response_time.is_schedulable(tasks) is schedulable


@pytest.mark.parametrize("count", [2, 3, 10, 100])
def test_the_bound_of_liu_and_layland_is_exact_far_below_what_a_double_tells(count: int) -> None:
    """And beyond what it tells itself, it says no."""
    for scale in (10**30, 10**45):
        low, high = around_the_bound(count, scale)
        assert abs(low / scale - count * (2 ** (1 / count) - 1)) < 1e-12
        assert liu_layland(split(low, count, scale)) is (scale == 10**30)
        assert liu_layland(split(high, count, scale)) is False


def around_the_bound(count: int, scale: int) -> tuple[int, int]:
    """The last u and the first with (n s + u)^n above 2 (n s)^n, where s is `scale`."""
    low, high = 0, scale
    while high - low > 1:
        middle = (low + high) // 2
        fits = (count * scale + middle) ** count <= 2 * (count * scale) ** count
        low, high = (middle, high) if fits else (low, middle)
    return low, high


def split(used: int, count: int, scale: int) -> list[SporadicTask]:
    """Tasks with a utilization of `used` / `scale` in all."""
    share = used // count
    shares = [used - (count - 1) * share, *[share] * (count - 1)]
    return rate_monotonic(*((execution, scale) for execution in shares))


def test_no_rounding_makes_a_product_fit() -> None:
    period = 10**30
    root = math.isqrt(2 * period * period)
    assert hyperbolic(rate_monotonic(*[(root - period, period)] * 2))
    assert not hyperbolic(rate_monotonic(*[(root - period + 1, period)] * 2))


@pytest.mark.parametrize(
    ("tasks", "accepted"),
    [
        # Under DM, with deadlines up to the periods, the bound is one on the densities.
        ([SporadicTask(1, 10, 4, 0), SporadicTask(1, 5, 5, 1)], True),
        ([SporadicTask(2, 10, 4, 0), SporadicTask(2, 5, 5, 1)], False),
        # Under RM it says nothing of deadlines in another order.
        ([SporadicTask(1, 10, 4, 1), SporadicTask(1, 5, 5, 0)], False),
        # Deadlines beyond the periods count like such at the periods.
        ([SporadicTask(2, 5, 50, 0), SporadicTask(2, 6, 7, 1)], True),
        ([SporadicTask(2, 5, 50, 1), SporadicTask(2, 6, 7, 0)], False),
        # Equal priorities need equal windows.
        ([SporadicTask(1, 5, 5, 3), SporadicTask(1, 5, 5, 3)], True),
        ([SporadicTask(1, 5, 5, 3), SporadicTask(1, 6, 6, 3)], False),
        # What is below all deadlines does not matter, and what is above them does.
        ([SporadicTask(1, 5, 5, 0), SporadicTask(99, 9, None, 1)], True),
        ([SporadicTask(1, 5, 5, 0), SporadicTask(99, 0, None, 1)], True),
        ([SporadicTask(1, 5, 5, 1), SporadicTask(9, 0, None, 0)], False),
        ([SporadicTask(1, 5, 5, 1), SporadicTask(1, 4, None, 0)], True),
        ([SporadicTask(1, 5, 5, 1), SporadicTask(4, 4, None, 0)], False),
        # Single jobs count as if they came again after their deadline.
        ([SporadicTask(2, 0, 5, 0), SporadicTask(2, 6, 6, 1)], True),
        ([SporadicTask(4, 0, 5, 0), SporadicTask(2, 6, 6, 1)], False),
        ([SporadicTask(99, 0, None, 0)], True),
    ],
)
def test_when_the_bounds_for_fixed_priorities_apply(
    tasks: list[SporadicTask], accepted: bool
) -> None:
    assert liu_layland(tasks) is accepted
    assert hyperbolic(tasks) is accepted


@pytest.mark.parametrize("bound", [liu_layland, hyperbolic])
def test_priorities_are_needed(bound: Callable[[Sequence[SporadicTask]], bool]) -> None:
    with pytest.raises(ConfigurationError, match="task 0: priority must be set"):
        bound([SporadicTask(1, 5, 5)])


@pytest.mark.parametrize(
    ("tasks", "accepted"),
    [
        ([], True),
        ([SporadicTask(1, 2, 2), SporadicTask(1, 3, 3), SporadicTask(1, 6, 6)], True),
        ([SporadicTask(1, 2, 2), SporadicTask(1, 3, 3), SporadicTask(1, 5, 5)], False),
        ([SporadicTask(1, 2, 9), SporadicTask(1, 2, 2)], True),
        ([SporadicTask(1, 4, 2), SporadicTask(1, 4, 2)], True),
        ([SporadicTask(1, 4, 2), SporadicTask(2, 4, 3)], False),
        ([SporadicTask(1, 2, 2), SporadicTask(9, 4)], True),
        ([SporadicTask(1, 2, 2), SporadicTask(2, 0, 4)], True),
        ([SporadicTask(1, 2, 2), SporadicTask(3, 0, 4)], False),
        ([SporadicTask(10**18 - 1, 10**18, 10**18), SporadicTask(1, 10**18, 10**18)], True),
        ([SporadicTask(10**18 - 1, 10**18, 10**18), SporadicTask(2, 10**18, 10**18)], False),
    ],
)
def test_the_bound_for_edf(tasks: list[SporadicTask], accepted: bool) -> None:
    assert edf(tasks) is accepted


@CHECKED
@given(task_sets())
def test_bounds_accept_what_is_schedulable(tasks: list[SporadicTask]) -> None:
    by_window = {window: rank for rank, window in enumerate(sorted({*map(window_of, tasks)}))}
    ordered = [replace(task, priority=by_window[window_of(task)]) for task in tasks]
    for given_priorities in (tasks, ordered):
        assert liu_layland(given_priorities) <= hyperbolic(given_priorities)
        assert hyperbolic(given_priorities) <= response_time.is_schedulable(given_priorities)
    assert edf(tasks) <= processor_demand.is_schedulable(tasks)
    assert is_overloaded(tasks) <= (not processor_demand.is_schedulable(tasks))


@CHECKED
@given(task_sets())
def test_bounds_are_those_of_the_literature(tasks: list[SporadicTask]) -> None:
    """For tasks without end and with deadlines at the periods, where U is all that matters."""
    implicit = [
        SporadicTask(task.execution_ns, task.period_ns, task.period_ns, task.period_ns)
        for task in tasks
        if task.period_ns
    ]
    loads = [Fraction(task.execution_ns, task.period_ns) for task in implicit]
    count = max(len(loads), 1)
    assert liu_layland(implicit) == ((1 + sum(loads) / count) ** count <= 2)
    assert hyperbolic(implicit) == (math.prod(load + 1 for load in loads) <= 2)
    assert edf(implicit) == (sum(loads) <= 1) == processor_demand.is_schedulable(implicit)


def window_of(task: SporadicTask) -> float:
    return task.window_ns or math.inf


def test_many_tasks_with_periods_that_have_nothing_in_common() -> None:
    tasks = rate_monotonic(*((10**9 + n, 1500 * (10**9 + n) + 1) for n in range(1000)))
    assert liu_layland(tasks)
    assert hyperbolic(tasks)
    assert edf(tasks)
