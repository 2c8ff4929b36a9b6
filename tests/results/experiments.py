"""Small experiments for the tests of results; run as a program, one that can be killed.

``python experiments.py DIRECTORY VARIANTS`` writes an experiment, or goes on with it, and says
"open" when it begins.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from taskgen_run.job import Job, JobBatch, Outcome
from taskgen_run.results import ResultWriter
from taskgen_run.task import Task
from taskgen_run.taskset import TaskSet
from taskgen_run.values import Range

MS = 1_000_000
FACTS: dict[str, Any] = {"fingerprint": "f" * 64, "version": "1.0", "seed": 7}
TABLES = ("jobs", "tasks", "tasksets")


def taskset(variants: int = 100_000) -> TaskSet:
    """Two tasks, of which the second has an argument that moves."""
    return TaskSet(
        [
            Task(period=10, executiontime=2.5, quota="64K", pkg="hey"),
            Task(period=5, executiontime=1, config={"arg1": Range(1, variants), "x": {"b": [1]}}),
        ],
        "two",
    )


def variants(numbers: Iterable[int], total: int = 100_000) -> Iterator[TaskSet]:
    """The variants with these numbers."""
    for number in numbers:
        variant = next(taskset(total).variants(number))
        variant.horizon_ns = 20 * MS
        yield variant


def jobs(number: int, attempt: int = 0, host: str = "10.0.0.1") -> JobBatch:
    """The jobs of a variant: a function of its number; one in three is late, some unfinished."""
    rows = []
    for task, period in enumerate((10 * MS, 5 * MS)):
        for job in range(20 * MS // period):
            release = job * period
            row = Job(task, job, release, release + 1, None, release + period)
            row.outcome = Outcome.UNFINISHED if (number + job) % 5 == 0 else Outcome.FINISHED
            if row.outcome is Outcome.FINISHED:
                row.end_ns = release + period + (number % 3 == 0) * (1 + number)
            rows.append(row)
    return JobBatch.from_jobs(rows, taskset=number, attempt=attempt, host=host)


def process(writer: ResultWriter, variant: TaskSet) -> None:
    """Report one variant from its start to its finish."""
    host = f"10.0.0.{variant.variant % 3}"
    writer.on_start(variant, host, 0)
    writer.on_jobs(jobs(variant.variant, host=host))
    writer.on_finish(variant, host, 0)


def run(directory: Path, numbers: Iterable[int], status: str = "finished") -> None:
    """Write, or go on with, an experiment of the variants with these numbers."""
    writer = ResultWriter.open(directory, FACTS)
    print("open", flush=True)
    try:
        for variant in variants(numbers):
            if variant.variant not in writer.finished:
                process(writer, variant)
        writer.finish(status)
    finally:
        writer.close()


def parquet(directory: Path) -> dict[str, bytes]:
    """The bytes of each Parquet file."""
    return {path.name: path.read_bytes() for path in sorted(directory.glob("*.parquet"))}


if __name__ == "__main__":
    run(Path(sys.argv[1]), range(int(sys.argv[2])))
