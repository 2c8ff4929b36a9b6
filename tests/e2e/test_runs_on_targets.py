"""Runs that are interrupted, that share their targets, or that have to look for them."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
import time
from functools import partial
from itertools import pairwise
from pathlib import Path

import pytest
from agents import PATIENCE, ROOT, WORKLOADS, RunningAgent, fresh_address, wait_until
from real_targets import (
    RUN_SECONDS,
    Runner,
    agents,
    assert_complete,
    assert_nothing_left,
    catch,
    finished_rows,
    need_workloads,
    release,
    targets,
)

from taskgen_run import results
from taskgen_run.errors import ConfigurationError
from taskgen_run.probing import check_ping

pytestmark = pytest.mark.usefixtures("workloads")

STOPPED = "stopped by {}; what is finished is kept, the same command continues it: "


@pytest.fixture(scope="module")
def workloads() -> None:
    need_workloads()


def test_a_task_set_runs_on_this_machine(tmp_path: Path) -> None:
    host = fresh_address()
    with agents(tmp_path, host), Runner(tmp_path, f"targets={host}", "taskset=hey0") as runner:
        runner.ends()
    (job,) = results.read(tmp_path / "outputs").to_pylist()
    assert (job["outcome"], job["host"]) == ("finished", host)
    assert job["start_ns"] < job["end_ns"]


@pytest.mark.parametrize(
    ("signum", "code"),
    [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGKILL, -signal.SIGKILL)],
)
def test_a_run_that_is_interrupted_is_continued_by_the_same_command(
    signum: signal.Signals, code: int, tmp_path: Path
) -> None:
    hosts = [fresh_address() for _ in range(3)]
    arguments = (targets(*hosts), "session.event_timeout=60")
    with agents(tmp_path, *hosts) as running:
        with Runner(tmp_path, *arguments, variants=30) as runner:
            catch(running[0])  # so that there is something left to do, however fast the others are
            runner.wait_until_finished(3)
            runner.signal(signum)
            said = runner.ends(code, within=PATIENCE)
        release(running[0])
        assert signum == signal.SIGKILL or STOPPED.format(signum.name) in said
        before = finished_rows(tmp_path / "outputs")
        assert 3 <= len(before) < 30
        with Runner(tmp_path, *arguments, variants=30) as runner:
            said = runner.ends()
        assert "cannot be used" not in said, "agents can be used at once"
        assert_nothing_left(tmp_path, hosts)
        for target in running:
            assert "is refused" not in target.log
    rows = assert_complete(tmp_path / "outputs", 30)
    assert {row["attempts"] for row in rows} == {1}
    after = finished_rows(tmp_path / "outputs")
    assert {number: after[number] for number in before} == before


@pytest.mark.parametrize("signum", [signal.SIGTERM, signal.SIGKILL])
def test_no_job_outlives_its_runner(signum: signal.Signals, tmp_path: Path) -> None:
    hosts = [fresh_address() for _ in range(2)]
    with agents(tmp_path, *hosts) as running:
        with Runner(tmp_path, targets(*hosts), variants=1000) as runner:
            for target in running:
                wait_until(target.descendants, "a job runs")
            runner.signal(signum)
            runner.process.wait(PATIENCE)
        assert_nothing_left(tmp_path, hosts)
        for target in running:
            wait_until(partial(_is_alone, target), "the agent is alone")


def test_a_run_that_is_ended_while_a_target_is_frozen_ends_soon(tmp_path: Path) -> None:
    host = fresh_address()
    with (
        agents(tmp_path, host) as (target,),
        Runner(tmp_path, targets(host), variants=1000) as runner,
    ):
        runner.wait_until_finished(1)
        target.process.send_signal(signal.SIGSTOP)
        runner.signal(signal.SIGINT)
        runner.ends(130, within=12)
        target.process.send_signal(signal.SIGCONT)
        assert_nothing_left(tmp_path, [host])


def test_two_experiments_share_targets_and_never_drive_one_at_once(tmp_path: Path) -> None:
    hosts = [fresh_address() for _ in range(2)]
    arguments = (targets(*hosts), "max_sessions=1")
    with (
        agents(tmp_path, *hosts),
        Runner(tmp_path, *arguments, "seed=1", "outputs=one") as first,
        Runner(tmp_path, *arguments, "seed=2", "outputs=two") as second,
    ):
        first.ends()
        second.ends()
        assert_nothing_left(tmp_path, hosts)
    used: dict[str, list[tuple[int, int]]] = {}
    for name in ("one", "two"):
        assert_complete(tmp_path / name)
        for jobs in finished_rows(tmp_path / name).values():
            begin = min(job["start_ns"] or job["end_ns"] for job in jobs)
            used.setdefault(jobs[0]["host"], []).append((begin, max(job["end_ns"] for job in jobs)))
    assert set(used) == set(hosts)
    for variants in used.values():
        variants.sort()  # all on one clock, as the targets are one machine
        assert all(before[1] < after[0] for before, after in pairwise(variants))


def test_a_second_experiment_waits_for_a_target_or_says_who_has_it(tmp_path: Path) -> None:
    host = fresh_address()
    with agents(tmp_path, host) as (target,):
        with Runner(tmp_path, targets(host), "outputs=one", variants=1000) as first:
            first.wait_until_said(f" on {host}")
            wait_until(target.descendants, "the first experiment drives it")
            with Runner(
                tmp_path, targets(host), "outputs=two", "seed=2", "available_timeout=1"
            ) as second:
                said = second.ends(1)
            assert (
                f"error: targets: no host of {host} was available for 1 s (available_timeout); "
                f"{host} cannot be used: another experiment drives it; see to it, the same command "
                "continues"
            ) in said
            with Runner(tmp_path, targets(host), "outputs=two", "seed=2") as second:
                second.wait_until_said(f"^{host} cannot be used: another experiment drives it$")
                first.signal(signal.SIGINT)
                first.ends(130)
                second.ends()
        assert_nothing_left(tmp_path, [host])
    assert_complete(tmp_path / "two")


def test_hosts_that_answer_pings_and_run_no_agent_are_passed_over(tmp_path: Path) -> None:
    try:
        check_ping()
    except ConfigurationError as error:
        pytest.skip(str(error))
    network = fresh_address().rpartition(".")[0]
    hosts = [f"{network}.{number}" for number in (5, 100, 254)]
    with (
        agents(tmp_path, *hosts),
        Runner(tmp_path, f"targets={network}.0/24", session="ping", variants=30) as runner,
    ):
        said = runner.ends()
        assert_nothing_left(tmp_path, hosts)
    rows = assert_complete(tmp_path / "outputs", 30)
    assert {row["host"] for row in rows} == set(hosts)
    assert {row["attempts"] for row in rows} == {1}
    assert len(re.findall("cannot be used: .*Connection refused", said)) == 3


def _is_alone(target: RunningAgent) -> bool:
    return not target.descendants()


def _has_namespaces() -> bool:
    if shutil.which("unshare") is None or shutil.which("ip") is None:
        return False
    command = ["unshare", "--net", "ip", "link", "set", "lo", "up"]
    return subprocess.run(command, capture_output=True).returncode == 0


COMMANDS = """
set -e
ip link set lo up
python -m taskgen_run.taskloader --bind 127.0.1.1 2> agent.log &
until grep -q listening agent.log; do sleep 0.05; done
python -m taskgen_run session=genode taskset=hey4 targets=127.0.1.1
python -m taskgen_run session=ping taskset=hey6 targets=127.0.1.0/24 admission=fairness
kill $!
wait $! || test $? = 143
"""


@pytest.mark.skipif(not _has_namespaces(), reason="a network of its own needs root, unshare and ip")
def test_the_commands_that_this_is_all_about(tmp_path: Path) -> None:
    (tmp_path / "workloads").mkdir()
    (tmp_path / "workloads" / "build").symlink_to(WORKLOADS / "build")
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    before = time.monotonic()
    done = subprocess.run(
        ["unshare", "--net", "bash", "-c", COMMANDS],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(ROOT), "PATH": path},
        capture_output=True,
        text=True,
        timeout=RUN_SECONDS,
    )
    assert done.returncode == 0, done.stderr
    assert time.monotonic() - before < 30
    assert "Traceback" not in done.stderr + (tmp_path / "agent.log").read_text()
    (genode,) = (tmp_path / "outputs").glob("genode-hey4-*")
    (variant,) = results.read(genode, "tasksets").to_pylist()
    assert (variant["outcome"], variant["host"]) == ("finished", "127.0.1.1")
    assert set(results.read(genode)["task"].to_pylist()) == {0, 1, 2, 3}
    (ping,) = (tmp_path / "outputs").glob("ping-hey6-*")
    variants = results.read(ping, "tasksets").to_pylist()
    assert [v["taskset"] for v in variants] == list(range(127))
    assert {(v["outcome"], v["host"]) for v in variants} == {("finished", "127.0.1.1")}
    assert {v["jobs"] for v in variants} == {1}
    assert {job["outcome"] for job in results.read(ping).to_pylist()} == {"finished"}
