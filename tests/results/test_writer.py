"""The result writer: what it is told is what the files say."""

from __future__ import annotations

import itertools
import json
import random
import threading
import time
from decimal import Decimal
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from experiments import FACTS, MS, TABLES, jobs, parquet, process, run, variants

from taskgen_run.errors import BugError, ConfigurationError, InfrastructureError, TargetError
from taskgen_run.job import OUTCOMES, SEGMENT_SCHEMA, Job, JobBatch, Outcome
from taskgen_run.results import Kind, ResultWriter, journal, schemas, state, tables
from taskgen_run.task import Attribute, Task
from taskgen_run.task import Kind as AttributeKind
from taskgen_run.taskset import TaskSet


def record(directory: Path) -> dict[str, Any]:
    content: dict[str, Any] = json.loads((directory / "experiment.json").read_text())
    return content


def rows(directory: Path, table: str) -> list[dict[str, Any]]:
    return pq.read_table(directory / f"{table}.parquet").to_pylist()


def concrete(*tasks: Task, variant: int = 0, horizon_ns: int | None = None) -> TaskSet:
    taskset = TaskSet(tasks or [Task(period=10)], "one")
    taskset.variant, taskset.horizon_ns = variant, horizon_ns
    return taskset


def batch(*given: Job, taskset: int = 0, attempt: int = 0) -> JobBatch:
    return JobBatch.from_jobs(given, taskset=taskset, attempt=attempt, host="h")


def segments(*given: tuple[int, int, int, int, int, int]) -> pa.RecordBatch:
    names = SEGMENT_SCHEMA.names
    return pa.RecordBatch.from_pylist(
        [dict(zip(names, row, strict=True)) for row in given], schema=SEGMENT_SCHEMA
    )


def test_rows_are_those_reported(tmp_path: Path) -> None:
    run(tmp_path / "a", range(4))
    expected = [{**vars_of(job), "host": f"10.0.0.{n % 3}"} for n in range(4) for job in jobs(n)]
    found = rows(tmp_path / "a", "jobs")
    assert [{k: v for k, v in row.items() if k != "missed"} for row in found] == expected
    assert rows(tmp_path / "a", "tasksets")[3] == {
        "taskset": 3, "host": "10.0.0.0", "outcome": "finished", "attempts": 1, "error": None,
        "tasks": 2, "jobs": 6, "deadline_misses": 6, "unknown_misses": 0, "unfinished_jobs": 1,
        "horizon_ns": 20 * MS,
    }  # fmt: skip
    unset = dict.fromkeys(
        ["criticaltime", "priority", "deadline", "offset", "numberofjobs", "caps", "cores",
         "coreoffset"]
    )  # fmt: skip
    assert rows(tmp_path / "a", "tasks")[2:4] == [
        {**unset, "taskset": 1, "task": 0, "id": 0, "executiontime": 2.5, "period": 10.0,
         "quota": 65536, "pkg": "hey", "config_arg1": None, "config": None},
        {**unset, "taskset": 1, "task": 1, "id": 1, "executiontime": 1.0, "period": 5.0,
         "quota": None, "pkg": None, "config_arg1": 2, "config": '{"arg1": 2, "x": {"b": [1]}}'},
    ]  # fmt: skip
    assert not (tmp_path / "a" / "segments.parquet").exists()


def vars_of(job: Job) -> dict[str, Any]:
    values = {name: getattr(job, name) for name in Job.__slots__}
    return {**values, "outcome": job.outcome and job.outcome.value}


def test_experiment_json(tmp_path: Path) -> None:
    run(tmp_path, range(6))
    content = record(tmp_path)
    assert content.items() >= FACTS.items()
    assert content["status"] == "finished"
    assert content["error"] is None
    assert content["started"] <= content["ended"]
    assert content["counts"] == {
        "finished": 6,
        "failed": 0,
        "jobs": 36,
        "deadline_misses": sum(row["deadline_misses"] for row in rows(tmp_path, "tasksets")),
        "unknown_misses": 0,
    }
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        ".lock", "experiment.json", *(f"{table}.parquet" for table in TABLES)
    ]  # fmt: skip


