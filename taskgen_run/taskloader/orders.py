"""What the agent and its launcher tell each other: one datagram each, over a socket pair.

The launcher is a copy of itself for every job, so what it imports costs time with each of them.
"""

from __future__ import annotations

import marshal
from typing import Any, NamedTuple

MOST_BYTES = 2**18
"""Of one datagram; what the protocol lets a client send for a task makes less."""


class Enter(NamedTuple):
    """Jobs run in `directory` from now on, which the launcher removes if the agent cannot.

    user: user and group id of the jobs, None for those of the launcher. processes: how many their
    user may have.
    """

    directory: str
    user: tuple[int, int] | None
    processes: int


class Make(NamedTuple):
    """Make the process of a job. It comes with two files: its executable and its channel.

    memory_bytes: 0 is no limit. policy: no, one or three numbers, the fields of a policy.
    """

    number: int
    arguments: tuple[str, ...]
    environment: tuple[str, ...]
    memory_bytes: int
    policy: tuple[int, ...]
    cores: frozenset[int] | None


class Kill(NamedTuple):
    """Kill a job, if it has not ended by now."""

    number: int


class KillAll(NamedTuple):
    """Kill all jobs and whatever they have left. Answered by AllGone, after the ends of jobs."""


class Made(NamedTuple):
    """The job has a process."""

    number: int
    pid: int


class Failed(NamedTuple):
    """No process could be made for the job."""

    number: int
    errno: int


class Ended(NamedTuple):
    """The job's process has ended, with its exit status as `waitpid` gives it.

    Times on CLOCK_MONOTONIC in ns; `killed_ns` is 0 if nobody has asked to kill it before.
    """

    number: int
    status: int
    ended_ns: int
    killed_ns: int


class AllGone(NamedTuple):
    """Nothing is left of any job, except the processes `left`, which cannot be killed."""

    left: tuple[int, ...]


Order = Enter | Make | Kill | KillAll
Answer = Made | Failed | Ended | AllGone

_KINDS: tuple[type[Any], ...] = (Enter, Make, Kill, KillAll, Made, Failed, Ended, AllGone)


def pack(message: Order | Answer) -> bytes:
    """The datagram of a message."""
    return marshal.dumps((_KINDS.index(type(message)), *message))


def unpack(datagram: bytes) -> Any:
    """The message of a datagram that `pack` has made."""
    kind, *values = marshal.loads(datagram)
    return _KINDS[kind](*values)
