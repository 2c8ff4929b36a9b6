"""The rows of variants that were computed together."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from taskgen_run.errors import BugError
from taskgen_run.job import JOB_SCHEMA, OUTCOMES, SEGMENT_SCHEMA, Outcome
from taskgen_run.monitor import Batch
from taskgen_run.results.ended import Ended
from taskgen_run.results.misses import missed
from taskgen_run.results.rows import task_rows
from taskgen_run.results.schemas import plain
from taskgen_run.results.streams import as_schema, joined
from taskgen_run.task import Attribute

_JOBS = plain(JOB_SCHEMA)


def rows_of_batch(
    batch: Batch, attributes: Mapping[str, Attribute], columns: Mapping[str, pa.Schema]
) -> tuple[dict[str, pa.RecordBatch], Ended]:
    """The rows of each table, with text instead of dictionaries, and what they come to.

    Raises BugError for jobs of other variants, without an outcome or with one that is none.
    """
    jobs = as_schema(batch.jobs.record_batch, _JOBS)
    numbers = np.array(batch.tasksets.numbers, np.int64)
    position = positions(numbers, jobs, "jobs")
    if (jobs["attempt"].to_numpy() != batch.attempt).any():
        raise BugError(f"jobs of a batch must be of attempt {batch.attempt}")
    check_outcomes(jobs, flags(pc.is_null(jobs["outcome"])))
    horizons = pa.array(batch.tasksets.horizons_ns, pa.int64())
    missing = missed(jobs, horizons.take(position))
    jobs = jobs.append_column(columns["jobs"].field("missed"), missing)
    counts = {
        "jobs": np.ones(len(position), np.bool_),
        "deadline_misses": flags(missing.fill_null(False)),
        "unknown_misses": flags(pc.is_null(missing)),
        "unfinished_jobs": flags(pc.equal(jobs["outcome"], pa.scalar(Outcome.UNFINISHED.value))),
    }
    per_variant = {
        name: np.bincount(position[counts_it], minlength=len(numbers))
        for name, counts_it in counts.items()
    }
    segments = joined([] if batch.segments is None else [batch.segments], SEGMENT_SCHEMA)
    positions(numbers, segments, "segments")
    size = len(numbers)
    variants: dict[str, Any] = {
        "taskset": numbers,
        "host": batch.hosts,
        "outcome": ["finished"] * size,
        "attempts": np.full(size, batch.attempt + 1),
        "error": pa.nulls(size, pa.string()),
        "tasks": batch.tasksets.sizes,
        **per_variant,
        "horizon_ns": horizons,
    }
    for name in columns["tasksets"].names:
        if name not in variants:  # a schedulability test
            variants[name] = [verdicts.get(name) for verdicts in batch.tasksets.verdicts]
    rows = {
        "jobs": jobs,
        "segments": segments,
        "tasks": task_rows(batch.tasksets, attributes, columns["tasks"]),
        "tasksets": pa.RecordBatch.from_arrays(
            [pa.array(variants[field.name], field.type) for field in columns["tasksets"]],
            schema=columns["tasksets"],
        ),
    }
    ended = Ended(
        finished=numbers.tolist(),
        jobs=len(position),
        deadline_misses=int(per_variant["deadline_misses"].sum()),
        unknown_misses=int(per_variant["unknown_misses"].sum()),
    )
    return {table: as_schema(found, columns[table]) for table, found in rows.items()}, ended


def positions(
    numbers: npt.NDArray[np.int64], rows: pa.RecordBatch, what: str
) -> npt.NDArray[np.int64]:
    """The position in `numbers`, which rise, of each row's variant. Raises BugError for another."""
    tasksets = rows["taskset"].to_numpy()
    position = np.searchsorted(numbers, tasksets)
    found = position < len(numbers)
    found[found] = numbers[position[found]] == tasksets[found]
    if not found.all():
        raise BugError(f"{what} came of variant {tasksets[~found][0]}, which does not run")
    return position


def check_outcomes(jobs: pa.RecordBatch, is_open: npt.NDArray[np.bool_]) -> None:
    """Raise BugError for jobs that are open at their variant's finish, and for other outcomes."""
    if is_open.any():
        number = jobs["taskset"].to_numpy()[is_open][0]
        raise BugError(f"variant {number} finished while {is_open.sum()} jobs had no outcome")
    unknown = pc.unique(jobs["outcome"].filter(pc.invert(pc.is_in(jobs["outcome"], OUTCOMES))))
    names = unknown.drop_null().to_pylist()
    if names:
        raise BugError(f"outcome of a job must be one of {OUTCOMES.to_pylist()}, got {names[0]!r}")


def flags(array: pa.Array[Any]) -> npt.NDArray[np.bool_]:
    """An Arrow array of truth values, none of them null."""
    values: npt.NDArray[np.bool_] = array.to_numpy(zero_copy_only=False).astype(np.bool_)
    return values
