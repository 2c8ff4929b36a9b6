"""The agent: one loop that accepts clients, one at a time, and runs what they ask for."""

from __future__ import annotations

import contextlib
import ipaddress
import logging
import os
import pwd
import resource
import selectors
import shutil
import signal
import socket
import struct
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from taskgen_run.errors import ConfigurationError, InfrastructureError, TargetError, one_line
from taskgen_run.taskloader import linux
from taskgen_run.taskloader.connection import Connection
from taskgen_run.taskloader.jobs import Launcher
from taskgen_run.taskloader.messages import Limits
from taskgen_run.taskloader.orders import Enter
from taskgen_run.taskloader.policies import AGENT_LEVEL

log = logging.getLogger("taskloader")

Network = ipaddress.IPv4Network | ipaddress.IPv6Network

_LOSS = {
    socket.TCP_KEEPIDLE: 10,  # seconds of silence
    socket.TCP_KEEPINTVL: 5,
    socket.TCP_KEEPCNT: 3,
    socket.TCP_USER_TIMEOUT: 30_000,  # ms without an answer to what was sent
}
_RESET = struct.pack("ii", 1, 0)


@dataclass(frozen=True, slots=True)
class Options:
    """What an agent is told at its start.

    bind: the address to listen on; port: 0 takes a free one. clients: whose connections are taken.
    user: name or number of the user of the jobs, if the agent is root. processes: how many they
    may have together. stored_bytes: how large all binaries of a client may be together.
    """

    bind: str
    port: int
    clients: Sequence[Network]
    user: str
    processes: int
    stored_bytes: int
    limits: Limits


class Agent:
    """A server on one address. `serve` runs until SIGTERM or SIGINT."""

    def __init__(self, options: Options) -> None:
        """Raises ConfigurationError for an unknown user or an address that cannot be had."""
        self._options = options
        self._user = _job_user(options.user)
        self._memory_bytes = _available_memory()
        self._selector = selectors.DefaultSelector()
        self._timer = linux.Timer()
        self._signals, self._wakes = socket.socketpair()
        self._connection: Connection | None = None
        self._stopped_by = 0
        self._directory = Path()
        self._launcher: Launcher
        self._listener = _listen(options.bind, options.port)

    @property
    def address(self) -> tuple[str, int]:
        """Where the agent listens."""
        host, port = self._listener.getsockname()[:2]
        return host, port

    def serve(self) -> int:
        """Run until a signal ends it, and leave nothing behind. Returns the signal's number.

        Raises InfrastructureError if a process of a job cannot be killed, or the launcher ends.
        """
        linux.adopt_orphans()
        _open_many_files()
        _run_above_jobs()
        self._watch_signals()
        launcher = self._launcher = Launcher()  # now, so that it has the agent's priority
        self._selector.register(launcher, selectors.EVENT_READ)
        self._selector.register(self._listener, selectors.EVENT_READ)
        self._selector.register(self._timer, selectors.EVENT_READ)
        log.info("listening on %s, port %s", *self.address)
        try:
            while not self._stopped_by:
                self._turn()
        finally:
            self._listener.close()
            try:
                self._disconnect("the agent ends")
            finally:
                launcher.close()
            signal.set_wakeup_fd(-1)
        log.info("ended by %s", signal.Signals(self._stopped_by).name)
        return self._stopped_by

    def _turn(self) -> None:
        """Wait for what happens next, and do it. New clients come last: an old one may be gone."""
        busy = self._connection is not None and self._connection.is_busy
        ready = self._selector.select(0 if busy else None)
        keys = {key.fileobj: key for key, _ in ready}
        try:
            if self._signals in keys:
                self._signals.recv(4096)
            if self._launcher in keys:
                self._hear_launcher()
            if self._connection is not None:
                self._connection.loader.advance()
                for key in keys.values():
                    if key.data is not None:
                        key.data()
                if self._connection.is_busy:
                    self._connection.exchange()
                self._connection.flush()
        except (TargetError, OSError) as error:
            self._disconnect(one_line(error))
        if self._listener in keys:
            self._accept()
        self._timer.set(None if self._connection is None else self._connection.loader.next_ns)

    def _watch_signals(self) -> None:
        """Have the loop woken by the signals that matter to it."""
        for end in (self._signals, self._wakes):
            end.setblocking(False)
        self._selector.register(self._signals, selectors.EVENT_READ)
        signal.set_wakeup_fd(self._wakes.fileno(), warn_on_full_buffer=False)
        for signum in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            signal.signal(signum, self._stop_by)

    def _stop_by(self, signum: int, _: object) -> None:
        self._stopped_by = signum

    def _hear_launcher(self) -> None:
        if self._connection is not None:
            self._connection.loader.take_notice()
        else:  # nothing is left that it could tell of, but that it has ended
            list(self._launcher.hear())

    def _accept(self) -> None:
        try:
            client, address = self._listener.accept()
        except OSError as error:  # it has gone, or there are too many open files
            log.warning("a client could not be accepted: %s", error)
            return
        host = address[0]
        if self._connection is not None and self._connection.is_closed_by_client:
            self._disconnect("the client has closed the connection")
        if not self._is_welcome(host):
            _refuse(client, f"client {host} is refused: it is in none of the allowed networks")
        elif self._connection is not None:
            _refuse(client, f"client {host} is refused: another one is connected")
        else:
            self._connect(client, host)

    def _is_welcome(self, host: str) -> bool:
        address = ipaddress.ip_address(host)
        if isinstance(address, ipaddress.IPv6Address) and address.ipv4_mapped:
            address = address.ipv4_mapped
        return any(address in network for network in self._options.clients)

    def _connect(self, client: socket.socket, host: str) -> None:
        log.info("client %s is connected", host)
        _notice_loss(client)
        self._directory = Path(tempfile.gettempdir(), f"taskloader-{os.urandom(8).hex()}")
        user = os.geteuid() if self._user is None else self._user[0]
        processes = _count_threads(user) + self._options.processes
        # First, as it removes the directory if the agent cannot.
        self._launcher.enter(Enter(str(self._directory), self._user, processes))
        self._directory.mkdir(mode=0o700)
        if self._user is not None:
            os.chown(self._directory, *self._user)
        self._connection = Connection(
            client,
            self._selector,
            self._launcher,
            self._options.limits,
            most_stored_bytes=self._options.stored_bytes,
            memory_bytes=self._memory_bytes,
        )

    def _disconnect(self, reason: str) -> None:
        """End the connection, if there is one, with all that it has started."""
        if self._connection is None:
            return
        log.info("the client's connection ends: %s", reason)
        connection, self._connection = self._connection, None
        try:
            connection.close()
        finally:
            try:
                shutil.rmtree(self._directory)
            except (OSError, RecursionError) as error:
                log.warning("directory %s could not be removed: %s", self._directory, error)


