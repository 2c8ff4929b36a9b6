"""The connection of a client: its commands in, events out, without ever waiting for it."""

from __future__ import annotations

import itertools
import logging
import select
import selectors
import socket
from collections.abc import Iterator

from taskgen_run.errors import TargetError
from taskgen_run.taskloader.binaries import Binaries
from taskgen_run.taskloader.jobs import Launcher
from taskgen_run.taskloader.loader import Loader
from taskgen_run.taskloader.protocol import (
    Binary,
    Clear,
    Command,
    Event,
    GetLive,
    GetProfile,
    GoSend,
    Limits,
    Live,
    Optimize,
    Profile,
    Report,
    SendBinaries,
    SendDescs,
    Start,
    Stop,
    TargetDecoder,
    encode,
)

log = logging.getLogger("taskloader")

MOST_UNSENT_BYTES = 2**22
"""What may wait for a client that does not read. When it is more, the client counts as lost."""

_RECEIVED_BYTES = 2**16
_COMMANDS_PER_TURN = 64
_EVENTS_PER_PUSH = 1024


class ClientLostError(TargetError):
    """Raised when a client has closed its connection, broken it, or stopped to read."""


class Connection:
    """One client and its tasks.

    What its socket and its jobs are registered with `selector` for are functions to be called, as
    `Loader` describes it. They, `exchange` and `flush` raise ClientLostError and ProtocolError;
    after that the connection is of no use.
    """

    def __init__(
        self,
        client: socket.socket,
        selector: selectors.BaseSelector,
        launcher: Launcher,
        limits: Limits,
        *,
        most_stored_bytes: int,
        memory_bytes: int,
    ) -> None:
        self._socket = client
        self._selector = selector
        self._decoder = TargetDecoder(limits)
        self._commands: Iterator[Command] = iter(())
        self._commands_wait = False
        self._events: list[Event] = []
        self._unsent = bytearray()
        self._waits_for = selectors.EVENT_READ
        self._binaries = Binaries(limits.binaries, most_stored_bytes)
        self.loader = Loader(
            launcher,
            self._binaries,
            selector,
            self._events.append,
            most_tasks=limits.tasks,
            memory_bytes=memory_bytes,
        )
        client.setblocking(False)
        selector.register(client, self._waits_for, self.exchange)

    @property
    def is_busy(self) -> bool:
        """Whether `exchange` is to be called again without waiting."""
        return self._commands_wait

    @property
    def is_closed_by_client(self) -> bool:
        """Whether no further command comes, though some may wait to be received."""
        poll = select.poll()
        poll.register(self._socket, select.POLLRDHUP)
        return bool(poll.poll(0))

    def exchange(self) -> None:
        """Receive and do what there is, up to a bounded number of commands, and send."""
        if not self._commands_wait:
            self._receive()
        done = 0
        for command in itertools.islice(self._commands, _COMMANDS_PER_TURN):
            self._do(command)
            done += 1
        self._commands_wait = done == _COMMANDS_PER_TURN
        self.flush()

    def flush(self) -> None:
        """Send the events that have come up, as far as the client takes them now."""
        for first in range(0, len(self._events), _EVENTS_PER_PUSH):
            self._send(Profile(tuple(self._events[first : first + _EVENTS_PER_PUSH])))
        self._events.clear()
        if self._unsent:
            try:
                del self._unsent[: self._socket.send(self._unsent)]
            except BlockingIOError:
                pass
            except OSError as error:
                raise ClientLostError(f"the connection is broken: {error}") from error
        waits_for = selectors.EVENT_READ | (selectors.EVENT_WRITE if self._unsent else 0)
        if waits_for != self._waits_for:
            self._waits_for = waits_for
            self._selector.modify(self._socket, waits_for, self.exchange)

    def close(self) -> None:
        """End all jobs, forget everything, and close the connection.

        Raises InfrastructureError if a process cannot be killed.
        """
        try:
            self.loader.clear()
        finally:
            self._binaries.clear()
            self._selector.unregister(self._socket)
            self._socket.close()

    def _receive(self) -> None:
        try:
            received = self._socket.recv(_RECEIVED_BYTES)
        except BlockingIOError:
            return
        except OSError as error:
            raise ClientLostError(f"the connection is broken: {error}") from error
        if not received:
            raise ClientLostError("the client has closed the connection")
        self._commands = self._decoder.feed(received)

    def _do(self, command: Command) -> None:
        match command:
            case SendDescs(tasks=tasks):
                self.loader.add(tasks)
            case SendBinaries(count):
                if count:
                    self._send(GoSend())
            case Binary(name, data, remaining):
                self._binaries.add(name, data)
                if remaining:
                    self._send(GoSend())
            case Optimize():
                self.loader.optimize(command.applied)
            case Start():
                self.loader.start()
            case Stop():
                self.loader.stop()
            case Clear():
                self.loader.clear()
            case GetLive():
                self._send(Live(tuple(self.loader.live())))
            case GetProfile():
                pass  # as newer targets do it

    def _send(self, message: Report) -> None:
        self._unsent += encode(message)
        if len(self._unsent) > MOST_UNSENT_BYTES:
            raise ClientLostError(
                f"the client does not read: {len(self._unsent)} bytes wait for it"
            )