@pytest.mark.parametrize("seed", range(4))
def test_the_order_of_events_does_not_matter(
    tmp_path: Path, seed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tables, "ROW_GROUP_ROWS", dict.fromkeys(tables.ROW_GROUP_ROWS, 32))
    monkeypatch.setattr("taskgen_run.results.sorting.CHUNK_ROWS", 16)
    run(tmp_path / "ordered", range(40))
    order = random.Random(seed)
    todo = list(variants(range(40)))
    order.shuffle(todo)
    writer = ResultWriter.open(tmp_path / "shuffled", FACTS)
    running: list[tuple[TaskSet, list[Job]]] = []
    while todo or running:
        if todo and (len(running) < 5 or order.random() < 0.3):
            variant = todo.pop()
            writer.on_start(variant, f"10.0.0.{variant.variant % 3}", 0)
            running.append((variant, order.sample(list(jobs(variant.variant)), 6)))
            continue
        variant, left = order.choice(running)
        host = f"10.0.0.{variant.variant % 3}"
        if left:
            job = left.pop()
            writer.on_jobs(JobBatch.from_jobs([job], taskset=variant.variant, attempt=0, host=host))
        else:
            writer.on_finish(variant, host, 0)
            running = [pair for pair in running if pair[0] is not variant]
        if order.random() < 0.02:
            time.sleep(0.03)  # lets the thread commit in between
    writer.finish("finished")
    writer.close()
    assert parquet(tmp_path / "shuffled") == parquet(tmp_path / "ordered")
    groups = pq.ParquetFile(tmp_path / "ordered" / "jobs.parquet").metadata
    assert [groups.row_group(n).num_rows for n in range(groups.num_row_groups)] == [32] * 7 + [16]


def test_many_variants_in_one_batch(tmp_path: Path) -> None:
    run(tmp_path / "single", range(20))
    writer = ResultWriter.open(tmp_path / "batch", FACTS)
    chosen = list(variants(range(20)))
    for variant in chosen:
        writer.on_start(variant, f"10.0.0.{variant.variant % 3}", 0)
    parts = [jobs(n, host=f"10.0.0.{n % 3}").record_batch for n in range(20)]
    writer.on_jobs(JobBatch(pa.Table.from_batches(parts).combine_chunks().to_batches()[0]))
    for variant in chosen:
        writer.on_finish(variant, f"10.0.0.{variant.variant % 3}", 0)
    writer.finish("finished")
    writer.close()
    assert parquet(tmp_path / "batch") == parquet(tmp_path / "single")


def test_the_last_report_of_a_job_counts(tmp_path: Path) -> None:
    writer = ResultWriter.open(tmp_path, FACTS)
    taskset = concrete()
    writer.on_start(taskset, "h", 0)
    writer.on_jobs(batch(Job(0, 0, start_ns=5)))
    time.sleep(0.05)
    writer.on_jobs(batch(Job(0, 0, start_ns=5, preemptions=1), Job(0, 1, start_ns=6)))
    writer.on_jobs(batch(Job(0, 0, start_ns=5, end_ns=9, outcome=Outcome.FINISHED)))
    writer.on_jobs(batch(Job(0, 1, start_ns=6, outcome=Outcome.UNFINISHED)))
    writer.on_finish(taskset, "h", 0)
    writer.finish("finished")
    writer.close()
    assert [(row["job"], row["end_ns"], row["outcome"]) for row in rows(tmp_path, "jobs")] == [
        (0, 9, "finished"),
        (1, None, "unfinished"),
    ]


F, K, U = Outcome.FINISHED, Outcome.KILLED, Outcome.UNFINISHED


