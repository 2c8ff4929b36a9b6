"""Tests of taskgen_run.job."""

from __future__ import annotations

from typing import Any

import pyarrow as pa
from hypothesis import given
from hypothesis import strategies as st

from taskgen_run.job import JOB_SCHEMA, OUTCOMES, SEGMENT_SCHEMA, Job, JobBatch, Outcome

int64 = st.none() | st.integers(-(2**63), 2**63 - 1)
int32 = st.none() | st.integers(0, 2**31 - 1)
jobs = st.builds(
    Job,
    task=st.integers(0, 2**31 - 1),
    job=st.integers(0, 2**63 - 1),
    release_ns=int64,
    start_ns=int64,
    end_ns=int64,
    deadline_ns=int64,
    outcome=st.none() | st.sampled_from(Outcome),
    preemptions=int32,
    migrations=int32,
)


@given(st.lists(jobs, max_size=5))
def test_a_batch_iterates_as_the_jobs_it_is_made_of(rows: list[Job]) -> None:
    batch = JobBatch.from_jobs(rows, taskset=7, attempt=2, host="172.25.1.1")
    assert batch.record_batch.schema.equals(JOB_SCHEMA)
    batch.record_batch.validate(full=True)
    assert len(batch) == len(rows)
    for row in rows:
        row.taskset, row.attempt, row.host = 7, 2, "172.25.1.1"
    assert list(batch) == rows
    assert all(job.outcome is None or isinstance(job.outcome, Outcome) for job in batch)


def test_every_batch_has_the_same_dictionary_of_outcomes() -> None:
    batch = JobBatch.from_jobs([Job(0, 0, outcome=Outcome.KILLED)], taskset=0, attempt=0, host="h")
    column: Any = batch.record_batch.column("outcome")
    assert column.dictionary.equals(OUTCOMES)
    assert OUTCOMES.to_pylist() == [
        "finished",
        "killed",
        "stopped",
        "error",
        "not_scheduled",
        "out_of_quota",
        "unfinished",
    ]


def test_batches_of_several_hosts_make_one_table() -> None:
    batches = [
        JobBatch.from_jobs([Job(0, n)], taskset=n, attempt=0, host=host).record_batch
        for n, host in enumerate(["172.25.1.1", "fd00::1"])
    ]
    table = pa.Table.from_batches(batches)
    assert table.column("host").to_pylist() == ["172.25.1.1", "fd00::1"]
    assert table.column("taskset").to_pylist() == [0, 1]


def test_a_new_job_knows_nothing() -> None:
    (job,) = JobBatch.from_jobs([Job(1, 2)], taskset=0, attempt=0, host="")
    assert job == Job(task=1, job=2)
    assert job.outcome is None
    assert job.release_ns is job.start_ns is job.end_ns is None


def test_columns_of_segments() -> None:
    assert SEGMENT_SCHEMA.names == ["taskset", "task", "job", "cpu", "start_ns", "end_ns"]
    assert not any(field.nullable for field in SEGMENT_SCHEMA)
