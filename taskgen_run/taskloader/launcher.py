"""The process that starts and ends the jobs of an agent: ``-m taskgen_run.taskloader.launcher``.

The agent starts it, with its end of a socket pair as standard input. It is small, as it is copied
for every job; and it outlives the agent, however that ends, to kill what is left of the jobs and
to remove their directory. Should it end first, the agent does that.

A job runs in its own session, without capabilities, as another user if it can be, with nothing but
its executable open. To make a process takes some time, so it is made before the job is released,
and waits for it: its channel leads to the agent, which writes GO.
"""

from __future__ import annotations

import contextlib
import errno
import gc
import os
import resource
import select
import signal
import socket
import struct
import time
from collections import deque
from typing import NoReturn

from taskgen_run.taskloader import linux, orders, processes
from taskgen_run.taskloader.linux import Execution
from taskgen_run.taskloader.orders import AllGone, Answer, Ended, Enter, Failed, Kill, Made, Make

REPORT = struct.Struct("<qi")
"""What a job tells the agent before it becomes its program: CLOCK_MONOTONIC in ns, and 0 or why its
policy was refused; and after that, if it could not, an `errno`."""
ERRNO = struct.Struct("<i")
GO = b"g"
_FILES = struct.Struct("ii")
"""The executable and the channel that come with an order."""

KILL_TIMEOUT = 20.0
SWEEP_DELAY_NS = 100_000_000
"""How long after a job has ended that is searched for which it has left outside of its group."""

_MARK = "TASKLOADER_JOB"
_FILE_BYTES = 2**26
_OPEN_FILES = 256
_NORMAL_SIGNALS = (signal.SIGPIPE, signal.SIGXFSZ, signal.SIGCHLD)
"""Python ignores some, and what is ignored stays so in a program that is executed."""


class _Process:
    """A job that has not ended."""

    def __init__(self, number: int, pid: int, mark: str) -> None:
        self.number = number
        self.pid = pid
        self.mark = mark.encode()
        self.killed_ns = 0