@pytest.mark.parametrize(
    ("release", "end", "deadline", "outcome", "horizon", "missed"),
    [
        (0, 10, 10, F, None, False),
        (0, 11, 10, F, None, True),
        (0, 10, 10, K, None, True),
        (0, 9, 10, K, None, False),
        (0, None, 10, U, 10, True),
        (0, None, 10, U, 9, False),
        (0, None, 10, U, None, None),
        (0, None, None, U, None, False),
        (0, 99, None, F, None, False),
        (None, 99, None, F, None, None),
        (None, None, None, U, 10, None),
        (0, None, 10, Outcome.NOT_SCHEDULED, 20, True),
        (0, None, 10, Outcome.NOT_SCHEDULED, 5, True),  # it will never be
        (0, None, 10, Outcome.OUT_OF_QUOTA, None, True),
        (0, None, None, Outcome.OUT_OF_QUOTA, None, False),
    ],
)
def test_misses(
    tmp_path: Path,
    release: int | None,
    end: int | None,
    deadline: int | None,
    outcome: Outcome,
    horizon: int | None,
    missed: bool | None,
) -> None:
    writer = ResultWriter.open(tmp_path, FACTS)
    taskset = concrete(horizon_ns=horizon)
    writer.on_start(taskset, "h", 0)
    writer.on_jobs(batch(Job(0, 0, release, end_ns=end, deadline_ns=deadline, outcome=outcome)))
    time.sleep(0.03)
    writer.on_finish(taskset, "h", 0)
    writer.finish("finished")
    writer.close()
    assert [row["missed"] for row in rows(tmp_path, "jobs")] == [missed]
    (variant,) = rows(tmp_path, "tasksets")
    assert variant["deadline_misses"] == int(missed is True)
    assert variant["unknown_misses"] == int(missed is None)
    assert variant["unfinished_jobs"] == int(outcome is U)


def test_attempts_keep_their_jobs_and_the_last_one_counts(tmp_path: Path) -> None:
    writer = ResultWriter.open(tmp_path, FACTS)
    taskset = concrete(horizon_ns=100)
    writer.on_start(taskset, "a", 0)
    writer.on_jobs(batch(Job(0, 0, 0, deadline_ns=10), Job(0, 1, 10, 11, 12, 20, F)))
    writer.on_segments(segments((0, 0, 1, 0, 11, 12)))
    time.sleep(0.05)
    writer.on_start(taskset, "b", 1)
    writer.on_jobs(batch(Job(0, 0, 0, 1, 30, 10, F), attempt=1))
    writer.on_segments(segments((0, 0, 0, 0, 1, 30)))
    writer.on_finish(taskset, "b", 1)
    writer.finish("finished")
    writer.close()
    found = [(r["attempt"], r["job"], r["outcome"], r["missed"]) for r in rows(tmp_path, "jobs")]
    assert found == [
        (0, 0, "unfinished", None),
        (0, 1, "finished", False),
        (1, 0, "finished", True),
    ]
    (variant,) = rows(tmp_path, "tasksets")
    assert (variant["host"], variant["attempts"]) == ("b", 2)
    assert (variant["jobs"], variant["deadline_misses"], variant["unfinished_jobs"]) == (1, 1, 0)
    assert [row["end_ns"] for row in rows(tmp_path, "segments")] == [30]


def test_a_failed_variant_keeps_its_rows_and_says_why(tmp_path: Path) -> None:
    writer = ResultWriter.open(tmp_path, FACTS)
    good, bad, worse = concrete(variant=0), concrete(variant=1), concrete(variant=2)
    writer.on_start(bad, "h", 0)
    writer.on_jobs(batch(Job(0, 0, 0, 1), taskset=1))
    writer.on_fail(bad, "h", 0, TargetError("it\nfroze"))
    writer.on_fail(worse, "h", 0, ConfigurationError("period must be ≥ 0 ms"))
    assert writer.failed == 2
    writer.on_start(good, "h", 0)
    writer.on_finish(good, "h", 0)
    writer.finish("failed", "2 variants failed")
    assert writer.failed == 2
    writer.close()
    assert [(r["taskset"], r["outcome"], r["error"]) for r in rows(tmp_path, "tasksets")] == [
        (0, "finished", None),
        (1, "failed", "it froze"),
        (2, "failed", "period must be ≥ 0 ms"),
    ]
    assert [(r["taskset"], r["outcome"]) for r in rows(tmp_path, "jobs")] == [(1, "unfinished")]
    assert len(rows(tmp_path, "tasks")) == 3
    assert record(tmp_path)["status"] == "failed"
    assert record(tmp_path)["error"] == "2 variants failed"
    found = state(tmp_path, FACTS["fingerprint"], FACTS["version"])
    assert (found.kind, len(found.finished), len(found.failed)) == (Kind.FAILED, 1, 2)


