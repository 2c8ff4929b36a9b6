"""On which processor each task of a partitioned scheduler has its jobs."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from fractions import Fraction

SIMSO = "simso"
"""The packing that each partitioned scheduler of SimSo has of its own."""

Load = tuple[int, int]
"""Execution time and period of a task in ns; the period of a single job is 0."""


def pack(
    tasks: Sequence[Load], cpus: int, packing: str, *, rate_monotonic: bool
) -> list[int] | None:
    """The processor of each of `tasks`; None if there are not enough.

    `packing` is 'simso' or one of `FITS`; SimSo's is another one for P_RM than for P_EDF.
    """
    if packing == SIMSO:
        return (_least_loaded if rate_monotonic else _decreasing)(tasks, cpus)
    return _by_fit(tasks, cpus, FITS[packing])


def _least_loaded(tasks: Sequence[Load], cpus: int) -> list[int]:
    """As SimSo's P_RM: each task on the processor with the least utilization, the first of them."""
    loads = [0.0] * cpus
    chosen = []
    for wcet, period in tasks:
        cpu = loads.index(min(loads))
        chosen.append(cpu)
        loads[cpu] += float(wcet) / (period or float("inf"))
    return chosen


def _decreasing(tasks: Sequence[Load], cpus: int) -> list[int] | None:
    """As SimSo's P_EDF: first fit, by decreasing utilization, in its floating point numbers."""
    limits = [(float(wcet), period or float("inf")) for wcet, period in tasks]
    chosen = [0] * len(tasks)
    loads = [0.0] * cpus
    for task in sorted(range(len(tasks)), key=lambda n: -limits[n][0] / limits[n][1]):
        wcet, period = limits[task]
        # With an infinite period, what is compared may be no number, and then SimSo takes it.
        fitting = [c for c, load in enumerate(loads) if not load * period + wcet > period]
        if not fitting:
            return None
        cpu = fitting[0]
        chosen[task] = cpu
        loads[cpu] += wcet / period
    return chosen


FITS: dict[str, Callable[[Iterable[tuple[Fraction, int]]], tuple[Fraction, int]]] = {
    "first-fit": lambda fitting: min(fitting, key=lambda item: item[1]),
    "best-fit": lambda fitting: min(fitting, key=lambda item: (-item[0], item[1])),
    "worst-fit": min,
}
"""Which of the processors, as (utilization, number), that a task fits on, it goes to."""


def _by_fit(
    tasks: Sequence[Load],
    cpus: int,
    choose: Callable[[Iterable[tuple[Fraction, int]]], tuple[Fraction, int]],
) -> list[int] | None:
    """By decreasing utilization, of equal ones the first task first; up to a utilization of 1."""
    shares = [Fraction(wcet, period) if period else Fraction(0) for wcet, period in tasks]
    loads = [Fraction(0)] * cpus
    chosen = [0] * len(tasks)
    for task in sorted(range(len(tasks)), key=lambda n: -shares[n]):
        fitting = [(load, cpu) for cpu, load in enumerate(loads) if load + shares[task] <= 1]
        if not fitting:
            return None
        _, cpu = choose(fitting)
        chosen[task] = cpu
        loads[cpu] += shares[task]
    return chosen
