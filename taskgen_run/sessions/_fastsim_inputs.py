"""What a fast simulation is made of: options and tasks, checked, and as arrays.

Nothing here needs numba.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from taskgen_run.errors import ConfigurationError, unknown_name
from taskgen_run.simulator import layout
from taskgen_run.task import Attribute, Kind, Task, require, to_ns
from taskgen_run.taskset import TaskSet

LONGEST_NS = layout.NO_DEADLINE
"""No simulation lasts longer than this, about 52 days."""

MOST_CPUS = 1024

MOST_JOBS = 10**7
"""Of one simulation: its jobs are in memory."""

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

COSTS = (
    "schedule_overhead_ms",
    "activate_overhead_ms",
    "terminate_overhead_ms",
    "context_save_ms",
    "context_load_ms",
)


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
    if not 1 <= options.cpus <= MOST_CPUS:
        bound = "≥ 1" if options.cpus < 1 else f"≤ {MOST_CPUS}"
        raise ConfigurationError(f"session.cpus must be {bound}, got {options.cpus}")
    if isinstance(options.duration_ms, str):
        if options.duration_ms != "auto":
            raise ConfigurationError(
                f"session.duration_ms must be a number of ms or auto, got {options.duration_ms!r}"
            )
    else:
        _check_duration("duration_ms", options.duration_ms)
    _check_duration("duration_cap_ms", options.duration_cap_ms)
    known = {
        "on_miss": ("continue", "abort", "skip-next"),
        "tie": ("simso", "index"),
        "packing": ("simso", "first-fit", "best-fit", "worst-fit"),
    }
    for name, values in known.items():
        value = getattr(options, name)
        if value not in values:
            raise ConfigurationError(f"session.{name}: {unknown_name('value', value, values)}")
    if options.packing != "simso" and not options.partitioned:
        raise ConfigurationError(
            f"session.packing must be simso unless session.scheduler is P_RM or P_EDF, got "
            f"{options.packing} with {options.scheduler}"
        )
    if not options.preemptive or options.tie == "index":
        _check_plain(options)
    for name in COSTS:
        problem = Attribute(Kind.MS).problem(getattr(options, name))
        if problem:
            raise ConfigurationError(f"session.{name} {problem}")


def _check_plain(options: Options) -> None:
    """Where SimSo is left, only what has one processor for each task and costs nothing is there."""
    what = "tie=index" if options.preemptive else f"scheduler={options.scheduler}"
    if options.cpus > 1 and not options.partitioned:
        raise ConfigurationError(
            f"session.cpus must be 1 with session.{what}, got {options.cpus}; use one processor, "
            "or a preemptive or partitioned scheduler with tie=simso"
        )
    for name in COSTS:
        if getattr(options, name):
            raise ConfigurationError(
                f"session.{name} must be 0 with session.{what}, got {getattr(options, name)}"
            )


def _check_duration(name: str, value: float) -> None:
    problem = Attribute(Kind.MS).problem(value)
    if problem is None and not 0 < to_ns(value) <= LONGEST_NS:
        problem = f"must be > 0 ms and ≤ {LONGEST_NS // 10**6} ms, got {value}"
    if problem:
        raise ConfigurationError(f"session.{name} {problem}")


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


def check_job_counts(
    tasksets: Sequence[TaskSet], horizons: Sequence[int], table: NDArray[Any]
) -> None:
    """Raise ConfigurationError for a task set of more than `MOST_JOBS` jobs."""
    firsts = np.cumsum([0, *map(len, tasksets)])[:-1]
    jobs = np.add.reduceat(table["count"], firsts)
    for number in np.flatnonzero(jobs > MOST_JOBS).tolist():
        raise ConfigurationError(
            f"task set {tasksets[number].name!r}: must release at most {MOST_JOBS} jobs in "
            f"{horizons[number] / 10**6:g} ms, got {jobs[number]}; set a shorter "
            "session.duration_ms or session.duration_cap_ms"
        )


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
    check_job_counts(tasksets, horizons, table)
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
