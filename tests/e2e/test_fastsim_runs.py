"""Runs of session=fastsim as users call them: bad variants, signals, and the first on a machine."""

from __future__ import annotations

import json
import os
import pty
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest

from taskgen_run import results
from taskgen_run.sessions.fastsim import FastSimSession
from taskgen_run.simulator.compiling import cache_directory
from taskgen_run.task import Task
from taskgen_run.taskset import TaskSet

WAIT_SECONDS = 100.0

ODD = """
from taskgen_run.task import Task
from taskgen_run.taskset import TaskSet

class Odd(TaskSet):
    def __init__(self):
        super().__init__([Task(period=10, executiontime=1)])

    def variants(self, start=0):
        for number in range(start, 40):
            task = Task(period=10, executiontime=1 + number / 10)
            if number == 17:
                del task["executiontime"]
            if number == 31:
                task["deadline"] = -1
            taskset = TaskSet([task], self.name)
            taskset.variant = number
            if number == 23:
                taskset.append(Task(period=0.000001, executiontime=0))
            yield taskset
"""


@pytest.fixture(scope="module")
def compiled() -> None:
    """What a run needs that is to begin at once."""
    FastSimSession("", 0).run_batch([TaskSet([Task(period=5, executiontime=1)], "first")])


def command(*arguments: str) -> list[str]:
    return [sys.executable, "-m", "taskgen_run", *arguments, "session=fastsim"]


def start(cwd: Path, *arguments: str, **environment: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        command(*arguments),
        cwd=cwd,
        env={**os.environ, **environment},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )


def run(cwd: Path, *arguments: str, code: int = 0) -> str:
    process = start(cwd, *arguments)
    said = process.communicate(timeout=WAIT_SECONDS)[1]
    assert process.returncode == code, said
    assert "Traceback" not in said
    return said


def experiment(root: Path) -> Path:
    (path,) = root.glob("*/experiment.json")
    return path.parent


def parquet(directory: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(directory.glob("*.parquet"))}


def until(condition: Callable[[], object], process: subprocess.Popen[str]) -> None:
    deadline = time.monotonic() + WAIT_SECONDS
    while not condition():
        assert process.poll() is None, process.communicate()[1]
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_bad_variants_fail_alone_each_with_its_own_error(compiled: None, tmp_path: Path) -> None:
    (tmp_path / "odd.py").write_text(ODD)
    (tmp_path / "conf" / "taskset").mkdir(parents=True)
    (tmp_path / "conf" / "taskset" / "odd.yaml").write_text("# Odd.\n_target_: odd.Odd\n")
    for outputs, workers in (("alone", 1), ("shared", 2)):
        arguments = ("--config-dir", "conf", "taskset=odd", f"workers={workers}")
        run(tmp_path, *arguments, f"outputs={outputs}", code=1)
    table = results.read(experiment(tmp_path / "alone"), "tasksets").to_pylist()
    assert [row["taskset"] for row in table] == list(range(40))
    errors = {row["taskset"]: row["error"] for row in table if row["outcome"] == "failed"}
    assert errors.keys() == {17, 23, 31}
    place = "task 0 of task set 'odd'"
    assert errors[17].startswith(f"{place}: executiontime must be set for a simulation")
    assert "must release at most 10000000 jobs" in errors[23]
    assert errors[31] == f"{place}: deadline must be ≥ 0 ms, got -1"
    assert {row["jobs"] for row in table if row["error"] is None} == {2}
    assert parquet(experiment(tmp_path / "alone")) == parquet(experiment(tmp_path / "shared"))


def _kept(root: Path) -> int:
    found = list(root.glob("*/experiment.json"))
    return results.read(found[0].parent, "tasksets", partial=True).num_rows if found else 0


