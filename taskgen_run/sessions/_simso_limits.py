"""Task sets that schedulers of SimSo 0.8.5 were not written for.

Without these checks they would fail inside, or keep simulated time from passing.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction

from taskgen_run.errors import ConfigurationError
from taskgen_run.task import NS_PER_MS, Task
from taskgen_run.taskset import TaskSet


@dataclass(frozen=True, slots=True)
class Limit:
    """What every task must have under some schedulers, and why; `holds` gets the first task too."""

    schedulers: frozenset[str]
    attribute: str
    constraint: str
    why: str
    holds: Callable[[Task, Task], bool]


def _names(names: str) -> frozenset[str]:
    return frozenset(names.split())


def _whole_ms(task: Task) -> bool:
    times = (task.period_ns, task.offset_ns, task.executiontime_ns or 0, task.deadline_ns or 0)
    return not any(time % NS_PER_MS for time in times)


LIMITS = (
    Limit(
        _names("BF EDHS EKG RUN WC_RUN"),
        "period",
        "> 0",
        "cannot compute with the infinite period of a single job",
        lambda task, _: task.period_ns > 0,
    ),
    Limit(
        _names("BF DP_WRAP EDF2 NVNLF U_EDF WC_RUN WC_U_EDF"),
        "offset",
        "the same for all tasks",
        "reads the job of every task as soon as one is released",
        lambda task, first: task.offset_ns == first.offset_ns,
    ),
    Limit(
        _names("LRE_TL"),
        "offset",
        "0",
        "lays out its first plane at 0",
        lambda task, _: task.offset_ns == 0,
    ),
    Limit(
        _names("BF DP_WRAP"),
        "numberofjobs",
        "0",
        "plans from one deadline to the next, and expects a release there",
        lambda task, _: not task.period_ns or task.job_count is None,
    ),
    Limit(
        _names("BF DP_WRAP LRE_TL"),
        "deadline",
        "≥ the period, or 0",
        "plans from one deadline to the next, and expects a release there",
        lambda task, _: task.deadline_ns is None or task.deadline_ns >= task.period_ns > 0,
    ),
    Limit(
        _names("EPDF"),
        "deadline",
        "≤ the period, or 0",
        "sets timers in the past for jobs that overlap",
        lambda task, _: not task.period_ns or (task.deadline_ns or 0) <= task.period_ns,
    ),
    Limit(
        _names("BF DP_WRAP EPDF ER_PD2 PD2"),
        "executiontime",
        "> 0",
        "cannot share out a job without work",
        lambda task, _: task.executiontime_ns != 0,
    ),
    Limit(
        _names("PriD"),
        "executiontime",
        "< the period",
        "divides by the utilization that a task leaves free",
        lambda task, _: not task.period_ns or (task.executiontime_ns or 0) != task.period_ns,
    ),
    Limit(
        _names("BF"),
        "period",
        "a whole number of ms, like every time of the task",
        "allocates whole ms",
        lambda task, _: _whole_ms(task),
    ),
)

NEVER_OVERLOADED = _names("BF DP_WRAP EPDF LRE_TL")
"""Schedulers that set timers in the past, or none at all, for the jobs of an overloaded system."""


def check_limits(taskset: TaskSet, scheduler: str, cpus: int) -> None:
    """Raise ConfigurationError for a task set that SimSo's `scheduler` cannot run."""
    for position, task in enumerate(taskset):
        for limit in LIMITS:
            if scheduler in limit.schedulers and not limit.holds(task, taskset[0]):
                raise ConfigurationError(
                    f"{taskset.place(position)}: {limit.attribute} must be {limit.constraint} "
                    f"under session.scheduler={scheduler}, which {limit.why}, got "
                    f"{task.get(limit.attribute, 0)}"
                )
    if scheduler in NEVER_OVERLOADED:
        shares = [
            Fraction(task.executiontime_ns or 0, task.period_ns)
            for task in taskset
            if task.period_ns
        ]
        if sum(shares) > cpus or max(shares, default=0) > 1:
            raise ConfigurationError(
                f"task set {taskset.name!r}: utilization must be ≤ session.cpus = {cpus}, and ≤ 1 "
                f"of each task, under session.scheduler={scheduler}, got {float(sum(shares)):g}"
            )
