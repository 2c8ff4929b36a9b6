"""What a fast simulation is made of: options and tasks, checked, and as arrays.

Nothing here needs numba.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from taskgen_run.analysis.packing import FITS, SIMSO
from taskgen_run.errors import ConfigurationError, unknown_name
from taskgen_run.sessions._simulation import (
    COSTS,
    MOST_JOBS,
    check_costs,
    check_job_count,
    check_simulation,
)
from taskgen_run.simulator import layout
from taskgen_run.task import Task, require
from taskgen_run.taskset import TaskSet

SCHEDULERS = {
    "RM": layout.RM,
    "DM": layout.FP,
    "FP": layout.FP,
    "EDF": layout.EDF,
    "P_RM": layout.RM_MONO,
    "P_EDF": layout.EDF_MONO,
    "NP_FP": layout.FP,
    "NP_EDF": layout.EDF,
}

CHOICES = {
    "on_miss": ("continue", "abort", "skip-next"),
    "tie": ("simso", "index"),
    "packing": (SIMSO, *FITS),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """The options of FastSimSession, as `conf/session/fastsim.yaml` explains them."""

    scheduler: str
    cpus: int
    packing: str
    tie: str
    duration_ms: float | str
    duration_cap_ms: float
    on_miss: str
    schedule_overhead_ms: float
    activate_overhead_ms: float
    terminate_overhead_ms: float
    context_save_ms: float
    context_load_ms: float
    trace: bool

    @property
    def partitioned(self) -> bool:
        """Whether each task has one processor for all of its jobs."""
        return self.scheduler.startswith("P_")

    @property
    def preemptive(self) -> bool:
        """Whether a job may lose its processor to another."""
        return not self.scheduler.startswith("NP_")


def check_options(options: Options) -> None:
    """Check the values. Raises ConfigurationError, with the name of the option."""
    if options.scheduler not in SCHEDULERS:
        unknown = unknown_name("scheduler", options.scheduler, SCHEDULERS)
        raise ConfigurationError(
            f"session.scheduler: {unknown}; session=simso has all schedulers of SimSo"
        )
    check_simulation(options, CHOICES)
    if options.packing != "simso" and not options.partitioned:
        raise ConfigurationError(
            f"session.packing must be simso unless session.scheduler is P_RM or P_EDF, got "
            f"{options.packing} with {options.scheduler}"
        )
    if options.tie == "index":
        _check_plain(options)
    check_costs(options, COSTS)


def _check_plain(options: Options) -> None:
    """Check that each task has one processor, and nothing costs anything."""
    if options.cpus > 1 and not options.partitioned:
        raise ConfigurationError(
            f"session.cpus must be 1 with session.tie=index, got {options.cpus}; use one "
            "processor, a partitioned scheduler, or tie=simso"
        )
    for name in COSTS:
        if getattr(options, name):
            raise ConfigurationError(
                f"session.{name} must be 0 with session.tie=index, got {getattr(options, name)}; "
                "use tie=simso"
            )


def check_tasks(taskset: TaskSet, options: Options) -> None:
    """Check that every task has what a simulation with `options` needs.

    Raises ConfigurationError, naming the task.
    """
    for position, task in enumerate(taskset):
        if "executiontime" not in task:
            require(task, "executiontime", taskset.place(position), "for a simulation")
        if options.scheduler in ("FP", "NP_FP") and "priority" not in task:
            require(
                task,
                "priority",
                taskset.place(position),
                f"for session.scheduler={options.scheduler}",
            )


def _check_job_counts(
    tasksets: Sequence[TaskSet], horizons: Sequence[int], table: NDArray[Any]
) -> None:
    """Raise ConfigurationError for a task set of more than `MOST_JOBS` jobs."""
    firsts = np.cumsum([0, *map(len, tasksets)])[:-1]
    jobs = np.add.reduceat(table["count"], firsts)
    for number in np.flatnonzero(jobs > MOST_JOBS).tolist():
        check_job_count(tasksets[number], horizons[number], jobs[number])


def task_table(
    tasksets: Sequence[TaskSet], horizons: Sequence[int], options: Options
) -> NDArray[Any]:
    """The tasks of all task sets as `layout.TASK_INPUT`, one after the other.

    A task without a deadline has `layout.NO_DEADLINE`. Raises ConfigurationError for too many jobs.
    """
    rows = [
        _task_row(task, horizon, options)
        for taskset, horizon in zip(tasksets, horizons, strict=True)
        for task in taskset
    ]
    table = np.array(rows, layout.TASK_INPUT)
    _check_job_counts(tasksets, horizons, table)
    table["row"] = np.cumsum(table["count"]) - table["count"]
    return table


def _task_row(task: Task, horizon: int, options: Options) -> tuple[int, ...]:
    offset, period = task.offset_ns, task.period_ns
    deadline = task.deadline_ns or layout.NO_DEADLINE
    count = max(0, -((offset - horizon) // period)) if period else int(offset < horizon)
    limit = task.job_count
    return (
        offset,
        period,
        count if limit is None or limit > count else limit,
        deadline,
        _kill_after(task, deadline, options),
        task.executiontime_ns or 0,
        _key(task, deadline, options),
        0,
    )


def _kill_after(task: Task, deadline: int, options: Options) -> int:
    """When a job is killed, in ns after its release: critical time, or deadline with abort."""
    critical = task.criticaltime_ns if "criticaltime" in task else None
    missed = deadline if options.on_miss == "abort" and deadline != layout.NO_DEADLINE else None
    return min((ns for ns in (critical, missed) if ns is not None), default=layout.NONE)


def _key(task: Task, deadline: int, options: Options) -> int:
    if options.scheduler in ("FP", "NP_FP"):
        return int(task["priority"])
    time = deadline if options.scheduler == "DM" else task.period_ns
    return layout.INFINITY if time in (0, layout.NO_DEADLINE) else time