def test_an_interrupted_run_is_continued(compiled: None, tmp_path: Path) -> None:
    arguments = ("taskset=hey7", "session.duration_ms=50000", "workers=1")
    process = start(tmp_path, *arguments, "outputs=stopped")
    until(lambda: _kept(tmp_path / "stopped"), process)
    process.send_signal(signal.SIGINT)
    said = process.communicate(timeout=WAIT_SECONDS)[1]
    assert process.returncode == 130, said
    assert "the same command continues it" in said
    directory = experiment(tmp_path / "stopped")
    assert json.loads((directory / "experiment.json").read_text())["status"] == "stopped"
    count = _kept(tmp_path / "stopped") + 5
    assert count < 16129
    for outputs in ("stopped", "whole"):
        run(tmp_path, *arguments, f"outputs={outputs}", f"max_variants={count}")
    assert parquet(directory) == parquet(experiment(tmp_path / "whole"))


def _used(process: psutil.Process) -> float:
    """How many seconds a process has computed, more than it takes to start; 0 if it has ended."""
    try:
        return process.cpu_times().user
    except psutil.Error:
        return 0


def _alive(processes: list[psutil.Process]) -> list[psutil.Process]:
    """Those that still run; who has ended may wait for somebody to look at it."""
    return [p for p in processes if p.is_running() and p.status() != psutil.STATUS_ZOMBIE]


def test_an_interrupted_run_leaves_no_process_behind(compiled: None, tmp_path: Path) -> None:
    process = start(tmp_path, "taskset=hey7", "session.duration_ms=1000000", "workers=2")
    others: list[psutil.Process] = []

    def has_workers() -> bool:
        others[:] = psutil.Process(process.pid).children(recursive=True)
        return sum(_used(other) > 1.5 for other in others) >= 2

    until(has_workers, process)
    process.send_signal(signal.SIGINT)
    said = process.communicate(timeout=WAIT_SECONDS)[1]
    assert process.returncode == 130, said
    assert "Traceback" not in said
    _, alive = psutil.wait_procs(others, timeout=5)
    assert _alive(alive) == []


@pytest.fixture
def terminal() -> Iterator[tuple[int, int]]:
    ends = pty.openpty()
    yield ends
    os.close(ends[0])


def test_the_first_run_says_on_the_terminal_that_it_compiles_and_can_be_interrupted(
    terminal: tuple[int, int], tmp_path: Path
) -> None:
    ours, theirs = terminal
    process = subprocess.Popen(
        command("taskset=hey4"),
        cwd=tmp_path,
        env={**os.environ, "NUMBA_CACHE_DIR": str(tmp_path / "cache"), "TERM": "xterm"},
        stderr=theirs,
        stdout=theirs,
    )
    os.close(theirs)
    shown = b""
    while b"compiling the simulator, once on this machine" not in shown:
        shown += os.read(ours, 1024)
    process.send_signal(signal.SIGINT)
    assert process.wait(timeout=WAIT_SECONDS) == 130
    assert not list((tmp_path / "cache").rglob("compiled"))


@pytest.mark.timeout(400)
def test_one_process_compiles_what_is_damaged_and_the_others_wait(
    compiled: None, tmp_path: Path
) -> None:
    cache = tmp_path / "cache"
    shutil.copytree(cache_directory(), cache / cache_directory().name)
    for code in cache.rglob("*.nbc"):
        content = code.read_bytes()
        code.write_bytes(content[:3000] + bytes(64) + content[3064:])
    processes = [
        start(tmp_path, "taskset=hey4", f"outputs={name}", NUMBA_CACHE_DIR=str(cache))
        for name in ("a", "b")
    ]
    said = [process.communicate(timeout=350)[1] for process in processes]
    assert [process.returncode for process in processes] == [0, 0], said
    assert sum("the compiled simulator was damaged" in text for text in said) == 1
    assert sum("compiling the simulator" in text for text in said) == 1
    kept = [path.name for path in cache.rglob("*.nbc")]
    assert len(kept) == len({name.partition("-")[0] for name in kept}), "each function once"
    assert parquet(experiment(tmp_path / "a")) == parquet(experiment(tmp_path / "b"))
