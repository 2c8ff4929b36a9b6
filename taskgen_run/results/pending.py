"""What has been reported of an experiment and is not in its journal yet."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from taskgen_run.errors import BugError
from taskgen_run.job import JOB_SCHEMA, OUTCOMES, SEGMENT_SCHEMA, Outcome
from taskgen_run.results.misses import missed
from taskgen_run.results.rows import clean_text, task_rows
from taskgen_run.results.schemas import plain
from taskgen_run.results.streams import as_schema, joined
from taskgen_run.task import Attribute
from taskgen_run.taskset import TaskSet

_JOBS = plain(JOB_SCHEMA)
_BATCH_SIZE = 32  # what a batch costs beyond its rows, in rows


@dataclass(slots=True)
class Variant:
    """A variant in its last attempt, whose jobs are counted."""

    taskset: TaskSet
    host: str
    attempt: int
    outcome: str | None = None  # None while it runs
    error: str | None = None
    jobs: int = 0
    deadline_misses: int = 0
    unknown_misses: int = 0
    unfinished_jobs: int = 0


class Pending:
    """Collects reports; `take` turns them into rows, those of many variants at once.

    Only final jobs leave. A job that may still change, and one whose miss depends on a horizon
    that is known at the end only, wait for the end of their variant. So do segments, which do
    not tell their attempt.
    """

    def __init__(
        self, attributes: Mapping[str, Attribute], schemas: Mapping[str, pa.Schema]
    ) -> None:
        """`attributes` are those of tasks, `schemas` those of the Parquet files."""
        self._attributes = attributes
        self._plain = {table: plain(columns) for table, columns in schemas.items()}
        self._running: dict[int, Variant] = {}
        self._ended: list[Variant] = []
        self._dropped: set[int] = set()
        self._jobs: list[pa.RecordBatch] = []
        self._waiting = joined([], _JOBS)
        self._segments: list[pa.RecordBatch] = []
        self.size = 0
        """About how many rows have been reported since the last `take`."""

    def start(self, taskset: TaskSet, host: str, attempt: int) -> None:
        """An attempt begins; open jobs of an earlier one are unfinished.

        Raises BugError for a variant that had been dropped, or an attempt out of order.
        """
        number = taskset.variant
        if number in self._dropped:
            raise BugError(f"variant {number} was stopped and must wait for the next run")
        earlier = self._running.get(number)
        if earlier is not None:
            if attempt <= earlier.attempt:
                raise BugError(
                    f"variant {number}: attempt must be > {earlier.attempt}, got {attempt}"
                )
            self._segments = [_without(batch, number) for batch in self._segments]
        self._running[number] = Variant(taskset, host, attempt)

    def add_jobs(self, batch: pa.RecordBatch) -> None:
        """New or changed jobs. Raises BugError for another schema than `job.JOB_SCHEMA`."""
        _require(batch, JOB_SCHEMA, "jobs")
        self._jobs.append(batch)
        self.size += batch.num_rows + _BATCH_SIZE

    def add_segments(self, batch: pa.RecordBatch) -> None:
        """New segments. Raises BugError for another schema than `job.SEGMENT_SCHEMA`."""
        _require(batch, SEGMENT_SCHEMA, "segments")
        self._segments.append(batch)
        self.size += batch.num_rows + _BATCH_SIZE

    def finish(self, taskset: TaskSet) -> None:
        """A variant has finished. Raises BugError if it had not been started."""
        variant = self._running.pop(taskset.variant, None)
        if variant is None:
            raise BugError(f"variant {taskset.variant} finished without having been started")
        variant.outcome = "finished"
        self._end(variant)

    def fail(self, taskset: TaskSet, host: str, attempt: int, error: str) -> None:
        """A variant has failed for good, or could not even be started."""
        variant = self._running.pop(taskset.variant, None) or Variant(taskset, host, attempt)
        variant.outcome, variant.error = "failed", clean_text(error)
        self._end(variant)

    def drop(self, taskset: TaskSet) -> None:
        """A variant was stopped: what is known of it is forgotten."""
        self._running.pop(taskset.variant, None)
        self._dropped.add(taskset.variant)

    @property
    def failures(self) -> int:
        """How many variants have failed since the last `take`."""
        return sum(variant.outcome == "failed" for variant in self._ended)

    def _end(self, variant: Variant) -> None:
        self._ended.append(variant)
        self.size += len(variant.taskset) + _BATCH_SIZE

    def take(self) -> tuple[dict[str, pa.RecordBatch], list[Variant]]:
        """The rows of each table that are ready for the journal, and the variants that ended.

        Raises BugError for jobs of a variant that does not run, for outcomes that do not exist
        and for a finished variant with jobs without an outcome.
        """
        ended, self._ended, self.size = self._ended, [], 0
        known = _Known(sorted([*self._running.values(), *ended], key=_number), self._dropped)
        rows = {
            "jobs": self._take_jobs(known),
            "segments": self._take_segments(known) if ended else joined([], SEGMENT_SCHEMA),
            "tasks": task_rows(
                [variant.taskset for variant in ended], self._attributes, self._plain["tasks"]
            ),
            "tasksets": _variant_rows(ended, self._plain["tasksets"]),
        }
        return {table: as_schema(batch, self._plain[table]) for table, batch in rows.items()}, ended

    def _take_jobs(self, known: _Known) -> pa.RecordBatch:
        reported, self._jobs = as_schema(joined(self._jobs, JOB_SCHEMA), _JOBS), []
        jobs = joined([self._waiting, reported], _JOBS)
        jobs = jobs.filter(pa.array(~known.dropped(jobs)))
        if jobs["outcome"].null_count:
            jobs = _latest(jobs)
        position = known.positions(jobs, "jobs")
        attempt = jobs["attempt"].to_numpy()
        if (attempt > known.attempts[position]).any():
            raise BugError("jobs must not be of an attempt that has not been started")
        lapsed = attempt < known.attempts[position]
        ended = known.ended[position] & ~lapsed
        unfinished = _bools(pc.is_null(jobs["outcome"])) & (lapsed | known.failed[position])
        jobs = jobs.set_column(
            jobs.schema.get_field_index("outcome"),
            jobs.schema.field("outcome"),
            pc.if_else(pa.array(unfinished), Outcome.UNFINISHED.value, jobs["outcome"]),
        )
        is_open = _bools(pc.is_null(jobs["outcome"]))
        _check_outcomes(jobs, is_open & ended)
        horizon = pa.array(known.horizons[position], mask=~(ended & known.has_horizon[position]))
        jobs = jobs.append_column(self._plain["jobs"].field("missed"), missed(jobs, horizon))
        undecided = _bools(pc.and_(pc.is_null(jobs["end_ns"]), pc.is_valid(jobs["deadline_ns"])))
        waits = (is_open | undecided) & ~(ended | lapsed)
        self._waiting = jobs.select(_JOBS.names).filter(pa.array(waits))
        known.count(jobs, position, ~waits & ~lapsed)
        return jobs.filter(pa.array(~waits))

    def _take_segments(self, known: _Known) -> pa.RecordBatch:
        segments = joined(self._segments, SEGMENT_SCHEMA)
        segments = segments.filter(pa.array(~known.dropped(segments)))
        ended = known.ended[known.positions(segments, "segments")]
        self._segments = [segments.filter(pa.array(~ended))]
        return segments.filter(pa.array(ended))


class _Known:
    """The variants that jobs can be of, as arrays in the order of their numbers."""

    def __init__(self, variants: list[Variant], dropped: set[int]) -> None:
        horizons = [variant.taskset.horizon_ns for variant in variants]
        self._variants = variants
        self._dropped = np.array(sorted(dropped), np.int64)
        self._numbers = np.array([_number(variant) for variant in variants], np.int64)
        self.attempts = np.array([variant.attempt for variant in variants], np.int64)
        self.ended = np.array([variant.outcome is not None for variant in variants], np.bool_)
        self.failed = np.array([variant.outcome == "failed" for variant in variants], np.bool_)
        self.has_horizon = np.array([horizon is not None for horizon in horizons], np.bool_)
        self.horizons = np.array([horizon or 0 for horizon in horizons], np.int64)

    def dropped(self, rows: pa.RecordBatch) -> npt.NDArray[np.bool_]:
        """Which of the rows are of variants that were stopped."""
        return np.isin(rows["taskset"].to_numpy(), self._dropped)

    def positions(self, rows: pa.RecordBatch, what: str) -> npt.NDArray[np.int64]:
        """The position of each row's variant."""
        tasksets = rows["taskset"].to_numpy()
        position = np.searchsorted(self._numbers, tasksets)
        found = position < len(self._numbers)
        found[found] = self._numbers[position[found]] == tasksets[found]
        if not found.all():
            raise BugError(f"{what} came of variant {tasksets[~found][0]}, which does not run")
        return position

    def count(
        self, jobs: pa.RecordBatch, position: npt.NDArray[np.int64], counts: npt.NDArray[np.bool_]
    ) -> None:
        """Add those of the `jobs` that count to their variants' numbers."""
        misses = _bools(jobs["missed"].fill_null(False))
        unfinished = _bools(
            pc.equal(jobs["outcome"], pa.scalar(Outcome.UNFINISHED.value)).fill_null(False)
        )
        unknown = _bools(pc.is_null(jobs["missed"]))
        size = len(self._variants)
        numbers = [
            np.bincount(position[counts & chosen], minlength=size).tolist()
            for chosen in (counts, misses, unknown, unfinished)
        ]
        for variant, *more in zip(self._variants, *numbers, strict=True):
            variant.jobs += more[0]
            variant.deadline_misses += more[1]
            variant.unknown_misses += more[2]
            variant.unfinished_jobs += more[3]


