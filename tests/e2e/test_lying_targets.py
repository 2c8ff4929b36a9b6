"""Targets that lie, or break off an upload, beside honest ones."""

from __future__ import annotations

import re
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
    "garbage": r"size of XML must be 1 to \d+, got 117901063$",
    "size": r"size of XML must be 1 to \d+, got 4043309055$",
    "unknown_task": r"a task-id must be that of a task of the task set, got 7 with (START|EXIT)$",
    "early_end": r"EXIT of task \d \(id \d\) at \d+ ns cannot be: time went back from \d+ ns$",
    "upload": r"it closed the connection$|"
    r"the connection is lost: Connection reset by peer; its log may tell more$",
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
    assert re.search(LIES[lie], line)
    assert f"{liar} has failed 1 time and is put aside: " in said
    (retried,) = [row for row in rows if row["attempts"] > 1]
    assert {row["host"] for row in rows} == set(honest)
    jobs = results.read(tmp_path / "outputs").to_pylist()
    told = [job for job in jobs if job["host"] == liar]
    assert {(job["taskset"], job["attempt"]) for job in told} <= {(retried["taskset"], 0)}
    assert bool(told) is (lie != "upload"), "what was told before the lie is kept"
