"""Whether a task set is admitted: the schedulability test that an optimization goal asks for.

Each core is tested for itself. Tasks without `coreoffset` count for the first one. Deadline tasks
are tested for EDF, and then run before all fixed priorities; tasks without priority run last.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence

from taskgen_run.analysis import processor_demand, response_time
from taskgen_run.analysis.sporadic import SporadicTask, from_task
from taskgen_run.errors import ConfigurationError, one_line
from taskgen_run.task import PRIORITY_EDF, Task
from taskgen_run.taskloader.policies import cores

_FIRST = -1
_LAST = PRIORITY_EDF


def refusal(tasks: Iterable[Task], allowed_cores: Sequence[int]) -> str | None:
    """Why the tasks cannot be scheduled together, or cannot be tested; None if they can be."""
    of_core = defaultdict(list)
    for task in tasks:
        used = cores(task, allowed_cores) if "coreoffset" in task else None
        of_core[min(used or allowed_cores[:1])].append(task)
    try:
        for core, group in sorted(of_core.items()):
            if problem := _problem(group):
                return f"core {core}: {problem}"
    except ConfigurationError as error:
        return one_line(error)
    return None


def _problem(tasks: Sequence[Task]) -> str | None:
    by_deadline: list[SporadicTask] = []
    fixed: list[SporadicTask] = []
    for task in tasks:
        if task.get("priority") == PRIORITY_EDF:
            by_deadline.append(_analysed(task, _FIRST))
        else:
            fixed.append(_analysed(task, task.get("priority", _LAST)))
    if not processor_demand.is_schedulable(by_deadline):
        return "the deadline tasks need more than the processor"
    responses = response_time.response_times_ns([*fixed, *by_deadline])
    for analysed, response_ns in zip(fixed, responses, strict=False):
        deadline_ns = analysed.deadline_ns
        if deadline_ns and (response_ns is None or response_ns > deadline_ns):
            worst = "no bound" if response_ns is None else f"{response_ns} ns"
            return (
                f"a task of priority {analysed.priority} has a worst-case response time of {worst}"
                f", and a deadline of {deadline_ns} ns"
            )
    return None


def _analysed(task: Task, priority: int) -> SporadicTask:
    changed = task.copy()
    changed["priority"] = priority
    return from_task(changed, f"task {task['id']}")
