"""One job as a process: how it is started, and how it and all that it has started are ended.

The job runs in its own session, without capabilities, as another user if it can be, with nothing
but its executable open. What it starts stays below the agent, also when it detaches itself: the
agent adopts the orphans among its descendants. So when the agent has no child, nothing of the jobs
is left.

To make a process takes some ms, so it is made before the job is released, and waits for it.
"""

from __future__ import annotations

import contextlib
import errno
import os
import resource
import signal
import socket
import struct
import time
from collections.abc import Collection, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import NoReturn

from taskgen_run.errors import InfrastructureError
from taskgen_run.taskloader import linux
from taskgen_run.taskloader.linux import Execution
from taskgen_run.taskloader.messages import EventType
from taskgen_run.taskloader.policies import Other, Policy

_REPORT = struct.Struct("<qi")
"""What a job tells the agent before it becomes its program: CLOCK_MONOTONIC in ns, and 0 or why its
policy was refused; and after that, if it could not, an `errno`."""
_ERRNO = struct.Struct("<i")

_GO = b"g"
_MARK = "TASKLOADER_JOB"
_FILE_BYTES = 2**26
_OPEN_FILES = 256
_KILL_PAUSE = 0.0005
_NORMAL_SIGNALS = (signal.SIGPIPE, signal.SIGXFSZ)
"""Python ignores them, and what is ignored stays so in a program that is executed."""


@dataclass(frozen=True, slots=True)
class Sandbox:
    """What all jobs have in common.

    directory: where they run. user: user and group id, None for those of the agent.
    processes: how many processes their user may have.
    """

    directory: Path
    user: tuple[int, int] | None
    processes: int


@dataclass(frozen=True, slots=True)
class Program:
    """What a job executes, and how. `memory_bytes` of 0 is no limit."""

    executable: int
    arguments: tuple[str, ...]
    environment: tuple[str, ...]
    memory_bytes: int
    policy: Policy
    cores: frozenset[int] | None


@dataclass(slots=True)
class Job:
    """A job that waits for its release, runs, or has ended and was not reaped.

    `channel` is what the agent and the job talk through until the job has become its program.
    `verdict` is why the agent killed it, `verdict_ns` when; `failure` is the errno of what kept it
    from becoming its program, `refusal` that of its policy.
    """

    pid: int
    mark: str
    channel: int
    released_ns: int = 0
    started_ns: int | None = None
    refusal: int = 0
    failure: int = 0
    verdict: EventType | None = None
    verdict_ns: int = 0
    _received: bytearray = field(default_factory=bytearray)

    def read_report(self) -> bool:
        """Take what the job tells, without waiting. True when no more is to come."""
        ended = False
        try:
            while piece := os.read(self.channel, 64):
                self._received += piece
            ended = True
        except BlockingIOError:
            pass
        except ConnectionResetError:  # it was killed before it has read what it was told
            ended = True
        if len(self._received) >= _REPORT.size:
            self.started_ns, self.refusal = _REPORT.unpack_from(self._received)
        if len(self._received) >= _REPORT.size + _ERRNO.size:
            (self.failure,) = _ERRNO.unpack_from(self._received, _REPORT.size)
        return ended

    def release(self, release_ns: int) -> None:
        """Let the job become its program now."""
        self.released_ns = release_ns
        with contextlib.suppress(BrokenPipeError):
            os.write(self.channel, _GO)

    def kill(self) -> None:
        """Kill the job and those of its descendants that have not detached themselves."""
        # Not only the group: a job that has just been forked may not have made it yet.
        for kill in (os.kill, os.killpg):
            with contextlib.suppress(ProcessLookupError):
                kill(self.pid, signal.SIGKILL)


def prepare(program: Program, sandbox: Sandbox, mark: str) -> Job:
    """Make the process of a job, which waits. Raises OSError if that is not possible."""
    agent = os.getpid()
    environment = (*program.environment, f"{_MARK}={mark}", f"HOME={sandbox.directory}")
    execution = Execution(
        program.executable, program.arguments, environment, program.memory_bytes or None
    )
    channel, other_end = (end.detach() for end in socket.socketpair())
    os.set_blocking(channel, False)
    try:
        pid = os.fork()
    except OSError:
        os.close(channel)
        os.close(other_end)
        raise
    if not pid:
        _run(program, sandbox, execution, other_end, agent)
    os.close(other_end)
    return Job(pid, mark, channel)


