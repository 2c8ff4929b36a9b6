"""Jobs per second of session=fastsim beside session=simso, in one process.

    python benchmarks/fastsim.py [ROUNDS]

Ten tasks, U = 0.7, on one processor and U = 2.8 on four, 4000 jobs a set, with all columns as an
Arrow batch: a hundred different sets in a batch of fastsim's, of which SimSo has the first ten; the
cost of a job with 10 to 1000 tasks; and small task sets per second. In CPU time, which what else
runs on the machine disturbs less. The exit code is 1 if fastsim is not 1000 times as fast on one
processor, and 500 times under EDF on four.
"""

from __future__ import annotations

import logging
import random
import statistics
import sys
import time
from collections.abc import Callable
from typing import Any

from taskgen_run.job import JobBatch
from taskgen_run.sessions.fastsim import FastSimSession
from taskgen_run.sessions.simso import SimSoSession
from taskgen_run.task import Task
from taskgen_run.taskset import TaskSet

CASES = (("RM", 1, 0.7), ("EDF", 1, 0.7), ("P_EDF", 4, 2.8), ("RM", 4, 2.8), ("EDF", 4, 2.8))
TARGETS = {("RM", 1): 1000, ("EDF", 1): 1000, ("EDF", 4): 500}
SETS, SETS_OF_SIMSO = 100, 10
PERIODS_MS = (8, 9, 10, 11, 12, 15, 16, 18, 20, 24)


def taskset(count: int, utilization: float, seed: int = 0) -> TaskSet:
    """Tasks whose utilizations are even; their periods are those above, in random order."""
    rng = random.Random(seed)
    periods = [rng.choice(PERIODS_MS) for _ in range(count)]
    share = utilization / count
    return TaskSet([Task(period=p, executiontime=round(p * share, 6)) for p in periods], "even")


def simso_rate(tasksets: list[TaskSet], **options: Any) -> float:
    """Jobs per second of SimSoSession, which end as Arrow batches."""
    begin = time.process_time()
    session = SimSoSession("", 0, **options)
    rows = 0
    for members in tasksets:
        session.start(members)
        jobs: Any = []
        while session.is_running(members):
            jobs = session.run(members)
        rows += len(JobBatch.from_jobs(jobs, taskset=0, attempt=0, host=""))
    return rows / (time.process_time() - begin)


def fastsim_rate(members: list[TaskSet], **options: Any) -> float:
    """Jobs per second of FastSimSession, which end as an Arrow batch."""
    begin = time.process_time()
    rows = FastSimSession("", 0, **options).run_batch(members).num_rows
    return float(rows / (time.process_time() - begin))


def median(rounds: int, measure: Callable[[], float]) -> float:
    """The median of some measurements."""
    return statistics.median(measure() for _ in range(rounds))


def main(rounds: int) -> int:
    """Measure, and print; 1 if a target is missed."""
    logging.disable()
    fastsim_rate([taskset(2, 0.5)], duration_ms=100)  # compiles
    missed = 0
    print("scheduler  cpus   simso jobs/s   fastsim jobs/s   times")
    for scheduler, cpus, utilization in CASES:
        options: dict[str, Any] = {"scheduler": scheduler, "cpus": cpus, "duration_ms": 5_000}
        members = [taskset(10, utilization, seed) for seed in range(SETS)]
        slow_rates, fast_rates = [], []
        fastsim_rate(members, **options)  # memory that the process keeps is asked for once
        for _ in range(rounds):
            slow_rates.append(simso_rate(members[:SETS_OF_SIMSO], **options))
            fast_rates.append(fastsim_rate(members, **options))
        slow, fast = statistics.median(slow_rates), statistics.median(fast_rates)
        print(f"{scheduler:9}  {cpus:4}   {slow:12,.0f}   {fast:14,.0f}   {fast / slow:5,.0f}")
        missed += fast / slow < TARGETS.get((scheduler, cpus), 0)
    print("\ntasks  ns per job, RM on one processor, EDF on four")
    for count in (10, 100, 1000):
        costs = [
            1e9 / median(rounds, lambda c=count, o=o: fastsim_rate([taskset(c, 0.7)], **o))  # type: ignore[misc]
            for o in (
                {"duration_ms": 3_000_000 / count},
                {"duration_ms": 3_000_000 / count, "scheduler": "EDF", "cpus": 4},
            )
        ]
        print(f"{count:5}  {costs[0]:5.0f} {costs[1]:5.0f}")
    batch = [taskset(10, 0.7, seed) for seed in range(1000)]
    seconds = statistics.median(_seconds(batch) for _ in range(rounds))
    print(f"\n{len(batch) / seconds:,.0f} task sets of about 100 jobs per second, on one core")
    return int(missed > 0)


def _seconds(batch: list[TaskSet]) -> float:
    begin = time.process_time()
    FastSimSession("", 0, duration_ms=130).run_batch(batch)
    return time.process_time() - begin


if __name__ == "__main__":
    sys.exit(main(int(sys.argv[1]) if len(sys.argv) > 1 else 3))
