"""How jobs and all that they have started are found and ended.

What a job starts stays below the process that calls this, also when it detaches itself, as that
adopts the orphans among its descendants. So when it has no child, nothing of the jobs is left.
"""

from __future__ import annotations

import contextlib
import os
import signal
import time
from collections.abc import Collection, Iterable

from taskgen_run.taskloader import linux

_KILL_PAUSE = 0.0005


def kill(pid: int) -> None:
    """Kill a child and those of its descendants that have not detached themselves."""
    # Not only the group: a job that has just been forked may not have made it yet.
    for send in (os.kill, os.killpg):
        with contextlib.suppress(ProcessLookupError):
            send(pid, signal.SIGKILL)


def kill_orphans(spared: Collection[int], marks: Collection[bytes]) -> None:
    """Kill the children that are not `spared`, and were started without any of the `marks`.

    Whom a process belongs to is in the environment it was started with; one that hides it belongs
    to nobody.
    """
    for pid in linux.children():
        if pid in spared:
            continue
        try:
            with open(f"/proc/{pid}/environ", "rb") as file:  # noqa: PTH123 - a light import
                environment = file.read()
        except OSError:
            environment = b""
        if set(environment.split(b"\0")).isdisjoint(marks):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)


def reap() -> list[tuple[int, int, int]]:
    """The children that have ended: process id, exit status as of `waitpid`, and when: ns.

    What they have left in their process groups is killed.
    """
    ended = []
    with contextlib.suppress(ChildProcessError):
        while child := os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT):
            ended_ns = time.monotonic_ns()
            # As long as it is not reaped, nobody else can have its number.
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(child.si_pid, signal.SIGKILL)
            ended.append((*os.waitpid(child.si_pid, 0), ended_ns))
    return ended


def kill_all(timeout: float) -> tuple[list[tuple[int, int, int]], set[int]]:
    """Kill all descendants of this process, and wait until they are gone.

    Returns those of them that were children as `reap` does, and those that are left after
    `timeout` seconds.
    """
    ended: list[tuple[int, int, int]] = []
    deadline = time.monotonic() + timeout
    while _has_children():
        # First nobody must be left who makes new ones; while they are stopped they still count for
        # the limit on processes.
        stopped: set[int] = set()
        while new := linux.descendants(os.getpid()) - stopped:
            _signal(new, signal.SIGSTOP)
            stopped |= new
        _signal(stopped, signal.SIGKILL)
        time.sleep(_KILL_PAUSE)
        # Each one's parent is gone before it, or is this process: when it has no child, all are.
        ended += reap()
        if time.monotonic() > deadline:
            return ended, linux.descendants(os.getpid())
    return ended, set()


def _signal(pids: Iterable[int], signum: signal.Signals) -> None:
    for pid in pids:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signum)


def _has_children() -> bool:
    try:
        os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
    except ChildProcessError:
        return False
    return True
