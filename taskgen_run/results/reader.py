"""Reads the results of one experiment, or of many, into one Arrow table."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa

from taskgen_run.errors import ConfigurationError, one_line, unknown_name
from taskgen_run.job import Outcome
from taskgen_run.results import files, journal, tables
from taskgen_run.results.directory import Contents, Status, contents, record
from taskgen_run.results.index import read_index
from taskgen_run.results.schemas import HOSTS, KEYS, plain, schema, verdicts_in
from taskgen_run.results.streams import as_schema, joined

EXPERIMENT = "experiment"
"""The column that names the experiment of a row when many are read."""


@dataclass(frozen=True)
class _Part:
    """The rows of one of several experiments."""

    name: str
    labels: Mapping[str, Any]
    rows: pa.Table


def read(path: Path | str, table: str = "jobs", *, partial: bool = False) -> pa.Table:
    """One table of the experiment in the directory `path`, or of many experiments.

    Many are those below a directory, or those of a sweep, whose index `path` is. `table` is
    'jobs', 'tasks', 'tasksets', 'segments' or 'hosts' (those that have failed). Of many
    experiments, the column `experiment` tells the path of each row's experiment below the
    directory, and each of the experiments' labels (such as `session`) is a column; a label with
    the name of another column has `_name` appended.
    With `partial`, experiments that are still running or were stopped are read as far as they
    have come.

    Raises ConfigurationError for a path without results, for experiments that are not complete
    (unless `partial`), and for results of another format.
    """
    if table not in KEYS:
        raise ConfigurationError(unknown_name("table", table, KEYS))
    path = Path(path)
    if record(path) is not None:
        found = _read_one(path, table, partial)
        if found is None:
            raise _no_segments(path)
        return found
    root = path.parent if path.is_file() else path
    experiments = read_index(path) if path.is_file() else list(_experiments(path))
    if not experiments:
        raise ConfigurationError(
            f"{path}: holds no results of taskgen_run; give the directory of an experiment "
            "or of a sweep"
        )
    parts = []
    for experiment in experiments:
        rows = _read_one(experiment, table, partial)
        if rows is not None:
            labels = (record(experiment) or {}).get("labels", {})
            parts.append(_Part(os.path.relpath(experiment, root), labels, rows))
    if not parts:
        raise _no_segments(path)
    return _labelled(path, parts)


def totals(directory: Path | str) -> Mapping[str, int]:
    """The counts in experiment.json: `finished` and `failed` variants, `jobs`, `deadline_misses`
    and `unknown_misses`.

    Empty for a directory without an experiment. Raises ConfigurationError.
    """
    counts: Mapping[str, int] = (record(Path(directory)) or {}).get("counts", {})
    return counts


def summary(directory: Path | str) -> pa.Table:
    """Per task position: jobs, worst response time in ns, and of how many jobs what is the case.

    `deadline_misses` have missed their deadline, of `unknown_misses` that is not known; those that
    are `not_finished` were killed, refused and the like. Only the last attempt at each variant
    counts. The response time of a job is its end minus its release, and null if that is known of no
    job. Rows are read a few at a time. Raises ConfigurationError like `read`.
    """
    import pyarrow.compute as pc

    directory = Path(directory)
    _status(directory, partial=False)
    retried = _retried(directory)
    finished = pa.scalar(Outcome.FINISHED.value)
    totals = pa.table({name: pa.array([], kind) for name, kind in _SUMMARY.items()})
    for batch in tables.read(files.parquet(directory, "jobs")):
        if retried.num_rows:
            batch = _last_attempts(batch, retried)
        rows = pa.table(
            {
                "task": batch["task"],
                "jobs": pa.repeat(pa.scalar(1, pa.int64()), batch.num_rows),
                "worst_response_ns": pc.subtract(batch["end_ns"], batch["release_ns"]),
                "deadline_misses": batch["missed"].fill_null(False).cast(pa.int64()),
                "unknown_misses": pc.is_null(batch["missed"]).cast(pa.int64()),
                "not_finished": pc.not_equal(batch["outcome"], finished).cast(pa.int64()),
            }
        )
        totals = _added(totals, rows)
    return totals.sort_by("task")


_SUMMARY: Mapping[str, pa.DataType] = {
    "task": pa.int32(),
    "jobs": pa.int64(),
    "worst_response_ns": pa.int64(),
    "deadline_misses": pa.int64(),
    "unknown_misses": pa.int64(),
    "not_finished": pa.int64(),
}


def _added(totals: pa.Table, rows: pa.Table) -> pa.Table:
    """The totals with those of more rows, which have the same columns."""
    grouped = pa.concat_tables([totals, rows]).group_by("task", use_threads=False)
    sums = [name for name in _SUMMARY if name not in ("task", "worst_response_ns")]
    added = grouped.aggregate([("worst_response_ns", "max"), *((name, "sum") for name in sums)])
    names = [name.removesuffix("_sum").removesuffix("_max") for name in added.column_names]
    return added.rename_columns(names).select(list(_SUMMARY))


def _last_attempts(jobs: pa.RecordBatch, retried: pa.RecordBatch) -> pa.RecordBatch:
    """The jobs of the last attempt at their variant."""
    import pyarrow.compute as pc

    index = pc.index_in(jobs["taskset"], retried["taskset"])
    last: pa.Array[Any] = retried["attempts"].take(index).fill_null(1)
    return jobs.filter(pc.equal(pc.add(jobs["attempt"], pa.scalar(1, pa.int32())), last))


def _retried(directory: Path) -> pa.RecordBatch:
    """The variants with more than one attempt."""
    import pyarrow.compute as pc

    columns = pa.schema([("taskset", pa.int64()), ("attempts", pa.int32())])
    retried = joined([], columns)
    for batch in tables.read(files.parquet(directory, "tasksets")):
        rows = batch.filter(pc.greater(batch["attempts"], pa.scalar(1)))
        retried = joined([retried, as_schema(rows, columns)], columns)
    return retried


def _experiments(path: Path) -> Iterator[Path]:
    """The directories of experiments below `path`, in the order of their names."""
    if not path.is_dir():
        return
    for entry in sorted(path.iterdir(), key=_natural):
        if not entry.is_dir() or entry.name.startswith("."):
            continue
        if (entry / files.RECORD).exists():
            yield entry
        else:
            yield from _experiments(entry)


def _natural(path: Path) -> tuple[int, str]:
    """Sorts the numbered directories of a sweep by number: 2 before 10."""
    return (len(path.name) if path.name.isdecimal() else 0, path.name)


def _status(directory: Path, partial: bool) -> Status:
    content = record(directory)
    if content is None:
        raise ConfigurationError(
            f"{directory}: holds no experiment of taskgen_run; give the directory of one"
        )
    status = Status(content["status"])
    if not status.is_complete and not partial:
        raise ConfigurationError(
            f"{directory}: experiment must be complete, is {status}; run its command again to "
            "continue it, or read what it has so far with partial=True"
        )
    return status


def _read_one(directory: Path, table: str, partial: bool) -> pa.Table | None:
    """A table of one experiment; None if it has no such table, which only segments may lack."""
    status = _status(directory, partial)
    if table == HOSTS:
        failed = (record(directory) or {}).get("failed_hosts", [])
        return pa.Table.from_pylist(failed, schema(HOSTS))
    held = Contents(directory) if status.is_complete else contents(directory, status)
    if held.journal is None:
        path = files.parquet(directory, table)
        return tables.read_whole(path) if path.exists() else None
    # The journal has text instead of dictionaries. Of tasks, whose columns differ from session to
    # session, none is one.
    columns = journal.columns(held.journal, table)
    if table != "tasks":
        columns = schema(table, tests=verdicts_in(columns) if table == "tasksets" else ())
    rows = joined(list(held.rows(table, held.finished, held.failed)), plain(columns))
    if table == "segments" and not rows.num_rows:
        return None
    found = pa.Table.from_batches([tables.encoded(rows, table, columns)])
    return found.sort_by([(name, "ascending") for name in KEYS[table]])


def _no_segments(path: Path) -> ConfigurationError:
    return ConfigurationError(f"{path}: holds no segments; run its experiments with trace=true")


def _labelled(path: Path, parts: Sequence[_Part]) -> pa.Table:
    """The rows of several experiments, with the columns that tell them apart."""
    labels = list(dict.fromkeys(name for part in parts for name in part.labels))
    columns = {name: _label_column([part.labels.get(name) for part in parts]) for name in labels}
    taken = {EXPERIMENT, *(name for part in parts for name in part.rows.column_names)}
    labelled = []
    for index, part in enumerate(parts):
        values: dict[str, pa.Array[Any]] = {EXPERIMENT: pa.array([part.name])}
        for name in labels:
            values[f"{name}_name" if name in taken else name] = columns[name].slice(index, 1)
        rows = part.rows.replace_schema_metadata(None)
        for position, (name, value) in enumerate(values.items()):
            rows = rows.add_column(position, name, _repeated(value, rows.num_rows))
        labelled.append(rows)
    try:
        return pa.concat_tables(labelled, promote_options="permissive").unify_dictionaries()
    except pa.ArrowException as error:
        raise ConfigurationError(
            f"{path}: its experiments' columns do not fit together: {one_line(error)}; read them "
            "one by one"
        ) from error


def _label_column(values: list[Any]) -> pa.Array[Any]:
    """The values of one label: numbers if all are, else text."""
    given = {type(value) for value in values if value is not None}
    if given <= {int} or given <= {int, float}:
        return pa.array(values, pa.int64() if given <= {int} else pa.float64())
    return pa.array([None if value is None else str(value) for value in values], pa.string())


def _repeated(value: pa.Array[Any], count: int) -> pa.Array[Any]:
    """One value for `count` rows; text as a dictionary, which costs no memory per row."""
    if not pa.types.is_string(value.type):
        repeated: pa.Array[Any] = pa.repeat(value[0], count)
        return repeated
    index = pa.repeat(pa.scalar(0 if value[0].is_valid else None, pa.int32()), count)
    return pa.DictionaryArray.from_arrays(index, value.drop_null())