def _run(
    program: Program, sandbox: Sandbox, execution: Execution, channel: int, agent: int
) -> NoReturn:
    """The job between its fork and its program."""
    failure, told = errno.ENOEXEC, False
    try:
        _enter(sandbox)
        if program.cores is not None:
            os.sched_setaffinity(0, program.cores)
        if os.read(channel, 1) != _GO:
            os._exit(1)  # the agent has ended
        refusal = _schedule(program)
        _drop_privileges(sandbox)
        linux.die_with_parent()
        if os.getppid() != agent:
            os._exit(1)
        # Inherited, as the interpreter of a script reads it.
        os.set_inheritable(program.executable, True)
        told = bool(os.write(channel, _REPORT.pack(time.monotonic_ns(), refusal)))
        execution.become()
    except OSError as error:
        failure = error.errno or failure
    except MemoryError:
        failure = errno.ENOMEM
    finally:
        report = b"" if told else _REPORT.pack(time.monotonic_ns(), 0)
        os.write(channel, report + _ERRNO.pack(failure))
        os._exit(1)


def _enter(sandbox: Sandbox) -> None:
    os.setsid()
    for signum in _NORMAL_SIGNALS:
        signal.signal(signum, signal.SIG_DFL)
    nothing = os.open(os.devnull, os.O_RDWR)
    for stream in range(3):
        os.dup2(nothing, stream)
    os.chdir(sandbox.directory)
    # When memory runs out, the kernel ends jobs and not the agent.
    Path("/proc/self/oom_score_adj").write_text("1000", encoding="ascii")
    _limit(resource.RLIMIT_CORE, 0)
    _limit(resource.RLIMIT_FSIZE, _FILE_BYTES)
    _limit(resource.RLIMIT_NOFILE, _OPEN_FILES)
    _limit(resource.RLIMIT_NPROC, sandbox.processes)


def _limit(what: int, most: int) -> None:
    hard = resource.getrlimit(what)[1]
    most = most if hard == resource.RLIM_INFINITY else min(most, hard)
    resource.setrlimit(what, (most, most))


def _schedule(program: Program) -> int:
    """Take the policy of the job. The errno of a refusal, 0 for none."""
    try:
        program.policy.apply()
    except OSError as error:
        Other().apply()
        return error.errno or errno.EPERM
    return 0


def _drop_privileges(sandbox: Sandbox) -> None:
    if sandbox.user is not None:
        user, group = sandbox.user
        os.setgroups([])
        os.setresgid(group, group, group)
        os.setresuid(user, user, user)
    linux.gain_no_privileges()


def kill_orphans(jobs: Collection[Job]) -> None:
    """Kill what earlier jobs have left, and spare what belongs to `jobs`.

    Whom a process belongs to is in the environment it was started with; one that hides it belongs
    to nobody.
    """
    pids = {job.pid for job in jobs}
    marks = {f"{_MARK}={job.mark}".encode() for job in jobs}
    agent = os.getpid()
    for pid, parent in linux.parents().items():
        if parent != agent or pid in pids:
            continue
        try:
            environment = Path(f"/proc/{pid}/environ").read_bytes()
        except OSError:
            environment = b""
        if marks.isdisjoint(environment.split(b"\0")):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)


def reap() -> list[tuple[int, int]]:
    """The children that have ended, with their exit statuses as `waitpid` gives them.

    What they have left in their process groups is killed.
    """
    ended = []
    with contextlib.suppress(ChildProcessError):
        while child := os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT):
            # As long as it is not reaped, nobody else can have its number.
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(child.si_pid, signal.SIGKILL)
            ended.append(os.waitpid(child.si_pid, 0))
    return ended


def kill_all(timeout: float) -> dict[int, int]:
    """Kill all descendants of this process, and wait until they are gone.

    Returns the exit statuses of children by process id, as `waitpid` gives them. Raises
    InfrastructureError if a process is left after `timeout` seconds.
    """
    statuses: dict[int, int] = {}
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
        statuses.update(reap())
        if time.monotonic() > deadline:
            left = sorted(linux.descendants(os.getpid()))
            raise InfrastructureError(f"processes must end when they are killed, {left} do not")
    return statuses


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
