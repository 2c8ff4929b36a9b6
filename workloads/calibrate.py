"""How long the workloads take on this machine: CPU time per `arg1`, from repeated runs.

``make -C workloads calibrate``, or ``python workloads/calibrate.py [DIRECTORY] [--runs N]`` for
binaries that lie elsewhere. Needs nothing but Python ≥ 3.11.
"""

from __future__ import annotations

import argparse
import os
import statistics
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

HERE = Path(__file__).parent


def linpack_operations(order: int) -> float:
    """Floating-point operations that solve a system of that order, by the benchmark's count."""
    return 2 * order**3 / 3 + 2 * order**2


@dataclass(frozen=True)
class Workload:
    """What to run, and how much work, counted in `unit`, an argument means."""

    name: str
    arguments: tuple[int | None, ...]
    unit: str = ""
    work: Callable[[int], float] = float


WORKLOADS = (
    Workload("hey", (None,)),
    Workload("namaste", (None,)),
    Workload("pi", (0, 100_000, 1_000_000, 10_000_000), "terms"),
    Workload("tumatmul", (0, 50_000, 1_000_000, 10_000_000), "numbers"),
    Workload("linpack", (0, 100, 200, 400), "operations", linpack_operations),
    Workload("cond_42", (42, 41)),
    Workload("cond_mod", (2, 1)),
)
"""All but `idle`, which never ends and needs no processor."""


def cpu_ms(command: list[str]) -> float:
    """CPU time in ms, user and system, of one run. Exits if the run fails."""
    silent = (os.POSIX_SPAWN_OPEN, 1, os.devnull, os.O_WRONLY, 0)
    child = os.posix_spawn(command[0], command, os.environ, file_actions=[silent])
    _, status, usage = os.wait4(child, 0)
    if status:
        code = os.waitstatus_to_exitcode(status)
        sys.exit(f"{' '.join(command)}: must end with status 0, got {code}")
    return (usage.ru_utime + usage.ru_stime) * 1000


def calibrate(workload: Workload, directory: Path, runs: int) -> None:
    """Print a line for each argument of the workload."""
    least_work_ms = 0.0
    for argument in workload.arguments:
        command = [str(directory / workload.name)] + ([] if argument is None else [str(argument)])
        times = [cpu_ms(command) for _ in range(runs)]
        median = statistics.median(times)
        speed = ""
        if not argument:
            least_work_ms = median
        elif workload.unit and median > least_work_ms:
            per_ms = workload.work(argument) / (median - least_work_ms)
            speed = f"{per_ms:.0f} {workload.unit}"
        print(
            f"{workload.name:10}{'' if argument is None else argument:>10}"
            f"{min(times):12.3f}{median:12.3f}{max(times):12.3f}   {speed}"
        )


def main() -> None:
    """Print a table of all workloads."""
    parser = argparse.ArgumentParser(description="Measure the CPU time of workloads per arg1.")
    parser.add_argument("directory", nargs="?", type=Path, default=HERE / "build")
    parser.add_argument("--runs", type=int, default=21, help="runs of each argument (21)")
    options = parser.parse_args()
    if options.runs < 1:
        parser.error(f"--runs must be ≥ 1, got {options.runs}")
    for workload in WORKLOADS:
        if not (options.directory / workload.name).is_file():
            parser.error(
                f"{options.directory} must hold {workload.name}; run `make -C {HERE}` first"
            )
    print(f"CPU time in ms of {options.runs} runs; work per ms without what arg1 = 0 takes")
    print(f"{'workload':10}{'arg1':>10}{'least':>12}{'median':>12}{'most':>12}   work per ms")
    for workload in WORKLOADS:
        calibrate(workload, options.directory, options.runs)


if __name__ == "__main__":
    main()
