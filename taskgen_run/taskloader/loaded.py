"""A task of the client as the loader keeps it: how far it is, and what its jobs execute."""

from __future__ import annotations

import contextlib
import json
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from taskgen_run.task import Task
from taskgen_run.taskloader.binaries import Executable
from taskgen_run.taskloader.jobs import Job, Program
from taskgen_run.taskloader.messages import LiveTask, ProtocolError
from taskgen_run.taskloader.policies import Other, Policy, cores

MOST_CONFIG_BYTES = 2**16
"""Of a task's `config` as JSON: it is handed to the job in its environment."""

_CPU_CLOCK_OF_PROCESS = 2
_PAGE = 4096


@dataclass(slots=True)
class LoadedTask:
    """A task of the client, and how far it is.

    `start_ns` is None until START. `next_job` counts the releases. `prepared` is the process of a
    job to come. `waiting_ns` is the release of a job that waits until the one before it is dead,
    and `missed_ns` those of jobs before that which never start, of which is told then. `told_ns` is
    the time of the last event. `last` is the job that has run last.

    Raises ProtocolError if `config` is too large.
    """

    task: Task
    policy: Policy = field(default_factory=Other)
    start_ns: int | None = None
    next_job: int = 0
    refused: bool = False
    job: Job | None = None
    prepared: Job | None = None
    waiting_ns: int | None = None
    missed_ns: list[int] = field(default_factory=list)
    told_ns: int = 0
    last: Job | None = None
    ended_ns: int | None = None

    def __post_init__(self) -> None:
        size = len(self._config())
        if size > MOST_CONFIG_BYTES:
            raise ProtocolError(
                f"task {self.id}: config must have ≤ {MOST_CONFIG_BYTES} bytes as JSON, got {size}"
            )

    @property
    def id(self) -> int:
        """The task's id on the wire."""
        identifier: int = self.task["id"]
        return identifier

    @property
    def name(self) -> str:
        """The name of the task's binary; empty if it has none."""
        return str(self.task.get("pkg", ""))

    @property
    def quota_bytes(self) -> int:
        """The memory that a job may have; 0 for no limit."""
        return int(self.task.get("quota", 0))

    @property
    def has_next(self) -> bool:
        """Whether there are more releases to come."""
        return self.task.job_count is None or self.next_job < self.task.job_count

    @property
    def next_release_ns(self) -> int:
        """When the next job is released, if there is one and the task has started."""
        return (self.start_ns or 0) + self.task.offset_ns + self.next_job * self.task.period_ns

    def queue(self) -> None:
        """Forget how far the task is: it starts with its first job when it starts again."""
        self.start_ns = None
        self.waiting_ns = None
        self.next_job = 0

    def program(self, executable: Executable, allowed_cores: Sequence[int]) -> Program:
        """What the task's jobs execute: its binary, with `arg1` as argument if there is one."""
        config = self.task.get("config", {})
        argument = config.get("arg1")
        if "arg1" not in config:
            arguments = []
        elif isinstance(argument, str):
            arguments = [argument]
        else:
            arguments = [json.dumps(argument) if argument is not None else ""]
        return Program(
            executable.fd,
            (self.name, *arguments),
            (
                "PATH=/usr/local/bin:/usr/bin:/bin",
                f"TASKLOADER_TASK={self.id}",
                f"TASKLOADER_CONFIG={self._config()}",
            ),
            self.quota_bytes,
            self.policy,
            cores(self.task, allowed_cores),
        )

    def live(self) -> LiveTask:
        """What there is to tell of the task now: times in ms, memory in bytes."""
        attributes = {
            "execution-time": "0",
            "priority": str(self.task.get("priority", "")),
            "state": self._state(),
            "session": f"{self.id:03}.{self.name}",
            "thread": self.name,
            "ram_quota": str(self.quota_bytes),
            "ram_used": "0",
        }
        if self.last is not None:
            attributes["arrival-time"] = _ms(self.last.released_ns)
            attributes["start-time"] = _ms(self.last.started_ns or self.last.released_ns)
        if self.ended_ns is not None:
            attributes["exit-time"] = _ms(self.ended_ns)
        if self.job is not None and self.job.pid:
            # It may have ended just now.
            with contextlib.suppress(OSError, ValueError, IndexError):
                attributes |= _measured(self.job.pid)
        return LiveTask(self.id, attributes)

    def _state(self) -> str:
        if self.job is not None:
            return "running"
        if self.start_ns is None:
            return "queued"
        return "waiting" if self.has_next else "done"

    def _config(self) -> str:
        return json.dumps(self.task.get("config", {}))


def _ms(ns: int) -> str:
    return f"{ns / 1e6:.6f}"


def _measured(pid: int) -> dict[str, str]:
    """What the kernel knows of a running process."""
    # How Linux numbers the clock that counts the CPU time of another process.
    executed_ns = time.clock_gettime_ns((~pid << 3) | _CPU_CLOCK_OF_PROCESS)
    status = Path(f"/proc/{pid}/stat").read_text(encoding="ascii", errors="replace")
    values = status[status.rindex(")") + 2 :].split()
    pages = Path(f"/proc/{pid}/statm").read_text(encoding="ascii").split()[1]
    return {
        "execution-time": _ms(executed_ns),
        "core": values[36],
        "ram_used": str(int(pages) * _PAGE),
    }
