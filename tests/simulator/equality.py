"""Task sets on which fastsim and SimSo must agree, random and full of ties, and the comparison.

    python tests/simulator/equality.py --sets 5000 [--seed 0]

simulates that many task sets with both, under every scheduler and option that both have, compares
every column and every segment, and prints how many sets each scheduler had, and the first that
differ.
"""

from __future__ import annotations

import argparse
import logging
import random
import sys
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa

from taskgen_run.errors import BugError
from taskgen_run.job import JobBatch
from taskgen_run.sessions._simulation import COSTS
from taskgen_run.sessions.fastsim import FastSimSession
from taskgen_run.sessions.simso import SimSoSession
from taskgen_run.task import Task
from taskgen_run.taskset import TaskSet

OWN = Path(__file__).parent / "schedulers"
SCHEDULERS = {
    **{name: name for name in ("RM", "DM", "FP", "EDF", "P_RM", "P_EDF")},
    "NP_FP": str(OWN / "np_fp.py"),
    "NP_EDF": str(OWN / "np_edf.py"),
}
"""What SimSo calls each scheduler; it has none that is not preemptive, so it is given some."""

Case = tuple[list[Task], dict[str, Any]]


def random_case(rng: random.Random) -> Case:
    """A task set and options for it."""
    options = _random_options(rng)
    cpus = options["cpus"]
    periods: list[float] = rng.choice(
        [
            [10.0],
            [4, 8],
            [5, 10, 20],
            [2, 4, 8, 16],
            [4, 6, 10, 12],
            [3, 5, 7, 11],
            [rng.randint(20, 400) / 10 for _ in range(6)],
            [rng.randint(2_000_000, 40_000_000) / 1_000_000 for _ in range(6)],
        ]
    )
    members = []
    for _ in range(rng.randint(1, rng.choice([3, 4, 4 * cpus, 12]))):
        period = rng.choice(periods)
        task = Task(period=period, priority=rng.choice([0, 0, 1, 1, 2, 3, rng.randint(0, 128)]))
        share = rng.choice([0.1, 0.2, 0.25, 0.5, 0.5, 0.75, 1, rng.random(), 1.5 * rng.random()])
        task["executiontime"] = rng.choice(
            [0, 1, 2, round(period * share, 1), round(period * share), round(period * share, 6)]
        )
        task["offset"] = rng.choice([0, 0, 0, 0, 1, 2, period, rng.randint(0, 100) / 10])
        deadline = rng.choice(
            [None, None, None, period, 0, 1, 2, 4, 5, 8, 20, 50, round(period * rng.random(), 3)]
        )
        if deadline is not None:
            task["deadline"] = deadline
        if rng.random() < 0.1:
            task["numberofjobs"] = rng.randint(1, 4)
        if rng.random() < 0.1:
            task["criticaltime"] = rng.choice([1, 3, period, 2 * period])
        members.append(task)
    if rng.random() < 0.15:
        members.insert(
            rng.randrange(len(members) + 1),
            Task(executiontime=rng.choice([0, 1, 5, 12.5]), offset=rng.choice([0, 2]), priority=1),
        )
    return members, options


def _random_options(rng: random.Random) -> dict[str, Any]:
    options: dict[str, Any] = {
        "scheduler": rng.choice([*SCHEDULERS]),
        "cpus": rng.choice([1, 1, 2, 2, 3, 4]),
        "on_miss": rng.choice(["continue", "continue", "abort"]),
        "duration_ms": rng.choice([20, 40, 60.5, "auto"]),
        "duration_cap_ms": 100,
        "trace": True,
    }
    if rng.random() < 0.4:
        for name in COSTS:
            options[name] = rng.choice([0, 0, 0.1, 0.5, 1, 0.000001, rng.randint(0, 2000) / 1000])
    return options


def simso_answer(members: list[Task], options: dict[str, Any]) -> tuple[pa.RecordBatch, Any]:
    """The jobs and segments of SimSo."""
    taskset = TaskSet([task.copy() for task in members], "both")
    session = SimSoSession("", 0, **{**options, "scheduler": SCHEDULERS[options["scheduler"]]})
    session.start(taskset)
    jobs: Any = []
    while session.is_running(taskset):
        jobs = session.run(taskset)
    batch = JobBatch.from_jobs(jobs, taskset=0, attempt=0, host="").record_batch
    return batch, session.segments()


def fastsim_answer(members: list[Task], options: dict[str, Any]) -> tuple[pa.RecordBatch, Any]:
    """The jobs and segments of the simulator."""
    session = FastSimSession("", 0, **options)
    jobs = session.run_batch([TaskSet([task.copy() for task in members], "both")])
    return jobs, session.segments()


def differences(members: list[Task], options: dict[str, Any]) -> Iterator[str]:
    """What differs between the two, row by row."""
    expected = simso_answer(members, options)
    found = fastsim_answer(members, options)
    for name, one, other in zip(("jobs", "segments"), expected, found, strict=True):
        if one.equals(other):
            continue
        rows, other_rows = one.to_pylist(), other.to_pylist()
        yield f"{name}: {len(rows)} and {len(other_rows)} rows"
        for row, other_row in zip(rows, other_rows, strict=False):
            if row != other_row:
                yield f"simso   {row}\nfastsim {other_row}"
                break


def main(arguments: list[str]) -> int:
    """Compare as many task sets as asked for; 1 if any differs."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--sets", type=int, default=5000)
    parser.add_argument("--seed", type=int, default=0)
    asked = parser.parse_args(arguments)
    counts: Counter[str] = Counter()
    failures: Counter[str] = Counter()
    logging.disable()
    begin = time.monotonic()
    for number in range(asked.sets):
        members, options = random_case(random.Random(f"{asked.seed}/{number}"))
        kind = options["scheduler"]
        try:
            different = list(differences(members, options))
        except BugError as error:
            print(f"set {number}: SimSo fails: {error}")
            failures["SimSo fails"] += 1
            continue
        counts[kind] += 1
        if different:
            failures[kind] += 1
            if failures[kind] <= 3:
                print(f"set {number}: {options}", *members, *different, sep="\n  ")
    print(f"{asked.sets} sets in {time.monotonic() - begin:.0f} s: {dict(sorted(counts.items()))}")
    print(f"different: {dict(failures) or 'none'}")
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
