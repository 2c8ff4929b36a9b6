"""Which of many hosts answer: to a ping, or to a connection.

Both functions take hosts only as fast as they can be asked, know a bounded number of them at a
time, and need no thread or task for any of them. A host that is merely down is left out, whatever
the network says of it.

Pings are sent by code of our own because icmplib, with a task per host, takes a minute for the
hosts of a /16 that take this module a second: `benchmarks/discovery.py`.
"""

from __future__ import annotations

import errno
import os
import select
import selectors
import socket
import struct
import time
from collections.abc import Collection, Generator, Iterable
from dataclasses import dataclass
from itertools import takewhile
from typing import TypeVar

from taskgen_run.errors import ConfigurationError, InfrastructureError, one_line

PINGS = 4096
"""How many pings wait for their answers at most."""

BURST = 64
"""How many pings are sent before answers are looked for."""

CONNECTIONS = 256
"""How many connections are tried at the same time; each is an open file."""

RETRY_SECONDS = 0.01
"""How long to wait when the system has no room for another ping or connection."""

_NO_ROOM = (errno.EAGAIN, errno.ENOBUFS, errno.ENOMEM, errno.EMFILE, errno.ENFILE)
_BUFFER_BYTES = 2**22


@dataclass(frozen=True, slots=True)
class _Version:
    """What ICMP is in one version of IP. The filter lets raw sockets see the replies alone."""

    family: socket.AddressFamily
    protocol: int
    request: int
    filter_level: int
    filter_blocked: bytes  # the bits of the types that are kept away


_IPV4 = _Version(socket.AF_INET, socket.IPPROTO_ICMP, 8, 255, struct.pack("=I", 0xFFFFFFFE))
_IPV6 = _Version(
    socket.AF_INET6,
    socket.IPPROTO_ICMPV6,
    128,
    socket.IPPROTO_ICMPV6,
    struct.pack("=8I", *[0xFFFFFFFF] * 4, 0xFFFFFFFD, *[0xFFFFFFFF] * 3),
)
_WAITING = TypeVar("_WAITING")
_FILTER = 1  # ICMP_FILTER and ICMPV6_FILTER of Linux, which Python does not name


def pingable(hosts: Iterable[str], timeout: float) -> Generator[str, None, None]:
    """Yield those of `hosts` that answer one ping within `timeout` s, in the order they do.

    Raises ConfigurationError if this user may not ping, and for a host that is no address.
    """
    pings = _Pinging(hosts, timeout)
    try:
        while pings.goes_on():
            pings.send_burst()
            yield from pings.answers()
    finally:
        pings.close()


def check_ping() -> None:
    """Raise ConfigurationError if this user may not ping."""
    pings = _PingSocket.open(_IPV4)
    if pings is not None:
        pings.socket.close()


class _Pinging:
    """The pings that are under way, and the hosts that are still to come."""

    def __init__(self, hosts: Iterable[str], timeout: float) -> None:
        self._hosts = iter(hosts)
        self._timeout = timeout
        self._pending: dict[str, tuple[str, float]] = {}  # with deadlines, in their order
        self._sockets: dict[bool, _PingSocket | None] = {}  # whether it is that of IPv6
        self._poll = select.poll()
        self._take()

    def goes_on(self) -> bool:
        """Whether there are hosts to ping, or answers to come."""
        return self._host is not None or bool(self._pending)

    def send_burst(self) -> None:
        """Ping the next hosts; if there are none, or there is no room, wait for an answer."""
        room = True
        for _ in range(min(BURST, PINGS - len(self._pending))):
            if self._host is None or not (room := self._ping(self._host)):
                break
            self._take()
        if self._host is None or not room or len(self._pending) >= PINGS:
            now = time.monotonic()
            until = now + self._timeout if room else now + RETRY_SECONDS
            for _, deadline in self._pending.values():
                until = min(until, deadline)
                break
            self._poll.poll(max(0.0, until - now) * 1000)

    def answers(self) -> list[str]:
        """The hosts that have answered; those that are overdue without are forgotten."""
        now = time.monotonic()
        take = self._pending.pop
        answered = [
            pending[0]
            for pings in self._sockets.values()
            if pings is not None
            for address in pings.answers()
            if (pending := take(address, None)) is not None
        ]
        for key in _overdue(self._pending, now):
            del self._pending[key]
        return answered

    def close(self) -> None:
        """Close the sockets."""
        for pings in self._sockets.values():
            if pings is not None:
                pings.socket.close()

    def _take(self) -> None:
        self._host = next(self._hosts, None)
        self._give_up: float | None = None

    def _ping(self, host: str) -> bool:
        """Ping `host`; False if there is no room for it now, and it is not too late either."""
        is_ipv6 = ":" in host
        if is_ipv6 not in self._sockets:
            self._sockets[is_ipv6] = opened = _PingSocket.open(_IPV6 if is_ipv6 else _IPV4)
            if opened is not None:
                self._poll.register(opened.socket, select.POLLIN)
        pings = self._sockets[is_ipv6]
        address = _canonical(host, socket.AF_INET6 if is_ipv6 else socket.AF_INET)
        if pings is None or address in self._pending:
            return True
        now = time.monotonic()
        if self._give_up is None:
            self._give_up = now + self._timeout
        if not pings.send(address):
            return now >= self._give_up
        self._pending[address] = (host, now + self._timeout)
        return True


