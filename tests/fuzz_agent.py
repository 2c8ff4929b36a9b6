"""A fuzzer of the agent: ``python tests/fuzz_agent.py --seconds 600``.

Clients send streams of commands to a real agent, whole, broken and cut, with real executables, and
leave at any byte and in any way. After every round of them a client that behaves must be answered
soon, and the agent must be as it was: no process, file descriptor or directory is left, its log has
no traceback, and its memory has not grown since the first rounds.
"""

from __future__ import annotations

import argparse
import contextlib
import itertools
import re
import socket
import struct
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from random import Random

import psutil
from agents import Client, RunningAgent, agent, script, workload

from taskgen_run.taskloader.protocol import (
    Binary,
    Clear,
    GetLive,
    GetProfile,
    Optimize,
    SendBinaries,
    SendDescs,
    Start,
    Stop,
    encode,
)

PATIENCE = 10.0  # seconds until a new client has its answer, and until all that was left is gone
CLIENTS = 8  # of a round
WARM_UP = 25  # rounds
GROWTH_BYTES = 2**23
LIMITS = ["--max-binary-size", "2M", "--max-stored", "4M", "--max-tasks", "40"]

FORKS = "setsid sleep 1000 & (setsid sleep 1000 &) "
NAMES = ["hey", "namaste", "cond_42", "idle", "pi", "forks", "stays", "text", "empty", "loop"]
VALUES = ["", "0", "1", "2", "3", "7", "128", "-1", "1000", str(10**12), str(2**63), "1K", "x" * 99]
ATTRIBUTES = [
    *("executiontime", "criticaltime", "priority", "deadline", "period", "offset", "numberofjobs"),
    *("quota", "caps", "cores", "coreoffset", "pkg", "config", "id", "unknown"),
]
FRAGMENTS = [
    *(struct.pack("<I", number) for number in (0, 1, 3, 0x90, 2**20, 2**31, 2**32 - 1)),
    *(struct.pack("<I", magic) for magic in (0xDE5, 0xDE5F11E, 0x6F7074, 0x514DE5, 0x159D2)),
    *b"<taskset> </taskset> <periodictask> <id>0</id> <config> &a; <!DOCTYPE ]]> \0 \xff".split(),
]
RESET = struct.pack("ii", 1, 0)


@dataclass
class Count:
    """What was done so far."""

    connections: int = 0
    commands: int = 0


def executables() -> dict[str, bytes]:
    """Programs, and what is none, by name."""
    return {
        **{name: workload(name) for name in ("hey", "namaste", "cond_42", "idle", "pi")},
        "forks": script(FORKS),
        "stays": script(FORKS + "\nexec sleep 1000"),
        "text": b"no program",
        "empty": b"",
        "loop": b"#!/proc/self/fd/3\n",
    }


def described(random: Random) -> bytes:
    """Tasks, most of them such as the agent takes."""
    tasks = []
    for number in range(random.choice([0, 1, 1, 2, 3, 12])):
        sane = {
            "id": random.choice([number, random.randrange(100)]),
            "pkg": random.choice(NAMES),
            "period": random.choice([0, 1, 5, 20, 1000]),
            "numberofjobs": random.choice([0, 1]),
            "executiontime": random.choice([0, 1, 3]),
            "priority": random.choice([0, 5, 127, 128]),
            "criticaltime": random.choice([0, 0, 3]),
            "quota": random.choice(["0", "1M", "64K"]),
            "config": f"<arg1>{random.choice([13, 42, 10**9])}</arg1>",
        }
        chosen = {name: sane[name] for name in sane if random.random() < 0.8} | {"id": sane["id"]}
        if random.random() < 0.1:
            chosen[random.choice(ATTRIBUTES)] = random.choice(VALUES)
        inner = "".join(f"<{name}>{value}</{name}>" for name, value in chosen.items())
        tasks.append(f"<periodictask>{inner}</periodictask>")
    return encode(SendDescs(f"<taskset>{''.join(tasks)}</taskset>"))


def upload(random: Random, binaries: dict[str, bytes]) -> bytes:
    """An upload that waits for no GO_SEND; one binary of some is not what it was."""
    names = random.sample(NAMES, random.randrange(5))
    parts = [encode(SendBinaries(len(names)))]
    for name in names:
        data = binaries[name]
        if random.random() < 0.1:
            data = broken(data, random)
        parts.append(encode(Binary(name, data)))
    return b"".join(parts)


def broken(stream: bytes, random: Random) -> bytes:
    """The stream with some bytes lost, changed or put in, or cut."""
    for _ in range(random.choice([1, 1, 2, 5])):
        where = random.randrange(len(stream) + 1)
        lost = random.choice([0, 0, 1, 4, 100])
        fragment = random.choice([*FRAGMENTS, random.randbytes(random.randrange(8))])
        stream = stream[:where] + fragment + stream[where + lost :]
    return stream if random.random() < 0.7 else stream[: random.randrange(len(stream) + 1)]


def stream_of(random: Random, binaries: dict[str, bytes], count: Count) -> bytes:
    """What one client sends."""
    goal = Optimize({"goal": {random.choice(["fairness", "utilization"]): {"apply": 1}}})
    commands: list[Callable[[], bytes]] = [
        *[lambda: described(random)] * 3,
        *[lambda: upload(random, binaries)] * 3,
        *[lambda: encode(Start())] * 3,
        *(lambda m=message: encode(m) for message in (Stop(), Clear(), GetLive(), GetProfile())),
        lambda: encode(goal),
    ]
    chosen = random.choices(commands, k=random.choice([0, 1, 4, 10, 20]))
    if random.random() < 0.5:  # the usual order
        chosen = [commands[0], commands[3], commands[6], *chosen]
    count.commands += len(chosen)
    stream = b"".join(command() for command in chosen)
    return broken(stream, random) if random.random() < 0.4 else stream


