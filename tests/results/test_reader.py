"""Reading an experiment, or a sweep, into one table."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest
from experiments import FACTS, jobs, process, run, variants

from taskgen_run import results
from taskgen_run.errors import ConfigurationError
from taskgen_run.job import SEGMENT_SCHEMA, Job, JobBatch, Outcome
from taskgen_run.results import ResultWriter, schemas, tables
from taskgen_run.task import Attribute, Kind


def write(
    directory: Path,
    labels: dict[str, Any],
    numbers: range = range(3),
    status: str = "finished",
    declared: dict[str, Attribute] | None = None,
    trace: bool = False,
) -> None:
    writer = ResultWriter.open(directory, {**FACTS, "labels": labels}, declared=declared)
    for variant in variants(numbers):
        if trace:
            number = variant.variant
            writer.on_start(variant, "h", 0)
            row = {"taskset": number, "task": 0, "job": 0, "cpu": 0, "start_ns": 0, "end_ns": 1}
            writer.on_segments(pa.RecordBatch.from_pylist([row], schema=SEGMENT_SCHEMA))
            writer.on_finish(variant, "h", 0)
        else:
            process(writer, variant)
    writer.finish(status)
    writer.close()


@pytest.mark.parametrize("table", ["jobs", "tasks", "tasksets"])
def test_one_experiment(tmp_path: Path, table: str) -> None:
    run(tmp_path, range(4))
    found = results.read(tmp_path, table)
    assert found.equals(pq.read_table(tmp_path / f"{table}.parquet"))
    assert found.schema.equals(schemas.schema(table))


def test_a_sweep_has_labels_as_columns(tmp_path: Path) -> None:
    write(tmp_path / "0", {"session": "simso", "taskset": "hey0", "cores": 2, "rate": 1})
    write(
        tmp_path / "2" / "nested", {"session": "fastsim", "taskset": "hey3", "rate": 0.5}, range(5)
    )
    write(tmp_path / "10", {"session": "genode", "taskset": 3, "experiment": "x"}, range(0))
    (tmp_path / ".hydra").mkdir()
    found = results.read(tmp_path, "tasksets")
    assert found.column_names == [
        "experiment", "session", "taskset_name", "cores", "rate", "experiment_name",
        *schemas.schema("tasksets").names,
    ]  # fmt: skip
    rows = found.to_pylist()
    assert [row["experiment"] for row in rows] == ["0"] * 3 + ["2/nested"] * 5
    assert rows[0]["taskset_name"] == "hey0"
    assert (rows[0]["cores"], rows[3]["cores"]) == (2, None)
    assert (rows[0]["rate"], rows[3]["rate"]) == (1.0, 0.5)
    assert [row["taskset"] for row in rows] == [0, 1, 2, 0, 1, 2, 3, 4]
    by_name = results.read(str(tmp_path)).group_by("session").aggregate([("job", "count")])
    assert sorted(map(str, by_name.to_pylist())) == [
        "{'session': 'fastsim', 'job_count': 30}",
        "{'session': 'simso', 'job_count': 18}",
    ]


def test_experiments_are_read_in_the_order_of_their_numbers(tmp_path: Path) -> None:
    for number in (10, 2, 0):
        write(tmp_path / str(number), {}, range(1))
    found = results.read(tmp_path, "tasksets")["experiment"].to_pylist()
    assert found == ["0", "2", "10"]


def test_sessions_with_attributes_of_their_own(tmp_path: Path) -> None:
    write(tmp_path / "a", {}, declared={"abort": Attribute(Kind.TEXT)})
    write(tmp_path / "b", {}, declared={"etm": Attribute(Kind.NUMBER)})
    found = results.read(tmp_path, "tasks")
    assert found.column_names[-2:] == ["abort", "etm"]
    assert found.num_rows == 12
    write(tmp_path / "c", {}, declared={"etm": Attribute(Kind.TEXT)})
    with pytest.raises(ConfigurationError, match="columns do not fit together"):
        results.read(tmp_path, "tasks")


def test_segments(tmp_path: Path) -> None:
    write(tmp_path / "a", {"session": "simso"}, trace=True)
    write(tmp_path / "b", {"session": "genode"})
    assert results.read(tmp_path / "a", "segments").num_rows == 3
    assert results.read(tmp_path, "segments")["session"].to_pylist() == ["simso"] * 3
    with pytest.raises(ConfigurationError, match=r"no segments; run .* trace=true"):
        results.read(tmp_path / "b", "segments")


def test_no_segments_in_a_whole_sweep(tmp_path: Path) -> None:
    write(tmp_path / "b", {})
    with pytest.raises(ConfigurationError, match="holds no segments"):
        results.read(tmp_path, "segments")


@pytest.mark.parametrize("trace", [False, True])
def test_what_is_not_complete_is_read_only_when_asked(tmp_path: Path, trace: bool) -> None:
    write(tmp_path / "0", {}, range(2), trace=trace)
    write(tmp_path / "1", {}, range(3, -1, -1), "stopped", trace=trace)
    for path in (tmp_path, tmp_path / "1"):
        with pytest.raises(ConfigurationError, match=r"1: experiment must be complete, is stopped"):
            results.read(path)
    with pytest.raises(ConfigurationError, match="is stopped"):
        results.summary(tmp_path / "1")
    both = results.read(tmp_path, "tasksets", partial=True)
    assert both["taskset"].to_pylist() == [0, 1, 0, 1, 2, 3]
    for table in schemas.TABLES:
        if table == "segments" and not trace:
            continue
        found = results.read(tmp_path / "1", table, partial=True)
        whole = results.read(tmp_path / "0", table)
        assert found.schema.equals(whole.schema)
        assert found.filter(pc.field("taskset") < 2).to_pylist() == whole.to_pylist()


def test_a_running_experiment_is_read_with_partial(tmp_path: Path) -> None:
    writer = ResultWriter.open(tmp_path, FACTS)
    with pytest.raises(ConfigurationError, match="must be complete, is running"):
        results.read(tmp_path)
    assert results.read(tmp_path, partial=True).num_rows == 0
    with pytest.raises(ConfigurationError, match="holds no segments"):
        results.read(tmp_path, "segments", partial=True)
    writer.close()


def test_no_results(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    for place in (tmp_path, tmp_path / "missing", tmp_path / "empty"):
        with pytest.raises(ConfigurationError, match="holds no results of taskgen_run"):
            results.read(place)
        with pytest.raises(ConfigurationError, match="holds no experiment"):
            results.summary(place)
    with pytest.raises(ConfigurationError, match="unknown table 'job'; did you mean 'jobs'"):
        results.read(tmp_path, "job")


def test_another_format_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run(tmp_path, range(2))
    monkeypatch.setattr(tables, "FORMAT", 2)
    with pytest.raises(ConfigurationError, match=r"jobs\.parquet: format must be 2, got 1"):
        results.read(tmp_path)
    with pytest.raises(ConfigurationError, match="format must be 2, got 1"):
        results.summary(tmp_path)


def test_files_that_are_not_ours(tmp_path: Path) -> None:
    run(tmp_path, range(2))
    pq.write_table(pa.table({"a": [1]}), tmp_path / "jobs.parquet")
    with pytest.raises(ConfigurationError, match="was not written by taskgen_run"):
        results.read(tmp_path)
    (tmp_path / "jobs.parquet").write_bytes(b"PAR1 or so")
    with pytest.raises(ConfigurationError, match=r"jobs\.parquet: cannot be read"):
        results.read(tmp_path)


def test_summary(tmp_path: Path) -> None:
    run(tmp_path, range(10))
    expected = []
    table = pq.read_table(tmp_path / "jobs.parquet").to_pylist()
    for task in (0, 1):
        rows = [row for row in table if row["task"] == task]
        ended = [row["end_ns"] - row["release_ns"] for row in rows if row["end_ns"] is not None]
        missed = sum(bool(row["missed"]) for row in rows)
        expected.append(
            {
                "task": task,
                "jobs": len(rows),
                "worst_response_ns": max(ended),
                "deadline_misses": missed,
                "unknown_misses": sum(row["missed"] is None for row in rows),
                "not_finished": sum(row["outcome"] != "finished" for row in rows),
            }
        )
    assert results.summary(tmp_path).to_pylist() == expected


def test_summary_counts_last_attempts_only(tmp_path: Path) -> None:
    writer = ResultWriter.open(tmp_path, FACTS)
    first, second = variants([0, 1])
    writer.on_start(first, "h", 0)
    slow = Job(1, 0, 0, 1, 10**12, 5, Outcome.FINISHED)
    writer.on_jobs(JobBatch.from_jobs([slow], taskset=0, attempt=0, host="h"))
    writer.on_start(first, "h", 1)
    writer.on_jobs(jobs(0, attempt=1))
    writer.on_finish(first, "h", 1)
    process(writer, second)
    writer.finish("finished")
    writer.close()
    found = results.summary(tmp_path).to_pylist()
    counts = results.read(tmp_path, "tasksets").to_pylist()
    assert sum(row["jobs"] for row in found) == sum(row["jobs"] for row in counts) == 12
    misses = sum(row["deadline_misses"] for row in counts)
    assert sum(row["deadline_misses"] for row in found) == misses
    assert max(row["worst_response_ns"] for row in found) < 10**12


def test_summary_of_nothing(tmp_path: Path) -> None:
    run(tmp_path, range(0))
    assert results.summary(tmp_path).num_rows == 0
    assert results.read(tmp_path).num_rows == 0


def examples() -> list[str]:
    assert results.__doc__ is not None
    blocks = re.findall(r"::\n\n((?:    .*\n|\n)+)", results.__doc__)
    return [re.sub(r"^    ", "", block, flags=re.M) for block in blocks]


@pytest.mark.parametrize("tool", ["taskgen_run", "duckdb", "polars", "pandas"])
def test_the_documented_examples_run(tmp_path: Path, tool: str) -> None:
    if tool != "taskgen_run":
        pytest.importorskip(tool)
    write(tmp_path / "outputs/sweep/0", {"session": "simso", "taskset": "hey0"}, range(9))
    write(tmp_path / "outputs/sweep/1", {"session": "simso", "taskset": "hey3"}, range(4))
    (code,) = (
        block for block in examples() if f"import {tool}" in block or f"from {tool}" in block
    )
    ended = subprocess.run(
        [sys.executable, "-W", "error", "-c", code],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "COLUMNS": "200"},
    )
    assert ended.returncode == 0, ended.stderr
    assert "deadline_misses" in ended.stdout or "missed" in ended.stdout
    misses = str(results.summary(tmp_path / "outputs/sweep/0")["deadline_misses"][0])
    assert misses in ended.stdout


def test_the_documentation_names_every_file(tmp_path: Path) -> None:
    assert results.__doc__ is not None
    for table in schemas.TABLES:
        assert f"{table}.parquet" in results.__doc__


def test_public_names() -> None:
    assert sorted(results.__all__) == [
        *("Intervals", "Kind", "ResultWriter", "State"),
        *("read", "state", "summary", "totals", "write_index"),
    ]
