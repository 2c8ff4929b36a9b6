"""A scripted target on a real socket, to try sessions against targets good and bad.

::

    script = [Expect(Clear), Expect(SendDescs), Upload(), Expect(Start), push(event), Hang()]
    with FakeTarget(script) as target:
        session = GenodeSession(target.host, target.port)

Every connection begins the script anew, one after the other. While a step waits, GET_LIVE is
answered with the tasks that were sent. When the script is over, the connection is closed.
"""

from __future__ import annotations

import socket
import threading
import time
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Self

from taskgen_run.taskloader.protocol import (
    Binary,
    Clear,
    Command,
    Event,
    GetLive,
    GoSend,
    Live,
    LiveTask,
    Profile,
    Report,
    SendBinaries,
    SendDescs,
    TargetDecoder,
    encode,
)

STEP_SECONDS = 20.0
"""How long a step waits for its command at most."""


class Over(Exception):  # noqa: N818  # no error: a script may end anywhere
    """Raised when the client has closed the connection, or the fake target is closed."""


class Peer:
    """The connection of one client, as steps see it."""

    def __init__(
        self, connection: socket.socket, ended: threading.Event, received: list[Command]
    ) -> None:
        self._connection = connection
        self._ended = ended
        self._decoder = TargetDecoder()
        self._commands: deque[Command] = deque()
        self._received = received
        self._tasks: list[Mapping[str, Any]] = []
        self.answers_live = True

    def command(self) -> Command:
        """The next command; GET_LIVE is answered and not returned. Raises Over, TimeoutError."""
        deadline = time.monotonic() + STEP_SECONDS
        while True:
            while not self._commands:
                self.pause(0)
                if time.monotonic() > deadline:
                    raise TimeoutError(f"no command within {STEP_SECONDS} s")
                self._receive()
            command = self._commands.popleft()
            if not (self.answers_live and isinstance(command, GetLive)):
                return command
            self.send(encode(Live(tuple(LiveTask(task["id"], {}) for task in self._tasks))))

    def send(self, data: bytes) -> None:
        """Send bytes, whatever they are. Raises Over."""
        rest = memoryview(data)
        while rest:
            self.pause(0)
            try:
                rest = rest[self._connection.send(rest) :]
            except TimeoutError:
                continue
            except OSError as error:
                raise Over from error

    def pause(self, seconds: float) -> None:
        """Do nothing for a while. Raises Over."""
        if self._ended.wait(seconds):
            raise Over

    def hang_up(self, *, reset: bool) -> None:
        """Close the connection; with `reset`, as a crashed machine would once it is up again."""
        if reset:
            now = b"\1\0\0\0\0\0\0\0"  # struct linger: on, 0 s
            self._connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, now)
        self._connection.close()
        raise Over

    def _receive(self) -> None:
        try:
            data = self._connection.recv(2**18)
        except TimeoutError:
            return
        except OSError as error:
            raise Over from error
        if not data:
            raise Over
        for command in self._decoder.feed(data):
            if isinstance(command, SendDescs):
                self._tasks += command.tasks
            elif isinstance(command, Clear):
                self._tasks.clear()
            self._commands.append(command)
            self._received.append(command)


class Step(ABC):
    """One thing that a fake target does."""

    @abstractmethod
    def __call__(self, peer: Peer) -> None:
        """Do it."""


@dataclass(frozen=True)
class Expect(Step):
    """Wait for a command, which must be of this kind."""

    kind: type[Command]

    def __call__(self, peer: Peer) -> None:
        command = peer.command()
        if not isinstance(command, self.kind):
            raise AssertionError(f"{self.kind.__name__} must come next, got {command!r}")


@dataclass(frozen=True)
class Upload(Step):
    """Take an upload, which must come, asking for each binary."""

    def __call__(self, peer: Peer) -> None:
        command = peer.command()
        if not isinstance(command, SendBinaries):
            raise AssertionError(f"an upload must come next, got {command!r}")
        for _ in range(command.count):
            peer.send(encode(GoSend()))
            Expect(Binary)(peer)


@dataclass(frozen=True)
class Send(Step):
    """Send messages, or bytes as they are: all at once, or in pieces with pauses (s) between."""

    what: bytes | Report
    piece: int | None = None
    pause: float = 0.0

    def __call__(self, peer: Peer) -> None:
        data = self.what if isinstance(self.what, bytes) else encode(self.what)
        size = self.piece or len(data)
        for start in range(0, len(data), size):
            peer.send(data[start : start + size])
            peer.pause(self.pause)


def push(*events: Event) -> Send:
    """The step that sends one profile with `events`."""
    return Send(Profile(events))


@dataclass(frozen=True)
class Pause(Step):
    """Do nothing for a while, not even read."""

    seconds: float

    def __call__(self, peer: Peer) -> None:
        peer.pause(self.seconds)


@dataclass(frozen=True)
class Hang(Step):
    """Do nothing for ever, and keep the connection: a machine that is frozen."""

    def __call__(self, peer: Peer) -> None:
        peer.pause(threading.TIMEOUT_MAX)


@dataclass(frozen=True)
class Close(Step):
    """Close the connection; with `reset`, roughly."""

    reset: bool = False

    def __call__(self, peer: Peer) -> None:
        peer.hang_up(reset=self.reset)


@dataclass(frozen=True)
class KnowNoLive(Step):
    """From here on GET_LIVE is a command like others, and not answered."""

    def __call__(self, peer: Peer) -> None:
        peer.answers_live = False


@dataclass(frozen=True)
class Serve(Step):
    """From here on, take every command, and send what `answer` has to say to each."""

    answer: Callable[[Command], Iterable[Report]]

    def __call__(self, peer: Peer) -> None:
        while True:
            command = peer.command()
            uploading = isinstance(command, SendBinaries) and command.count
            if uploading or (isinstance(command, Binary) and command.remaining):
                peer.send(encode(GoSend()))
            for report in self.answer(command):
                peer.send(encode(report))


@dataclass
class FakeTarget:
    """A target that follows `script`. Enter it to start it; leaving it ends its thread.

    Leaving raises what went wrong with the script: an AssertionError for a command that it did
    not expect.
    """

    script: Sequence[Step]
    host: str = "127.0.0.1"
    port: int = 0
    """0: a free port, to be read once it is entered."""
    received: list[Command] = field(default_factory=list)
    """All commands of all clients."""
    connections: int = 0
    """How many clients have connected."""

    def __enter__(self) -> Self:
        family = socket.AF_INET6 if ":" in self.host else socket.AF_INET
        self._listener = socket.create_server((self.host, self.port), family=family)
        self._listener.settimeout(0.02)
        self.port = self._listener.getsockname()[1]
        self._ended = threading.Event()
        self._failure: BaseException | None = None
        self._thread = threading.Thread(target=self._serve, name=f"fake target {self.host}")
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        self._ended.set()
        self._thread.join()
        self._listener.close()
        if self._failure is not None and kind is None:
            raise self._failure

    def count(self, kind: type[Command]) -> int:
        """How many commands of a kind have come so far."""
        return sum(isinstance(command, kind) for command in self.received)

    def _serve(self) -> None:
        while not self._ended.is_set():
            try:
                connection, _ = self._listener.accept()
            except TimeoutError:
                continue
            self.connections += 1
            with connection:
                connection.settimeout(0.02)
                peer = Peer(connection, self._ended, self.received)
                try:
                    for step in self.script:
                        step(peer)
                except Over:
                    continue
                except BaseException as error:  # raised where the target is left
                    self._failure = self._failure or error
