"""The client's end of a connection to a target: messages out and in, every wait bounded."""

from __future__ import annotations

import select
import socket
import time
from collections import deque

from taskgen_run.taskloader.protocol import (
    ClientDecoder,
    Command,
    Limits,
    ProtocolError,
    Report,
    SendBinaries,
    encode,
)

PIECE = 2**18
"""How many bytes are received or sent at a time."""

KEPT = 64
"""How many messages are kept that come while something is being sent."""


class Connection:
    """A TCP connection to the target on `host`, whose name in errors is `peer`.

    Deadlines are instants of `time.monotonic()`. A peer that closes the connection raises
    ConnectionError at once, one that lets a deadline pass TimeoutError, both with a message for
    people; one that breaks the protocol ProtocolError.
    """

    def __init__(self, host: str, port: int, timeout: float, limits: Limits | None = None) -> None:
        """Connect within `timeout` seconds. Raises OSError."""
        self.peer = f"target {host}, port {port}"
        self._decoder = ClientDecoder(limits)
        self._received: deque[Report] = deque()
        self._failure: ProtocolError | None = None
        self._whole = True  # whether no command was sent in part only
        try:
            self._socket = socket.create_connection((host, port), timeout)
        except TimeoutError as error:
            raise TimeoutError(f"{self.peer}: no connection within {timeout} s") from error
        except OSError as error:
            reason = error.strerror or error
            raise ConnectionError(f"{self.peer}: no connection: {reason}") from error
        self._socket.setblocking(False)
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def send(self, message: Command, deadline: float) -> None:
        """Send `message`, receiving meanwhile, so that two full buffers cannot block each other.

        Raises OSError, ProtocolError, and ConfigurationError for what cannot be encoded.
        """
        if not self._whole:
            raise ConnectionError(f"{self.peer}: the connection broke off in a command")
        rest = memoryview(encode(message))
        if isinstance(message, SendBinaries):
            self._decoder.expect_go_sends(message.count)
        self._whole = False
        while rest:
            self._raise_failure()
            readable, writable = self._wait(deadline, writing=True)
            if not (readable or writable):
                name = type(message).__name__
                raise TimeoutError(f"{self.peer}: it does not take what is sent to it ({name})")
            if readable:
                self._receive()
            if writable:
                rest = rest[self._send(rest[:PIECE]) :]
        self._whole = True

    def receive(self, deadline: float) -> Report | None:
        """The next message; None when none is complete at the `deadline`.

        What has arrived before the call is looked at, however late that is. Raises
        ConnectionError, ProtocolError.
        """
        while not self._received:
            self._raise_failure()
            readable, _ = self._wait(deadline)
            if not readable:
                return None
            self._receive()
        return self._received.popleft()

    def received(self) -> Report | None:
        """The next message if it has been received already; looks for no others."""
        return self._received.popleft() if self._received else None

    def _raise_failure(self) -> None:
        if self._failure is not None:
            raise ProtocolError(f"{self.peer}: {self._failure}") from self._failure

    def close(self, linger: float = 0.0) -> None:
        """Close the connection, waiting up to `linger` seconds until the target has done so.

        Closing while something is unread would take back what was sent last.
        """
        try:
            deadline = time.monotonic() + linger
            if linger and self._whole:
                self._socket.shutdown(socket.SHUT_WR)
                while self._wait(deadline)[0] and self._socket.recv(PIECE):
                    if time.monotonic() > deadline:
                        break
        except OSError:
            return  # the target was faster
        finally:
            self._socket.close()

    def _wait(self, deadline: float, *, writing: bool = False) -> tuple[bool, bool]:
        """Whether the socket can be read, and written, before the `deadline`."""
        poll = select.poll()
        full = writing and len(self._received) >= KEPT
        poll.register(self._socket, (0 if full else select.POLLIN) | writing * select.POLLOUT)
        seconds = max(0.0, deadline - time.monotonic())
        events = poll.poll(seconds * 1000)
        flags = events[0][1] if events else 0
        broken = flags & (select.POLLERR | select.POLLHUP)
        return bool(flags & select.POLLIN or broken), bool(flags & select.POLLOUT)

    def _receive(self) -> None:
        try:
            data = self._socket.recv(PIECE)
        except BlockingIOError:
            return
        except OSError as error:
            raise self._lost(error) from error
        if not data:
            raise ConnectionError(f"{self.peer}: it closed the connection")
        try:
            self._received.extend(self._decoder.feed(data))
        except ProtocolError as error:
            self._failure = error  # raised after the messages before it

    def _send(self, data: memoryview) -> int:
        try:
            return self._socket.send(data)
        except BlockingIOError:
            return 0
        except OSError as error:
            raise self._lost(error) from error

    def _lost(self, error: OSError) -> ConnectionError:
        return ConnectionError(f"{self.peer}: the connection is lost: {error.strerror or error}")
