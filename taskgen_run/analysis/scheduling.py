"""How task sets are scheduled, and what schedulability tests then have to look at."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import TYPE_CHECKING

from taskgen_run.analysis.packing import pack
from taskgen_run.analysis.sporadic import SporadicTask, from_task
from taskgen_run.task import PRIORITY_EDF, Task

if TYPE_CHECKING:
    from taskgen_run.taskset import TaskSet


class Policy(StrEnum):
    """How jobs are ordered; preemptive but for the last two, whose jobs run to their end."""

    RM = "RM"
    DM = "DM"
    FP = "FP"
    EDF = "EDF"
    NP_FP = "NP_FP"
    NP_EDF = "NP_EDF"


@dataclass(frozen=True, slots=True, kw_only=True)
class Scheduling:
    """How a session schedules task sets, at no cost.

    policy: None if it is not known.
    cpus: identical processors.
    packing: how each task gets one of them for all of its jobs (see `packing.pack`); None if jobs
        go where there is room.
    full: whether every job needs all of its execution time, as far as it is not killed.
    """

    policy: Policy | None = None
    cpus: int = 1
    packing: str | None = None
    full: bool = True


DESCRIBED = Scheduling()
"""Of sessions that do not say how they schedule: what the descriptions of the tasks tell."""


@dataclass(frozen=True, slots=True)
class Case:
    """Tasks that have `cpus` processors to themselves, with their offsets in ns.

    `worst` is what they may come to, `certain` what they come to in any case; None if that is not
    known. `synchronous` tells whether all offsets are the same, `punctual` whether releases are
    exactly at the offsets and the periods.
    """

    worst: list[tuple[SporadicTask, int]]
    certain: list[tuple[SporadicTask, int]] | None
    synchronous: bool
    punctual: bool
    cpus: int

    @property
    def tasks(self) -> list[SporadicTask]:
        """What the tasks may come to, without the offsets."""
        return [task for task, _ in self.worst]


def cases(taskset: TaskSet, scheduling: Scheduling, policy: Policy) -> list[Case] | None:
    """What a checked concrete task set is to the tests: a case for each processor with its own.

    With packing there may be no processors for all tasks; then it is None. The tasks have what
    `is_testable` asks for.
    """
    priorities = _priorities(taskset, policy)
    worst = [
        (
            replace(from_task(task, taskset.place(position)), priority=priorities[position]),
            task.offset_ns,
        )
        for position, task in enumerate(taskset)
    ]
    groups = [list(range(len(worst)))]
    if scheduling.packing is not None:
        loads = [(task.executiontime_ns or 0, task.period_ns) for task in taskset]
        chosen = pack(
            loads,
            scheduling.cpus,
            scheduling.packing,
            rate_monotonic=policy is Policy.RM,
        )
        if chosen is None:
            return None
        groups = [[n for n, own in enumerate(chosen) if own == cpu] for cpu in sorted({*chosen})]
    return [
        Case(
            worst=[worst[position] for position in group],
            certain=[worst[position] for position in group if _is_certain(taskset[position])]
            if scheduling.full
            else None,
            synchronous=len({worst[position][1] for position in group}) == 1,
            punctual=scheduling.policy is not None,
            cpus=scheduling.cpus if scheduling.packing is None else 1,
        )
        for group in groups
    ]


def is_testable(taskset: TaskSet, scheduling: Scheduling, policy: Policy) -> bool:
    """Whether all tasks have an execution time and, if the policy needs it, a priority.

    The priority that stands for EDF is none where it means that.
    """
    if not all("executiontime" in task for task in taskset):
        return False
    if policy not in (Policy.FP, Policy.NP_FP):
        return True
    given = [task.get("priority") for task in taskset]
    return None not in given and (scheduling.policy is not None or PRIORITY_EDF not in given)


def _priorities(taskset: TaskSet, policy: Policy) -> Sequence[int | None]:
    """What orders the jobs of each task: the smallest first."""
    match policy:
        case Policy.FP | Policy.NP_FP:
            return [task["priority"] for task in taskset]
        case Policy.RM:
            keys = [task.period_ns or math.inf for task in taskset]
        case Policy.DM:
            keys = [task.deadline_ns or math.inf for task in taskset]
        case _:
            return [None] * len(taskset)
    ranks = {key: rank for rank, key in enumerate(sorted({*keys}))}
    return [ranks[key] for key in keys]


def _is_certain(task: Task) -> bool:
    """Whether its jobs need time, and are not killed before they have missed a deadline."""
    killed_ns, deadline_ns = task.criticaltime_ns, task.deadline_ns
    may_end_early = killed_ns is not None and (deadline_ns is None or killed_ns < deadline_ns)
    return bool(task.executiontime_ns) and not may_end_early
