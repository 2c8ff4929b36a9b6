"""How many job events per second one runner takes from 64 targets into Parquet.

::

    python benchmarks/events.py [--jobs 1000] [--variants 4] [--rounds 3]

A whole experiment with `session=genode`: 64 targets on loopback run task sets of four tasks, each
target `--variants` of them with `--jobs` jobs, and tell two events of every job, START and EXIT.
The targets are one other process that sends what it has encoded beforehand as fast as TCP lets it,
so the runner is what is measured, and they wait when it does. All are pinned to two cores. The
jobs in jobs.parquet are compared with what was sent.

Beside it, what one would write instead: a script with a thread per target, which reads the same
targets with `xml.etree` and writes the same jobs with PyArrow, without checks, retries or a
journal. Each line is a median, for pushes of 1, 10 and 100 events; the first run does not count.
"""

from __future__ import annotations

import argparse
import logging
import os
import selectors
import socket
import statistics
import struct
import subprocess
import sys
import tempfile
import threading
import time
import xml.etree.ElementTree as ET
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from taskgen_run import Experiment
from taskgen_run.sessions.genode import GenodeSession
from taskgen_run.task import Task
from taskgen_run.taskloader.protocol import (
    Binary,
    Clear,
    Event,
    EventType,
    GetLive,
    GoSend,
    Live,
    Profile,
    SendBinaries,
    Start,
    TargetDecoder,
    encode,
)
from taskgen_run.taskset import TaskSet
from taskgen_run.values import Range

TARGETS = 64
HOSTS = [f"127.2.0.{number}" for number in range(1, TARGETS + 1)]
TASKS = 4
PUSHES = (1, 10, 100)
MS = 1_000_000
PERIOD_MS = 10
TARGET_RATE = 50_000


