"""What a simulation is made of: options and tasks, checked, in ns and in SimSo's terms.

Nothing here needs SimSo.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from taskgen_run.errors import ConfigurationError, one_line, unknown_name
from taskgen_run.sessions._simulation import (
    COSTS,
    check_costs,
    check_job_count,
    check_simulation,
)
from taskgen_run.sessions.horizon import releases_ns
from taskgen_run.task import Attribute, Kind, Task, require, to_ns
from taskgen_run.taskset import TaskSet

ETM_ATTRIBUTES: Mapping[str, tuple[str, ...]] = {
    "wcet": (),
    "acet": ("acet", "et_stddev"),
    "fixedpenalty": (),
    "cache": ("n_instr", "mix", "stack_file"),
}
"""SimSo's execution time models, and the attributes of a task that each cannot do without."""

TASK_ATTRIBUTES: Mapping[str, Attribute] = {
    "acet": Attribute(Kind.MS),
    "et_stddev": Attribute(Kind.MS),
    "n_instr": Attribute(Kind.INTEGER),
    "mix": Attribute(Kind.NUMBER, 0, 2),
    "base_cpi": Attribute(Kind.NUMBER),
    "stack_file": Attribute(Kind.TEXT),
    "preemption_cost": Attribute(Kind.INTEGER),
}

CBS = ("cbs_period", "cbs_deadline", "cbs_maximum_runtime")
"""What SCHED_DEADLINE reads from the data of a task, in ms."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """The options of SimSoSession, as `conf/session/simso.yaml` explains them."""

    scheduler: str
    cpus: int
    duration_ms: float | str
    duration_cap_ms: float
    on_miss: str
    etm: str
    schedule_overhead_ms: float
    activate_overhead_ms: float
    terminate_overhead_ms: float
    context_save_ms: float
    context_load_ms: float
    preemption_penalty_ms: float
    migration_penalty_ms: float
    memory_access_ns: float
    caches: list[Any]
    trace: bool


@dataclass(frozen=True, slots=True)
class SimCache:
    """A cache that `cpus` share: `size` in the unit of the stack profiles, `access` in ns."""

    size: float
    access: float
    cpus: frozenset[int]


@dataclass(frozen=True, slots=True)
class Platform:
    """Processors and the kernel's costs. Times in ns; the caches nearest to a processor first."""

    cpus: int
    schedule_overhead: int
    activate_overhead: int
    terminate_overhead: int
    context_save: int
    context_load: int
    preemption_penalty: int
    migration_penalty: int
    memory_access: float
    caches: tuple[SimCache, ...]


@dataclass(frozen=True, slots=True)
class SimTask:
    """A task for the simulation. Times in ns; `data` is what schedulers read as `task.data`."""

    position: int
    releases: range
    period: int
    deadline: int | None
    kill_after: int | None
    wcet: int
    data: dict[str, Any]
    acet: int
    et_stddev: int
    n_instr: int
    mix: float
    base_cpi: float
    preemption_cost: int
    stack: Mapping[int, float]


def check_options(options: Options) -> None:
    """Check the values. Raises ConfigurationError, with the name of the option."""
    check_simulation(options, {"on_miss": ("continue", "abort"), "etm": ETM_ATTRIBUTES})
    check_costs(options, _COSTS)
    problem = Attribute(Kind.NUMBER).problem(options.memory_access_ns)
    if problem:
        raise ConfigurationError(f"session.memory_access_ns {problem}")
    caches = [_cache(index, options) for index in range(len(options.caches))]
    _check_inclusive(caches, options.cpus)


_COSTS = (*COSTS, "preemption_penalty_ms", "migration_penalty_ms")


def platform(options: Options) -> Platform:
    """The platform that checked `options` describe."""
    costs = {name.removesuffix("_ms"): to_ns(getattr(options, name)) for name in _COSTS}
    return Platform(
        cpus=options.cpus,
        memory_access=options.memory_access_ns,
        caches=tuple(_cache(index, options) for index in range(len(options.caches))),
        **costs,
    )


def _cache(index: int, options: Options) -> SimCache:
    place, cache = f"session.caches[{index}]", options.caches[index]
    known = ("size", "access_ns", "cpus")
    if not isinstance(cache, Mapping):
        raise ConfigurationError(f"{place} must be a mapping of {', '.join(known)}, got {cache!r}")
    for key in cache:
        if key not in known:
            raise ConfigurationError(f"{place}: {unknown_name('key', key, known)}")
    for key in ("size", "access_ns"):
        problem = Attribute(Kind.NUMBER).problem(cache.get(key))
        if problem:
            raise ConfigurationError(f"{place}.{key} {problem}")
    every = range(options.cpus)
    cpus = cache.get("cpus", list(every))
    if (
        not isinstance(cpus, list)
        or not cpus
        or not all(type(c) is int and c in every for c in cpus)
    ):
        raise ConfigurationError(
            f"{place}.cpus must be a list of processors, from 0 to {options.cpus - 1}, got {cpus!r}"
        )
    return SimCache(cache["size"], cache["access_ns"], frozenset(cpus))


