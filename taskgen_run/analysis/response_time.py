"""Worst-case response times under preemptive fixed priorities, on one processor.

The worst response of a task is that of one of its jobs in the longest *busy period* of its level,
in which the processor executes jobs of its priority or higher ones only; it begins when all of
these tasks release a job, and go on as fast as they may. Job q of the task ends at the least w with

    w = (q + 1) C  +  sum over the other tasks of the level of  ceil(w / Tj) Cj

after the beginning, and its response time is w - q T. With deadlines up to the periods the first
job is often the only one (M. Joseph and P. Pandya, "Finding response times in a real-time system",
1986); in general they all count (J. Lehoczky, "Fixed priority scheduling of periodic task sets with
arbitrary deadlines", 1990; K. Tindell, A. Burns and A. Wellings, "An extendible approach for
analyzing fixed priority hard real-time tasks", 1994). A task with so many jobs and no more releases
at most these, so a single job interferes once.

Of tasks with the same priority each is analysed as if the others were above it. That is safe
however ties are broken, and exact when they are broken against it. Jobs of one task are executed
in the order of their release. The smaller the number, the higher the priority; any int will do, so
that tasks which run before all fixed priorities can take part with a priority of -1.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Sequence

from taskgen_run.analysis.sporadic import Effort, SporadicTask, fullness
from taskgen_run.errors import ConfigurationError


def response_times_ns(tasks: Sequence[SporadicTask]) -> list[int | None]:
    """The worst-case response time of each task in ns, in order; None if it has no bound.

    It has none when tasks without end load the processor with more than its capacity, or when
    those above the task leave nothing of it. Exact for different priorities.

    Raises ConfigurationError for a task without priority, and when the analysis takes too long.
    """
    effort = Effort()
    worst = [max(_responses_ns(task, others, effort)) for task, others in levels(tasks)]
    return [None if response == math.inf else int(response) for response in worst]


def is_schedulable(
    tasks: Sequence[SporadicTask], effort: Effort | None = None, *, ties_lost: bool = True
) -> bool:
    """Whether no job ever misses its deadline. Tasks without deadline cannot miss it.

    Sufficient, and for different priorities necessary too; necessary in any case if no task has to
    wait for others of its priority (not `ties_lost`). Raises ConfigurationError as
    `response_times_ns` does.
    """
    effort = effort or Effort()
    return all(
        response <= task.deadline_ns
        for task, others in levels(tasks, ties_lost=ties_lost)
        if task.deadline_ns is not None
        for response in _responses_ns(task, others, effort, task.deadline_ns)
    )


def levels(
    tasks: Sequence[SporadicTask], *, ties_lost: bool = True
) -> Iterator[tuple[SporadicTask, list[SporadicTask]]]:
    """Each task with the others of its level: those that may execute before it.

    With `ties_lost` they include those of the same priority. Raises ConfigurationError for a task
    without priority.
    """
    given = priorities(tasks)
    for position, task in enumerate(tasks):
        last = given[position] if ties_lost else given[position] - 1
        yield (
            task,
            [
                other
                for index, other in enumerate(tasks)
                if index != position and given[index] <= last
            ],
        )


def priorities(tasks: Sequence[SporadicTask]) -> list[int]:
    """The priority of each task. Raises ConfigurationError if one has none."""
    given = []
    for position, task in enumerate(tasks):
        if task.priority is None:
            raise ConfigurationError(
                f"task {position}: priority must be set for an analysis of response times; "
                "add `priority:` to the task"
            )
        given.append(task.priority)
    return given


def _responses_ns(
    task: SporadicTask, others: Sequence[SporadicTask], effort: Effort, most_ns: float = math.inf
) -> Iterator[float]:
    """The response times of the jobs of `task` in the longest busy period, one after the other.

    Infinity when there is no bound. Not to be continued after one that is longer than `most_ns`,
    which is cut short, but not as short as that.
    """
    effort.spend(len(others) + 1)
    full = fullness([task, *others])
    if full > 0 or fullness(others) >= 0:
        yield math.inf
        return
    last_ns = math.inf if full < 0 else _repetition_ns([task, *others])
    finish_ns = 0
    for job in itertools.count() if task.most_jobs is None else range(task.most_jobs):
        release_ns = job * task.period_ns
        work_ns = (job + 1) * task.execution_ns
        finish_ns += task.execution_ns
        while True:
            effort.spend(len(others) + 1)
            done_ns = work_ns + sum(
                other.releases(finish_ns) * other.execution_ns for other in others
            )
            if done_ns == finish_ns or finish_ns - release_ns > most_ns:
                break
            finish_ns = done_ns
        yield finish_ns - release_ns
        if finish_ns <= release_ns + task.period_ns or finish_ns > last_ns:
            break


def _repetition_ns(level: Sequence[SporadicTask]) -> int:
    """From which time on responses repeat in a busy period that goes on for ever.

    It does when the processor is loaded fully and there are jobs besides that have an end. Once
    all these are released, the schedule repeats with the hyperperiod.
    """
    hyperperiod_ns = math.lcm(*(task.period_ns for task in level if task.most_jobs is None))
    return max(task.last_release_ns for task in level) + 1 + hyperperiod_ns
