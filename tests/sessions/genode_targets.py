"""Task sets, options and scripts that the tests of network sessions share."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from taskgen_run.job import Job
from taskgen_run.sessions.genode import GenodeSession
from taskgen_run.task import Task
from taskgen_run.taskloader.fake import Expect, FakeTarget, Serve, Step, Upload, push
from taskgen_run.taskloader.protocol import (
    Clear,
    Command,
    Event,
    EventType,
    Profile,
    Report,
    SendDescs,
    Start,
)
from taskgen_run.taskset import TaskSet

MS = 1_000_000
QUICK: dict[str, Any] = {
    "connect_timeout": 1,
    "reply_timeout": 0.3,
    "event_timeout": 0.3,
    "upload_timeout": 1,
    "clear_timeout": 0.2,
}
"""Time-outs for tests that wait for them."""

_hosts = itertools.count(2)


def loopback() -> str:
    """An address of this machine that no other test of this process has."""
    number = next(_hosts)
    return f"127.9.{number // 250}.{1 + number % 250}"


def event(kind: str, task: int, ms: float) -> Event:
    return Event(EventType(kind), task, round(ms * MS))


def one_job(number: int = 0) -> tuple[Event, Event]:
    return event("START", 0, 10 + number), event("EXIT", 0, 10.5 + number)


def single(**attributes: Any) -> TaskSet:
    """A task set with one job."""
    return TaskSet([Task({"pkg": "hey", "executiontime": 1, **attributes})], "mine")


def periodic(count: int | None = None, **attributes: Any) -> TaskSet:
    numbered = {} if count is None else {"numberofjobs": count}
    return single(period=10, **numbered, **attributes)


def started(*, upload: bool = True) -> list[Step]:
    """The steps of a good target until its tasks run."""
    return [Expect(Clear), Expect(SendDescs), *([Upload()] if upload else []), Expect(Start)]


def good(*events: Event) -> list[Step]:
    """A target that takes everything, and pushes `events` after each START."""

    def answer(command: Command) -> Iterable[Report]:
        return [Profile(events)] if isinstance(command, Start) else []

    return [Serve(answer)]


def binaries(directory: Path, **contents: bytes) -> str:
    directory.mkdir(exist_ok=True)
    for name, content in (contents or {"hey": b"an executable"}).items():
        (directory / name).write_bytes(content)
    return str(directory)


@contextmanager
def session_on(target: FakeTarget, directory: Path, **options: Any) -> Iterator[GenodeSession]:
    options.setdefault("binaries", str(directory / "bin"))
    if not Path(directory / "bin").exists():
        binaries(directory / "bin")
    session = GenodeSession(target.host, target.port, **{**QUICK, **options})
    try:
        yield session
    finally:
        session.close()


def run(session: GenodeSession, taskset: TaskSet, *params: Any) -> list[Job]:
    """Drive a task set to its end; the final jobs in order."""
    session.start(taskset, *params)
    return finish(session, taskset)


def finish(session: GenodeSession, taskset: TaskSet) -> list[Job]:
    jobs: dict[tuple[int, int], Job] = {}
    while session.is_running(taskset):
        for job in session.run(taskset):
            jobs[job.task, job.job] = job
    return [jobs[key] for key in sorted(jobs)]


__all__ = [
    "MS",
    "QUICK",
    "binaries",
    "event",
    "finish",
    "good",
    "loopback",
    "one_job",
    "periodic",
    "push",
    "run",
    "session_on",
    "single",
    "started",
]
