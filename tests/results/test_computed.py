"""Variants that were computed together: their rows are those of variants told of one by one."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from experiments import FACTS, MS, jobs, parquet, run, variants

from taskgen_run.errors import BugError, ConfigurationError
from taskgen_run.job import JOB_SCHEMA, SEGMENT_SCHEMA, Job, JobBatch, Outcome
from taskgen_run.monitor import Batch
from taskgen_run.results import ResultWriter, sorting
from taskgen_run.task import Task
from taskgen_run.taskset import TaskSet
from taskgen_run.variants import TaskSets


def host_of(number: int) -> str:
    return f"10.0.0.{number % 3}"


def together(batches: Sequence[JobBatch]) -> JobBatch:
    table = pa.Table.from_batches([batch.record_batch for batch in batches])
    return JobBatch(table.unify_dictionaries().combine_chunks().to_batches()[0])


def computed(numbers: Sequence[int]) -> Batch:
    return Batch(
        TaskSets(list(variants(numbers))),
        [host_of(number) for number in numbers],
        0,
        together([jobs(number, host=host_of(number)) for number in numbers]),
    )


def one(*given: Job, segments: pa.RecordBatch | None = None) -> Batch:
    """A batch of variant 0, a task with the given jobs."""
    taskset = TaskSet([Task(period=10)], "one")
    taskset.horizon_ns = 20 * MS
    told = JobBatch.from_jobs(given, taskset=0, attempt=0, host="h")
    return Batch(TaskSets([taskset]), ["h"], 0, told, segments)


def test_the_files_are_the_same_bytes(tmp_path: Path) -> None:
    run(tmp_path / "one by one", range(40))
    writer = ResultWriter.open(tmp_path / "batches", FACTS)
    for numbers in (range(7), range(7, 8), range(8, 40)):
        writer.on_batch(computed(numbers))
    writer.finish("finished")
    writer.close()
    assert parquet(tmp_path / "batches") == parquet(tmp_path / "one by one")


def test_batches_and_variants_that_fail_are_in_order(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delattr(sorting, "_merged")  # no rows are to be sorted on the disk
    writer = ResultWriter.open(tmp_path, FACTS)
    failing = list(variants([2, 5]))
    for taskset in failing:
        writer.on_start(taskset, "h", 0)
        writer.on_fail(taskset, "h", 0, ConfigurationError("no"))
    writer.on_batch(computed([0, 1, 3, 4, 6]))
    assert writer.failed == 2
    writer.finish("failed")
    writer.close()
    found = pq.read_table(tmp_path / "tasksets.parquet").to_pydict()
    assert found["taskset"] == list(range(7))
    assert [n for n, outcome in enumerate(found["outcome"]) if outcome == "failed"] == [2, 5]
    assert pq.read_table(tmp_path / "tasks.parquet")["taskset"].to_pylist() == [
        number for number in range(7) for _ in range(2)
    ]


def test_segments_are_kept(tmp_path: Path) -> None:
    row = {"taskset": 0, "task": 0, "job": 0, "cpu": 1, "start_ns": 2, "end_ns": 5}
    segments = pa.RecordBatch.from_pylist([row], schema=SEGMENT_SCHEMA)
    writer = ResultWriter.open(tmp_path, FACTS)
    writer.on_batch(one(Job(0, 0, 0, 2, 5, outcome=Outcome.FINISHED), segments=segments))
    writer.finish("finished")
    writer.close()
    assert pq.read_table(tmp_path / "segments.parquet").to_pylist() == [row]


def test_a_miss_depends_on_the_horizon_of_its_variant(tmp_path: Path) -> None:
    tasksets = list(variants([0, 1, 2]))
    for taskset, horizon_ns in zip(tasksets, (9, 10, None), strict=True):
        taskset.horizon_ns = horizon_ns
    late = Job(0, 0, 0, deadline_ns=10, outcome=Outcome.UNFINISHED)
    told = [JobBatch.from_jobs([late], taskset=n, attempt=0, host="h") for n in range(3)]
    writer = ResultWriter.open(tmp_path, FACTS)
    writer.on_batch(Batch(TaskSets(tasksets), ["h"] * 3, 0, together(told)))
    writer.finish("finished")
    writer.close()
    found = pq.read_table(tmp_path / "jobs.parquet")["missed"].to_pylist()
    assert found == [False, True, None]
    table = pq.read_table(tmp_path / "tasksets.parquet").to_pydict()
    assert table["deadline_misses"] == [0, 1, 0]
    assert table["unknown_misses"] == [0, 0, 1]
    assert table["unfinished_jobs"] == [1, 1, 1]
    assert table["horizon_ns"] == [9, 10, None]


UNKNOWN = JobBatch.from_jobs([Job(0, 0, outcome=Outcome.KILLED)], taskset=0, attempt=0, host="h")
UNKNOWN = JobBatch(
    UNKNOWN.record_batch.set_column(
        JOB_SCHEMA.get_field_index("outcome"),
        JOB_SCHEMA.field("outcome"),
        pa.DictionaryArray.from_arrays(pa.array([0], pa.int8()), pa.array(["exploded"])),
    )
)
OTHER = JobBatch.from_jobs([Job(0, 0, outcome=Outcome.KILLED)], taskset=3, attempt=0, host="h")
AGAIN = JobBatch.from_jobs([Job(0, 0, outcome=Outcome.KILLED)], taskset=0, attempt=1, host="h")
OPEN = JobBatch.from_jobs([Job(0, 0)], taskset=0, attempt=0, host="h")


@pytest.mark.parametrize(
    ("told", "message"),
    [
        (OPEN, "variant 0 finished while 1 jobs had no outcome"),
        (OTHER, "jobs came of variant 3, which does not run"),
        (AGAIN, "jobs of a batch must be of attempt 0"),
        (UNKNOWN, "outcome of a job must be one of"),
        (JobBatch(OPEN.record_batch.drop_columns(["end_ns"])), "jobs must have the schema"),
    ],
)
def test_a_batch_that_breaks_the_contract_is_a_bug(
    tmp_path: Path, told: JobBatch, message: str
) -> None:
    writer = ResultWriter.open(tmp_path, FACTS)

    def report() -> None:
        writer.on_batch(Batch(one().tasksets, ["h"], 0, told))
        writer.finish("finished")

    with pytest.raises(BugError, match=message):
        report()
    writer.close()


def test_a_variant_is_computed_once(tmp_path: Path) -> None:
    writer = ResultWriter.open(tmp_path, FACTS)
    writer.on_start(next(variants([1])), "h", 0)
    with pytest.raises(BugError, match="variant 1 was started before"):
        writer.on_batch(computed([0, 1]))
    writer.close()