class _PingSocket:
    """One socket that pings hosts of one version of IP, and takes their answers.

    All pings are the same bytes; an answer is known by them and by where it comes from.
    """

    def __init__(self, version: _Version, sock: socket.socket) -> None:
        self.socket = sock
        self._token = os.urandom(16)
        header = struct.Struct("!BBHHH")
        identifier = int.from_bytes(os.urandom(2), "big")
        parts = (version.request, 0, 0, identifier, 0)
        check = _checksum(header.pack(*parts) + self._token)  # in IPv6 the system does it
        self._packet = header.pack(version.request, 0, check, identifier, 0) + self._token

    @classmethod
    def open(cls, version: _Version) -> _PingSocket | None:
        """A socket of a kind that this user may have; None if the machine has no such IP.

        Raises ConfigurationError if none is allowed.
        """
        for kind in (socket.SOCK_DGRAM, socket.SOCK_RAW):
            try:
                sock = socket.socket(version.family, kind, version.protocol)
            except PermissionError:
                continue
            except OSError as error:
                if error.errno == errno.EAFNOSUPPORT:
                    return None
                raise InfrastructureError(f"cannot ping: {one_line(error)}") from error
            sock.setblocking(False)
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _BUFFER_BYTES)
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _BUFFER_BYTES)
            if kind == socket.SOCK_RAW:
                sock.setsockopt(version.filter_level, _FILTER, version.filter_blocked)
            return cls(version, sock)
        group = os.getegid()
        raise ConfigurationError(
            "this user must be allowed to ping hosts, and is not; as root, allow the group with "
            f"`sysctl net.ipv4.ping_group_range='{group} {group}'`, or choose session=genode, "
            "which pings nobody"
        )

    def send(self, address: str) -> bool:
        """Ping `address`; False if the system has no room for it now."""
        try:
            self.socket.sendto(self._packet, (address, 0))
        except OSError as error:
            return error.errno not in _NO_ROOM  # any other is the network's word on a dead host
        return True

    def answers(self) -> list[str]:
        """Where answers have come from; at most `PINGS` at a time."""
        receive, token = self.socket.recvfrom, self._token
        sources = []
        for _ in range(PINGS):
            try:
                data, source = receive(256)
            except BlockingIOError:
                break
            except OSError:
                continue  # the network's word on some host, which is then not counted as alive
            if data.endswith(token):
                sources.append(source[0])
        return sources


def connectable(
    hosts: Iterable[str], port: int, timeout: float, untried: Collection[str] = ()
) -> Generator[str, None, None]:
    """Yield those of `hosts` that take a TCP connection on `port` within `timeout` s.

    In the order in which they do; the connections are closed at once. Those `untried` are yielded
    without one. Raises ConfigurationError for a host that is no address, InfrastructureError if
    not one connection can be tried.
    """
    pending: dict[socket.socket, tuple[str, float]] = {}  # with deadlines, in their order
    stream = iter(hosts)
    host = next(stream, None)
    with selectors.DefaultSelector() as selector:
        try:
            while host is not None or pending:
                while host is not None and len(pending) < CONNECTIONS:
                    if host in untried:
                        yield host
                        host = next(stream, None)
                        continue
                    try:
                        trial = _connecting(host, port)
                    except BlockingIOError as error:
                        if pending:
                            break  # until one of them is closed
                        raise InfrastructureError(
                            f"cannot try a connection: {one_line(error)}"
                        ) from error
                    if trial is not None:
                        pending[trial] = (host, time.monotonic() + timeout)
                        selector.register(trial, selectors.EVENT_WRITE, trial)
                    host = next(stream, None)
                now = time.monotonic()
                _, first = next(iter(pending.values()), ("", now))
                ready = [key.data for key, _ in selector.select(max(0.0, first - now))]
                for trial in dict.fromkeys([*ready, *_overdue(pending, now)]):
                    tried, _ = pending.pop(trial)
                    selector.unregister(trial)
                    fails = trial.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
                    trial.close()
                    if not fails and trial in ready:
                        yield tried
        finally:
            for trial in pending:
                trial.close()


def _connecting(host: str, port: int) -> socket.socket | None:
    """A socket that is about to connect; None if that has failed already.

    Raises BlockingIOError if the system has no room for it now.
    """
    family = (_IPV6 if ":" in host else _IPV4).family
    _canonical(host, family)
    try:
        trial = socket.socket(family, socket.SOCK_STREAM)
    except OSError as error:
        if error.errno in _NO_ROOM:
            raise BlockingIOError(error.errno, error.strerror) from error
        return None  # no IP of this version
    trial.setblocking(False)
    code = trial.connect_ex((host, port))
    if code in (0, errno.EINPROGRESS):
        return trial
    trial.close()
    if code in _NO_ROOM:
        raise BlockingIOError(code, os.strerror(code))
    return None


def _canonical(host: str, family: socket.AddressFamily) -> str:
    """The address as the system writes it. Raises ConfigurationError if it is none."""
    try:
        packed = socket.inet_pton(family, host)
        return host if family == socket.AF_INET else socket.inet_ntop(family, packed)
    except OSError as error:
        raise ConfigurationError(f"a host must be an IP address, got {host!r}") from error


def _overdue(pending: dict[_WAITING, tuple[str, float]], now: float) -> list[_WAITING]:
    """The first of `pending`, which is in the order of its deadlines, that are over."""
    return [key for key, _ in takewhile(lambda item: item[1][1] <= now, pending.items())]


def _checksum(packet: bytes) -> int:
    """The internet checksum of a packet of an even number of bytes (RFC 1071)."""
    total: int = sum(struct.unpack(f"!{len(packet) // 2}H", packet))
    while total > 0xFFFF:
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF
