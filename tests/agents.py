"""Real agents on loopback addresses, and a plain client for them."""

from __future__ import annotations

import itertools
import os
import re
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Any

import psutil
from filelock import FileLock

from taskgen_run.task import Task
from taskgen_run.taskloader.protocol import (
    Binary,
    ClientDecoder,
    Event,
    EventType,
    GetLive,
    GoSend,
    Live,
    Profile,
    Report,
    SendBinaries,
    SendDescs,
    Start,
    encode,
)
from taskgen_run.taskset import TaskSet

ROOT = Path(__file__).parent.parent
WORKLOADS = ROOT / "workloads"
PATIENCE = 20.0

_numbers = itertools.count(os.getpid() % 60000 * 256)


def fresh_address() -> str:
    """A loopback address that no other test uses."""
    number = next(_numbers)
    return f"127.{number >> 16 & 127 | 64}.{number >> 8 & 255}.{number % 250 + 1}"


def workload(name: str) -> bytes:
    """The executable of a workload, built if it is not."""
    with FileLock(Path(tempfile.gettempdir(), f"taskgen_run-{os.getuid()}-workloads.lock")):
        # Locked, as tests run in several processes, and make in one directory cannot.
        subprocess.run(["make", "-C", WORKLOADS], check=True, capture_output=True, timeout=100)
        return (WORKLOADS / "build" / name).read_bytes()


def script(text: str) -> bytes:
    """An executable that runs shell commands."""
    return f"#!/bin/sh\n{text}\n".encode()


def wait_until(condition: Callable[[], Any], what: str, within: float = PATIENCE) -> None:
    """Wait until it is true; fail when it takes too long."""
    deadline = time.monotonic() + within
    while not condition():
        assert time.monotonic() < deadline, f"not in time: {what}"
        time.sleep(0.01)


class RunningAgent:
    """An agent process, its log, and the processes it has."""

    def __init__(self, process: subprocess.Popen[str], log: Path, address: str, port: int) -> None:
        self.process = process
        self.address = address
        self.port = port
        self._log = log

    @property
    def log(self) -> str:
        """What the agent has logged so far."""
        return self._log.read_text()

    def descendants(self) -> list[psutil.Process]:
        """All processes below the agent's launcher."""
        launchers = psutil.Process(self.process.pid).children()
        return [job for launcher in launchers for job in launcher.children(recursive=True)]

    def stop(self, signum: int = signal.SIGTERM) -> int:
        """End the agent. Its exit code."""
        self.process.send_signal(signum)
        return self.process.wait(PATIENCE)


@contextmanager
def agent(
    directory: Path,
    *options: str,
    address: str = "",
    temporary: Path | None = None,
    own_group: bool = False,
) -> Iterator[RunningAgent]:
    """An agent that listens; whatever happens, it ends with the block.

    The directories of its clients lie in `temporary`, if that is given.
    """
    address = address or fresh_address()
    path = directory / f"agent-{address}-{time.monotonic_ns()}.log"
    command = [sys.executable, "-m", "taskgen_run.taskloader", "--bind", address, "--port", "0"]
    environment = {**os.environ, **({"TMPDIR": str(temporary)} if temporary else {})}
    with path.open("w") as log:
        process = subprocess.Popen(
            [*command, *options],
            stdout=log,
            stderr=log,
            text=True,
            cwd=ROOT,
            env=environment,
            process_group=0 if own_group else None,
        )
    try:
        port: list[str] = []

        def listens() -> bool:
            assert process.poll() is None, path.read_text()
            port[:] = re.findall(r"listening on .*, port (\d+)", path.read_text())
            return bool(port)

        wait_until(listens, "the agent listens")
        yield RunningAgent(process, path, address, int(port[0]))
    finally:
        if process.poll() is None:
            process.terminate()
            process.send_signal(signal.SIGCONT)  # a test may have stopped it
        try:
            process.wait(PATIENCE)
        finally:
            process.kill()
    assert "Traceback" not in path.read_text(), path.read_text()


def is_refused(target: RunningAgent, source: str = "") -> bool:
    """Whether the agent does not take another client, from that address."""
    try:
        with Client(target, source) as client:
            return client.is_closed()
    except ConnectionResetError:
        return True


class Client:
    """A client that waits for what it wants to see."""

    def __init__(self, target: RunningAgent, source: str = "") -> None:
        origin = (source, 0) if source else None
        self.socket = socket.create_connection(
            (target.address, target.port), PATIENCE, source_address=origin
        )
        self.events: list[Event] = []
        self.lives: list[Live] = []
        self._go_sends = 0
        self._decoder = ClientDecoder()

    def __enter__(self) -> Client:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.socket.close()

    def send(self, *messages: Any) -> None:
        """Send commands."""
        for message in messages:
            self.socket.sendall(encode(message))

    def receive(self, timeout: float = PATIENCE) -> list[Report]:
        """What has come, after waiting for it. Raises TimeoutError, and EOFError at the end."""
        self.socket.settimeout(timeout)
        received = self.socket.recv(65536)
        if not received:
            raise EOFError
        reports = list(self._decoder.feed(received))
        for report in reports:
            match report:
                case GoSend():
                    self._go_sends += 1
                case Profile(events):
                    self.events += events
                case Live():
                    self.lives.append(report)
        return reports

    def wait_for(self, condition: Callable[[], Any]) -> None:
        """Receive until it is true."""
        deadline = time.monotonic() + PATIENCE
        while not condition():
            assert time.monotonic() < deadline, self.events[-20:]
            self.receive()

    def is_closed(self) -> bool:
        """Whether the agent ends the connection, in time."""
        try:
            while self.socket.recv(65536):
                pass
        except ConnectionResetError:
            return True
        except TimeoutError:
            return False
        return True

    def upload(self, **binaries: bytes) -> None:
        """Send executables by name."""
        self._decoder.expect_go_sends(len(binaries))
        self.send(SendBinaries(len(binaries)))
        for name, data in binaries.items():
            self.wait_for(lambda: self._go_sends)
            self._go_sends -= 1
            self.send(Binary(name, data))

    def load(self, *tasks: dict[str, Any]) -> None:
        """Send task descriptions; ids are positions where they are not given."""
        numbered = [Task({"id": position, **task}) for position, task in enumerate(tasks)]
        self.send(SendDescs(next(TaskSet(numbered, "test").variants()).to_xml()))

    def start(self, *tasks: dict[str, Any], **binaries: bytes) -> None:
        """Load, upload, START."""
        self.load(*tasks)
        if binaries:
            self.upload(**binaries)
        self.send(Start())

    def live(self) -> Live:
        """The answer to GET_LIVE."""
        count = len(self.lives)
        self.send(GetLive())
        self.wait_for(lambda: len(self.lives) > count)
        return self.lives[-1]

    def kinds(self, task: int = 0) -> list[EventType]:
        """The types of the events of a task."""
        return [event.type for event in self.events if event.task_id == task]

    def times_ns(self, kind: EventType, task: int = 0) -> list[int]:
        """When the events of this type happened."""
        return [e.time_ns for e in self.events if e.task_id == task and e.type is kind]

    def wait_for_event(self, kind: EventType, task: int = 0, count: int = 1) -> None:
        """Receive until so many events have come."""
        self.wait_for(lambda: self.kinds(task).count(kind) >= count)