def test_attributes_of_every_kind_in_their_columns(tmp_path: Path) -> None:
    declared = {
        "abort": Attribute(AttributeKind.TEXT),
        "factor": Attribute(AttributeKind.NUMBER),
        "extra": Attribute(AttributeKind.MAPPING),
    }
    writer = ResultWriter.open(tmp_path, FACTS, declared=declared)
    odd = Task(id=7, period=Decimal("2.5"), quota=3, config={"arg1": "13"}, extra={"b": 1, "a": 2})
    wrong = Task(period="soon", quota="1X", priority=True, pkg=3, config=4, caps=2**70, factor=1)
    config = {
        "arg1": 2**40,
        "ratio": Decimal("0.5"),
        "pair": (1, None),
        "on": True,
        "at": Path("x"),
    }
    plain = Task(period=-5, abort="yes", factor=0.5, config=config)
    variant = concrete(odd, wrong, plain)
    writer.on_fail(variant, "h", 0, ConfigurationError("no"))
    writer.finish("failed")
    writer.close()
    names = ["id", "period", "quota", "config_arg1", "config", "abort", "factor", "extra"]
    found = [[row[name] for name in names] for row in rows(tmp_path, "tasks")]
    assert found == [
        [7, 2.5, 3, None, '{"arg1": "13"}', None, None, '{"a": 2, "b": 1}'],
        [1, None, None, None, None, None, 1.0, None],
        [2, -5.0, None, 2**40,
         '{"arg1": 1099511627776, "at": "x", "on": true, "pair": [1, null], "ratio": 0.5}',
         "yes", 0.5, None],
    ]  # fmt: skip
    assert [rows(tmp_path, "tasks")[1][name] for name in ("priority", "pkg", "caps")] == [None] * 3


def test_a_declared_attribute_cannot_take_the_place_of_a_column(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="'task' has the name of a column"):
        ResultWriter.open(tmp_path, FACTS, declared={"task": Attribute(AttributeKind.TEXT)})


def test_a_stopped_variant_leaves_nothing(tmp_path: Path) -> None:
    run(tmp_path / "straight", range(3))
    writer = ResultWriter.open(tmp_path / "stopped", FACTS)
    first, second = variants([0, 1])
    process(writer, first)
    writer.on_start(second, "10.0.0.1", 0)
    writer.on_jobs(jobs(1, host="10.0.0.1"))
    writer.on_segments(segments((1, 0, 0, 0, 0, 1)))
    process(writer, next(variants([2])))
    time.sleep(0.05)
    writer.on_stop(second, "10.0.0.1", 0)
    with pytest.raises(BugError, match="variant 1 was stopped"):
        writer.on_start(second, "10.0.0.1", 0)
    writer.finish("stopped")
    writer.close()
    assert record(tmp_path / "stopped")["status"] == "stopped"
    assert not parquet(tmp_path / "stopped")
    run(tmp_path / "stopped", range(3))
    assert parquet(tmp_path / "stopped") == parquet(tmp_path / "straight")


def test_what_has_finished_is_in_the_journal_soon(tmp_path: Path) -> None:
    writer = ResultWriter.open(tmp_path, FACTS)
    process(writer, next(variants([0])))
    limit = time.monotonic() + 5
    while len(state(tmp_path, FACTS["fingerprint"], FACTS["version"]).finished) == 0:
        assert time.monotonic() < limit
        time.sleep(0.005)
    assert list(writer.finished.intervals()) == [(0, 1)]
    writer.close()