def _number(variant: Variant) -> int:
    return variant.taskset.variant


def _bools(array: pa.Array[Any]) -> npt.NDArray[np.bool_]:
    flags: npt.NDArray[np.bool_] = array.to_numpy(zero_copy_only=False).astype(np.bool_)
    return flags


def _require(batch: pa.RecordBatch, columns: pa.Schema, what: str) -> None:
    if not batch.schema.equals(columns):
        raise BugError(
            f"{what} must have the schema {columns.names}, got {batch.schema.to_string()}"
        )


def _without(batch: pa.RecordBatch, number: int) -> pa.RecordBatch:
    return batch.filter(pc.not_equal(batch["taskset"], pa.scalar(number)))


def _latest(jobs: pa.RecordBatch) -> pa.RecordBatch:
    """The last report of each job."""
    table = pa.table([*jobs.columns, pa.array(range(jobs.num_rows))], [*jobs.schema.names, "row"])
    identity = ["taskset", "attempt", "task", "job"]
    last = table.group_by(identity, use_threads=False).aggregate([("row", "max")])
    return jobs.take(pa.array(np.sort(last["row_max"].to_numpy())))


def _check_outcomes(jobs: pa.RecordBatch, is_open: npt.NDArray[np.bool_]) -> None:
    if is_open.any():
        number = jobs["taskset"].to_numpy()[is_open][0]
        raise BugError(f"variant {number} finished while {is_open.sum()} jobs had no outcome")
    unknown = pc.unique(jobs["outcome"].filter(pc.invert(pc.is_in(jobs["outcome"], OUTCOMES))))
    names = unknown.drop_null().to_pylist()
    if names:
        raise BugError(f"outcome of a job must be one of {OUTCOMES.to_pylist()}, got {names[0]!r}")


def _variant_rows(variants: list[Variant], columns: pa.Schema) -> pa.RecordBatch:
    return pa.RecordBatch.from_pylist(
        [
            {
                "taskset": variant.taskset.variant,
                "host": variant.host,
                "outcome": variant.outcome,
                "attempts": variant.attempt + 1,
                "error": variant.error,
                "tasks": len(variant.taskset),
                "jobs": variant.jobs,
                "deadline_misses": variant.deadline_misses,
                "unknown_misses": variant.unknown_misses,
                "unfinished_jobs": variant.unfinished_jobs,
                "horizon_ns": variant.taskset.horizon_ns,
                **variant.taskset.verdicts,
            }
            for variant in variants
        ],
        schema=columns,
    )
