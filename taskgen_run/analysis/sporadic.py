"""The tasks that the analyses understand: sporadic ones, of which a periodic one is a case."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from fractions import Fraction
from typing import TYPE_CHECKING

from taskgen_run.errors import ConfigurationError
from taskgen_run.task import Task, require

if TYPE_CHECKING:
    from taskgen_run.taskset import TaskSet

MOST_EVALUATIONS = 5_000_000
"""How often one analysis looks at a task before it gives up: some seconds."""

_PARTS = 2**64


@dataclass(frozen=True, slots=True)
class SporadicTask:
    """A task whose jobs come `period_ns` apart or more, the first one at any time.

    There is no offset: the analyses look for the worst case over all of them, which is that all
    tasks release a job at once (C. Liu and J. Layland, "Scheduling algorithms for multiprogramming
    in a hard-real-time environment", 1973). What they accept keeps its deadlines with any offsets.

    execution_ns: worst-case execution time, ≥ 1.
    period_ns: least time between two releases; 0 for a single job.
    deadline_ns: relative deadline, ≥ 1 and of any relation to the period; None for none.
    priority: the smaller, the more urgent; None where it does not matter.
    jobs: the most jobs that there are; None for without end. A single job is one in any case.

    Raises ConfigurationError for other values.
    """

    execution_ns: int
    period_ns: int
    deadline_ns: int | None = None
    priority: int | None = None
    jobs: int | None = None

    def __post_init__(self) -> None:
        for name, least in [("execution_ns", 1), ("period_ns", 0), ("deadline_ns", 1), ("jobs", 1)]:
            value = getattr(self, name)
            if value is not None and value < least:
                raise ConfigurationError(
                    f"a task to be analysed: {name} must be ≥ {least}, got {value}"
                )

    @property
    def most_jobs(self) -> int | None:
        """The most jobs that there are, also where the period tells it; None for without end."""
        return self.jobs if self.period_ns else 1

    @property
    def load(self) -> Fraction:
        """The share of the processor that is needed for ever: 0 if the jobs have an end."""
        return Fraction(self.execution_ns, self.period_ns) if self.most_jobs is None else Fraction()

    @property
    def last_release_ns(self) -> int:
        """When the last job is released after the first, at the earliest; 0 if there is no last."""
        return ((self.most_jobs or 1) - 1) * self.period_ns

    @property
    def window_ns(self) -> int | None:
        """The shorter of deadline and period, in which a job must be done; None for no bound."""
        bounds = [ns for ns in (self.deadline_ns, self.period_ns) if ns]
        return min(bounds, default=None)

    def releases(self, interval_ns: int) -> int:
        """The most jobs that are released in a half-open interval of that length."""
        if interval_ns <= 0:
            return 0
        releases = -(-interval_ns // self.period_ns) if self.period_ns else 1
        return releases if self.jobs is None else min(releases, self.jobs)


def from_task(task: Task, place: str) -> SporadicTask:
    """The concrete `task`, which error messages call `place`, as the analyses understand it.

    An execution time of 0 counts as 1 ns: such a job, too, waits until it gets the processor.
    The critical time is not looked at: to kill a job only takes load away. Raises
    ConfigurationError if there is no execution time.
    """
    require(task, "executiontime", place, "for a schedulability analysis")
    return SporadicTask(
        execution_ns=max(task.executiontime_ns or 0, 1),
        period_ns=task.period_ns,
        deadline_ns=task.deadline_ns,
        priority=task.get("priority"),
        jobs=task.job_count,
    )


def from_taskset(taskset: TaskSet) -> list[SporadicTask]:
    """The tasks of a concrete task set, all of them on one processor.

    Raises ConfigurationError if one has no execution time.
    """
    return [from_task(task, taskset.place(position)) for position, task in enumerate(taskset)]


def total_load(tasks: Iterable[SporadicTask]) -> Fraction:
    """The share of the processor that `tasks` need for ever."""
    return total((task.execution_ns, task.period_ns) for task in tasks if task.most_jobs is None)


def fullness(tasks: Iterable[SporadicTask]) -> int:
    """Whether `tasks` need less than a processor for ever (-1), exactly one (0), or more (1)."""
    shares = [
        (task.execution_ns * _PARTS, task.period_ns) for task in tasks if task.most_jobs is None
    ]
    # Mostly each share need not be known better than to one of many parts of a processor.
    if sum(-(-parts // period) for parts, period in shares) < _PARTS:
        return -1
    if sum(parts // period for parts, period in shares) > _PARTS:
        return 1
    exactly = total(shares)
    return (exactly > _PARTS) - (exactly < _PARTS)


def total(shares: Iterable[tuple[int, int]]) -> Fraction:
    """The sum of fractions, given as numerator and denominator."""
    pairs = list(shares)
    # Over one denominator: a sum of fractions reduces itself at every step, which takes long.
    common = math.lcm(*(denominator for _, denominator in pairs))
    return Fraction(sum(numerator * (common // below) for numerator, below in pairs), common)


class EffortError(ConfigurationError):
    """Raised when an analysis would take longer than it may."""


class Effort:
    """What an analysis may spend: some task sets would take it longer than anybody lives.

    `most` is how often it may look at a task, by default `MOST_EVALUATIONS`.
    """

    def __init__(self, most: int | None = None) -> None:
        self._most = self._left = MOST_EVALUATIONS if most is None else most

    def spend(self, tasks: int) -> None:
        """Count a look at that many tasks. Raises EffortError when there were too many."""
        self.require(tasks)
        self._left -= tasks

    def require(self, tasks: int) -> None:
        """Raise EffortError unless there can be a look at that many tasks."""
        if self._left < tasks:
            raise EffortError(
                f"the schedulability analysis must end after at most {self._most} "
                "evaluations, and did not; lower the utilization, or choose periods with a smaller "
                "least common multiple"
            )
