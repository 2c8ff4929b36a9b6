"""Experiments on agents of this machine, run by the command line, and what has to hold of them."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import psutil
import pytest
from agents import PATIENCE, ROOT, WORKLOADS, RunningAgent, agent, wait_until, workload

from taskgen_run import results
from taskgen_run.hostlock import HostLock
from taskgen_run.results.directory import Contents, Status, contents

PORT = 3001
RUN_SECONDS = 90.0
"""Within which a run of the command line ends, on the slowest machine."""

JOBS = (4, 2)
"""How many jobs the tasks of a variant have."""

WORK = """
tasks:
  - {{pkg: hey, period: 50, numberofjobs: 4, executiontime: 1, priority: 10, quota: 2M}}
  - pkg: pi
    period: 100
    numberofjobs: 2
    executiontime: 2
    priority: 20
    quota: 2M
    config: {{arg1: {{range: [1, {variants}]}}}}
"""
"""Variants of 150 ms each, which leave most of the processor to the tests."""


def need_workloads() -> None:
    """Build the workloads; skip the test where that cannot be done."""
    if shutil.which("make") is None or shutil.which("gcc") is None:
        pytest.skip("the workloads need make and gcc")
    workload("hey")


@contextmanager
def agents(directory: Path, *hosts: str, port: int = PORT) -> Iterator[list[RunningAgent]]:
    """An agent on each host, whose jobs work below `directory`."""
    temporary = directory / "agents"
    temporary.mkdir(exist_ok=True)
    with ExitStack() as stack:
        yield [
            stack.enter_context(
                agent(
                    directory,
                    *("--port", str(port)),
                    address=host,
                    temporary=temporary,
                )
            )
            for host in hosts
        ]


class Runner:
    """The command line at work on the task set `WORK`, in `directory`.

    With `prefix` before it, another command runs it, such as one that enters a network.
    """

    def __init__(
        self,
        directory: Path,
        *arguments: str,
        variants: int = 12,
        session: str = "genode",
        prefix: tuple[str, ...] = (),
    ) -> None:
        tasksets = directory / "conf" / "taskset"
        tasksets.mkdir(parents=True, exist_ok=True)
        (tasksets / "work.yaml").write_text(WORK.format(variants=variants))
        self._log = directory / f"run-{len(list(directory.glob('run-*')))}.log"
        self.outputs = directory / "outputs"
        with self._log.open("w") as log:
            self.process = subprocess.Popen(
                [
                    *(*prefix, sys.executable, "-m", "taskgen_run", "--config-dir", "conf"),
                    *(f"session={session}", "taskset=work"),
                    f"session.binaries={WORKLOADS / 'build'}",
                    *arguments,
                ],
                cwd=directory,
                stdout=log,
                stderr=log,
                env={**os.environ, "PYTHONPATH": str(ROOT)},
            )

    def __enter__(self) -> Runner:
        return self

    def __exit__(self, *_: object) -> None:
        self.process.kill()
        self.process.wait(PATIENCE)

    @property
    def said(self) -> str:
        """What it has told its user so far."""
        return self._log.read_text()

    def wait_until_said(self, text: str, within: float = PATIENCE) -> None:
        """Wait until it has told its user something: a regular expression."""

        def is_said() -> bool:
            has_ended = self.process.poll() is not None
            said = self.said
            found = re.search(text, said, re.MULTILINE) is not None
            assert found or not has_ended, said
            return found

        wait_until(is_said, text, within)

    def wait_until_finished(self, variants: int, within: float = PATIENCE) -> None:
        """Wait until so many variants are finished, and fail if it ends before."""

        def are_finished() -> bool:
            assert self.process.poll() is None, self.said
            return len(finished_rows(self.outputs)) >= variants

        wait_until(are_finished, f"{variants} variants", within)

    def signal(self, signum: signal.Signals) -> None:
        """Send it a signal."""
        self.process.send_signal(signum)

    def ends(self, code: int = 0, within: float = RUN_SECONDS) -> str:
        """What it has said when it has ended with this exit code."""
        try:
            self.process.wait(within)
        except subprocess.TimeoutExpired:
            raise AssertionError(f"not ended within {within} s: {self.said}") from None
        assert self.process.returncode == code, self.said
        assert "Traceback" not in self.said, self.said
        return self.said


def targets(*hosts: str) -> str:
    """The override that names hosts."""
    return f"targets=[{','.join(hosts)}]"


def finished_rows(outputs: Path) -> dict[int, list[dict[str, Any]]]:
    """The jobs of all variants whose results are safe, also while the experiment runs."""
    found: dict[int, list[dict[str, Any]]] = {}
    for record in outputs.glob("*/experiment.json"):
        held: Contents = contents(record.parent, Status(json.loads(record.read_text())["status"]))
        for batch in held.rows("jobs", held.finished):
            for row in batch.to_pylist():
                found.setdefault(row["taskset"], []).append(row)
    for rows in found.values():
        rows.sort(key=lambda row: (row["attempt"], row["task"], row["job"]))
    return found


def catch(target: RunningAgent) -> None:
    """Stop the agent while it is in the middle of a variant; its jobs go on."""

    def is_caught() -> bool:
        target.process.send_signal(signal.SIGSTOP)
        wait_until(
            lambda: psutil.Process(target.process.pid).status() == psutil.STATUS_STOPPED,
            "the agent stands still",
        )
        # A job that is alive, or that the agent has not reaped, is one whose end it has not told.
        is_busy = bool(target.descendants())
        if not is_busy:
            target.process.send_signal(signal.SIGCONT)
        return is_busy

    wait_until(is_caught, "the agent runs a job")


def freeze(target: RunningAgent) -> None:
    """Stop the agent and all that it has started while it is in the middle of a variant."""
    catch(target)
    for process in psutil.Process(target.process.pid).children(recursive=True):
        process.send_signal(signal.SIGSTOP)


def release(target: RunningAgent) -> None:
    """Let a frozen agent and all that it has started go on."""
    agent_process = psutil.Process(target.process.pid)
    for process in [*agent_process.children(recursive=True), agent_process]:
        process.send_signal(signal.SIGCONT)


def kill(target: RunningAgent) -> None:
    """Kill the agent, as a machine that loses power."""
    target.process.kill()
    target.process.wait(PATIENCE)


def assert_complete(outputs: Path, variants: int = 12) -> list[dict[str, Any]]:
    """Every variant is finished, once, with all its jobs. The rows of tasksets.parquet."""
    rows = results.read(outputs, "tasksets").to_pylist()
    assert [row["taskset"] for row in rows] == list(range(variants))
    assert {(row["outcome"], row["error"]) for row in rows} == {("finished", None)}
    jobs = results.read(outputs).to_pylist()
    identities = Counter((j["taskset"], j["attempt"], j["task"], j["job"]) for j in jobs)
    assert set(identities.values()) == {1}, "a job is there twice"
    for row in rows:
        own = [j for j in jobs if j["taskset"] == row["taskset"]]
        last = [j for j in own if j["attempt"] == row["attempts"] - 1]
        assert [(j["task"], j["job"]) for j in last] == [
            (task, job) for task, count in enumerate(JOBS) for job in range(count)
        ]
        assert row["jobs"] == len(last)
        assert {j["host"] for j in last} == {row["host"]}
        # On a machine that is busy with other things, a period may end before its job does, or
        # pass before it begins.
        assert {j["outcome"] for j in last} <= {"finished", "killed", "not_scheduled"}
        ran = [j for j in last if j["outcome"] != "not_scheduled"]
        assert all(j["release_ns"] <= j["start_ns"] <= j["end_ns"] for j in ran)
        assert max(j["attempt"] for j in own) == row["attempts"] - 1
    tasks = results.read(outputs, "tasks").to_pylist()
    assert [(t["taskset"], t["task"]) for t in tasks] == [
        (variant, task) for variant in range(variants) for task in range(len(JOBS))
    ]
    return rows


def assert_nothing_left(directory: Path, hosts: Sequence[str], port: int = PORT) -> None:
    """No job runs, nobody is connected to the hosts, and every host may be driven at once."""
    wait_until(lambda: not jobs_below(directory), "all jobs have ended")
    wait_until(lambda: not _connections(hosts, port), "all connections are closed")
    for host in hosts:
        lock = HostLock(host, port)
        assert lock.acquire(), f"{host} is locked"
        lock.release()


def jobs_below(directory: Path) -> list[psutil.Process]:
    """The jobs, of any agent, that work below the directory, whoever is their parent."""
    found = []
    for process in psutil.process_iter():
        try:
            works_below = process.cwd().startswith(str(directory / "agents"))
        except (psutil.NoSuchProcess, psutil.AccessDenied):
            continue
        if works_below and process.status() != psutil.STATUS_ZOMBIE:
            found.append(process)
    return found


def _connections(hosts: Sequence[str], port: int) -> list[Any]:
    open_ones = (psutil.CONN_ESTABLISHED, psutil.CONN_CLOSE_WAIT)
    return [
        connection
        for connection in psutil.net_connections("tcp4")
        if connection.status in open_ones
        and connection.laddr
        and (connection.laddr.ip in hosts and connection.laddr.port == port)
    ]
