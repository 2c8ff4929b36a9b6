"""What SimSoSession costs over SimSo itself: 10 tasks, 20 000 jobs, RM on one processor.

Both sides simulate the same task set in ns and end with every job's times in memory; ours also
turns them into an Arrow batch and writes them as Parquet. They take turns in one process.

    python benchmarks/simso_overhead.py [ROUNDS]
"""

from __future__ import annotations

import gc
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from taskgen_run.job import JobBatch
from taskgen_run.sessions import _simso_parts  # noqa: F401  # imports SimSo without its warnings
from taskgen_run.sessions.simso import SimSoSession
from taskgen_run.task import Task
from taskgen_run.taskset import TaskSet

# isort: split
from simso.configuration import Configuration
from simso.core import Model

PERIODS_MS = (8, 9, 10, 11, 12, 8, 9, 10, 11, 12)
DURATION_MS = 19_620
EXECUTION_MS = 0.8
NS = 1_000_000
TARGET = 1.05


def bare() -> int:
    """A script that uses SimSo: simulate, and read the results of each job."""
    configuration = Configuration()
    configuration.cycles_per_ms = 1
    configuration.duration = DURATION_MS * NS
    for number, period in enumerate(PERIODS_MS):
        configuration.add_task(
            f"T{number}",
            number,
            abort_on_miss=False,
            period=period * NS,
            deadline=period * NS,
            wcet=int(EXECUTION_MS * NS),
        )
    configuration.add_processor("CPU 0", 0)
    configuration.scheduler_info.clas = "simso.schedulers.RM"
    model = Model(configuration)
    model.run_model()
    rows = [
        (
            job.activation_date,
            job.start_date,
            job.end_date,
            job.absolute_deadline,
            job.aborted,
            job.preemption_count,
            job.migration_count,
        )
        for task in model.results.tasks.values()
        for job in task.jobs
    ]
    return len(rows)


def ours(file: Path) -> int:
    """The same through the session, down to a Parquet file."""
    taskset = TaskSet([Task(period=p, executiontime=EXECUTION_MS) for p in PERIODS_MS], "overhead")
    session = SimSoSession("127.0.0.1", 0, scheduler="RM", duration_ms=DURATION_MS)
    session.start(taskset)
    jobs = []
    while session.is_running(taskset):
        jobs += session.run(taskset)
    batch = JobBatch.from_jobs(jobs, taskset=0, attempt=0, host="127.0.0.1")
    pq.write_table(pa.Table.from_batches([batch.record_batch]), file)
    session.close()
    return len(jobs)


def seconds(run: Callable[[], int]) -> tuple[float, int]:
    """How long `run` takes, and how many jobs it counted."""
    gc.collect()
    before = time.perf_counter()
    count = run()
    return time.perf_counter() - before, count


def main() -> int:
    """Print both medians and their ratio; 1 if it misses the target."""
    rounds = int(sys.argv[1]) if len(sys.argv) > 1 else 7
    with tempfile.TemporaryDirectory() as directory:
        file = Path(directory) / "jobs.parquet"
        bare(), ours(file)
        times: list[tuple[float, float]] = []
        for _ in range(rounds):
            theirs, their_count = seconds(bare)
            own, own_count = seconds(lambda: ours(file))
            times.append((theirs, own))
    simso, session = (statistics.median(side) for side in zip(*times, strict=True))
    # SimSo also releases a job of a task at the end of the simulation, ours does not.
    print(f"SimSo    {simso:.3f} s for {their_count} jobs")
    print(f"session  {session:.3f} s for {own_count} jobs")
    print(f"ratio    {session / simso:.3f} (target: at most {TARGET})")
    return int(session / simso > TARGET)


if __name__ == "__main__":
    sys.exit(main())
