"""One execution of a task, and the one Arrow schema in which jobs travel and are stored."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, fields
from enum import StrEnum
from operator import attrgetter
from typing import Any

import pyarrow as pa


class Outcome(StrEnum):
    """How a job ended. A deadline miss is a fact about times, not an outcome."""

    FINISHED = "finished"
    KILLED = "killed"  # critical time, period overrun, on_miss=abort
    STOPPED = "stopped"  # by STOP or CLEAR
    ERROR = "error"
    NOT_SCHEDULED = "not_scheduled"
    OUT_OF_QUOTA = "out_of_quota"
    UNFINISHED = "unfinished"  # still running, or never started, when its task set ended


@dataclass(slots=True)
class Job:
    """One execution of a task. All times are int ns; simulated time starts at 0.

    A job is new or may still change while `outcome` is None, and final once it has one.
    `task` is the position of the task in its task set and `job` counts the task's releases,
    both from 0. `deadline_ns` is absolute; None means no deadline. `release_ns`, `preemptions`
    and `migrations` are None where they were not observed. `taskset` (the number of the
    variant), `attempt` and `host` are filled in by the distributor.
    """

    task: int
    job: int
    release_ns: int | None = None
    start_ns: int | None = None
    end_ns: int | None = None
    deadline_ns: int | None = None
    outcome: Outcome | None = None
    preemptions: int | None = None
    migrations: int | None = None
    taskset: int = 0
    attempt: int = 0
    host: str = ""


OUTCOMES = pa.array([outcome.value for outcome in Outcome])
"""The dictionary of the `outcome` column: every batch has this same one."""

JOB_SCHEMA = pa.schema(
    [
        pa.field("taskset", pa.int64(), nullable=False),
        pa.field("attempt", pa.int32(), nullable=False),
        pa.field("host", pa.dictionary(pa.int32(), pa.string()), nullable=False),
        pa.field("task", pa.int32(), nullable=False),
        pa.field("job", pa.int64(), nullable=False),
        pa.field("release_ns", pa.int64()),
        pa.field("start_ns", pa.int64()),
        pa.field("end_ns", pa.int64()),
        pa.field("deadline_ns", pa.int64()),
        pa.field("outcome", pa.dictionary(pa.int8(), pa.string())),
        pa.field("preemptions", pa.int32()),
        pa.field("migrations", pa.int32()),
    ]
)
"""One row per job; `outcome` is null while a job may still change."""

SEGMENT_SCHEMA = pa.schema(
    [
        pa.field("taskset", pa.int64(), nullable=False),
        pa.field("task", pa.int32(), nullable=False),
        pa.field("job", pa.int64(), nullable=False),
        pa.field("cpu", pa.int32(), nullable=False),
        pa.field("start_ns", pa.int64(), nullable=False),
        pa.field("end_ns", pa.int64(), nullable=False),
    ]
)
"""One row per uninterrupted stretch of execution of a job on one processor."""

_OUTCOME_INDEX: dict[Outcome | None, int | None] = {
    None: None,
    **{outcome: index for index, outcome in enumerate(Outcome)},
}
_FIELDS = tuple(field.name for field in fields(Job))
_OBSERVED = tuple(name for name in _FIELDS if name not in ("taskset", "attempt", "host"))
_observed = attrgetter(*_OBSERVED)


class JobBatch:
    """Jobs as one Arrow record batch of `JOB_SCHEMA`, which iterates as `Job`s."""

    def __init__(self, record_batch: pa.RecordBatch) -> None:
        self.record_batch = record_batch

    @classmethod
    def from_jobs(cls, jobs: Iterable[Job], *, taskset: int, attempt: int, host: str) -> JobBatch:
        """Batch the `jobs` of one attempt at one variant, `taskset`, on `host`."""
        rows = list(map(_observed, jobs))
        count = len(rows)
        values = dict(zip(_OBSERVED, zip(*rows, strict=True), strict=True)) if rows else {}
        outcomes = map(_OUTCOME_INDEX.__getitem__, values.get("outcome", ()))
        columns: dict[str, pa.Array[Any]] = {
            "taskset": pa.repeat(pa.scalar(taskset, pa.int64()), count),
            "attempt": pa.repeat(pa.scalar(attempt, pa.int32()), count),
            "host": pa.DictionaryArray.from_arrays(
                pa.repeat(pa.scalar(0, pa.int32()), count), pa.array([host])
            ),
            "outcome": pa.DictionaryArray.from_arrays(
                pa.array(list(outcomes), pa.int8()), OUTCOMES
            ),
        }
        for field in JOB_SCHEMA:
            if field.name not in columns:
                columns[field.name] = pa.array(values.get(field.name, ()), field.type)
        return cls(
            pa.RecordBatch.from_arrays(
                [columns[name] for name in JOB_SCHEMA.names], schema=JOB_SCHEMA
            )
        )

    def __len__(self) -> int:
        return int(self.record_batch.num_rows)

    def __iter__(self) -> Iterator[Job]:
        columns = {name: self.record_batch.column(name).to_pylist() for name in _FIELDS}
        columns["outcome"] = [
            None if value is None else Outcome(value) for value in columns["outcome"]
        ]
        for row in zip(*columns.values(), strict=True):
            yield Job(**dict(zip(columns, row, strict=True)))
