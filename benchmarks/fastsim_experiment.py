"""Whole experiments with session=fastsim beside session=simso: the command line, down to Parquet.

::

    python benchmarks/fastsim_experiment.py [--rounds 3]

Ten tasks with random periods and execution times, in many variants: small task sets of about 100
jobs, and large ones of about 3 300. Each experiment is a process of its own on two cores, its
results are counted, and its first task sets have the rows of session=simso. What users would take
instead is the same command with session=simso, which gets fewer variants. From each time, that of
the same command with one variant is taken off. Each line is a median; CPU time is that of all
processes, which what else runs on the machine disturbs less.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc

from taskgen_run import results

CORES = 2
SETS_PER_SECOND = 5_000
JOBS_PER_SECOND = 1_000_000
TASKS = 10
MOVING = 2
"""Tasks whose execution times are gone through; those of the others are random."""


@dataclass(frozen=True)
class Case:
    """An experiment: how long each of `sets` is simulated, and of how many with SimSo."""

    name: str
    duration_ms: int
    sets: int
    sets_of_simso: int


CASES = (Case("small", 140, 60_000, 300), Case("large", 5_000, 3_000, 12))


@dataclass(frozen=True)
class Taken:
    """What an experiment took, in seconds."""

    wall: float
    cpu: float

    def __sub__(self, other: Taken) -> Taken:
        return Taken(self.wall - other.wall, self.cpu - other.cpu)


def configuration() -> str:
    """The task set: utilization about 0.65 on average."""
    lines = ["# Ten tasks with random periods and execution times.", "tasks:"]
    for number in range(TASKS):
        moves = number >= TASKS - MOVING
        time_ms = "{range: [0.1, 2, 0.005]}" if moves else "{random: [0.2, 1.7, 0.001]}"
        lines.append(f"  - {{period: {{random: [8, 24]}}, executiontime: {time_ms}}}")
    return "\n".join(lines) + "\n"


def run(directory: Path, session: str, case: Case, sets: int) -> Taken:
    """Run one experiment into `directory`, anew."""
    command = [
        *(sys.executable, "-m", "taskgen_run", "--config-dir", "../conf"),
        *(f"session={session}", "taskset=random", f"session.duration_ms={case.duration_ms}"),
        *(f"max_variants={sets}", f"workers={CORES}", f"hydra.run.dir={directory}", "rerun=true"),
    ]
    directory.parent.mkdir(exist_ok=True)
    cores = sorted(os.sched_getaffinity(0))[:CORES]
    before, begin = os.times(), time.perf_counter()
    subprocess.run(
        command,
        check=True,
        capture_output=True,
        cwd=directory.parent,
        preexec_fn=lambda: os.sched_setaffinity(0, cores),
    )
    wall, after = time.perf_counter() - begin, os.times()
    used = after.children_user + after.children_system
    return Taken(wall, used - before.children_user - before.children_system)


def median(taken: list[Taken]) -> Taken:
    """The medians of both times."""
    return Taken(
        statistics.median(one.wall for one in taken), statistics.median(one.cpu for one in taken)
    )


def jobs(directory: Path, sets: int) -> pa.Table:
    """The jobs of the first `sets` variants."""
    table = results.read(directory, "jobs")
    return table.filter(pc.less(table["taskset"], pa.scalar(sets)))


def counted(directory: Path, sets: int) -> int:
    """How many jobs there are; every variant must be there once, finished, with its jobs."""
    table = results.read(directory, "tasksets")
    if table["taskset"].to_pylist() != list(range(sets)):
        raise SystemExit(f"{directory}: not every variant is there once")
    if set(table["outcome"].to_pylist()) != {"finished"}:
        raise SystemExit(f"{directory}: not every variant has finished")
    per_set = pc.value_counts(results.read(directory, "jobs")["taskset"])
    found = dict(zip(*(per_set.field(n).to_pylist() for n in (0, 1)), strict=True))
    if found != dict(zip(table["taskset"].to_pylist(), table["jobs"].to_pylist(), strict=True)):
        raise SystemExit(f"{directory}: not every job is there")
    return sum(found.values())


def measure(root: Path, case: Case, rounds: int) -> bool:
    """Print what a case took; whether it is as fast as it is to be."""
    taken: dict[str, list[Taken]] = {"fastsim": [], "simso": []}
    sizes = {"fastsim": case.sets, "simso": case.sets_of_simso}
    for _ in range(rounds):
        for session, sets in sizes.items():
            start = run(root / f"{session}-1", session, case, 1)
            taken[session].append(run(root / session, session, case, sets) - start)
    rates = {}
    for session, sets in sizes.items():
        count, middle = counted(root / session, sets), median(taken[session])
        rates[session] = count / middle.wall
        print(
            f"{case.name:6} {session:8} {sets:6} {count:9,} {sets / middle.wall:10,.0f} "
            f"{count / middle.wall:12,.0f} {1e6 * middle.cpu / sets:12,.0f}"
        )
    few = case.sets_of_simso
    if not jobs(root / "fastsim", few).equals(jobs(root / "simso", few)):
        raise SystemExit(f"{case.name}: the rows of fastsim are not those of simso")
    print(f"{case.name:6} {rates['fastsim'] / rates['simso']:.0f} times as fast\n")
    wall = median(taken["fastsim"]).wall
    if case.name == "small":
        return case.sets / wall >= SETS_PER_SECOND
    return rates["fastsim"] >= JOBS_PER_SECOND


def main() -> int:
    """Measure and print; 1 if a target is missed."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=3)
    rounds = parser.parse_args().rounds
    with tempfile.TemporaryDirectory() as temporary:
        root = Path(temporary)
        (root / "conf" / "taskset").mkdir(parents=True)
        (root / "conf" / "taskset" / "random.yaml").write_text(configuration())
        run(root / "first" / "one", "fastsim", CASES[0], 1)  # compiles, if that is still to be done
        print("case   session    sets      jobs     sets/s       jobs/s  CPU µs/set")
        fast = [measure(root / case.name, case, rounds) for case in CASES]
    print(
        f"target: {SETS_PER_SECOND:,} small task sets and {JOBS_PER_SECOND:,} jobs of large ones "
        f"per second on {CORES} cores"
    )
    return 0 if all(fast) else 1


if __name__ == "__main__":
    sys.exit(main())
