"""What a network session is given: options, task set, binaries and goal, all of it checked."""

from __future__ import annotations

import math
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from taskgen_run.errors import ConfigurationError, one_line
from taskgen_run.task import ATTRIBUTES, NS_PER_MS, require, to_ns
from taskgen_run.taskloader.protocol import Binary, Optimize, encode
from taskgen_run.taskset import TaskSet

TIMES = ("executiontime", "criticaltime", "deadline", "period", "offset")
MAX_BINARY = 2**32 - 1
"""Bytes: the protocol's sizes are 32-bit integers."""


@dataclass(frozen=True, kw_only=True)
class Options:
    """The options of GenodeSession, as `conf/session/genode.yaml` explains them.

    Raises ConfigurationError for a value out of its bounds.
    """

    connect_timeout: float = 5
    reply_timeout: float = 5
    event_timeout: float = 10
    upload_timeout: float = 30
    clear_timeout: float = 2
    get_live: bool = True
    duration_ms: float | None = None
    binaries: str | list[str] = "workloads/build"

    def __post_init__(self) -> None:
        for name in ("connect_timeout", "reply_timeout", "event_timeout", "upload_timeout"):
            seconds = getattr(self, name)
            if not (seconds > 0 and math.isfinite(seconds)):
                raise ConfigurationError(f"session.{name} must be > 0 s, got {seconds}")
        if not (self.clear_timeout >= 0 and math.isfinite(self.clear_timeout)):
            raise ConfigurationError(
                f"session.clear_timeout must be ≥ 0 s, got {self.clear_timeout}"
            )
        duration = self.duration_ms
        if duration is not None and not (duration > 0 and math.isfinite(duration)):
            raise ConfigurationError(
                f"session.duration_ms must be > 0 ms, or null for none, got {duration}"
            )

    @property
    def directories(self) -> list[Path]:
        """Where binaries are looked for, in this order."""
        names = [self.binaries] if isinstance(self.binaries, str) else self.binaries
        return [Path(name) for name in names]


def check_tasks(taskset: TaskSet) -> str:
    """Check that the tasks can be sent; their XML. Raises ConfigurationError."""
    for position, task in enumerate(taskset):
        place = taskset.place(position)
        require(task, "pkg", place, "to say which binary it runs")
        if problem := ATTRIBUTES["pkg"].problem(task["pkg"]):
            raise ConfigurationError(f"{place}: pkg {problem}")
        for name in TIMES:
            if to_ns(task.get(name, 0)) % NS_PER_MS:
                raise ConfigurationError(
                    f"{place}: {name} must be whole ms on a real target, got {task[name]}; "
                    "round it, or simulate"
                )
    return taskset.to_xml()


def check_goal(params: tuple[Any, ...]) -> Optimize | None:
    """The goal of the admission control among the parameters of `start`; None without.

    Raises ConfigurationError if more than one goal applies, for what XML cannot express, and for
    further parameters.
    """
    if not params:
        return None
    goal, *others = params
    if others or not isinstance(goal, Mapping):
        raise ConfigurationError(
            f"a network session takes one admission-control goal, a mapping, got {params!r}"
        )
    goals = goal.get("goal") or {}
    if not isinstance(goals, Mapping):
        raise ConfigurationError(f"admission.goal must be a mapping of goals, got {goals!r}")
    applied = [
        name
        for name, aim in goals.items()
        if isinstance(aim, Mapping) and aim.get("apply") not in (0, "0", None)
    ]
    if len(applied) > 1:
        raise ConfigurationError(
            f"admission.goal: at most one goal must apply, got {', '.join(applied)}; set the "
            "`apply` of the others to 0"
        )
    optimize = Optimize(goal)
    encode(optimize)
    return optimize


def find_binaries(taskset: TaskSet, directories: list[Path]) -> dict[str, Path]:
    """The file of each `pkg`, found in the first of the `directories` that has it.

    The tasks are checked ones. Raises ConfigurationError for a binary that is nowhere, and for
    one that lies outside of its directory.
    """
    found: dict[str, Path] = {}
    for position, task in enumerate(taskset):
        if task["pkg"] not in found:
            found[task["pkg"]] = _find(task["pkg"], directories, taskset.place(position))
    return found


def _find(name: str, directories: list[Path], place: str) -> Path:
    for directory in directories:
        path = directory / name
        if not path.is_file():
            continue
        if not path.resolve().is_relative_to(directory.resolve()):
            raise ConfigurationError(
                f"{place}: the binary of pkg must lie in '{directory}', and {name!r} leads to "
                f"'{path.resolve()}'; copy it"
            )
        return path
    places = " or ".join(f"'{directory}'" for directory in directories) or "no directory"
    raise ConfigurationError(
        f"{place}: pkg must name a file in {places}, got {name!r}; build it (`make -C "
        "workloads` builds ours), or name its directory in session.binaries"
    )


def read_binaries(paths: Mapping[str, Path], known: Collection[str]) -> Iterator[Binary]:
    """The binaries but those `known` already. Raises ConfigurationError if one cannot be read."""
    for name, path in paths.items():
        if name in known:
            continue
        try:
            data = path.read_bytes()
        except OSError as error:
            raise ConfigurationError(f"cannot read '{path}': {one_line(error)}") from error
        if len(data) > MAX_BINARY:
            raise ConfigurationError(f"'{path}' must be < 4 GiB, got {len(data)} bytes")
        yield Binary(name, data)
