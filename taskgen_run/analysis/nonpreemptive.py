"""Schedulability where a job that has begun runs to its end, on one processor.

What a job may wait for, beyond preemptive scheduling, is the rest of one job of a task that comes
after it, which began 1 ns before it was released at the latest: all instants are whole ns. Such
jobs may not come together in a given task set, so what is not accepted may be schedulable.
"""

from __future__ import annotations

from collections.abc import Sequence

from taskgen_run.analysis.processor_demand import demand_ns, last_deadline_ns, longest_ns
from taskgen_run.analysis.response_time import levels, priorities
from taskgen_run.analysis.sporadic import Effort, SporadicTask, fullness


def response_times_ns(
    tasks: Sequence[SporadicTask], effort: Effort | None = None
) -> list[int | None]:
    """Bounds on the response time of each task in ns under fixed priorities; None for no bound.

    Job q of a task, from 0, begins at the least s with

        s = B + q C  +  sum over the other tasks of the level of  (floor(s / Tj) + 1) Cj

    after the beginning of the longest busy period of the level, where B is what it waits for a job
    below it. All jobs in that period count, also those after one that was done before the next was
    released: R. Davis, A. Burns, R. Bril and J. Lukkien, "Controller area network (CAN)
    schedulability analysis: refuted, revisited and revised", 2007; with B as L. George, N. Rivierre
    and M. Spuri, "Preemptive and non-preemptive real-time uniprocessor scheduling", 1996, have it.
    Tasks of the same priority wait for each other.

    Raises ConfigurationError for a task without priority, and when the analysis takes too long.
    """
    effort = effort or Effort()
    given = priorities(tasks)
    bounds = []
    for own, (task, others) in zip(given, levels(tasks), strict=True):
        below = [t.execution_ns - 1 for t, other in zip(tasks, given, strict=True) if other > own]
        bounds.append(_response_ns(task, others, max(below, default=0), effort))
    return bounds


def is_schedulable(tasks: Sequence[SporadicTask], effort: Effort | None = None) -> bool:
    """Whether no deadline is missed under fixed priorities, by the bounds on response times."""
    bounds = response_times_ns(tasks, effort)
    return all(
        bound is not None and bound <= task.deadline_ns
        for task, bound in zip(tasks, bounds, strict=True)
        if task.deadline_ns is not None
    )


def _response_ns(
    task: SporadicTask, others: Sequence[SporadicTask], blocking_ns: int, effort: Effort
) -> int | None:
    level = [task, *others]
    effort.spend(len(level))
    full = fullness(level)
    never_idle = blocking_ns or any(member.most_jobs is not None for member in level)
    if full > 0 or (full == 0 and never_idle):
        return None
    busy_ns = _least_fixed_point(level, blocking_ns, 0, 1, effort)
    worst_ns = begin_ns = 0
    for job in range(task.releases(busy_ns)):
        begin_ns = _least_fixed_point(
            others, blocking_ns + job * task.execution_ns, 1, begin_ns, effort
        )
        worst_ns = max(worst_ns, begin_ns + task.execution_ns - job * task.period_ns)
    return worst_ns


def _least_fixed_point(
    tasks: Sequence[SporadicTask], work_ns: int, beyond_ns: int, at_least_ns: int, effort: Effort
) -> int:
    """The least t ≥ `at_least_ns` in which `work_ns` and the jobs of `tasks` are done.

    The jobs are those that are released before t + `beyond_ns`.
    """
    at_ns = at_least_ns
    while True:
        effort.spend(len(tasks) + 1)
        done_ns = work_ns + sum(
            task.releases(at_ns + beyond_ns) * task.execution_ns for task in tasks
        )
        if done_ns <= at_ns:
            return at_ns
        at_ns = done_ns


def is_schedulable_by_edf(tasks: Sequence[SporadicTask], effort: Effort | None = None) -> bool:
    """Whether no deadline is missed under non-preemptive EDF: only if it is so for all releases.

    In every interval from a release of all tasks to a deadline, the demand and the rest of a job
    with a later deadline must fit (K. Jeffay, D. Stanat and C. Martel, "On non-preemptive
    scheduling of periodic and sporadic tasks", 1991; with any deadlines L. George, N. Rivierre and
    M. Spuri, 1996). The longer the interval, the larger the sum of both, as what can no longer be
    that job is demanded instead; so intervals are skipped as `processor_demand` does it.

    Raises ConfigurationError when the test takes too long.
    """
    due = [task for task in tasks if task.deadline_ns is not None]
    if fullness(due) > 0:
        return False
    effort = effort or Effort()
    endless_ns = max((t.execution_ns - 1 for t in tasks if t.deadline_ns is None), default=0)
    latest_ns = max((task.deadline_ns or 0 for task in due), default=0)
    interval_ns = last_deadline_ns(due, max(longest_ns(due, endless_ns), latest_ns))
    while interval_ns:
        effort.spend(3 * len(tasks))
        blocking_ns = max(
            (
                task.execution_ns - 1
                for task in tasks
                if task.deadline_ns is None or task.deadline_ns > interval_ns
            ),
            default=0,
        )
        needed_ns = demand_ns(due, interval_ns) + blocking_ns
        if needed_ns > interval_ns:
            return False
        interval_ns = last_deadline_ns(due, min(needed_ns, interval_ns - 1))
    return True
