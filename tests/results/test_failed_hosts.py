"""What the results tell of the hosts that have failed."""

from __future__ import annotations

from pathlib import Path

import pyarrow.parquet as pq
from experiments import FACTS, process, run, variants

from taskgen_run.errors import SilentError, TargetError
from taskgen_run.results import ResultWriter, read
from taskgen_run.results.schemas import docs

SILENT = SilentError("no answer", restarted=True)


def test_failures_are_counted_over_all_runs_of_an_experiment(tmp_path: Path) -> None:
    writer = ResultWriter.open(tmp_path, FACTS)
    writer.on_host_fail("10.0.0.2", SILENT, put_aside=False)
    writer.on_host_fail("10.0.0.1", SilentError("nobody serves", restarted=False), put_aside=True)
    process(writer, next(variants([0])))
    writer.close()
    (_, aside) = read(tmp_path, "hosts", partial=True).to_pylist()
    assert aside["put_aside"] is True
    writer = ResultWriter.open(tmp_path, FACTS)
    writer.on_host_fail("10.0.0.2", TargetError("it\nlies"), put_aside=False)
    writer.finish("finished")
    writer.close()
    rows = [
        ("10.0.0.2", 2, 1, False, "it lies"),
        ("10.0.0.1", 1, 0, False, "nobody serves"),  # the second run asked it again
    ]
    table = pq.read_table(tmp_path / "hosts.parquet")
    assert [tuple(row.values()) for row in table.to_pylist()] == rows
    assert table.column_names == list(docs("hosts"))
    assert read(tmp_path, "hosts").equals(table)


def test_a_failure_is_kept_though_the_run_is_killed(tmp_path: Path) -> None:
    writer = ResultWriter.open(tmp_path, FACTS)
    writer.on_host_fail("10.0.0.2", SILENT, put_aside=False)
    assert read(tmp_path, "hosts", partial=True)["restarts"].to_pylist() == [1]
    writer.close()


def test_without_failures_there_is_no_file(tmp_path: Path) -> None:
    writer = ResultWriter.open(tmp_path, FACTS)
    writer.on_host_fail("10.0.0.2", SILENT, put_aside=False)
    writer.finish("failed")
    writer.close()
    assert (tmp_path / "hosts.parquet").exists()
    writer = ResultWriter.open(tmp_path, FACTS, rerun=True)
    writer.finish("finished")
    writer.close()
    assert not (tmp_path / "hosts.parquet").exists()
    run(tmp_path / "other", range(2))
    assert not (tmp_path / "other" / "hosts.parquet").exists()
    assert read(tmp_path / "other", "hosts").num_rows == 0
