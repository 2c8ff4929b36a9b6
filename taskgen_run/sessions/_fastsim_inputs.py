"""What a fast simulation is made of: options and tasks, checked, and as arrays.

Nothing here needs numba.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
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
from taskgen_run.sessions.horizon import natural_horizon_of
from taskgen_run.simulator import layout
from taskgen_run.task import require, to_ns
from taskgen_run.taskset import TaskSet
from taskgen_run.variants import columnar

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


NEVER = 2**63 - 1
UNSET = -1


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


REQUIRED = {"FP": ("executiontime", "priority"), "NP_FP": ("executiontime", "priority")}


class Inputs:
    """What a simulation reads of the tasks of all task sets, one after the other, as columns in ns.

    A task set that cannot be simulated is in `errors`, by its position; its numbers say nothing.
    """

    def __init__(self, tasksets: Sequence[TaskSet], options: Options) -> None:
        self.tasksets = columnar(tasksets)
        self.sizes = self.tasksets.sizes
        self.errors: dict[int, ConfigurationError] = {}
        self._options = options
        self._firsts = np.cumsum([0, *self.sizes])
        for name in REQUIRED.get(options.scheduler, ("executiontime",)):
            self._require(name)
        self.period = self._ns("period")
        self.offset = self._ns("offset")
        self.wcet = self._ns("executiontime")

    def _require(self, name: str) -> None:
        values = self.tasksets.attribute(name)
        if None not in values:
            return
        for number, taskset in enumerate(self.tasksets):
            try:
                check_tasks(taskset, self._options)
            except ConfigurationError as error:
                self.errors.setdefault(number, error)

    def _ns(self, name: str, unset: int = 0) -> NDArray[np.int64]:
        values = self.tasksets.attribute(name)
        return np.array([unset if ms is None else to_ns(ms) for ms in values], np.int64)

    def natural_horizons_ns(self) -> list[int]:
        """`natural_horizon_ns` of each task set."""
        offsets, periods = self.offset.tolist(), self.period.tolist()
        works = self.wcet.tolist()
        return [
            natural_horizon_of(offsets[first:last], periods[first:last], works[first:last])
            for first, last in pairwise(self._firsts.tolist())
        ]

    def table(self, horizons: Sequence[int]) -> NDArray[Any]:
        """The tasks as `layout.TASK_INPUT`; one without a deadline has `layout.NO_DEADLINE`.

        Too many jobs are in `errors`, too.
        """
        table = np.zeros(len(self.period), layout.TASK_INPUT)
        deadline = self._ns("deadline", UNSET)
        deadline = np.where(deadline == UNSET, self.period, deadline)
        deadline[deadline == 0] = layout.NO_DEADLINE
        table["offset"], table["period"], table["wcet"] = self.offset, self.period, self.wcet
        table["deadline"] = deadline
        table["count"] = self._job_counts(np.repeat(np.array(horizons, np.int64), self.sizes))
        table["kill_after"] = self._kill_after(deadline)
        table["key"] = self._keys(deadline)
        table["row"] = np.cumsum(table["count"]) - table["count"]
        jobs = self.per_taskset(table["count"])
        for number in np.flatnonzero(jobs > MOST_JOBS).tolist():
            try:
                check_job_count(self.tasksets[number], horizons[number], int(jobs[number]))
            except ConfigurationError as error:
                self.errors.setdefault(number, error)
        return table

    def per_taskset(self, numbers: NDArray[np.int64]) -> NDArray[np.int64]:
        """The sum of what each task has, for each task set."""
        before = np.concatenate([[0], np.cumsum(numbers)])
        totals: NDArray[np.int64] = before[self._firsts[1:]] - before[self._firsts[:-1]]
        return totals

    def _job_counts(self, horizon: NDArray[np.int64]) -> NDArray[np.int64]:
        single = self.period == 0
        count = -((self.offset - horizon) // np.where(single, 1, self.period))
        count = np.where(single, self.offset < horizon, np.maximum(count, 0))
        limits = self.tasksets.attribute("numberofjobs")
        limit = np.array([number or 0 for number in limits], np.int64)
        # More than a task set may have is too many; no more, so that sums are right.
        return np.minimum(np.where((limit > 0) & (limit < count), limit, count), MOST_JOBS + 1)

    def _kill_after(self, deadline: NDArray[np.int64]) -> NDArray[np.int64]:
        """When a job is killed after its release: critical time, or deadline with abort."""
        kill = self._ns("criticaltime")
        kill[kill == 0] = NEVER
        if self._options.on_miss == "abort":
            missed = np.where(deadline == layout.NO_DEADLINE, NEVER, deadline)
            kill = np.minimum(kill, missed)
        kill[kill == NEVER] = layout.NONE
        return kill

    def _keys(self, deadline: NDArray[np.int64]) -> NDArray[np.int64]:
        if self._options.scheduler in ("FP", "NP_FP"):
            return np.array([value or 0 for value in self.tasksets.attribute("priority")], np.int64)
        time = deadline if self._options.scheduler == "DM" else self.period
        return np.where((time == 0) | (time == layout.NO_DEADLINE), layout.INFINITY, time)


@dataclass(frozen=True, slots=True)
class Prepared:
    """Task sets before their simulation.

    `naturals` are their natural horizons, empty unless they are asked for; `tasks` is the
    `Inputs.table` up to the `horizons`.
    """

    inputs: Inputs
    naturals: Sequence[int]
    horizons: Sequence[int]
    tasks: NDArray[Any]

    @property
    def errors(self) -> Mapping[int, ConfigurationError]:
        """Why task sets cannot be simulated, by their positions."""
        return self.inputs.errors

    def require_valid(self) -> None:
        """Raise the ConfigurationError of the first that cannot be simulated."""
        for _, error in sorted(self.errors.items()):
            raise error


def check_tasks(taskset: TaskSet, options: Options) -> None:
    """Check that every task has what a simulation with `options` needs.

    Raises ConfigurationError, naming the task.
    """
    for position, task in enumerate(taskset):
        for name in REQUIRED.get(options.scheduler, ("executiontime",)):
            why = f"for session.scheduler={options.scheduler}" if name == "priority" else ""
            require(task, name, taskset.place(position), why or "for a simulation")
