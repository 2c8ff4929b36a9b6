"""Targets that die, freeze and come back, under experiments that must finish all the same."""

from __future__ import annotations

import time
from pathlib import Path

import pytest
from agents import fresh_address
from real_targets import (
    Runner,
    agents,
    assert_complete,
    assert_nothing_left,
    catch,
    finished_rows,
    freeze,
    kill,
    need_workloads,
    release,
    targets,
)

pytestmark = pytest.mark.usefixtures("workloads")


@pytest.fixture(scope="module")
def workloads() -> None:
    need_workloads()


def test_variants_of_killed_targets_finish_elsewhere(tmp_path: Path) -> None:
    hosts = [fresh_address() for _ in range(5)]
    with (
        agents(tmp_path, *hosts) as running,
        Runner(tmp_path, targets(*hosts), "attempts=4", variants=40) as runner,
    ):
        for victim in running[:3]:
            catch(victim)
            kill(victim)
        said = runner.ends()
        assert_nothing_left(tmp_path, hosts)
    rows = assert_complete(tmp_path / "outputs", 40)
    for host in hosts[:3]:
        assert f"failed on {host}, attempt" in said
    assert sum(row["attempts"] - 1 for row in rows) == 3
    assert {row["host"] for row in rows if row["attempts"] > 1} <= set(hosts[1:])


def test_a_target_that_freezes_is_found_out_and_harms_nothing_afterwards(tmp_path: Path) -> None:
    hosts = [fresh_address() for _ in range(3)]
    event_timeout, reply_timeout = 1.0, 1.5
    with (
        agents(tmp_path, *hosts) as running,
        Runner(
            tmp_path,
            targets(*hosts),
            f"session.event_timeout={event_timeout}",
            f"session.reply_timeout={reply_timeout}",
            variants=40,
        ) as runner,
    ):
        freeze(running[0])
        frozen_at = time.monotonic()
        runner.wait_until_said(f"failed on {hosts[0]}, attempt .*: frozen: it has not answered")
        assert time.monotonic() - frozen_at < event_timeout + reply_timeout + 5
        assert runner.process.poll() is None, "there is work left for it"
        release(running[0])
        runner.ends()
        assert_nothing_left(tmp_path, hosts)
    rows = assert_complete(tmp_path / "outputs", 40)
    (retried,) = [row for row in rows if row["attempts"] > 1]
    assert retried["host"] in hosts[1:]


def test_all_targets_are_gone_and_come_back(tmp_path: Path) -> None:
    hosts = [fresh_address() for _ in range(3)]
    arguments = (targets(*hosts), "available_timeout=30", "session.event_timeout=60")
    with Runner(tmp_path, *arguments, variants=40) as runner:
        with agents(tmp_path, *hosts) as running:
            catch(running[0])  # so that there is something left to do, however fast the others are
            runner.wait_until_finished(3)
            for victim in running:
                kill(victim)
            runner.wait_until_said(f"failed on {hosts[0]}, attempt 1")
        before = finished_rows(tmp_path / "outputs")
        with agents(tmp_path, *hosts):
            runner.ends()
            assert_nothing_left(tmp_path, hosts)
    assert_complete(tmp_path / "outputs", 40)
    after = finished_rows(tmp_path / "outputs")
    assert {number: after[number] for number in before} == before


def test_without_any_target_it_ends_and_continues_when_they_are_back(tmp_path: Path) -> None:
    hosts = [fresh_address() for _ in range(3)]
    arguments = (targets(*hosts), "available_timeout=2", "session.event_timeout=60")
    with Runner(tmp_path, *arguments, variants=40) as runner:
        with agents(tmp_path, *hosts) as running:
            catch(running[0])
            runner.wait_until_finished(3)
            for victim in running:
                kill(victim)
        gone_at = time.monotonic()
        said = runner.ends(1)
        assert time.monotonic() - gone_at < 20
        assert_nothing_left(tmp_path, hosts)
    (error,) = [line for line in said.splitlines() if line.startswith("error: ")]
    assert error == (
        f"error: targets: no host of {', '.join(hosts)} was available for 2 s "
        "(available_timeout); start one, the same command continues"
    )
    before = finished_rows(tmp_path / "outputs")
    assert 3 <= len(before) < 40
    with agents(tmp_path, *hosts), Runner(tmp_path, *arguments, variants=40) as runner:
        runner.ends()
        assert_nothing_left(tmp_path, hosts)
    assert_complete(tmp_path / "outputs", 40)
    after = finished_rows(tmp_path / "outputs")
    assert {number: after[number] for number in before} == before
