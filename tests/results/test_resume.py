"""Results of runs that were killed, stopped, torn, extended and repeated."""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import experiments
import pyarrow.parquet as pq
import pytest
from experiments import FACTS, jobs, parquet, process, run, variants

from taskgen_run.errors import ConfigurationError, InfrastructureError, TargetError
from taskgen_run.results import Kind, ResultWriter, State, files, journal, state
from taskgen_run.task import Attribute
from taskgen_run.task import Kind as AttributeKind


def found(directory: Path) -> State:
    return state(directory, FACTS["fingerprint"], FACTS["version"])


def child(directory: Path, count: int) -> subprocess.Popen[bytes]:
    command = [sys.executable, experiments.__file__, str(directory), str(count)]
    return subprocess.Popen(command, stdout=subprocess.PIPE)


def status(directory: Path) -> str:
    return str(json.loads((directory / "experiment.json").read_text())["status"])


@pytest.mark.parametrize("seed", range(2))
def test_killed_again_and_again_it_comes_to_the_same_bytes(tmp_path: Path, seed: int) -> None:
    """kill -9 at random moments, also while recovering, sorting and publishing."""
    count = 400
    run(tmp_path / "straight", range(count))
    killed, moments = tmp_path / "killed", random.Random(seed)
    finished, kills, code = 0, 0, -signal.SIGKILL
    while code == -signal.SIGKILL:
        assert kills < 60
        process = child(killed, count)
        assert process.stdout is not None
        with process.stdout:
            assert process.stdout.readline() == b"open\n"
        time.sleep(moments.uniform(0, 0.08 * (kills + 1)))
        os.kill(process.pid, signal.SIGKILL)
        code = process.wait()
        kills += code == -signal.SIGKILL
        now = len(found(killed).finished)
        assert now >= finished
        finished = now
    assert code == 0
    assert kills > 0
    assert parquet(killed) == parquet(tmp_path / "straight")
    assert status(killed) == "finished"
    assert found(killed).kind is Kind.FINISHED
    assert not list(killed.glob("journal*"))
    assert not list(killed.glob("*.tmp"))


def journaled(directory: Path, numbers: range) -> Path:
    """A stopped experiment with a commit per variant; returns its journal."""
    writer = ResultWriter.open(directory, FACTS)
    for variant in variants(numbers):
        process(writer, variant)
        with writer._reporting():
            writer._commit()
    writer.close()
    return files.journal(directory, files.journals(directory)[-1])


@pytest.mark.parametrize("table", ["jobs", "segments", "tasks", "tasksets"])
def test_a_torn_tail_is_dropped(tmp_path: Path, table: str) -> None:
    """Every stream cut at every byte of its last batch, and at some before."""
    kept = journaled(tmp_path / "kept", range(3))
    stream = kept / f"{table}.arrows"
    whole = stream.read_bytes()
    shorter = journaled(tmp_path / "shorter", range(2)) / stream.name
    begin = shorter.stat().st_size
    assert found(tmp_path / "kept").finished == holding(3)
    for size in range(begin, len(whole)):
        os.truncate(stream, size)
        assert found(tmp_path / "kept").finished == holding(2), size
        stream.write_bytes(whole)
    run(tmp_path / "straight", range(5))
    for size in random.Random(table).sample(range(begin, len(whole)), 3):
        copy = tmp_path / f"copy-{size}"
        shutil.copytree(tmp_path / "kept", copy)
        os.truncate(copy / stream.relative_to(tmp_path / "kept"), size)
        run(copy, range(5))
        assert parquet(copy) == parquet(tmp_path / "straight")


def holding(count: int) -> Any:
    intervals = type(State(Kind.ABSENT).finished)()
    for number in range(count):
        intervals.add(number)
    return intervals


