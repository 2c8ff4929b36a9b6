"""Task sets on real targets: a Genode `dom0`, or the Linux taskloader agent.

=================  ===============================================================================
release_ns         where an event tells it: on Linux always; on Genode of a job not scheduled, of
                   one killed because its next period came, and of the one after that; else null,
                   and with it `deadline_ns` and `missed`
start_ns, end_ns   of the events, on the target's clock
outcome            `finished` (EXIT), `killed` (EXIT_CRITICAL, EXIT_PERIOD), `stopped`
                   (EXIT_EXTERNAL), `error` (EXIT_ERROR), `out_of_quota`, `not_scheduled`
                   (neither of these two with start or end), `unfinished` (no event told its end)
preemptions,       null: they are not observed
migrations
=================  ===============================================================================

The horizon is the instant at which the target first stopped a job; where it has stopped none,
that of its last event.
"""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from taskgen_run import probing, requests
from taskgen_run.errors import (
    ConfigurationError,
    InfrastructureError,
    SilentError,
    TargetError,
    one_line,
)
from taskgen_run.sessions._genode_session import GenodeSession
from taskgen_run.taskset import TaskSet
from taskgen_run.threads import let_go

__all__ = ["GenodeSession", "PingSession", "QemuSession"]

log = logging.getLogger(__name__)

BOOT_TIMEOUT = 60.0
"""For how many seconds a machine may boot, if nothing else is said."""

FIRST_PATIENCE = 1.0
"""How many seconds a booting machine is waited for when it is asked first; doubled each time."""

TELL_AFTER = 2.0
"""Seconds after which it is told that a machine is waited for."""

ASK_AGAIN = 0.2
"""Seconds until a booting machine that has closed the connection is asked again."""


class PingSession(GenodeSession):
    """GenodeSession on hosts that answer to a ping. It has the same options."""

    @staticmethod
    def is_available(host: str, port: int, timeout: float) -> bool:
        """Tell within `timeout` seconds whether `host` answers to one ping.

        Raises ConfigurationError if this user may not ping.
        """
        return any(probing.pingable([host], timeout))

    @classmethod
    def available(cls, hosts: Iterable[str], port: int, timeout: float) -> Iterator[str]:
        """Yield those of `hosts` that answer to one ping, in the order they do.

        Raises ConfigurationError if this user may not ping.
        """
        return probing.pingable(hosts, timeout)

    @classmethod
    def check(cls, taskset: TaskSet, **options: Any) -> None:
        """Check as GenodeSession does, and that this user may ping. Raises ConfigurationError."""
        super().check(taskset, **options)
        probing.check_ping()


class QemuSession(GenodeSession):
    """GenodeSession on QEMU instances that `scripts/qemu-up.sh` boots, and boots again.

    It has the same options, and `boot_timeout` in seconds: for how long after its boot a machine
    may be silent before it counts as frozen. Where no script tells when it was booted, that is from
    the first connection on. When anything takes longer than its time-out, the session asks, once,
    for the instance to be killed, and raises a SilentError; the next session waits for the next
    instance.
    """

    def __init__(
        self, host: str, port: int, *, boot_timeout: float = BOOT_TIMEOUT, **options: Any
    ) -> None:
        _check_boot_timeout(boot_timeout)
        self._host, self._port = host, port
        self._boot_timeout = boot_timeout
        self._since = requests.now()
        super().__init__(host, port, **options)
        self._since = requests.now()

    @staticmethod
    def is_available(host: str, port: int, timeout: float) -> bool:
        """Tell within `timeout` seconds whether `host` takes connections, or boots or is frozen.

        The latter of those that a script serves.
        """
        return any(QemuSession.available([host], port, timeout))

    @classmethod
    def available(cls, hosts: Iterable[str], port: int, timeout: float) -> Iterator[str]:
        """Yield those of `hosts` that take connections, in the order they do, or that are served.

        A host that a script serves is there, though it boots or is frozen.
        """
        return probing.connectable(hosts, port, timeout, requests.served_hosts(port))

    @classmethod
    def check(cls, taskset: TaskSet, **options: Any) -> None:
        """Check as GenodeSession does, and that requests can be made.

        Raises ConfigurationError, InfrastructureError.
        """
        _check_boot_timeout(options.pop("boot_timeout", BOOT_TIMEOUT))
        super().check(taskset, **options)
        requests.requests_directory()

    @classmethod
    def files(cls, taskset: TaskSet, **options: Any) -> Iterable[Path]:
        """The binaries that the tasks name."""
        options.pop("boot_timeout", None)
        return super().files(taskset, **options)

    def _open(self, host: str, port: int, patience: float) -> None:
        """Wait until the machine has booted. Raises OSError, TaskgenError, SilentError."""
        began = time.monotonic()
        patient = FIRST_PATIENCE
        waits = False
        while True:
            try:
                return super()._open(host, port, min(patient, patience))
            except OSError as error:
                booted = requests.served_hosts(port).get(host)
                if (booted is None and _is_gone(error)) or let_go():
                    raise
                if time.monotonic() >= self._boots_until(booted, began, patience):
                    silent = TimeoutError(
                        f"target {host}, port {port}: it has not answered for "
                        f"{time.monotonic() - began:.0f} s, and had {self._boot_timeout:g} s to "
                        "boot (session.boot_timeout)"
                    )
                    raise self._blame(silent) from error
            if not waits and time.monotonic() - began > TELL_AFTER:
                waits = True
                log.info("%s does not answer: it boots, or it is frozen and will be killed", host)
            patient *= 2
            let_go(ASK_AGAIN)

    def _boots_until(self, booted: int | None, began: float, patience: float) -> float:
        """Until when, on the monotonic clock, the machine may be silent: `patience` s at least."""
        if booted is None:
            return began + self._boot_timeout
        since_boot = (requests.now() - booted) / 100
        return max(time.monotonic() - since_boot + self._boot_timeout, began + patience)

    def _blame(self, error: OSError) -> TargetError:
        if not isinstance(error, TimeoutError):
            return super()._blame(error)
        try:
            requests.ask_for_kill(self._host, self._port, self._since)
        except InfrastructureError as problem:
            log.warning("%s", one_line(problem))
            return SilentError(f"{one_line(error)}; {one_line(problem)}", restarted=False)
        return SilentError(
            f"{one_line(error)}; its QEMU instance is killed and boots again", restarted=True
        )


def _is_gone(error: OSError) -> bool:
    """Whether a host that cannot be connected does not even take connections."""
    reason = error.__cause__ or error
    takes_connections = isinstance(reason, TimeoutError | ConnectionError)
    return isinstance(reason, ConnectionRefusedError) or not takes_connections


def _check_boot_timeout(seconds: float) -> None:
    if not (seconds > 0 and math.isfinite(seconds)):
        raise ConfigurationError(f"session.boot_timeout must be > 0 s and finite, got {seconds}")