def attack(target: RunningAgent, random: Random, binaries: dict[str, bytes], count: Count) -> None:
    """Several clients one after the other, of which some are there at the same time."""
    with contextlib.ExitStack() as staying:
        for _ in range(CLIENTS):
            stream = stream_of(random, binaries, count)
            count.connections += 1
            with contextlib.suppress(ConnectionError):
                client = socket.create_connection((target.address, target.port), PATIENCE)
                staying.callback(client.close)
                _send(client, stream, random)
                _leave(client, random)


def _send(client: socket.socket, stream: bytes, random: Random) -> None:
    size = random.choice([7, 1000, 2**22, 2**22])
    pieces = [stream[at : at + size] for at in range(0, min(len(stream), 50 * size), size)]
    for piece in pieces:
        client.settimeout(PATIENCE)
        client.sendall(piece)
        if random.random() < 0.2:
            client.settimeout(random.choice([0.001, 0.02]))
            with contextlib.suppress(TimeoutError):
                client.recv(random.choice([1, 65536]))


def _leave(client: socket.socket, random: Random) -> None:
    match random.randrange(5):
        case 0:
            client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
            client.close()
        case 1 | 2:
            client.close()
        case 3:
            with contextlib.suppress(OSError):  # it is refused by now
                client.shutdown(socket.SHUT_WR)
        case _:
            pass  # it stays, so that the next ones are refused


class Invariants:
    """What must be the same after every round as it was before the first one."""

    def __init__(self, target: RunningAgent, temporary: Path) -> None:
        self._target = target
        self._temporary = temporary
        self.slowest = 0.0  # seconds until a new client had its answer
        self.assert_serves()
        self._fds = self._now_fds()
        self.warm_bytes = 0

    @property
    def rss_bytes(self) -> int:
        """The memory of the agent, and of the process that starts its jobs."""
        return sum(process.memory_info().rss for process in self._own())

    def assert_serves(self) -> None:
        """A new client is answered in time, as soon as the one before it is gone."""
        began = time.monotonic()
        answered = False
        while not answered:
            assert self._target.process.poll() is None, "the agent has ended"
            try:
                with Client(self._target) as client:
                    answered = client.live().tasks == ()
            except (EOFError, ConnectionError, TimeoutError):
                time.sleep(0.005)
            took = time.monotonic() - began
            assert took < PATIENCE, f"the agent does not answer within {took} s"
        self.slowest = max(self.slowest, took)

    def check(self) -> None:
        """Raises AssertionError when the agent is not as it was."""
        self.assert_serves()
        self._wait(lambda: not self._target.descendants(), "processes are left")
        self._wait(lambda: self._now_fds() <= self._fds, "file descriptors are left")
        self._wait(lambda: not list(self._temporary.iterdir()), "directories are left")
        log = self._target.log
        assert "Traceback" not in log, log[log.index("Traceback") :]
        assert not self.warm_bytes or self.rss_bytes < self.warm_bytes + GROWTH_BYTES, (
            f"memory has grown from {self.warm_bytes} to {self.rss_bytes} bytes"
        )

    def _own(self) -> list[psutil.Process]:
        agent_process = psutil.Process(self._target.process.pid)
        return [agent_process, *agent_process.children()]

    def _now_fds(self) -> list[int]:
        return [process.num_fds() for process in self._own()]

    @staticmethod
    def _wait(condition: Callable[[], bool], what: str) -> None:
        deadline = time.monotonic() + PATIENCE
        while not condition():
            assert time.monotonic() < deadline, what
            time.sleep(0.005)


def run(seconds: float, first: int, directory: Path) -> None:
    """Rounds for at least so long; the number of the first one decides what happens in them."""
    binaries = executables()
    temporary = directory / "temporary"
    temporary.mkdir()
    count = Count()
    end = time.monotonic() + seconds
    with agent(directory, *LIMITS, temporary=temporary) as target:
        invariants = Invariants(target, temporary)
        for number in itertools.count(first):
            try:
                attack(target, Random(number), binaries, count)
                invariants.check()
            except BaseException:
                print(f"round {number} failed; repeat it with --seed {number}", flush=True)
                raise
            done = number - first + 1
            if done == WARM_UP:
                invariants.warm_bytes = invariants.rss_bytes
            over = time.monotonic() >= end and done >= WARM_UP
            if over or done % WARM_UP == 0:
                taken = len(re.findall(r"client \S+ is connected", target.log))
                print(
                    f"round {number}: {count.connections} connections, {count.commands} commands, "
                    f"{taken} clients taken, "
                    f"slowest answer {invariants.slowest:.2f} s, {invariants.rss_bytes >> 10} KiB",
                    flush=True,
                )
            if over:
                break
        assert target.stop() == 128 + 15


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=600, help="how long, at least")
    parser.add_argument("--seed", type=int, default=0, help="the number of the first round")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as directory:
        Path(directory).chmod(0o711)  # jobs have a user of their own
        run(arguments.seconds, arguments.seed, Path(directory))


if __name__ == "__main__":
    main()