def _check_inclusive(caches: list[SimCache], cpus: int) -> None:
    """Each cache must have the same one behind it for all of its processors."""
    behind: dict[int, int | None] = {}
    for cpu in range(cpus):
        own = [index for index, cache in enumerate(caches) if cpu in cache.cpus]
        for index, following in zip(own, [*own[1:], None], strict=False):
            if behind.setdefault(index, following) != following:
                raise ConfigurationError(
                    f"session.caches[{index}] must have the same cache behind it for all of its "
                    f"processors, got another for processor {cpu}"
                )


def check_tasks(taskset: TaskSet, options: Options, scheduler: str) -> None:
    """Check that every task has what a simulation with `options` needs.

    Raises ConfigurationError, naming the task.
    """
    for position, task in enumerate(taskset):
        place = taskset.place(position)
        require(task, "executiontime", place, "for a simulation")
        for name in ETM_ATTRIBUTES[options.etm]:
            require(task, name, place, f"for session.etm={options.etm}")
        if options.etm == "cache":
            _check_cached(task, place)
        if scheduler == "FP":
            require(task, "priority", place, "for session.scheduler=FP")
        for name, value in _data_needed(task, scheduler):
            if scheduler == "Fixed_PEDF":
                problem = Attribute(Kind.INTEGER, 0, options.cpus - 1).problem(value)
            else:
                problem = Attribute(Kind.MS).problem(value)
            if problem:
                raise ConfigurationError(
                    f"{place}: config.{name} {problem}; session.scheduler={scheduler} reads it"
                )


def _data_needed(task: Task, scheduler: str) -> Iterator[tuple[str, object]]:
    names = {"Fixed_PEDF": ("cpu",), "SCHED_DEADLINE": CBS}.get(scheduler, ())
    config = task.get("config") or {}
    return ((name, config.get(name)) for name in names)


def _check_cached(task: Task, place: str) -> None:
    if task["mix"] == 0:
        raise ConfigurationError(f"{place}: mix must be > 0 for session.etm=cache, got 0")
    if task.get("base_cpi", 1) == 0:
        raise ConfigurationError(f"{place}: base_cpi must be > 0 for session.etm=cache, got 0")
    try:
        _stack(task["stack_file"])
    except (OSError, ValueError) as error:
        raise ConfigurationError(
            f"{place}: stack_file must be a stack distance profile, got '{task['stack_file']}': "
            f"{one_line(error)}"
        ) from error


def _stack(file: str) -> dict[int, float]:
    """The stack distance profile in `file`: on each line a distance and its share of accesses."""
    stack: dict[int, float] = {}
    for number, line in enumerate(Path(file).read_text(encoding="utf-8").splitlines(), 1):
        if not line.strip():
            continue
        try:
            distance, share = line.split()
            stack[int(distance)] = float(share)
        except ValueError as error:
            raise ValueError(f"line {number} is no distance and share: {line!r}") from error
    if not stack:
        raise ValueError("it is empty")
    return dict(sorted(stack.items()))


def sim_tasks(taskset: TaskSet, options: Options, scheduler: str, horizon_ns: int) -> list[SimTask]:
    """The tasks of a checked task set, with their releases before the horizon.

    Raises ConfigurationError for too many releases.
    """
    jobs = sum(_count(releases_ns(task, horizon_ns)) for task in taskset)
    check_job_count(taskset, horizon_ns, jobs)
    return [
        SimTask(
            position=position,
            releases=releases_ns(task, horizon_ns),
            period=task.period_ns,
            deadline=task.deadline_ns,
            kill_after=_kill_after(task, options),
            wcet=task.executiontime_ns or 0,
            data=_data(task, scheduler),
            acet=to_ns(task.get("acet", 0)),
            et_stddev=to_ns(task.get("et_stddev", 0)),
            n_instr=task.get("n_instr", 0),
            mix=task.get("mix", 0),
            base_cpi=task.get("base_cpi", 1),
            preemption_cost=task.get("preemption_cost", 0),
            stack=_stack(task["stack_file"]) if options.etm == "cache" else {},
        )
        for position, task in enumerate(taskset)
    ]


def _count(releases: range) -> int:
    """Its length, which may be too large for len."""
    return max(0, -((releases.start - releases.stop) // releases.step))


def _kill_after(task: Task, options: Options) -> int | None:
    """When a job is killed, in ns after its release: critical time, or deadline with abort."""
    missed = task.deadline_ns if options.on_miss == "abort" else None
    return min((ns for ns in (missed, task.criticaltime_ns) if ns is not None), default=None)


def _data(task: Task, scheduler: str) -> dict[str, Any]:
    """What a scheduler reads as `task.data`, its own to change: `config` and the priority.

    SimSo's FP runs the largest number first, and serves as DM too.
    """
    data: dict[str, Any] = copy.deepcopy(dict(task.get("config") or {}))
    if "priority" in task:
        data["priority"] = task["priority"]
    if scheduler == "FP":
        data["priority"] = -task["priority"]
    elif scheduler == "DM":
        deadline = task.deadline_ns
        data["priority"] = float("-inf") if deadline is None else -deadline
    elif scheduler == "SCHED_DEADLINE":
        data.update({name: to_ns(data[name]) for name in CBS})
    return data
