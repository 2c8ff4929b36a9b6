"""What it costs to distribute variants over 64 sessions that do nothing with them.

::

    python benchmarks/distribution.py [--variants 100000] [--rounds 5]

The variants are made lazily by a task set of one task. Each line is a median: wall-clock ms per
variant, of the distributor for real targets without and with the writer of results (down to the
Parquet files), of the one for sessions that compute, and of what one would write instead, a
`concurrent.futures.ThreadPoolExecutor` that maps the same variants over the same kind of
sessions. They take turns in one process.
"""

from __future__ import annotations

import argparse
import logging
import statistics
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, ClassVar

from taskgen_run import Experiment
from taskgen_run.computing import Computing, usable_cores
from taskgen_run.distributor import Distributor
from taskgen_run.hosts import TargetRange
from taskgen_run.interrupts import Interrupts
from taskgen_run.job import Job
from taskgen_run.monitor import AbstractMonitor
from taskgen_run.session import AbstractSession
from taskgen_run.targets import Targets
from taskgen_run.task import Task
from taskgen_run.taskset import TaskSet
from taskgen_run.values import Range

SESSIONS = 64
HOSTS = [f"127.2.0.{number}" for number in range(1, SESSIONS + 1)]
PORT = 3001
TARGET_MS = 0.2


class Idle(AbstractSession):
    """Does nothing with a task set, and counts those that it was given."""

    started: ClassVar[list[int]] = []

    def __init__(self, host: str, port: int) -> None: ...

    @classmethod
    def available(cls, hosts: Any, port: int, timeout: float) -> Iterator[str]:
        """All of them."""
        return iter(hosts)

    def start(self, taskset: TaskSet, *params: Any) -> None:
        self.started.append(taskset.variant)

    def run(self, taskset: TaskSet) -> list[Job]:
        """No jobs."""
        return []

    def is_running(self, taskset: TaskSet) -> bool:
        """It never is."""
        return False

    def stop(self) -> None: ...

    def close(self) -> None: ...


class IdleComputing(Idle):
    """The same, as a session that computes."""

    computes = True


class Counter(AbstractMonitor):
    """Counts what has finished."""

    def __init__(self) -> None:
        self.finished = 0

    def on_finish(self, taskset: TaskSet, host: str, attempt: int) -> None:
        self.finished += 1


def variants(count: int) -> TaskSet:
    """A task set of that many variants."""
    return TaskSet([Task(period=10, executiontime=1, config={"arg1": Range(1, count)})], "idle")


def connect(host: str) -> Idle:
    """What the distributors make sessions with."""
    return Idle(host, PORT)


def targets(count: int) -> int:
    """How many variants the distributor for real targets has finished."""
    monitor = Counter()
    with Interrupts() as interrupts:
        Targets(
            session=Idle,
            connect=connect,
            targets=TargetRange(HOSTS),
            port=PORT,
            monitor=monitor,
            interrupts=interrupts,
        ).run(variants(count).variants())
    return monitor.finished


def experiment(count: int) -> int:
    """The same, of a whole experiment: with its writer and the Parquet files at the end."""
    with tempfile.TemporaryDirectory() as directory:
        Experiment(variants(count), Idle, targets=HOSTS).run(Path(directory, "results"))
    return count


def computing(count: int) -> int:
    """How many variants the distributor for sessions that compute has finished."""
    monitor = Counter()
    with Interrupts() as interrupts:
        alone = Distributor(
            connect=connect,
            targets=TargetRange(HOSTS),
            monitor=monitor,
            interrupts=interrupts,
        )
        Computing(alone, usable_cores()).run(variants(count).variants())
    return monitor.finished


def pool(count: int) -> int:
    """How many variants a pool of threads has finished."""
    own = threading.local()
    hosts = iter(HOSTS)

    def begin() -> None:
        own.session = Idle(next(hosts), PORT)

    def process(taskset: TaskSet) -> bool:
        session: Idle = own.session
        session.start(taskset)
        running = True
        while running:
            session.run(taskset)
            running = session.is_running(taskset)
        return True

    with ThreadPoolExecutor(SESSIONS, initializer=begin) as executor:
        return sum(executor.map(process, variants(count).variants()))


def ms_each(run: Callable[[int], int], count: int) -> float:
    """Wall-clock ms per variant; every variant must have been processed exactly once."""
    Idle.started.clear()
    before = time.perf_counter()
    finished = run(count)
    took = time.perf_counter() - before
    started = sorted(Idle.started)
    if finished != count or (run is not computing and started != list(range(count))):
        sys.exit(f"{run.__name__}: {finished} of {count} finished, {len(started)} started")
    return 1000 * took / count


def main() -> int:
    """Print the medians and their ratios to the pool; 1 if one misses the target."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--variants", type=int, default=100_000)
    parser.add_argument("--rounds", type=int, default=5)
    arguments = parser.parse_args()
    logging.getLogger("taskgen_run").setLevel(logging.ERROR)
    runs = {
        "thread pool": pool,
        "targets": targets,
        "targets, with results": experiment,
        "computing": computing,
    }
    times: dict[str, list[float]] = {name: [] for name in runs}
    for _ in range(arguments.rounds):
        for name, run in runs.items():
            times[name].append(ms_each(run, arguments.variants))
    medians = {name: statistics.median(values) for name, values in times.items()}
    for name, each in medians.items():
        ratio = each / medians["thread pool"]
        print(
            f"{name:22} {each:.4f} ms per variant, best {min(times[name]):.4f}, ratio {ratio:.2f}"
        )
    print(f"target: at most {TARGET_MS} ms with {SESSIONS} sessions, {arguments.variants} variants")
    return int(max(medians.values()) > TARGET_MS)


if __name__ == "__main__":
    sys.exit(main())
