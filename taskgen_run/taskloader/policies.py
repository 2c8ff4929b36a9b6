"""How the jobs of a task are scheduled, and on which cores.

* `priority` 0 … 127: SCHED_FIFO. The priorities in use are ranked: the highest has level 98, each
  further one the level below. Only when there are more than 98 of them, neighbours share a level.
  Level 99 is the agent's own.
* `priority` 128: SCHED_DEADLINE with `executiontime` as runtime, `deadline` and `period`. The
  kernel gives a job no more than that runtime in a period, and prefers it to fixed priorities. It
  refuses the policy to jobs that may not use all cores. Without `executiontime` or deadline there
  is nothing to schedule by: SCHED_OTHER.
* No priority: SCHED_OTHER.
* `coreoffset`: the one core that is so many further than the first one which the agent may use;
  counted round, among the first `cores` if that is set. `cores` alone: any of the first `cores`.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from taskgen_run.task import PRIORITY_EDF, Task

AGENT_LEVEL = 99
_HIGHEST_LEVEL = 98

_LEAST_RUNTIME_NS = 1024  # the kernel takes no less


@dataclass(frozen=True, slots=True)
class Other:
    """SCHED_OTHER."""


@dataclass(frozen=True, slots=True)
class FixedPriority:
    """SCHED_FIFO; a higher level is more urgent."""

    level: int


@dataclass(frozen=True, slots=True)
class Deadline:
    """SCHED_DEADLINE."""

    runtime_ns: int
    deadline_ns: int
    period_ns: int


Policy = Other | FixedPriority | Deadline


def levels(priorities: Iterable[int]) -> dict[int, int]:
    """The SCHED_FIFO level of each fixed priority."""
    ranked = sorted(set(priorities))
    most = max(len(ranked), _HIGHEST_LEVEL)
    return {
        priority: _HIGHEST_LEVEL - rank * _HIGHEST_LEVEL // most
        for rank, priority in enumerate(ranked)
    }


def policies(tasks: Sequence[Task]) -> list[Policy]:
    """The policy of each task, among these."""
    level = levels(
        task["priority"] for task in tasks if task.get("priority", PRIORITY_EDF) != PRIORITY_EDF
    )
    return [_policy(task, level) for task in tasks]


def _policy(task: Task, level: dict[int, int]) -> Policy:
    priority = task.get("priority")
    if priority is None:
        return Other()
    if priority != PRIORITY_EDF:
        return FixedPriority(level[priority])
    if not task.deadline_ns or not task.executiontime_ns:
        return Other()
    deadline_ns = min(task.deadline_ns, task.period_ns or task.deadline_ns)
    return Deadline(
        max(task.executiontime_ns, _LEAST_RUNTIME_NS), deadline_ns, task.period_ns or deadline_ns
    )


def cores(task: Task, allowed: Sequence[int]) -> frozenset[int] | None:
    """The cores that jobs of the task may use, of the `allowed` ones; None for all of them."""
    first = allowed[: task.get("cores") or len(allowed)]
    if "coreoffset" in task:
        return frozenset({first[task["coreoffset"] % len(first)]})
    return frozenset(first) if len(first) < len(allowed) else None
