"""Whether global preemptive scheduling on identical processors keeps all deadlines: sufficient.

Jobs of one task are executed one after the other. What a test does not accept may be schedulable
all the same. Everything is decided in whole numbers. A task whose jobs have an end counts like one
without.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from taskgen_run.analysis.response_time import levels
from taskgen_run.analysis.sporadic import Effort, SporadicTask, total


def gfb(tasks: Sequence[SporadicTask], cpus: int) -> bool:
    """Whether the densities allow global EDF: in all ≤ m - (m - 1) × the largest one.

    J. Goossens, S. Funk and S. Baruah, "Priority-driven scheduling of periodic task systems on
    multiprocessors", 2003, theorem 5, with C / min(D, T) in place of the utilizations. All jobs
    would be done in time if every task executed at its density, without a break. Of the jobs with
    the earliest deadlines EDF has never done less than that: whenever one of the processors is
    idle, each task that is behind executes. That holds for deadlines beyond the periods as well.
    Tasks without deadline come last and do not matter.
    """
    shares = [
        (task.execution_ns, task.window_ns or 1) for task in tasks if task.deadline_ns is not None
    ]
    densest = max((total([share]) for share in shares), default=total([]))
    return total(shares) <= cpus - (cpus - 1) * densest


def bcl_edf(tasks: Sequence[SporadicTask], cpus: int, effort: Effort | None = None) -> bool:
    """Whether under global EDF no task can be kept from its processor for too long.

    A task with D - C to spare misses a deadline only if for longer than that the others keep all m
    processors busy: each with at most W, its work with deadlines in the D before that deadline. In
    whole ns it does not if the sum of min(W, D - C + 1) is < m (D - C + 1). M. Bertogna,
    M. Cirinei and G. Lipari, "Improved schedulability analysis of EDF on multiprocessor platforms",
    2005; with whole numbers as in their "Schedulability analysis of global scheduling algorithms on
    multiprocessor platforms", 2009.

    Only for deadlines up to the periods: others are not accepted. Tasks without deadline come last
    and do not matter. Raises ConfigurationError when the test takes too long.
    """
    effort = effort or Effort()
    due = [task for task in tasks if task.deadline_ns is not None]
    return all(_is_constrained(task) for task in due) and all(
        _is_served(task, cpus, due[:position] + due[position + 1 :], _due_ns, effort)
        for position, task in enumerate(due)
    )


def bcl_fixed_priority(
    tasks: Sequence[SporadicTask], cpus: int, effort: Effort | None = None
) -> bool:
    """The same under global fixed priorities: those of the same priority count as above.

    The most work of a task in an interval of length D is there when its first job in it ends at its
    own deadline, having begun with the interval, and the next ones are as early as they may be.
    M. Bertogna, M. Cirinei and G. Lipari, "New schedulability tests for real-time task sets
    scheduled by deadline monotonic on multiprocessors", 2005; with whole numbers as above, 2009.

    Only for deadlines up to the periods. A task without deadline may work all the time. Raises
    ConfigurationError for a task without priority, and when the test takes too long.
    """
    effort = effort or Effort()
    return all(_is_constrained(task) for task in tasks) and all(
        _is_served(task, cpus, others, _work_ns, effort)
        for task, others in levels(tasks)
        if task.deadline_ns is not None
    )


def _is_constrained(task: SporadicTask) -> bool:
    """Whether the deadline is not after the period; a single job's and none are not."""
    return task.deadline_ns is None or task.deadline_ns == task.window_ns


def _is_served(
    task: SporadicTask,
    cpus: int,
    others: Sequence[SporadicTask],
    work_ns: Callable[[SporadicTask, SporadicTask], int],
    effort: Effort,
) -> bool:
    """Whether others leave it enough of the time up to its deadline, working as `work_ns` says."""
    effort.spend(len(others) + 1)
    too_long_ns = (task.deadline_ns or 0) - task.execution_ns + 1
    if too_long_ns < 1:
        return False
    interference_ns = sum(min(work_ns(other, task), too_long_ns) for other in others)
    return interference_ns < cpus * too_long_ns


def _due_ns(other: SporadicTask, task: SporadicTask) -> int:
    """The most work of `other` with deadlines in the time of a job of `task`: it is all done then.

    The last of these deadlines is that of the job, and the first one may lie so early that there
    is no time for all of its work.
    """
    time_ns = task.deadline_ns or 0
    jobs, rest_ns = divmod(time_ns, other.period_ns) if other.period_ns else (0, time_ns)
    return jobs * other.execution_ns + min(other.execution_ns, rest_ns)


def _work_ns(other: SporadicTask, task: SporadicTask) -> int:
    """The most work that `other` does in the time of a job of `task`, its deadlines being kept."""
    time_ns = task.deadline_ns or 0
    if other.deadline_ns is None:
        return time_ns
    if not other.period_ns:
        return other.execution_ns
    reach_ns = time_ns + other.deadline_ns - other.execution_ns
    jobs, rest_ns = divmod(max(reach_ns, 0), other.period_ns)
    return jobs * other.execution_ns + min(other.execution_ns, rest_ns)