def test_a_commit_in_several_batches_counts_whole_or_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The rows of variants come last, so that none counts whose jobs are torn off."""
    monkeypatch.setattr(journal, "BATCH_ROWS", 4)
    writer = ResultWriter.open(tmp_path, FACTS)
    for variant in variants(range(5)):
        process(writer, variant)
    writer.close()
    path = files.journal(tmp_path, 0)
    stream = path / "jobs.arrows"
    whole = stream.read_bytes()
    assert journal.commits(path) > 5
    for size in range(len(whole) - 1, len(whole) // 2, -37):
        os.truncate(stream, size)
        assert len(found(tmp_path).finished) == 0
        stream.write_bytes(whole)
    assert len(found(tmp_path).finished) == 5


@pytest.mark.parametrize("place", [0, 8, 200])
def test_a_damaged_journal_is_a_clear_error(tmp_path: Path, place: int) -> None:
    stream = journaled(tmp_path, range(3)) / "jobs.arrows"
    content = bytearray(stream.read_bytes())
    content[place : place + 8] = b"\x01" * 8
    stream.write_bytes(content)
    for attempt in (lambda: found(tmp_path), lambda: run(tmp_path, range(3))):
        with pytest.raises(InfrastructureError, match=r"jobs\.arrows: the journal is damaged"):
            attempt()
    ResultWriter.open(tmp_path, FACTS, rerun=True).close()
    assert found(tmp_path).kind is Kind.PARTIAL


def test_stopped_and_continued(tmp_path: Path) -> None:
    run(tmp_path / "straight", range(30))
    for end in (0, 10, 11, 25):
        run(tmp_path / "pieces", range(end), "stopped")
        assert found(tmp_path / "pieces").kind is Kind.PARTIAL
        assert len(found(tmp_path / "pieces").finished) == end
        assert not parquet(tmp_path / "pieces")
        assert len(files.journals(tmp_path / "pieces")) == 1
    started = json.loads((tmp_path / "pieces/experiment.json").read_text())["started"]
    run(tmp_path / "pieces", range(30))
    content = json.loads((tmp_path / "pieces/experiment.json").read_text())
    straight = json.loads((tmp_path / "straight/experiment.json").read_text())
    assert parquet(tmp_path / "pieces") == parquet(tmp_path / "straight")
    assert content["counts"] == straight["counts"]
    assert content["started"] == started


def test_extended(tmp_path: Path) -> None:
    run(tmp_path / "straight", range(30))
    run(tmp_path / "extended", range(10))
    before = parquet(tmp_path / "extended")
    run(tmp_path / "extended", range(20), "stopped")
    assert parquet(tmp_path / "extended") == before
    assert len(found(tmp_path / "extended").finished) == 20
    run(tmp_path / "extended", range(30))
    assert parquet(tmp_path / "extended") == parquet(tmp_path / "straight")


def test_failed_variants_are_run_again(tmp_path: Path) -> None:
    run(tmp_path / "straight", range(10))
    writer = ResultWriter.open(tmp_path / "again", FACTS)
    for variant in variants(range(10)):
        if variant.variant % 4 == 1:
            writer.on_start(variant, "h", 0)
            writer.on_jobs(jobs(variant.variant, host="h"))
            writer.on_fail(variant, "h", 0, TargetError("it froze"))
        else:
            process(writer, variant)
    writer.finish("failed")
    writer.close()
    assert list(found(tmp_path / "again").failed.intervals()) == [(1, 2), (5, 6), (9, 10)]
    run(tmp_path / "again", range(10))
    assert parquet(tmp_path / "again") == parquet(tmp_path / "straight")
    assert len(found(tmp_path / "again").failed) == 0


def test_failed_in_the_journal_of_a_stopped_run(tmp_path: Path) -> None:
    run(tmp_path / "straight", range(2))
    writer = ResultWriter.open(tmp_path / "again", FACTS)
    first, second = variants([0, 1])
    writer.on_start(first, "h", 0)
    writer.on_jobs(jobs(0, host="h"))
    writer.on_fail(first, "h", 0, TargetError("it froze"))
    process(writer, second)
    writer.finish("stopped", "interrupted")
    writer.close()
    state = found(tmp_path / "again")
    assert (list(state.finished.intervals()), list(state.failed.intervals())) == (
        [(1, 2)],
        [(0, 1)],
    )
    run(tmp_path / "again", range(2))
    assert parquet(tmp_path / "again") == parquet(tmp_path / "straight")


def test_rerun_keeps_the_old_files_until_the_new_ones_are_there(tmp_path: Path) -> None:
    run(tmp_path, range(5))
    before = parquet(tmp_path)
    (tmp_path / "segments.parquet").write_bytes(b"of the old run")
    writer = ResultWriter.open(tmp_path, FACTS, rerun=True)
    assert len(writer.finished) == 0
    assert parquet(tmp_path).items() >= before.items()
    for variant in variants(range(5)):
        process(writer, variant)
    writer.finish("finished")
    writer.close()
    assert parquet(tmp_path) == before


def interrupted_at(directory: Path, step: str) -> None:
    """Go on with an experiment in a process that is killed when it has come to `step`."""
    code = f"""