def pushes(jobs: int, size: int) -> bytes:
    """What a target sends of one task set, in pushes of `size` events."""
    events = [
        Event(kind, task, (number * PERIOD_MS + at) * MS)
        for number in range(jobs // TASKS)
        for kind, at in ((EventType.START, 1), (EventType.EXIT, 4))
        for task in range(TASKS)
    ]
    cut = (events[start : start + size] for start in range(0, len(events), size))
    return b"".join(encode(Profile(tuple(part))) for part in cut)


def taskset(variants: int, jobs: int) -> TaskSet:
    """The task set that the targets are sent."""
    tasks = [
        Task(pkg="job", executiontime=3, period=PERIOD_MS, numberofjobs=jobs // TASKS)
        for _ in range(TASKS)
    ]
    tasks[0]["config"] = {"arg1": Range(1, variants)}
    return TaskSet(tasks, "events")


class Target:
    """One connection to a target, as the process that is all targets sees it."""

    def __init__(self, connection: socket.socket, told: bytes) -> None:
        self.connection = connection
        self.waiting: deque[memoryview] = deque()
        self._decoder = TargetDecoder()
        self._told = told

    def receive(self) -> bool:
        """Take commands; False once the client has closed the connection."""
        data = self.connection.recv(2**16)
        for command in self._decoder.feed(data):
            match command:
                case Clear():
                    self.waiting.clear()
                case GetLive():
                    self._answer(encode(Live(())))
                case SendBinaries(count) if count:
                    self._answer(encode(GoSend()))
                case Binary(remaining=remaining) if remaining:
                    self._answer(encode(GoSend()))
                case Start():
                    self._answer(self._told)
        return bool(data)

    def _answer(self, data: bytes) -> None:
        self.waiting.append(memoryview(data))

    def send(self) -> None:
        """Send as much as the connection takes."""
        try:
            while self.waiting:
                rest = self.waiting[0]
                sent = self.connection.send(rest)
                if sent < len(rest):
                    self.waiting[0] = rest[sent:]
                    return
                self.waiting.popleft()
        except BlockingIOError:
            return


def serve(jobs: int, size: int) -> None:
    """All targets, until the process is ended; prints their port first."""
    told = pushes(jobs, size)
    selector = selectors.DefaultSelector()
    port = 0
    for host in HOSTS:
        listener = socket.create_server((host, port))
        port = listener.getsockname()[1]
        listener.setblocking(False)
        selector.register(listener, selectors.EVENT_READ)
    print(port, flush=True)
    while True:
        for key, mask in selector.select():
            target: Target | None = key.data
            if target is None:
                assert isinstance(key.fileobj, socket.socket)
                connection, _ = key.fileobj.accept()
                connection.setblocking(False)
                selector.register(connection, selectors.EVENT_READ, Target(connection, told))
                continue
            try:
                is_open = not mask & selectors.EVENT_READ or target.receive()
                target.send()
            except ConnectionError:
                is_open = False
            if not is_open:
                selector.unregister(target.connection)
                target.connection.close()
                continue
            writing = selectors.EVENT_WRITE if target.waiting else 0
            selector.modify(target.connection, selectors.EVENT_READ | writing, target)


@contextmanager
def targets(jobs: int, size: int) -> Iterator[int]:
    """The port of targets that live as long as the context."""
    command = [sys.executable, __file__, "--serve", str(size), "--jobs", str(jobs)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        try:
            yield int(process.stdout.readline())
        finally:
            process.kill()


def ours(port: int, variants: int, jobs: int, directory: Path) -> Path:
    """The experiment; its file of jobs."""
    binaries = directory / "binaries"
    binaries.mkdir()
    (binaries / "job").write_bytes(b"\0" * 64)
    experiment = Experiment(
        taskset(variants * TARGETS, jobs),
        GenodeSession,
        options={"binaries": str(binaries)},
        targets=HOSTS,
        port=port,
    )
    return experiment.run(directory / "results").directory / "jobs.parquet"


def script(port: int, variants: int, jobs: int, directory: Path) -> Path:
    """What one would write without the package; its file of jobs."""
    u32 = struct.Struct("<I")
    descriptions = next(taskset(1, jobs).variants()).to_xml().encode()
    clear, start = u32.pack(0xDE6), u32.pack(0x514DE5)
    send = u32.pack(0xDE5) + u32.pack(len(descriptions)) + descriptions
    columns: list[pa.Field[Any]] = [
        pa.field("taskset", pa.int64()),
        pa.field("host", pa.string()),
        pa.field("task", pa.int32()),
        pa.field("job", pa.int64()),
        pa.field("start_ns", pa.int64()),
        pa.field("end_ns", pa.int64()),
        pa.field("outcome", pa.string()),
    ]
    schema = pa.schema(columns)
    file, mutex = directory / "jobs.parquet", threading.Lock()

    def run(number: int, writer: pq.ParquetWriter) -> None:
        host = HOSTS[number]
        with (
            socket.create_connection((host, port)) as connection,
            connection.makefile("rb") as read,
        ):
            for variant in range(number, variants * TARGETS, TARGETS):
                connection.sendall(clear + send + start)
                rows, started, counts = list[Any](), dict[int, int](), [0] * TASKS
                while len(rows) < jobs:
                    (size,) = u32.unpack(read.read(4))
                    for event in ET.fromstring(read.read(size)).iter("event"):
                        task, ns = (
                            int(event.attrib["task-id"]),
                            int(event.attrib["time-stamp"]) * MS,
                        )
                        if event.attrib["type"] == "START":
                            started[task] = ns
                        elif event.attrib["type"] == "EXIT":
                            job = counts[task]
                            counts[task] += 1
                            rows.append(
                                (variant, host, task, job, started.pop(task), ns, "finished")
                            )
                values = [pa.array(column) for column in zip(*rows, strict=True)]
                with mutex:
                    writer.write_table(pa.table(values, schema.names).cast(schema))

    with pq.ParquetWriter(file, schema) as writer:
        threads = [threading.Thread(target=run, args=(n, writer)) for n in range(TARGETS)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    return file


def check(file: Path, variants: int, jobs: int) -> None:
    """Compare the jobs in a file with what was sent."""
    table = pq.read_table(file)
    ends = sum(number * PERIOD_MS + 4 for number in range(jobs // TASKS)) * TASKS * MS
    expected = (variants * TARGETS * jobs, variants * TARGETS * ends)
    finished = table.filter(pc.equal(table["outcome"].cast(pa.string()), pa.scalar("finished")))
    found = (finished.num_rows, pc.sum(finished["end_ns"]).as_py())
    if found != expected or table.num_rows != expected[0]:
        sys.exit(f"{file}: must have {expected[0]} finished jobs, has {found[0]}")


def seconds(
    run: Callable[[int, int, int, Path], Path], port: int, variants: int, jobs: int
) -> float:
    """How long one run takes, whose file of jobs must be whole."""
    with tempfile.TemporaryDirectory() as directory:
        before = time.perf_counter()
        file = run(port, variants, jobs, Path(directory))
        took = time.perf_counter() - before
        check(file, variants, jobs)
    return took


def main() -> int:
    """Print the rates and their ratios to the script; 1 if one misses the target."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--jobs", type=int, default=1000, help="of a task set, a multiple of four")
    parser.add_argument("--variants", type=int, default=4, help="for each target")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--serve", type=int, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    jobs, variants = arguments.jobs, arguments.variants
    if arguments.serve is not None:
        serve(jobs, arguments.serve)
    os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:2])
    logging.getLogger("taskgen_run").setLevel(logging.ERROR)
    total = variants * TARGETS * jobs
    slowest = float("inf")
    for size in PUSHES:
        times: list[tuple[float, float]] = []
        with targets(jobs, size) as port:
            seconds(ours, port, 1, jobs)  # imports what is imported when it is needed
            for _ in range(arguments.rounds):
                theirs = seconds(script, port, variants, jobs)
                times.append((seconds(ours, port, variants, jobs), theirs))
        own, other = (statistics.median(side) for side in zip(*times, strict=True))
        print(
            f"{size:3} events a push: {2 * total / own:9,.0f} events/s, {total / own:9,.0f} jobs/s;"
            f" script {2 * total / other:9,.0f} events/s; ratio of times {own / other:.2f}",
            flush=True,
        )
        slowest = min(slowest, 2 * total / own)
    print(f"none of {2 * total} events lost; target: at least {TARGET_RATE} events/s")
    return int(slowest < TARGET_RATE)


if __name__ == "__main__":
    sys.exit(main())
