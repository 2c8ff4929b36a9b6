"""Jobs as the agent sees them, and the launcher, the process that makes and ends theirs."""

from __future__ import annotations

import contextlib
import dataclasses
import itertools
import os
import select
import socket
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import taskgen_run
from taskgen_run.errors import InfrastructureError
from taskgen_run.taskloader import orders, processes
from taskgen_run.taskloader.launcher import ERRNO, GO, KILL_TIMEOUT, REPORT
from taskgen_run.taskloader.messages import EventType
from taskgen_run.taskloader.orders import AllGone, Ended, Enter, Failed, Kill, KillAll, Made, Make
from taskgen_run.taskloader.policies import Policy

_PATIENCE = KILL_TIMEOUT + 10.0


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
    """A job that waits for its release, runs, or has ended.

    `channel` is what the agent and the job talk through until the job has become its program; -1
    after that. `pid` is 0 until it is known. `verdict` is why the agent has had it killed;
    `failure` is the errno of what kept it from becoming its program, `refusal` that of its policy.
    """

    number: int
    channel: int
    pid: int = 0
    released_ns: int = 0
    started_ns: int | None = None
    refusal: int = 0
    failure: int = 0
    verdict: EventType | None = None
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
        if len(self._received) >= REPORT.size:
            self.started_ns, self.refusal = REPORT.unpack_from(self._received)
        if len(self._received) >= REPORT.size + ERRNO.size:
            (self.failure,) = ERRNO.unpack_from(self._received, REPORT.size)
        return ended

    def release(self, release_ns: int) -> None:
        """Let the job become its program now."""
        self.released_ns = release_ns
        with contextlib.suppress(BrokenPipeError):
            os.write(self.channel, GO)

    def close(self) -> None:
        """Talk no more with the job, which ends if it has not been released."""
        os.close(self.channel)
        self.channel = -1


class Launcher:
    """The agent's end of the launcher: what it is told is done soon, and in order.

    Its methods raise InfrastructureError when the launcher has ended or does not react.
    """

    def __init__(self) -> None:
        self._numbers = itertools.count()
        self._socket, other_end = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._socket.settimeout(_PATIENCE)
        root = str(Path(taskgen_run.__file__).parents[1])
        with other_end:
            self._process = subprocess.Popen(
                [sys.executable, "-S", "-P", "-m", "taskgen_run.taskloader.launcher"],
                stdin=other_end.fileno(),
                stdout=subprocess.DEVNULL,
                env={**os.environ, "PYTHONPATH": root},
                start_new_session=True,  # what ends all processes of the agent's does not end it
            )

    def fileno(self) -> int:
        """The file descriptor that becomes readable when there is something to `hear`."""
        return self._socket.fileno()

    def enter(self, sandbox: Enter) -> None:
        """Jobs that are made from now on have this in common."""
        self._send(sandbox)

    def make(self, program: Program) -> Job:
        """A job that waits to be released. Raises OSError if there are too many files."""
        number = next(self._numbers)
        order = Make(
            number,
            program.arguments,
            program.environment,
            program.memory_bytes,
            dataclasses.astuple(program.policy),
            program.cores,
        )
        ours, other_end = socket.socketpair()
        with ours, other_end:
            self._send(order, program.executable, other_end.fileno())
            ours.setblocking(False)
            return Job(number, ours.detach())

    def kill(self, job: Job) -> None:
        """Kill the job and those of its descendants that have not detached themselves."""
        self._send(Kill(job.number))

    def hear(self) -> Iterator[Made | Failed | Ended]:
        """What has happened to jobs, without waiting."""
        while select.select([self._socket], [], [], 0)[0]:
            answer = self._receive()
            if not isinstance(answer, AllGone):
                yield answer

    def kill_all(self) -> Iterator[Made | Failed | Ended]:
        """Kill all jobs and what they have left, and wait for it, while telling what happens."""
        self._send(KillAll())
        while not isinstance(answer := self._receive(), AllGone):
            yield answer
        _assert_none(answer.left)

    def close(self) -> None:
        """End the launcher, and whatever it could not end itself as it has ended before."""
        self._socket.close()
        try:
            self._process.wait(_PATIENCE)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        _assert_none(processes.kill_all(KILL_TIMEOUT)[1])

    def _send(self, order: orders.Order, *files: int) -> None:
        try:
            socket.send_fds(self._socket, [orders.pack(order)], files)
        except (ConnectionError, TimeoutError) as error:
            raise _gone() from error

    def _receive(self) -> Made | Failed | Ended | AllGone:
        try:
            datagram = self._socket.recv(orders.MOST_BYTES)
        except (ConnectionError, TimeoutError) as error:
            raise _gone() from error
        if not datagram:
            raise _gone()
        answer: Made | Failed | Ended | AllGone = orders.unpack(datagram)
        return answer


def _gone() -> InfrastructureError:
    return InfrastructureError(
        "the launcher, which makes the processes of jobs, must run as long as the agent, and has "
        "ended or does not react; start the agent again"
    )


def _assert_none(left: object) -> None:
    if left:
        raise InfrastructureError(f"processes must end when they are killed, {left} do not")