import os, signal, sys
from pathlib import Path
sys.path.insert(0, {str(Path(experiments.__file__).parent)!r})
import experiments
from taskgen_run.results import files, journal, publish, writer
owner, name = {{
    "rename": (Path, "rename"),
    "remove": (journal.shutil, "rmtree"),
    "replace": (Path, "replace"),
    "record": (writer.directories, "write_record"),
}}[{step.partition("-")[0]!r}]
original, left = getattr(owner, name), [{int(step.partition("-")[2])}]
def kill(*args, **more):
    if left[0] == 0:
        os.kill(os.getpid(), signal.SIGKILL)
    left[0] -= 1
    return original(*args, **more)
setattr(owner, name, kill)
experiments.run(Path({str(directory)!r}), range(12))
"""
    process = subprocess.run([sys.executable, "-c", code], check=False)
    assert process.returncode == -signal.SIGKILL


@pytest.mark.parametrize("begun", ["nothing", "journal", "finished"])
@pytest.mark.parametrize(
    "step",
    [
        "rename-0",
        "record-0",
        "replace-0",
        "replace-1",
        "replace-2",
        "replace-3",
        "record-1",
        "remove-0",
    ],
)
def test_killed_at_each_step(tmp_path: Path, begun: str, step: str) -> None:
    run(tmp_path / "straight", range(12))
    directory = tmp_path / "killed"
    if begun != "nothing":
        run(directory, range(8), "stopped" if begun == "journal" else "finished")
    interrupted_at(directory, step)
    left = found(directory)
    if begun != "nothing":
        assert left.kind in (Kind.PARTIAL, Kind.FINISHED)
        assert len(left.finished) >= 8
    run(directory, range(12))
    assert parquet(directory) == parquet(tmp_path / "straight")
    assert not list(directory.glob("journal*"))


def test_killed_between_two_generations(tmp_path: Path) -> None:
    run(tmp_path / "straight", range(12))
    run(tmp_path / "killed", range(8), "stopped")
    interrupted_at(tmp_path / "killed", "remove-0")
    assert files.journals(tmp_path / "killed") == [0, 1]
    assert len(found(tmp_path / "killed").finished) == 8
    run(tmp_path / "killed", range(12))
    assert parquet(tmp_path / "killed") == parquet(tmp_path / "straight")


def test_killed_with_a_journal_left_beside_complete_files(tmp_path: Path) -> None:
    run(tmp_path / "straight", range(12))
    path = journaled(tmp_path / "killed", range(3))
    shutil.copytree(path, tmp_path / "left")
    run(tmp_path / "killed", range(8))
    shutil.copytree(tmp_path / "left", path)
    assert len(found(tmp_path / "killed").finished) == 8
    run(tmp_path / "killed", range(12))
    assert parquet(tmp_path / "killed") == parquet(tmp_path / "straight")


def test_state_of_nothing(tmp_path: Path) -> None:
    assert found(tmp_path / "missing").kind is Kind.ABSENT
    (tmp_path / ".hydra").mkdir()
    (tmp_path / "experiment.log").touch()
    assert found(tmp_path).kind is Kind.ABSENT
    assert sorted(path.name for path in tmp_path.iterdir()) == [".hydra", "experiment.log"]
    run(tmp_path, range(2))
    assert found(tmp_path).kind is Kind.FINISHED


def test_a_directory_of_others_is_refused(tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").touch()
    for rerun in (False, True):
        with pytest.raises(ConfigurationError, match=r"holds 'thesis\.tex' and no experiment"):
            ResultWriter.open(tmp_path, FACTS, rerun=rerun)
    assert found(tmp_path).kind is Kind.FOREIGN
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.tex"]
    with pytest.raises(ConfigurationError, match="is not a directory"):
        ResultWriter.open(tmp_path / "thesis.tex", FACTS)


@pytest.mark.parametrize("content", ["[]", "{", '{"status": "finished"}', "\x80"])
def test_an_experiment_json_of_others_is_refused(tmp_path: Path, content: str) -> None:
    (tmp_path / "experiment.json").write_text(content, encoding="latin-1")
    with pytest.raises(ConfigurationError, match=r"experiment\.json: .*choose another directory"):
        ResultWriter.open(tmp_path, FACTS, rerun=True)


def test_another_experiment_is_never_overwritten(tmp_path: Path) -> None:
    run(tmp_path, range(2))
    before = {path: path.read_bytes() for path in tmp_path.iterdir()}
    for rerun in (False, True):
        with pytest.raises(ConfigurationError, match="holds another experiment"):
            ResultWriter.open(tmp_path, {**FACTS, "fingerprint": "e"}, rerun=rerun)
    assert state(tmp_path, "e", FACTS["version"]).kind is Kind.FOREIGN
    assert {path: path.read_bytes() for path in tmp_path.iterdir()} == before


@pytest.mark.parametrize("status", ["finished", "stopped"])
def test_results_of_another_version_are_never_mixed(tmp_path: Path, status: str) -> None:
    run(tmp_path, range(2), status)
    newer = {**FACTS, "version": "2.0"}
    with pytest.raises(ConfigurationError, match=r"results of taskgen_run 1\.0, not 2\.0; start"):
        ResultWriter.open(tmp_path, newer)
    assert state(tmp_path, FACTS["fingerprint"], "2.0").kind is Kind.OUTDATED
    writer = ResultWriter.open(tmp_path, newer, rerun=True)
    assert len(writer.finished) == 0
    writer.close()


@pytest.mark.parametrize("status", ["finished", "stopped"])
def test_other_columns_are_never_mixed(tmp_path: Path, status: str) -> None:
    run(tmp_path, range(2), status)
    with pytest.raises(ConfigurationError, match="its tasks have the columns"):
        ResultWriter.open(
            tmp_path, FACTS, declared={"abort": Attribute(AttributeKind.TEXT)}
        ).close()
    run(tmp_path, range(3))
    assert pq.read_metadata(tmp_path / "tasksets.parquet").num_rows == 3


def test_files_of_a_user_in_a_result_directory_stay(tmp_path: Path) -> None:
    run(tmp_path, range(2))
    (tmp_path / "plot.svg").touch()
    run(tmp_path, range(3))
    assert (tmp_path / "plot.svg").exists()


def test_two_processes_do_not_write_one_directory(tmp_path: Path) -> None:
    process = child(tmp_path, 1000)
    assert process.stdout is not None
    with process.stdout:
        assert process.stdout.readline() == b"open\n"
    try:
        with pytest.raises(InfrastructureError, match="is being written by another process"):
            ResultWriter.open(tmp_path, FACTS)
    finally:
        process.kill()
        process.wait()
    ResultWriter.open(tmp_path, FACTS).close()


@pytest.mark.parametrize("table", ["jobs", "tasks", "tasksets"])
def test_what_someone_removed_is_run_again(tmp_path: Path, table: str) -> None:
    run(tmp_path, range(5))
    before = parquet(tmp_path)
    (tmp_path / f"{table}.parquet").unlink()
    assert len(found(tmp_path).finished) == 0
    run(tmp_path, range(5))
    assert parquet(tmp_path) == before