def test_an_error_in_the_background_is_raised_by_the_next_call(tmp_path: Path) -> None:
    writer = ResultWriter.open(tmp_path, FACTS)
    process(writer, next(variants([0])))
    time.sleep(0.1)
    bad = next(variants([1]))
    writer.on_start(bad, "h", 0)
    writer.on_jobs(batch(Job(0, 0, 0, 1), taskset=1))
    writer.on_finish(bad, "h", 0)
    time.sleep(0.2)
    with pytest.raises(BugError, match="variant 1 finished while 1 jobs had no outcome"):
        writer.on_start(next(variants([2])), "h", 0)
    with pytest.raises(BugError, match="variant 1 finished"):
        writer.on_start(next(variants([2])), "h", 0)
    writer.finish("failed", "a bug")
    writer.close()
    assert [row["taskset"] for row in rows(tmp_path, "tasksets")] == [0]


def test_an_error_in_the_background_is_not_lost_when_nothing_follows(tmp_path: Path) -> None:
    writer = ResultWriter.open(tmp_path, FACTS)
    bad = next(variants([1]))
    writer.on_start(bad, "h", 0)
    writer.on_jobs(batch(Job(0, 0, 0, 1), taskset=1))
    writer.on_finish(bad, "h", 0)
    time.sleep(0.2)
    with pytest.raises(BugError, match="no outcome"):
        writer.close()
    writer.close()
    ResultWriter.open(tmp_path, FACTS).close()


def mistakes() -> dict[str, Any]:
    wrong = jobs(0).record_batch.rename_columns(["x", *jobs(0).record_batch.schema.names[1:]])
    odd = jobs(0).record_batch
    position = odd.schema.get_field_index("outcome")
    strange = pa.DictionaryArray.from_arrays(
        pa.array([0] * odd.num_rows, pa.int8()), pa.array(["eaten"])
    )
    return {
        "jobs must have the schema": lambda w, v: w.on_jobs(JobBatch(wrong)),
        "segments must have the schema": lambda w, v: w.on_segments(wrong),
        "jobs came of variant 5, which does not run": lambda w, v: w.on_jobs(jobs(5)),
        "must not be of an attempt": lambda w, v: w.on_jobs(jobs(0, attempt=3)),
        "attempt must be > 0, got 0": lambda w, v: w.on_start(v, "h", 0),
        "variant 1 finished without": lambda w, v: w.on_finish(next(variants([1])), "h", 0),
        "got 'eaten'": lambda w, v: w.on_jobs(
            JobBatch(odd.set_column(position, odd.schema.field(position), strange))
        ),
    }


@pytest.mark.parametrize("message", list(mistakes()))
def test_a_broken_contract_is_a_bug(tmp_path: Path, message: str) -> None:
    writer = ResultWriter.open(tmp_path, FACTS)
    variant = next(variants([0]))
    writer.on_start(variant, "h", 0)

    def make_it() -> None:
        mistakes()[message](writer, variant)
        writer.finish("finished")

    with pytest.raises(BugError, match=message):
        make_it()
    writer.close()


def test_a_variant_ends_once(tmp_path: Path) -> None:
    writer = ResultWriter.open(tmp_path, FACTS)
    process(writer, next(variants([0])))
    time.sleep(0.1)
    with pytest.raises(BugError, match="variant 0 has ended already"):
        writer.on_start(next(variants([0])), "h", 0)
    writer.close()


def test_segments_are_ordered_and_only_there_if_any_came(tmp_path: Path) -> None:
    writer = ResultWriter.open(tmp_path, FACTS)
    for variant in variants([1, 0]):
        writer.on_start(variant, "h", 0)
        number = variant.variant
        writer.on_segments(segments((number, 0, 1, 0, 5, 6), (number, 0, 0, 1, 3, 4)))
        writer.on_finish(variant, "h", 0)
    writer.finish("finished")
    writer.close()
    found = [(r["taskset"], r["job"], r["start_ns"]) for r in rows(tmp_path, "segments")]
    assert found == [(0, 0, 3), (0, 1, 5), (1, 0, 3), (1, 1, 5)]