class Launcher:
    """Does what comes from the agent, until it has ended."""

    def __init__(self, agent: socket.socket) -> None:
        self._agent = agent
        self._sandbox: Enter | None = None
        self._jobs: dict[int, _Process] = {}  # by process id
        self._numbers: dict[int, _Process] = {}
        self._unsent: deque[bytes] = deque()
        self._sweep_ns: int | None = None
        self._secret = os.urandom(8).hex()
        self._woken, wakes = os.pipe()
        for end in (self._woken, wakes):
            os.set_blocking(end, False)
        signal.signal(signal.SIGCHLD, lambda *_: None)
        signal.set_wakeup_fd(wakes, warn_on_full_buffer=False)

    def serve(self) -> None:
        """Work until the agent ends, and leave nothing behind."""
        agent, poll = self._agent.fileno(), select.poll()
        poll.register(self._woken, select.POLLIN)
        agent_is_there = True
        while agent_is_there:
            poll.register(agent, select.POLLIN | (select.POLLOUT if self._unsent else 0))
            ready = dict(poll.poll(self._patience_ms()))
            if self._woken in ready:
                os.read(self._woken, 4096)
                self._reap()
            if ready.get(agent, 0) & ~select.POLLOUT:
                agent_is_there = self._take_order()
            if self._sweep_ns is not None and time.monotonic_ns() >= self._sweep_ns:
                self._sweep_ns = None
                processes.kill_orphans(self._jobs, [job.mark for job in self._jobs.values()])
            self._send()
        processes.kill_all(KILL_TIMEOUT)
        if self._sandbox is not None:
            import shutil  # only now, as it is large

            shutil.rmtree(self._sandbox.directory, ignore_errors=True)

    def _patience_ms(self) -> int | None:
        if self._sweep_ns is None:
            return None
        return max(0, -((time.monotonic_ns() - self._sweep_ns) // 1_000_000))

    def _take_order(self) -> bool:
        """Do one thing that the agent wants; False if it has ended."""
        try:
            # No `recv_fds`, which does not pass the flag on: files that jobs would inherit.
            datagram, ancillary, _, _ = self._agent.recvmsg(
                orders.MOST_BYTES, socket.CMSG_SPACE(_FILES.size), socket.MSG_CMSG_CLOEXEC
            )
        except ConnectionError:
            return False
        if not datagram:
            return False
        match orders.unpack(datagram):
            case Make() as make:
                [(_, _, files)] = ancillary
                self._make(make, *_FILES.unpack(files))
            case Kill(number):
                self._reap()  # it may have ended by itself just now
                if number in self._numbers:
                    job = self._numbers[number]
                    processes.kill(job.pid)
                    job.killed_ns = job.killed_ns or time.monotonic_ns()
            case Enter() as sandbox:
                self._sandbox = sandbox
            case _:
                self._kill_all()
        return True

    def _kill_all(self) -> None:
        self._reap()
        now_ns = time.monotonic_ns()
        for job in self._jobs.values():
            job.killed_ns = job.killed_ns or now_ns
        ended, left = processes.kill_all(KILL_TIMEOUT)
        self._sweep_ns = None
        self._tell_ends(ended)
        self._answer(AllGone(tuple(sorted(left))))

    def _make(self, make: Make, executable: int, channel: int) -> None:
        assert self._sandbox is not None
        mark = f"{_MARK}={self._secret}-{make.number}"
        environment = (*make.environment, mark, f"HOME={self._sandbox.directory}")
        execution = Execution(executable, make.arguments, environment, make.memory_bytes or None)
        parent = os.getpid()
        try:
            pid = os.fork()
        except OSError as error:
            self._answer(Failed(make.number, error.errno or errno.EAGAIN))
        else:
            if not pid:
                self._agent.close()
                _run(make, self._sandbox, execution, executable, channel, parent)
            self._jobs[pid] = self._numbers[make.number] = _Process(make.number, pid, mark)
            self._answer(Made(make.number, pid))
        finally:
            os.close(executable)
            os.close(channel)

    def _reap(self) -> None:
        self._tell_ends(processes.reap())

    def _tell_ends(self, ended: list[tuple[int, int, int]]) -> None:
        for pid, status, ended_ns in ended:
            if self._sweep_ns is None:
                self._sweep_ns = ended_ns + SWEEP_DELAY_NS
            if pid in self._jobs:
                job = self._jobs.pop(pid)
                del self._numbers[job.number]
                self._answer(Ended(job.number, status, ended_ns, job.killed_ns))

    def _answer(self, answer: Answer) -> None:
        self._unsent.append(orders.pack(answer))
        self._send()

    def _send(self) -> None:
        """Send what the agent takes now. An agent that has ended is noticed when it is heard."""
        with contextlib.suppress(BlockingIOError, ConnectionError):
            while self._unsent:
                self._agent.send(self._unsent[0], socket.MSG_DONTWAIT)
                self._unsent.popleft()


def _run(
    make: Make, sandbox: Enter, execution: Execution, executable: int, channel: int, parent: int
) -> NoReturn:
    """The job between its fork and its program."""
    failure, told = errno.ENOEXEC, False
    try:
        _enter(sandbox)
        if make.cores is not None:
            os.sched_setaffinity(0, make.cores)
        if os.read(channel, 1) != GO:
            os._exit(1)  # the agent has ended
        refusal = _schedule(make.policy)
        _drop_privileges(sandbox)
        linux.die_with_parent()
        if os.getppid() != parent:
            os._exit(1)
        # Inherited, as the interpreter of a script reads it.
        os.set_inheritable(executable, True)
        told = bool(os.write(channel, REPORT.pack(time.monotonic_ns(), refusal)))
        execution.become()
    except OSError as error:
        failure = error.errno or failure
    except MemoryError:
        failure = errno.ENOMEM
    finally:
        report = b"" if told else REPORT.pack(time.monotonic_ns(), 0)
        os.write(channel, report + ERRNO.pack(failure))
        os._exit(1)


def _enter(sandbox: Enter) -> None:
    os.setsid()
    for signum in _NORMAL_SIGNALS:
        signal.signal(signum, signal.SIG_DFL)
    for stream in (0, 2):
        os.dup2(1, stream)
    os.chdir(sandbox.directory)
    # When memory runs out, the kernel ends jobs and not the agent.
    score = os.open("/proc/self/oom_score_adj", os.O_WRONLY)
    os.write(score, b"1000")
    os.close(score)
    _limit(resource.RLIMIT_CORE, 0)
    _limit(resource.RLIMIT_FSIZE, _FILE_BYTES)
    _limit(resource.RLIMIT_NOFILE, _OPEN_FILES)
    _limit(resource.RLIMIT_NPROC, sandbox.processes)


def _limit(what: int, most: int) -> None:
    hard = resource.getrlimit(what)[1]
    most = most if hard == resource.RLIM_INFINITY else min(most, hard)
    resource.setrlimit(what, (most, most))


def _schedule(policy: tuple[int, ...]) -> int:
    """Take the policy of the job. The errno of a refusal, 0 for none."""
    try:
        linux.schedule(policy)
    except OSError as error:
        linux.schedule(())
        return error.errno or errno.EPERM
    return 0


def _drop_privileges(sandbox: Enter) -> None:
    if sandbox.user is not None:
        user, group = sandbox.user
        os.setgroups([])
        os.setresgid(group, group, group)
        os.setresuid(user, user, user)
    linux.gain_no_privileges()


def main() -> None:
    """Serve the agent whose socket is the standard input."""
    linux.adopt_orphans()
    # As a file of its own, which no job inherits; what jobs have as input and output is 1.
    agent = socket.socket(fileno=os.dup(0))
    os.dup2(1, 0)
    launcher = Launcher(agent)
    gc.disable()  # it would write to the memory that is shared with the jobs to come
    gc.freeze()
    launcher.serve()


if __name__ == "__main__":
    main()
