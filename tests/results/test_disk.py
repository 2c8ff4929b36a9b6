"""A disk that is full, cannot be written or goes away."""

from __future__ import annotations

import json
import os
import resource
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import experiments
import pytest
from experiments import FACTS, parquet, process, run, variants

from taskgen_run.errors import InfrastructureError
from taskgen_run.results import Kind, ResultWriter, state


def finished(directory: Path) -> int:
    return len(state(directory, FACTS["fingerprint"], FACTS["version"]).finished)


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of its own with 1 MB."""
    place = tmp_path / "disk"
    place.mkdir()
    if os.geteuid() != 0 or shutil.which("mount") is None:
        pytest.skip("only root can mount a file system")
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(place)],
        check=False,
        capture_output=True,
        text=True,
    )
    if mounted.returncode != 0:
        pytest.skip(f"cannot mount a file system here: {mounted.stderr.strip()}")
    yield place
    subprocess.run(["umount", "--lazy", str(place)], check=True)


def fill(directory: Path) -> Path:
    """A file that takes all space that is left."""
    filler = directory / "filler"
    with filler.open("wb", buffering=0) as file:
        for size in (65536, 4096, 1):
            try:
                while file.write(b"x" * size) == size:
                    pass
            except OSError:
                continue
    return filler


def test_full_while_running(small_disk: Path, tmp_path: Path) -> None:
    directory = small_disk / "results"
    writer = ResultWriter.open(directory, FACTS)
    processed = 0

    def process_until_full() -> None:
        nonlocal processed
        for variant in variants(range(100_000)):
            process(writer, variant)
            processed += 1

    with pytest.raises(InfrastructureError, match=r"journal-0.*No space left.*same command again"):
        process_until_full()
    with pytest.raises(InfrastructureError, match="No space left"):
        writer.finish("failed")
    writer.close()
    kept = finished(directory)
    assert 100 < kept <= processed
    shutil.copytree(directory, tmp_path / "bigger disk")
    run(tmp_path / "bigger disk", range(processed + 10))
    run(tmp_path / "straight", range(processed + 10))
    assert parquet(tmp_path / "bigger disk") == parquet(tmp_path / "straight")


def test_full_at_the_end(small_disk: Path, tmp_path: Path) -> None:
    directory = small_disk / "results"
    writer = ResultWriter.open(directory, FACTS)
    for variant in variants(range(50)):
        process(writer, variant)
    with writer._reporting():
        writer._commit()
    filler = fill(small_disk)
    with pytest.raises(InfrastructureError, match=r"No space left"):
        writer.finish("finished")
    writer.close()
    assert not parquet(directory)
    assert not list(directory.glob("*.parquet.tmp"))
    assert finished(directory) == 50
    with pytest.raises(InfrastructureError, match="No space left"):
        ResultWriter.open(directory, FACTS)
    assert finished(directory) == 50
    filler.unlink()
    run(directory, range(50))
    run(tmp_path / "straight", range(50))
    assert parquet(directory) == parquet(tmp_path / "straight")


def test_full_before_it_begins(small_disk: Path) -> None:
    fill(small_disk)
    with pytest.raises(InfrastructureError, match="No space left"):
        ResultWriter.open(small_disk / "results", FACTS)


def limited(directory: Path, variants: int, size: int) -> subprocess.CompletedProcess[str]:
    """Run in a process that cannot make a file larger than `size` bytes."""

    def limit() -> None:
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (size, size))

    return subprocess.run(
        [sys.executable, experiments.__file__, str(directory), str(variants)],
        check=False,
        capture_output=True,
        text=True,
        preexec_fn=limit,
    )


def test_a_file_that_must_not_grow(tmp_path: Path) -> None:
    ended = limited(tmp_path / "limited", 5000, 100_000)
    assert ended.returncode == 1
    assert "InfrastructureError" in ended.stderr
    assert "File too large" in ended.stderr
    assert "Exception ignored" not in ended.stderr
    kept = finished(tmp_path / "limited")
    assert 0 < kept < 5000
    run(tmp_path / "limited", range(kept + 10))
    run(tmp_path / "straight", range(kept + 10))
    assert parquet(tmp_path / "limited") == parquet(tmp_path / "straight")


def test_a_parquet_file_that_must_not_grow(tmp_path: Path) -> None:
    """What is in order needs no more than the journal; the Parquet file is what breaks."""
    run(tmp_path / "straight", range(600))
    run(tmp_path / "limited", range(600), "stopped")
    largest = max(len(content) for content in parquet(tmp_path / "straight").values())
    journals = max(path.stat().st_size for path in (tmp_path / "limited").glob("journal-*/*"))
    assert journals > largest
    rerun = limited(tmp_path / "limited", 600, largest - 1)
    assert rerun.returncode == 1
    assert finished(tmp_path / "limited") == 600
    assert not parquet(tmp_path / "limited")
    run(tmp_path / "limited", range(600))
    assert parquet(tmp_path / "limited") == parquet(tmp_path / "straight")


def test_below_a_regular_file(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(InfrastructureError, match=r"file.*Not a directory"):
        ResultWriter.open(tmp_path / "file" / "results", FACTS)


def test_a_directory_without_permission(tmp_path: Path) -> None:
    closed = tmp_path / "closed"
    closed.mkdir(mode=0o555)
    if os.geteuid() != 0:
        with pytest.raises(InfrastructureError, match="Permission denied"):
            ResultWriter.open(closed / "results", FACTS)
        return
    code = f"""
import os, sys
sys.path.insert(0, {str(Path(experiments.__file__).parent)!r})
from experiments import FACTS
from taskgen_run.results import ResultWriter
os.setuid(65534)
ResultWriter.open("results", FACTS)
"""
    ended = subprocess.run(
        [sys.executable, "-c", code], check=False, capture_output=True, text=True, cwd=closed
    )
    assert "InfrastructureError" in ended.stderr, ended.stderr
    assert "Permission denied" in ended.stderr


def test_the_directory_goes_away(tmp_path: Path) -> None:
    directory = tmp_path / "results"
    writer = ResultWriter.open(directory, FACTS)
    first, second = variants([0, 1])
    process(writer, first)
    shutil.rmtree(directory)

    def end() -> None:
        process(writer, second)  # may notice it already
        writer.finish("finished")

    with pytest.raises(InfrastructureError, match=r"results/journal-0.*removed meanwhile"):
        end()
    writer.close()
    assert state(directory, FACTS["fingerprint"], FACTS["version"]).kind is Kind.ABSENT


def test_the_directory_is_moved(tmp_path: Path) -> None:
    writer = ResultWriter.open(tmp_path / "here", FACTS)
    process(writer, next(variants([0])))
    (tmp_path / "here").rename(tmp_path / "there")
    with pytest.raises(InfrastructureError, match=r"here"):
        writer.finish("finished")
    writer.close()
    assert finished(tmp_path / "there") == 1
    run(tmp_path / "there", range(2))
    assert json.loads((tmp_path / "there/experiment.json").read_text())["status"] == "finished"