def _job_user(name: str) -> tuple[int, int] | None:
    """User and group id for jobs; None to keep those of the agent, which is not root."""
    if os.geteuid() != 0:
        return None
    if name.isdecimal():  # minimal machines have no list of users
        user = group = int(name)
    else:
        try:
            entry = pwd.getpwnam(name)
        except KeyError as error:
            raise ConfigurationError(
                f"user of the jobs must exist, got {name!r}; choose one with --user, or a number"
            ) from error
        user, group = entry.pw_uid, entry.pw_gid
    if not 0 < user < 2**31 or not group:
        raise ConfigurationError(
            f"user of the jobs must not be root or in its group, got {name!r}; choose another "
            "one with --user"
        )
    return user, group


def _listen(host: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((host, port))
        listener.listen()
    except OSError as error:
        listener.close()
        raise InfrastructureError(
            f"{host} port {port} must be free to listen on: {error.strerror}; "
            "choose others with --bind and --port"
        ) from error
    listener.setblocking(False)
    return listener


def _open_many_files() -> None:
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def _run_above_jobs() -> None:
    """Take the highest fixed priority, which also the jobs have until they become their programs.

    So a job of high priority is started while one of low priority keeps the processor busy.
    """
    try:
        os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(AGENT_LEVEL))
    except OSError as error:
        log.warning(
            "the machine does not allow SCHED_FIFO (%s): all jobs run as SCHED_OTHER, and may "
            "delay the agent; start it as root or with CAP_SYS_NICE",
            error.strerror,
        )


def _available_memory() -> int:
    """Memory in bytes that programs may take without swapping."""
    for line in Path("/proc/meminfo").read_text(encoding="ascii").splitlines():
        if line.startswith("MemAvailable:"):
            return int(line.split()[1]) * 1024
    raise InfrastructureError("/proc/meminfo must tell MemAvailable; use Linux 3.14 or later")


def _count_threads(user: int) -> int:
    """How many threads the user has: what the kernel compares with a limit on processes."""
    count = 0
    for process in Path("/proc").glob("[0-9]*/status"):
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):
            lines = process.read_text(errors="replace").splitlines()
            status = dict(line.split(":", 1) for line in lines if ":" in line)
            if int(status["Uid"].split()[0]) == user:
                count += int(status.get("Threads", "1"))
    return count


def _refuse(client: socket.socket, reason: str) -> None:
    log.warning("%s", reason)
    # A reset, not an orderly end: the client notices at once, whatever it has sent.
    client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
    client.close()


def _notice_loss(client: socket.socket) -> None:
    """Have the kernel break the connection to a machine that is gone."""
    client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    client.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for option, value in _LOSS.items():
        client.setsockopt(socket.IPPROTO_TCP, option, value)
