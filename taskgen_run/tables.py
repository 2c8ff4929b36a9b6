"""The small tables that the command line prints: what would run, and what came of it."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable
from pathlib import Path

from taskgen_run.experiment import Experiment, Report

SHOWN_TASKS = 20
"""How many tasks a summary shows; the files have them all."""


def shown(directory: Path) -> str:
    """The path as a person would type it: relative when it lies below the working directory."""
    absolute = directory.absolute()
    below = absolute.is_relative_to(Path.cwd())
    return os.path.relpath(absolute) if below else str(absolute)


def show_plan(planned: Iterable[tuple[str, Experiment, Path, bool]]) -> None:
    """A row for every experiment: its title, itself, its directory, whether it is run again."""
    rows = []
    for title, experiment, directory, rerun in planned:
        wanted = experiment.variant_count
        done = 0 if rerun else len(experiment.state(directory).finished)
        rows.append(
            (
                title,
                f"{experiment.hosts} ({experiment.hosts.count})",
                "unknown" if wanted is None else str(wanted),
                str(done),
                shown(directory),
            )
        )
    _print(("experiment", "targets (hosts)", "variants", "finished", "directory"), rows)


def show_sweep(experiments: Iterable[tuple[str, Path]]) -> None:
    """A row for every experiment of a sweep: its title, what came of it, and its directory."""
    from taskgen_run import results

    rows = []
    for title, directory in experiments:
        totals = results.totals(directory)
        jobs, misses = totals.get("jobs", 0), totals.get("deadline_misses", 0)
        known = jobs - totals.get("unknown_misses", 0)
        ratio = f"{misses / known:.2%}" if known else ""
        rows.append((title, str(jobs), _misses(misses, jobs, known), ratio, shown(directory)))
    _print(("experiment", "jobs", "misses", "miss ratio", "directory"), rows)


def show_summary(report: Report) -> None:
    """Jobs, worst response time and misses of each task, and where the results are."""
    from taskgen_run import results

    rows = []
    summary = results.summary(report.directory).to_pylist()
    for row in summary:
        worst, jobs = row["worst_response_ns"], row["jobs"]
        rows.append(
            (
                str(row["task"]),
                str(jobs),
                "" if worst is None else f"{worst / 1e6:g} ms",
                _misses(row["deadline_misses"], jobs, jobs - row["unknown_misses"]),
            )
        )
    if rows:
        _print(("task", "jobs", "worst response time", "misses"), rows[:SHOWN_TASKS])
    if len(rows) > SHOWN_TASKS:
        say(f"… and {len(rows) - SHOWN_TASKS} more tasks")
    if not_finished := sum(row["not_finished"] for row in summary):
        say(f"{not_finished} jobs did not finish; `outcome` in jobs.parquet tells how they ended")
    say(f"results in {shown(report.directory)}")


def _misses(misses: int, jobs: int, known: int) -> str:
    """How many jobs have missed their deadline, as far as that is known."""
    if known == jobs:
        return str(misses)
    return f"{misses} of {known} known" if known else "unknown"


def say(line: str) -> None:
    """Print a line; when nobody reads the output any more, it goes nowhere and the run goes on."""
    try:
        print(line, flush=True)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _print(header: Iterable[str], rows: Iterable[Iterable[str]]) -> None:
    # Imported here: slow to import, and most mistakes end before the first table.
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(*header)
    for row in rows:
        table.add_row(*map(Text, row))
    console = Console(file=sys.stdout, width=None if sys.stdout.isatty() else 160)
    with console.capture() as capture:
        console.print(table)
    say(capture.get().rstrip("\n"))
