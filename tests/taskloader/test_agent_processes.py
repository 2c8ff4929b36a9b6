"""Nothing that a job has started outlives it, its client or its agent."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest
from agents import PATIENCE, ROOT, Client, RunningAgent, agent, wait_until, workload

from taskgen_run.taskloader.protocol import Clear, EventType, Stop

DAEMON = """
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

extern char **environ;

/* Daemons that ignore what can be ignored, and have nothing that tells where they come from. */
int main(int argc, char **argv)
{
    for (int number = 1; number < 32; number++)
        signal(number, SIG_IGN);
    for (int daemons = 0; daemons < 3; daemons++)
        if (!fork()) {
            setsid();
            if (fork())
                _exit(0);
            setsid();
            if (daemons == 1)
                for (char **text = environ; *text; text++)
                    memset(*text, 0, strlen(*text));
            fork();
            for (;;)
                pause();
        }
    if (argc > 1 && !strcmp(argv[1], "end"))
        return 0;
    for (;;)
        pause();
}
"""

BOMB = """
#include <unistd.h>

int main(void)
{
    for (;;)
        if (!fork())
            setsid();
}
"""


@pytest.fixture(scope="module")
def compiled(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], bytes]:
    def compile_program(source: str) -> bytes:
        binary = tmp_path_factory.mktemp("binary") / "program"
        subprocess.run(
            ["gcc", "-static", "-O1", "-x", "c", "-", "-o", binary],
            input=source,
            text=True,
            check=True,
            timeout=60,
        )
        return binary.read_bytes()

    return compile_program


@pytest.fixture(scope="module")
def daemon(compiled: Callable[[str], bytes]) -> bytes:
    return compiled(DAEMON)


def start_daemons(client: Client, target: RunningAgent, daemon: bytes) -> list[psutil.Process]:
    """Two jobs with six daemons each."""
    client.start({"pkg": "daemon"}, {"pkg": "daemon"}, daemon=daemon)
    client.wait_for_event(EventType.START)
    client.wait_for_event(EventType.START, 1)
    wait_until(lambda: len(target.descendants()) == 14, "all daemons run")
    return target.descendants()


def assert_gone(processes: list[psutil.Process]) -> None:
    assert processes
    _, alive = psutil.wait_procs(processes, PATIENCE)
    assert not alive, alive


def test_stop_leaves_no_process(tmp_path: Path, daemon: bytes) -> None:
    with agent(tmp_path) as target, Client(target) as client:
        processes = start_daemons(client, target, daemon)
        client.send(Stop())
        client.wait_for_event(EventType.EXTERNAL, -1)
        assert client.kinds(0) == client.kinds(1) == [EventType.START, EventType.EXIT_EXTERNAL]
        # They were gone before it was told.
        assert not any(process.is_running() for process in processes)


def test_clear_leaves_no_process_and_no_task(tmp_path: Path, daemon: bytes) -> None:
    with agent(tmp_path) as target, Client(target) as client:
        processes = start_daemons(client, target, daemon)
        client.send(Clear())
        client.wait_for_event(EventType.EXTERNAL, -1)
        assert not any(process.is_running() for process in processes)
        assert client.live().tasks == ()


@pytest.mark.parametrize("signum", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_a_signal_to_the_agent_leaves_no_process(
    tmp_path: Path, daemon: bytes, signum: signal.Signals
) -> None:
    with agent(tmp_path) as target, Client(target) as client:
        processes = start_daemons(client, target, daemon)
        assert target.stop(signum) == 128 + signum
        assert not any(process.is_running() for process in processes)
        assert client.is_closed()


def test_a_closed_connection_leaves_no_process(tmp_path: Path, daemon: bytes) -> None:
    with agent(tmp_path) as target:
        with Client(target) as client:
            processes = start_daemons(client, target, daemon)
        assert_gone(processes)
        assert target.process.poll() is None


def test_a_killed_client_leaves_no_process(tmp_path: Path, daemon: bytes) -> None:
    program = tmp_path / "daemon"
    program.write_bytes(daemon)
    script = textwrap.dedent(
        """
        import signal, sys
        from pathlib import Path
        from types import SimpleNamespace
        from agents import Client
        address, port, program = sys.argv[1:]
        client = Client(SimpleNamespace(address=address, port=int(port)))
        client.start({"pkg": "daemon"}, {"pkg": "daemon"}, daemon=Path(program).read_bytes())
        signal.pause()
        """
    )
    paths = os.pathsep.join([*sys.path, str(ROOT)])
    with agent(tmp_path) as target:
        client = subprocess.Popen(
            [sys.executable, "-c", script, target.address, str(target.port), program],
            env={**os.environ, "PYTHONPATH": paths},
        )
        try:
            wait_until(lambda: len(target.descendants()) == 14, "all daemons run")
            processes = target.descendants()
        finally:
            client.kill()
            client.wait()
        assert_gone(processes)
        with Client(target) as another:
            another.start({"pkg": "hey"}, hey=workload("hey"))
            another.wait_for_event(EventType.JOBS_DONE)


@pytest.mark.parametrize("argument", ["end", "stay"])
def test_the_end_of_a_job_is_the_end_of_its_daemons_only(
    tmp_path: Path, daemon: bytes, argument: str
) -> None:
    """Whether it ends by itself or is killed. One daemon of each job hides where it comes from."""
    with agent(tmp_path) as target, Client(target) as client:
        task = {"pkg": "daemon", "config": {"arg1": argument}, "criticaltime": 1000}
        client.start({"pkg": "daemon"}, {**task, "offset": 300}, daemon=daemon)
        client.wait_for_event(EventType.JOBS_DONE, 1)
        ended = EventType.EXIT if argument == "end" else EventType.EXIT_CRITICAL
        assert client.kinds(1) == [EventType.START, ended, EventType.JOBS_DONE]
        # Of task 0 the job and the four of its daemons that can be known, when all are started.
        wait_until(
            lambda: [_task_of(p) for p in target.descendants()] == ["0"] * 5, "task 1 left nothing"
        )


def _task_of(process: psutil.Process) -> str | None:
    try:
        return process.environ().get("TASKLOADER_TASK")
    except (psutil.NoSuchProcess, psutil.AccessDenied):  # it is ending
        return None


def test_a_killed_agent_leaves_nothing(tmp_path: Path, daemon: bytes) -> None:
    with agent(tmp_path) as target, Client(target) as client:
        processes = start_daemons(client, target, daemon)
        directory = Path(processes[0].cwd())
        [launcher] = psutil.Process(target.process.pid).children()
        target.process.kill()
        assert_gone([*processes, launcher])
        assert not directory.exists()


def test_an_agent_that_is_killed_with_its_group_leaves_nothing(
    tmp_path: Path, daemon: bytes
) -> None:
    """As a shell does it, and a terminal."""
    with agent(tmp_path, own_group=True) as target, Client(target) as client:
        processes = start_daemons(client, target, daemon)
        directory = Path(processes[0].cwd())
        os.killpg(target.process.pid, signal.SIGKILL)
        assert_gone(processes)
        wait_until(lambda: not directory.exists(), "the directory is removed")


@pytest.mark.parametrize("signum", [signal.SIGKILL, signal.SIGTERM])
def test_without_its_launcher_the_agent_ends_and_leaves_nothing(
    tmp_path: Path, daemon: bytes, signum: signal.Signals
) -> None:
    with agent(tmp_path) as target, Client(target) as client:
        processes = start_daemons(client, target, daemon)
        directory = Path(processes[0].cwd())
        [launcher] = psutil.Process(target.process.pid).children()
        launcher.send_signal(signum)
        assert client.is_closed()
        assert target.process.wait(PATIENCE) == 1
        assert "error: the launcher, which makes the processes of jobs, must run" in target.log
        assert not any(process.is_running() for process in [*processes, launcher])
        assert not directory.exists()


def test_a_launcher_that_ends_without_a_client_is_noticed(tmp_path: Path) -> None:
    with agent(tmp_path) as target:
        psutil.Process(target.process.pid).children()[0].kill()
        assert target.process.wait(PATIENCE) == 1


def test_processes_are_limited_and_a_fork_bomb_can_be_stopped(
    tmp_path: Path, compiled: Callable[[str], bytes]
) -> None:
    if os.geteuid() != 0:
        pytest.skip("without a user of their own, jobs count with all processes of this one")
    with agent(tmp_path, "--max-processes", "50") as target, Client(target) as client:
        client.start({"pkg": "bomb"}, bomb=compiled(BOMB))
        client.wait_for_event(EventType.START)
        wait_until(lambda: len(target.descendants()) > 20, "the bomb has exploded")
        assert len(target.descendants()) <= 55
        client.send(Stop())
        client.wait_for_event(EventType.EXTERNAL, -1)
        assert target.descendants() == []


def test_the_directory_of_a_client_goes_with_it(tmp_path: Path) -> None:
    with agent(tmp_path) as target:
        with Client(target) as client:
            client.start({"pkg": "idle"}, idle=workload("idle"))
            client.wait_for_event(EventType.START)
            [job] = target.descendants()
            directory = Path(job.cwd())
            assert directory.name.startswith("taskloader-")
            assert directory.stat().st_mode & 0o777 == 0o700
            assert directory.stat().st_uid == job.uids().real
        wait_until(lambda: not directory.exists(), "the directory is removed")
