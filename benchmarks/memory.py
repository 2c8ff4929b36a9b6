"""Peak memory of an experiment of 10³ and of 10⁶ variants, whose session does nothing.

Each is a process of its own: the stream of variants, the distributor, the journal, and the
Parquet files at the end. Other numbers of variants can be given.

    python benchmarks/memory.py
"""

from __future__ import annotations

import logging
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from taskgen_run import Experiment
from taskgen_run.job import Job
from taskgen_run.session import AbstractSession
from taskgen_run.task import Task
from taskgen_run.taskset import TaskSet
from taskgen_run.values import Range

MIB = 2**20


class Nothing(AbstractSession):
    """Does nothing with a task set."""

    computes = True

    def __init__(self, host: str, port: int) -> None: ...

    def start(self, taskset: TaskSet, *params: Any) -> None: ...

    def run(self, taskset: TaskSet) -> list[Job]:
        """No jobs."""
        return []

    def is_running(self, taskset: TaskSet) -> bool:
        """It never is."""
        return False

    def stop(self) -> None: ...

    def close(self) -> None: ...


def child(variants: int) -> None:
    """Process `variants` variants of one task, and print the process's peak memory in bytes."""
    logging.getLogger("taskgen_run").setLevel(logging.WARNING)
    taskset = TaskSet([Task(period=10, executiontime=1, config={"arg1": Range(1, variants)})])
    with tempfile.TemporaryDirectory() as directory:
        Experiment(taskset, Nothing).run(Path(directory, "results"))
    print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024)


def peak(variants: int) -> int:
    """Peak resident memory, in bytes, of a new process."""
    command = [sys.executable, __file__, "--child", str(variants)]
    return int(subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout)


def main() -> None:
    """Print the peak of each number of variants, and the last as a ratio to the first."""
    if sys.argv[1:2] == ["--child"]:
        child(int(sys.argv[2]))
        return
    peaks = []
    for variants in [int(argument) for argument in sys.argv[1:]] or [10**3, 10**6]:
        begin = time.perf_counter()
        peaks.append(peak(variants))
        seconds = time.perf_counter() - begin
        print(f"{variants:>9} variants: {peaks[-1] / MIB:6.1f} MiB, {seconds:6.1f} s", flush=True)
    print(f"ratio: {peaks[-1] / peaks[0]:.2f}")


if __name__ == "__main__":
    main()
