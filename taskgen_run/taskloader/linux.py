"""The calls of Linux that Python's standard library does not have.

The launcher imports this, so it imports little.
"""

from __future__ import annotations

import ctypes
import errno
import os
import resource
import signal
import struct
from collections.abc import Iterable

_libc = ctypes.CDLL(None, use_errno=True)

_PR_SET_PDEATHSIG = 1
_PR_SET_CHILD_SUBREAPER = 36
_PR_SET_NO_NEW_PRIVS = 38

SCHED_DEADLINE = 6
_RESET_ON_FORK = 1
_SCHED_ATTR = struct.Struct("<IIQiIQQQ")
_SCHED_SETATTR = {
    "x86_64": 314,
    "i386": 351,
    "i686": 351,
    "aarch64": 274,
    "riscv64": 274,
    "armv6l": 380,
    "armv7l": 380,
    "ppc64le": 355,
    "s390x": 345,
}

_TFD_FLAGS = os.O_NONBLOCK | os.O_CLOEXEC
_TFD_TIMER_ABSTIME = 1
_CLOCK_MONOTONIC = 1
_ITIMERSPEC = struct.Struct("@llll")

_MFD_CLOEXEC = 1
_MFD_ALLOW_SEALING = 2
_MFD_EXEC = 0x10
_F_ADD_SEALS = 1033
_ALL_SEALS = 0xF


def _check(result: int) -> int:
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
    return result


def _prctl(option: int, argument: int) -> None:
    _check(_libc.prctl(option, *map(ctypes.c_ulong, (argument, 0, 0, 0))))


def adopt_orphans() -> None:
    """Descendants whose parents end become children of this process, not of init."""
    _prctl(_PR_SET_CHILD_SUBREAPER, 1)


def die_with_parent() -> None:
    """This process is killed when its parent ends. A change of the user undoes it."""
    _prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


def gain_no_privileges() -> None:
    """Executables with set-user-ID bits give this process and its children nothing."""
    _prctl(_PR_SET_NO_NEW_PRIVS, 1)


def schedule(policy: tuple[int, ...]) -> None:
    """Schedule this process as SCHED_OTHER, by a level of SCHED_FIFO, or as SCHED_DEADLINE.

    policy: no number, the level, or runtime, deadline and period in ns. Raises OSError where that
    is not allowed, see `schedule_by_deadline`.
    """
    match policy:
        case (level,):
            os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(level))
        case (runtime_ns, deadline_ns, period_ns):
            schedule_by_deadline(runtime_ns, deadline_ns, period_ns)
        case _:
            os.sched_setscheduler(0, os.SCHED_OTHER, os.sched_param(0))


def schedule_by_deadline(runtime_ns: int, deadline_ns: int, period_ns: int) -> None:
    """Schedule this process as SCHED_DEADLINE, its children as SCHED_OTHER.

    Raises OSError: EPERM without the privilege or when the process may not use all cores, EBUSY
    when the kernel's admission test says no, EINVAL for times that it does not take.
    """
    number = _SCHED_SETATTR.get(os.uname().machine)
    if number is None:
        raise OSError(errno.ENOSYS, os.strerror(errno.ENOSYS))
    attributes = _SCHED_ATTR.pack(
        _SCHED_ATTR.size, SCHED_DEADLINE, _RESET_ON_FORK, 0, 0, runtime_ns, deadline_ns, period_ns
    )
    _check(_libc.syscall(ctypes.c_long(number), ctypes.c_long(0), attributes, ctypes.c_long(0)))


def executable_in_memory(name: str, data: bytes) -> int:
    """A file descriptor of an executable file without a path, whose content never changes."""
    flags = _MFD_CLOEXEC | _MFD_ALLOW_SEALING
    try:
        fd = os.memfd_create(name, flags | _MFD_EXEC)
    except OSError as error:
        if error.errno != errno.EINVAL:
            raise
        fd = os.memfd_create(name, flags)  # Linux before 6.3
    try:
        left = memoryview(data)
        while left:
            left = left[os.write(fd, left) :]
        _check(_libc.fcntl(fd, _F_ADD_SEALS, _ALL_SEALS))
    except OSError:
        os.close(fd)
        raise
    return fd


class Execution:
    """How to become a program: prepared where memory is free, run where there may be none left.

    memory_bytes: limits the address space of the program; None for no limit.
    """

    def __init__(
        self,
        fd: int,
        arguments: Iterable[str],
        environment: Iterable[str],
        memory_bytes: int | None,
    ) -> None:
        self._fd = fd
        self._arguments = _strings(arguments)
        self._environment = _strings(environment)
        self._limit = None if memory_bytes is None else (ctypes.c_uint64 * 2)(*[memory_bytes] * 2)

    def become(self) -> None:
        """Replace this process. Returns never; raises OSError when it cannot."""
        if self._limit is not None:
            _check(_libc.prlimit64(0, resource.RLIMIT_AS, self._limit, None))
        _check(_libc.fexecve(self._fd, self._arguments, self._environment))


def _strings(texts: Iterable[str]) -> ctypes.Array[ctypes.c_char_p]:
    encoded = [text.encode() for text in texts]
    return (ctypes.c_char_p * (len(encoded) + 1))(*encoded, None)


class Timer:
    """Becomes readable at an absolute time of CLOCK_MONOTONIC, to the ns and not to the ms."""

    def __init__(self) -> None:
        self._fd = _check(_libc.timerfd_create(_CLOCK_MONOTONIC, _TFD_FLAGS))

    def fileno(self) -> int:
        """The file descriptor to wait for."""
        return self._fd

    def set(self, time_ns: int | None) -> None:
        """Expire at `time_ns`, at once if that is over, never if it is None."""
        seconds, ns = divmod(max(time_ns, 1), 10**9) if time_ns is not None else (0, 0)
        setting = _ITIMERSPEC.pack(0, 0, seconds, ns)
        _check(_libc.timerfd_settime(self._fd, _TFD_TIMER_ABSTIME, setting, None))

    def close(self) -> None:
        """Release the file descriptor."""
        os.close(self._fd)


def parents() -> dict[int, int]:
    """Every process with its parent, zombies included.

    Raises FileNotFoundError if /proc is not mounted.
    """
    found = {}
    for entry in os.listdir("/proc"):  # noqa: PTH208 - a Path per process takes too long
        if entry.isdecimal():
            try:
                with open(f"/proc/{entry}/stat", "rb") as file:  # noqa: PTH123 - a light import
                    status = file.read()
            except (FileNotFoundError, ProcessLookupError):
                continue
            found[int(entry)] = int(status[status.rindex(b")") + 2 :].split(None, 2)[1])
    return found


def children() -> list[int]:
    """The children of this process, which has one thread only; zombies included."""
    try:
        with open("/proc/thread-self/children", "rb") as file:  # noqa: PTH123 - a light import
            return [int(pid) for pid in file.read().split()]
    except FileNotFoundError:  # a kernel without CONFIG_PROC_CHILDREN
        return [pid for pid, parent in parents().items() if parent == os.getpid()]


def descendants(ancestor: int) -> set[int]:
    """The processes below `ancestor`. While there are new ones, some may be missing."""
    children: dict[int, list[int]] = {}
    for pid, parent in parents().items():
        children.setdefault(parent, []).append(pid)
    below: set[int] = set()
    level = [ancestor]
    while level:
        level = [child for parent in level for child in children.get(parent, ())]
        below.update(level)
    return below
