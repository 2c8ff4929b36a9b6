"""Whether EDF keeps all deadlines: preemptive, on one processor, exact.

It does if and only if in no interval the jobs that are released in it, and have their deadline in
it, demand more than its length; the worst intervals begin with a release of all tasks (S. Baruah,
A. Mok and L. Rosier, "Preemptively scheduling hard-real-time sporadic tasks on one processor",
1990). Of the intervals that could be too short only few are looked at, from the longest down: after
one of length t with a demand h(t) < t comes the one of length h(t), since in those between the
demand is no more than that (F. Zhang and A. Burns, "Schedulability analysis for real-time systems
with EDF scheduling", 2009: quick processor-demand analysis, QPA).

Deadlines may be shorter and longer than periods. Tasks without deadline come after all others, and
so demand nothing; priorities do not matter.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from fractions import Fraction

from taskgen_run.analysis.sporadic import Effort, SporadicTask, fullness, total_load


def demand_ns(tasks: Iterable[SporadicTask], interval_ns: int) -> int:
    """The most work in ns of jobs with release and deadline in an interval of that length."""
    return sum(
        task.releases(interval_ns - task.deadline_ns + 1) * task.execution_ns
        for task in tasks
        if task.deadline_ns is not None
    )


def is_schedulable(tasks: Sequence[SporadicTask], effort: Effort | None = None) -> bool:
    """Whether no job ever misses its deadline: exact for sporadic tasks and synchronous ones.

    Raises ConfigurationError when the test takes too long.
    """
    demanding = [task for task in tasks if task.deadline_ns is not None]
    if fullness(demanding) > 0:
        return False
    effort = effort or Effort()
    interval_ns = last_deadline_ns(demanding, longest_ns(demanding))
    while interval_ns:
        effort.spend(2 * len(demanding))
        needed_ns = demand_ns(demanding, interval_ns)
        if needed_ns > interval_ns:
            return False
        shorter = needed_ns < interval_ns
        interval_ns = needed_ns if shorter else last_deadline_ns(demanding, interval_ns - 1)
    return True


def longest_ns(tasks: Sequence[SporadicTask], blocking_ns: int = 0) -> int:
    """No interval that is longer than this is too short, if none is that is not.

    `tasks` have deadlines and a total load of at most 1; `blocking_ns` is demanded in any interval.

    A task without end and with the load u demands at most u t + u max(0, T - D), the others all
    that they ever will; with a total load below 1 the sum is at most t from some t on (L. George,
    N. Rivierre and M. Spuri, "Preemptive and non-preemptive real-time uniprocessor scheduling",
    1996). With a load of 1 the demand grows by a hyperperiod with every hyperperiod in the end.
    """
    endless = [task for task in tasks if task.most_jobs is None]
    hyperperiod_ns = math.lcm(*(task.period_ns for task in endless))
    early = sum(
        max(0, task.period_ns - (task.deadline_ns or 0))
        * task.execution_ns
        * (hyperperiod_ns // task.period_ns)
        for task in endless
    )
    ending_ns = sum(task.execution_ns * (task.most_jobs or 0) for task in tasks)
    ahead = early + hyperperiod_ns * (ending_ns + blocking_ns)
    if not ahead:
        return 0
    load = total_load(tasks)
    if load < 1:
        return math.floor(Fraction(ahead, hyperperiod_ns) / (1 - load))
    last_ns = max((task.deadline_ns or 0) + task.last_release_ns for task in tasks)
    return last_ns + hyperperiod_ns


def last_deadline_ns(tasks: Sequence[SporadicTask], interval_ns: int) -> int:
    """The longest time, up to `interval_ns`, from a release of all tasks to a deadline; or 0."""
    return max(
        (
            task.deadline_ns
            + (task.releases(interval_ns - task.deadline_ns + 1) - 1) * task.period_ns
            for task in tasks
            if task.deadline_ns is not None and task.deadline_ns <= interval_ns
        ),
        default=0,
    )
