"""A lock per host and port, so that two experiments on one machine never drive the same host."""

from __future__ import annotations

import errno
import socket
from pathlib import Path

_PREFIX = "taskgen_run/"


class HostLock:
    """Held by at most one process of the machine, whoever runs it, and released when that dies.

    It is a name in Linux's abstract namespace of Unix sockets (unix(7)): no file that could be
    left behind, forbidden to other users, or replaced by a link.
    """

    def __init__(self, host: str, port: int) -> None:
        self._name = f"\0{_PREFIX}{host}:{port}"
        self._socket: socket.socket | None = None

    def acquire(self) -> bool:
        """Take the lock; False if somebody has it. Raises OSError if it cannot be known."""
        holder = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        try:
            holder.bind(self._name)
        except OSError as error:
            holder.close()
            if error.errno == errno.EADDRINUSE:
                return False
            raise
        self._socket = holder
        return True

    def release(self) -> None:
        """Give it back; does nothing if it is not held."""
        holder, self._socket = self._socket, None
        if holder is not None:
            holder.close()


def locked_hosts(port: int) -> set[str]:
    """The hosts whose lock for `port` is held now, by whomever on this machine. Raises OSError."""
    hosts = set()
    for line in Path("/proc/net/unix").read_text(errors="replace").splitlines():
        _, found, name = line.partition(f" @{_PREFIX}")
        host, _, number = name.rpartition(":")
        if found and number == str(port):
            hosts.add(host)
    return hosts
