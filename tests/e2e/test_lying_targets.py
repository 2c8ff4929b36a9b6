"""Targets that lie, or break off an upload, beside honest ones."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from agents import ROOT, fresh_address
from real_targets import (
    PORT,
    Runner,
    agents,
    assert_complete,
    assert_nothing_left,
    need_workloads,
    targets,
)

from taskgen_run import results

LIES = {
    "garbage": "size of a message must be ≤ ",
    "size": "size of a message must be ≤ ",
    "unknown_task": "a task-id must be that of a task of the task set, got 7",
    "early_end": r"EXIT of task \d",
    "upload": "it closed the connection",
}
"""What is said of each lie."""


@contextmanager
def _liar(directory: Path, host: str, lie: str) -> Iterator[None]:
    with agents(directory, host, port=0) as (honest,):
        process = subprocess.Popen(
            [
                *(sys.executable, Path(__file__).with_name("lying_target.py")),
                *(host, str(PORT), str(honest.port), lie),
            ],
            stdout=subprocess.PIPE,
            cwd=ROOT,
            env={"PYTHONPATH": str(ROOT)},
        )
        with process:
            try:
                assert process.stdout is not None
                assert process.stdout.readline() == b"listens\n"
                yield
            finally:
                process.kill()


@pytest.mark.parametrize("lie", LIES)
def test_a_liar_is_found_out_and_its_variants_finish_elsewhere(lie: str, tmp_path: Path) -> None:
    need_workloads()
    honest, liar = [fresh_address() for _ in range(2)], fresh_address()
    with (
        agents(tmp_path, *honest),
        _liar(tmp_path, liar, lie),
        Runner(tmp_path, targets(*honest, liar), "restarts=0") as runner,
    ):
        said = runner.ends()
        assert_nothing_left(tmp_path, [*honest, liar])
    rows = assert_complete(tmp_path / "outputs")
    (line,) = [line for line in said.splitlines() if f"failed on {liar}, attempt 1 of 3" in line]
    print(line)
    assert f"{liar} is put aside (1 times failed)" in said
    (retried,) = [row for row in rows if row["attempts"] > 1]
    assert {row["host"] for row in rows} == set(honest)
    lied = [job for job in results.read(tmp_path / "outputs").to_pylist() if job["host"] == liar]
    assert {(job["taskset"], job["attempt"]) for job in lied} <= {(retried["taskset"], 0)}
    assert all(job["start_ns"] is None or job["end_ns"] is None or job["start_ns"] <= job["end_ns"] for job in lied)
