"""What the sessions that simulate have in common: their checks, and how long they simulate."""

from __future__ import annotations

import logging
from collections.abc import Collection, Iterable, Mapping
from typing import Protocol

from taskgen_run.analysis.scheduling import Policy, Scheduling
from taskgen_run.errors import ConfigurationError, unknown_name
from taskgen_run.sessions.horizon import longer_horizon_ns, natural_horizon_ns
from taskgen_run.task import Attribute, Kind, to_ns
from taskgen_run.taskset import TaskSet

VERY_LATE_NS = 2**52
"""The relative deadline of a job without one. Floats are exact up to twice as much: no
simulation lasts longer than this, about 52 days."""

MOST_CPUS = 1024

MOST_JOBS = 10**7
"""Of one simulation: its jobs are in memory, and SimSo needs about an hour for so many."""

COSTS = (
    "schedule_overhead_ms",
    "activate_overhead_ms",
    "terminate_overhead_ms",
    "context_save_ms",
    "context_load_ms",
)
"""The options that tell what the kernel costs on every simulator."""

PARTITIONED = ("P_RM", "P_EDF")
"""The schedulers that give each task one processor, as schedulability tests know them."""

logger = logging.getLogger(__name__)


class SimulationOptions(Protocol):
    """The options that every simulator has."""

    @property
    def scheduler(self) -> str: ...
    @property
    def cpus(self) -> int: ...
    @property
    def duration_ms(self) -> float | str: ...
    @property
    def duration_cap_ms(self) -> float: ...


def check_simulation(options: SimulationOptions, choices: Mapping[str, Collection[str]]) -> None:
    """Check processors, durations, and the options that have a choice of values.

    Raises ConfigurationError, with the name of the option.
    """
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
    for name, known in choices.items():
        value = getattr(options, name)
        if value not in known:
            raise ConfigurationError(f"session.{name}: {unknown_name('value', value, known)}")


def check_costs(options: SimulationOptions, names: Iterable[str]) -> None:
    """Check that these options are times. Raises ConfigurationError, with the name of one."""
    for name in names:
        problem = Attribute(Kind.MS).problem(getattr(options, name))
        if problem:
            raise ConfigurationError(f"session.{name} {problem}")


def _check_duration(name: str, value: float) -> None:
    problem = Attribute(Kind.MS).problem(value)
    if problem is None and not 0 < to_ns(value) <= VERY_LATE_NS:
        problem = f"must be > 0 ms and ≤ {VERY_LATE_NS // 10**6} ms, got {value}"
    if problem:
        raise ConfigurationError(f"session.{name} {problem}")


def check_job_count(taskset: TaskSet, horizon_ns: int, jobs: int) -> None:
    """Raise ConfigurationError for more than `MOST_JOBS` jobs."""
    if jobs > MOST_JOBS:
        raise ConfigurationError(
            f"task set {taskset.name!r}: must release at most {MOST_JOBS} jobs in "
            f"{horizon_ns / 10**6:g} ms, got {jobs}; set a shorter session.duration_ms or "
            "session.duration_cap_ms"
        )


def scheduling_of(
    options: SimulationOptions, packing: str, *, full: bool = True
) -> Scheduling | None:
    """What schedulability tests have to know of a simulation; None if they do not know it.

    `packing` is that of a partitioned scheduler; `full` tells whether jobs need all of their time.
    """
    partitioned = options.scheduler in PARTITIONED
    name = options.scheduler.removeprefix("P_") if partitioned else options.scheduler
    if name not in list(Policy) or any(getattr(options, cost) for cost in COSTS):
        return None
    return Scheduling(
        policy=Policy(name),
        cpus=options.cpus,
        packing=packing if partitioned else None,
        full=full,
    )


class Horizons:
    """The horizons in ns of the task sets of a session, as its checked options say it.

    What the cap cuts short is logged: the first time as a warning.
    """

    def __init__(self, options: SimulationOptions) -> None:
        self._options = options
        self._cap_was_hit = False

    @property
    def are_automatic(self) -> bool:
        """Whether each task set has its own, long enough for its single jobs."""
        return self._options.duration_ms == "auto"

    def first(self, taskset: TaskSet) -> int:
        """The horizon to begin with."""
        if self.are_automatic:
            return min(natural_horizon_ns(taskset), self._cap_ns)
        return to_ns(float(self._options.duration_ms))

    def tell_if_cut(self, taskset: TaskSet) -> None:
        """Log it if the first horizon is shorter than it should be."""
        if self.are_automatic and natural_horizon_ns(taskset) > self._cap_ns:
            self._report_cap(taskset, "its maximum offset plus two hyperperiods is longer")

    def longer(self, taskset: TaskSet, horizon_ns: int) -> int | None:
        """The next one, as a single job has not ended; None, and logged, when it is the cap."""
        longer = longer_horizon_ns(horizon_ns, self._cap_ns)
        if longer is None:
            self._report_cap(taskset, "a single job has not ended by then")
        return longer

    @property
    def _cap_ns(self) -> int:
        return to_ns(self._options.duration_cap_ms)

    def _report_cap(self, taskset: TaskSet, why: str) -> None:
        logger.log(
            logging.DEBUG if self._cap_was_hit else logging.WARNING,
            "task set %r, variant %d: simulated for session.duration_cap_ms = %s ms only: %s",
            taskset.name,
            taskset.variant,
            self._options.duration_cap_ms,
            why,
        )
        self._cap_was_hit = True


def report_refusal(taskset: TaskSet, scheduler: str) -> None:
    """Log that no job of a task set is scheduled."""
    logger.info(
        "task set %r, variant %d: not scheduled, as %s finds no processors for all tasks",
        taskset.name,
        taskset.variant,
        scheduler,
    )
