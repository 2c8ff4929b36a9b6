"""How long a simulation lasts, and which releases it covers: those in [0, horizon)."""

from __future__ import annotations

import math
from collections.abc import Sequence

from taskgen_run.task import Task
from taskgen_run.taskset import TaskSet


def natural_horizon_ns(taskset: TaskSet) -> int:
    """The horizon in ns that ``duration_ms: auto`` starts from, before its cap.

    The maximum offset plus two hyperperiods of the periodic tasks: from there on the schedule of
    a deterministic algorithm repeats (J. Leung and M. Merrill, "A note on preemptive scheduling
    of periodic, real-time tasks", 1980). With single jobs only, the maximum offset plus the sum
    of all execution times.
    """
    return natural_horizon_of(
        [task.offset_ns for task in taskset],
        [task.period_ns for task in taskset],
        [task.executiontime_ns or 0 for task in taskset],
    )


def natural_horizon_of(
    offsets: Sequence[int], periods: Sequence[int], execution_times: Sequence[int]
) -> int:
    """The same from what the tasks have, all in ns; a single job has the period 0."""
    repeated = [period for period in periods if period]
    if repeated:
        return max(offsets) + 2 * math.lcm(*repeated)
    return max(offsets) + max(sum(execution_times), 1)


def longer_horizon_ns(horizon_ns: int, cap_ns: int) -> int | None:
    """The next horizon to try while a single job has not ended: twice, at most the cap.

    None when `horizon_ns` has reached the cap.
    """
    return min(2 * horizon_ns, cap_ns) if horizon_ns < cap_ns else None


def releases_ns(task: Task, horizon_ns: int) -> range:
    """The releases of `task` before `horizon_ns`, in ns: offset + k × period, k < numberofjobs."""
    first = task.offset_ns
    step = task.period_ns or max(horizon_ns - first, 1)
    every = range(first, horizon_ns, step)
    return every if task.job_count is None else every[: task.job_count]
