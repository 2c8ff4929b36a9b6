"""A result directory as a whole: whose it is, how far it is, and what rows it holds."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Any

import pyarrow as pa

from taskgen_run.errors import ConfigurationError
from taskgen_run.results import files, journal, tables
from taskgen_run.results.intervals import Intervals
from taskgen_run.results.schemas import REQUIRED
from taskgen_run.results.streams import of_variants


class Status(StrEnum):
    """How an experiment stands, as experiment.json says it."""

    RUNNING = "running"
    FINISHED = "finished"
    FAILED = "failed"  # variants failed or an error ended it
    STOPPED = "stopped"

    @property
    def is_complete(self) -> bool:
        """Whether the Parquet files are there and tell everything."""
        return self in (Status.FINISHED, Status.FAILED)


class Kind(StrEnum):
    """What a directory is to an experiment."""

    ABSENT = "absent"  # nothing there, or nothing of any experiment
    PARTIAL = "partial"  # begun, and not brought to its end
    FINISHED = "finished"  # Parquet files, without failures
    FAILED = "failed"  # Parquet files of an experiment that failed or has failed variants
    OUTDATED = "outdated"  # results of another version of the package
    FOREIGN = "foreign"  # another experiment, or files that are not ours


@dataclass(frozen=True)
class State:
    """What a directory is to an experiment, why, and which variants it has results of."""

    kind: Kind
    reason: str = ""
    """Of FOREIGN and OUTDATED, what to tell the user, on one line."""
    finished: Intervals = field(default_factory=Intervals)
    failed: Intervals = field(default_factory=Intervals)

    def require_usable(self, *, rerun: bool) -> None:
        """Raise ConfigurationError unless the experiment may be written there."""
        if self.kind is Kind.FOREIGN or (self.kind is Kind.OUTDATED and not rerun):
            raise ConfigurationError(self.reason)


@dataclass
class Contents:
    """The rows of a directory, wherever they are: in its journal or in its Parquet files."""

    directory: Path
    journal: Path | None = None
    commits: int = 0
    finished: Intervals = field(default_factory=Intervals)
    failed: Intervals = field(default_factory=Intervals)
    jobs: int = 0
    """Of the finished variants, in their last attempts."""
    deadline_misses: int = 0
    """Likewise."""
    unknown_misses: int = 0
    """Likewise."""

    def rows(self, table: str, *variants: Intervals) -> Iterator[pa.RecordBatch]:
        """The rows of the `variants`, with text instead of dictionaries."""
        return of_variants(self._all_rows(table), *variants)

    def columns(self, table: str) -> pa.Schema | None:
        """The schema of a table, with or without dictionaries; None if there is no such table."""
        if self.journal is not None:
            return journal.columns(self.journal, table)
        path = files.parquet(self.directory, table)
        return tables.read_schema(path) if path.exists() else None

    def _all_rows(self, table: str) -> Iterator[pa.RecordBatch]:
        path = files.parquet(self.directory, table)
        if self.journal is not None:
            yield from journal.read(self.journal, table, self.commits)
        elif path.exists():
            yield from tables.read(path)


def record(directory: Path) -> dict[str, Any] | None:
    """The content of experiment.json; None if there is none.

    Raises ConfigurationError if it is not one that we wrote.
    """
    path = directory / files.RECORD
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (FileNotFoundError, NotADirectoryError):
        return None
    except (OSError, ValueError) as error:
        raise ConfigurationError(f"{path}: cannot be read: {error}") from error
    known = (
        isinstance(content, dict)
        and {"status", "fingerprint", "version", "started"} <= content.keys()
    )
    if not known or content["status"] not in list(Status):
        raise ConfigurationError(f"{path}: is not an experiment of taskgen_run")
    return dict(content)


def contents(directory: Path, status: Status) -> Contents:
    """Where the rows of an experiment are, and which of its variants have ended.

    Its Parquet files count once it is complete; until then its journal, if there is one.
    Raises InfrastructureError for a damaged journal.
    """
    found = Contents(directory)
    generations = files.journals(directory)
    if generations and not status.is_complete:
        found.journal = files.journal(directory, generations[-1])
        found.commits = journal.commits(found.journal)
    elif not all(files.parquet(directory, table).exists() for table in REQUIRED):
        return found  # someone removed a file: nothing of the experiment counts any more
    for batch in found._all_rows("tasksets"):
        names = ("taskset", "outcome", "jobs", "deadline_misses", "unknown_misses")
        for number, outcome, jobs, misses, unknown in zip(
            *(batch.column(name).to_pylist() for name in names), strict=True
        ):
            if outcome == Status.FINISHED:
                found.finished.add(number)
                found.jobs += jobs
                found.deadline_misses += misses
                found.unknown_misses += unknown
            else:
                found.failed.add(number)
    return found


def identify(directory: Path, fingerprint: str, version: str) -> State:
    """What `directory` is to an experiment, without the variants; writes nothing."""
    if not directory.exists():
        return State(Kind.ABSENT)
    if not directory.is_dir():
        return State(Kind.FOREIGN, f"{directory}: is not a directory; choose another one")
    try:
        content = record(directory)
    except ConfigurationError as error:
        return State(Kind.FOREIGN, f"{error}; choose another directory")
    if content is None:
        strangers = files.foreign(directory)
        if strangers:
            return State(
                Kind.FOREIGN,
                f"{directory}: holds {strangers[0]!r} and no experiment; choose another directory",
            )
        return State(Kind.ABSENT)
    if content["fingerprint"] != fingerprint:
        return State(
            Kind.FOREIGN,
            f"{directory}: holds another experiment (fingerprint {content['fingerprint']}, not "
            f"{fingerprint}); choose another directory",
        )
    if content["version"] != version:
        return State(
            Kind.OUTDATED,
            f"{directory}: holds results of taskgen_run {content['version']}, not {version}; "
            "start anew with rerun=true, or choose another directory",
        )
    status = Status(content["status"])
    return State(Kind(status.value) if status.is_complete else Kind.PARTIAL)


def state(directory: Path, fingerprint: str, version: str) -> State:
    """What `directory` is to the experiment with this fingerprint; writes nothing.

    Raises InfrastructureError for a damaged journal or an unreadable directory.
    """
    with files.disk(directory):
        found = identify(directory, fingerprint, version)
        if found.kind in (Kind.ABSENT, Kind.FOREIGN, Kind.OUTDATED):
            return found
        content = record(directory) or {}
        held = contents(directory, Status(content["status"]))
    return State(found.kind, finished=held.finished, failed=held.failed)


def write_record(directory: Path, content: Mapping[str, Any]) -> None:
    """Write experiment.json. Raises OSError."""
    files.write_json(directory / files.RECORD, content)