@pytest.mark.parametrize("table", schemas.TABLES)
def test_schemas_are_documented_and_hold(tmp_path: Path, table: str) -> None:
    declared = {"abort": Attribute(AttributeKind.TEXT)}
    writer = ResultWriter.open(tmp_path, FACTS, declared=declared)
    variant = next(variants([0]))
    writer.on_start(variant, "h", 0)
    writer.on_jobs(jobs(0))
    writer.on_segments(segments((0, 0, 0, 0, 0, 1)))
    writer.on_finish(variant, "h", 0)
    writer.finish("finished")
    writer.close()
    file = pq.ParquetFile(tmp_path / f"{table}.parquet")
    assert file.schema_arrow.equals(schemas.schema(table, declared), check_metadata=True)
    assert list(schemas.docs(table, declared)) == file.schema_arrow.names
    assert all(schemas.docs(table, declared).values())
    columns = [file.metadata.row_group(0).column(n) for n in range(file.metadata.num_columns)]
    assert {column.compression for column in columns} == {"ZSTD"}
    assert set(file.metadata.metadata or {}) == {
        b"ARROW:schema", b"taskgen_run.format", b"taskgen_run.table"
    }  # fmt: skip


def test_outcomes_have_the_dictionary_of_jobs(tmp_path: Path) -> None:
    run(tmp_path, range(3))
    outcomes: Any = pq.read_table(tmp_path / "jobs.parquet")["outcome"]
    assert [chunk.dictionary for chunk in outcomes.chunks] == [OUTCOMES]


def test_close_is_idempotent_and_releases_the_directory(tmp_path: Path) -> None:
    writer = ResultWriter.open(tmp_path, FACTS)
    with pytest.raises(InfrastructureError, match="is being written by another process"):
        ResultWriter.open(tmp_path, FACTS)
    writer.close()
    writer.close()
    ResultWriter.open(tmp_path, FACTS).close()


def test_big_batches_are_read_back_in_small_ones(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run(tmp_path / "a", range(5))
    monkeypatch.setattr(journal, "BATCH_ROWS", 2)
    run(tmp_path / "b", range(5))
    assert parquet(tmp_path / "a") == parquet(tmp_path / "b")


def test_no_clock_and_no_path_in_a_parquet_file(tmp_path: Path) -> None:
    run(tmp_path / "a", range(5))
    time.sleep(1.1)
    run(tmp_path / "another place", range(5))
    assert parquet(tmp_path / "a") == parquet(tmp_path / "another place")


def test_attempts_in_every_interleaving(tmp_path: Path) -> None:
    first = [("start", 0), ("jobs", 0), ("start", 1), ("jobs", 1), ("finish", 1)]
    for split in itertools.product([False, True], repeat=len(first) - 1):
        directory = tmp_path / "".join(str(int(flag)) for flag in split)
        writer = ResultWriter.open(directory, FACTS)
        variant = next(variants([3]))
        for (what, attempt), pause in zip(first, [False, *split], strict=True):
            if pause:
                with writer._reporting():
                    writer._commit()
            if what == "start":
                writer.on_start(variant, "h", attempt)
            elif what == "jobs":
                writer.on_jobs(jobs(3, attempt))
            else:
                writer.on_finish(variant, "h", attempt)
        writer.finish("finished")
        writer.close()
    files = [parquet(directory) for directory in tmp_path.iterdir()]
    assert len(files) == 16
    assert all(found == files[0] for found in files)
    assert [row["attempt"] for row in rows(directory, "jobs")] == [0] * 6 + [1] * 6


def test_closing_in_the_middle_of_a_step_of_the_thread(tmp_path: Path) -> None:
    """Closing never waits for a thread that waits for news."""

    class SlowEvent(threading.Event):
        def clear(self) -> None:
            time.sleep(0.2)
            super().clear()

    writer = ResultWriter.open(tmp_path, FACTS)
    writer._ended = SlowEvent()
    process(writer, next(variants([0])))
    time.sleep(0.1)
    closing = threading.Thread(target=writer.close, daemon=True)
    closing.start()
    closing.join(10)
    assert not closing.is_alive()
