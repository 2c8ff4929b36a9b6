"""Experiments on real targets: agents of this machine, each on a loopback address of its own."""

from __future__ import annotations

import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from taskgen_run import results

ROOT = Path(__file__).parent.parent.parent


@pytest.fixture(scope="module")
def binaries(tmp_path_factory: pytest.TempPathFactory) -> Path:
    if shutil.which("make") is None or shutil.which("gcc") is None:
        pytest.skip("the workloads need make and gcc")
    build = tmp_path_factory.mktemp("workloads")
    command = ["make", "--silent", "-C", str(ROOT / "workloads"), f"BUILD={build}"]
    subprocess.run(command, check=True, timeout=100)
    return build


@contextmanager
def _agents(*hosts: str) -> Iterator[list[subprocess.Popen[bytes]]]:
    command = [sys.executable, "-m", "taskgen_run.taskloader", "--bind"]
    agents = [subprocess.Popen([*command, host], stderr=subprocess.DEVNULL) for host in hosts]
    try:
        for host in hosts:
            _wait_for(host)
        yield agents
    finally:
        for agent in agents:
            agent.kill()
            agent.wait(timeout=30)


def _wait_for(host: str) -> None:
    deadline = time.monotonic() + 30
    while True:
        try:
            socket.create_connection((host, 3001), timeout=1).close()
            return
        except OSError:
            assert time.monotonic() < deadline, f"no agent on {host}"
            time.sleep(0.1)


def _run(cwd: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "taskgen_run", *arguments]
    return subprocess.run(command, cwd=cwd, capture_output=True, text=True, timeout=100)


def test_a_task_set_runs_on_this_machine(tmp_path: Path, binaries: Path) -> None:
    with _agents("127.0.61.1"):
        done = _run(
            tmp_path,
            *("session=genode", "taskset=hey0", "targets=127.0.61.1"),
            f"session.binaries={binaries}",
        )
    assert done.returncode == 0, done.stderr
    (job,) = results.read(tmp_path / "outputs").to_pylist()
    assert (job["outcome"], job["host"]) == ("finished", "127.0.61.1")
    assert job["start_ns"] < job["end_ns"]


def test_variants_of_a_target_that_is_killed_finish_elsewhere(
    tmp_path: Path, binaries: Path
) -> None:
    hosts = ("127.0.61.2", "127.0.61.3", "127.0.61.4")
    with _agents(*hosts) as agents:
        process = subprocess.Popen(
            [
                *(sys.executable, "-m", "taskgen_run", "session=genode", "taskset=hey6"),
                *(f"targets=[{','.join(hosts)}]", "max_variants=60"),
                f"session.binaries={binaries}",
            ],
            cwd=tmp_path,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        time.sleep(3)
        agents[0].kill()
        _, said = process.communicate(timeout=100)
    assert process.returncode == 0, said
    table = results.read(tmp_path / "outputs", "tasksets")
    assert table["taskset"].to_pylist() == list(range(60))
    assert set(table["outcome"].to_pylist()) == {"finished"}
