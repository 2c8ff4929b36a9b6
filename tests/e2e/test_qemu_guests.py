"""QEMU guests that freeze, hang and die under experiments that must finish all the same."""

from __future__ import annotations

import re
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
import pytest
from agents import ROOT, wait_until
from guests import (
    BOOT_SECONDS,
    IMAGE,
    PORT,
    fresh_range,
    guests,
    need_image,
    tell_monitor,
    wait_until_serving,
)
from instances import Instance, end, runtime
from real_targets import Runner, assert_complete, finished_rows, need_workloads

from taskgen_run import results
from taskgen_run.hostlock import locked_hosts
from taskgen_run.targets import STOP_SECONDS

pytestmark = [pytest.mark.usefixtures("image"), pytest.mark.timeout(600)]

VARIANTS = 45
FROZEN_AFTER = ("session.event_timeout=2", "session.reply_timeout=4")
WITHIN = 300.0
"""Seconds within which an experiment ends in which guests boot again."""


@dataclass(frozen=True)
class Range:
    """A target range, and the guests on its first hosts."""

    cidr: str
    hosts: list[str]
    guests: list[Instance]


@pytest.fixture(scope="module")
def image() -> None:
    need_image()
    need_workloads()


@pytest.fixture(scope="module")
def running(image: None) -> Iterator[Range]:
    """Three guests in a range of six hosts."""
    cidr, hosts = fresh_range()
    with runtime() as directory, guests(directory, hosts[:3]) as instances:
        yield Range(cidr, hosts[:3], instances)


@pytest.fixture
def three(running: Range, monkeypatch: pytest.MonkeyPatch) -> Range:
    """Three guests that serve."""
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(running.guests[0].runtime))
    wait_until_serving(*running.hosts)
    return running


def experiment(directory: Path, targets: str, *arguments: str, variants: int = VARIANTS) -> Runner:
    settings = (f"targets={targets}", "attempts=20", "restarts=20", *FROZEN_AFTER, *arguments)
    return Runner(directory, *settings, variants=variants, session="qemu")


def failed_hosts(directory: Path) -> dict[str, dict[str, Any]]:
    """The rows of hosts.parquet, by host."""
    rows = results.read(directory / "outputs", "hosts").to_pylist()
    return {row["host"]: row for row in rows}


def assert_no_requests(guest: Instance) -> None:
    """Every request was served or taken back."""
    assert not list((guest.runtime / "taskgen_run" / "requests").iterdir())


def test_three_guests_of_a_range_finish_a_task_set(three: Range, tmp_path: Path) -> None:
    with experiment(tmp_path, three.cidr) as runner:
        runner.ends(within=WITHIN)
    rows = assert_complete(tmp_path / "outputs", VARIANTS)
    assert {row["host"] for row in rows} == set(three.hosts)
    assert_no_requests(three.guests[0])


def test_a_guest_whose_processors_are_stopped_comes_back(three: Range, tmp_path: Path) -> None:
    host, guest = three.hosts[0], three.guests[0]
    boots = len(guest.boots)
    with experiment(tmp_path, host, variants=20) as runner:
        runner.wait_until_finished(3, BOOT_SECONDS)
        tell_monitor(guest, "stop")
        said = runner.ends(within=WITHIN)
    rows = assert_complete(tmp_path / "outputs", 20)
    assert any(row["attempts"] > 1 for row in rows)
    assert len(guest.boots) > boots
    assert "its QEMU instance is killed and boots again" in said
    assert failed_hosts(tmp_path)[host]["restarts"] >= 1
    assert_no_requests(guest)


def test_a_guest_killed_outright_comes_back(three: Range, tmp_path: Path) -> None:
    host, guest = three.hosts[1], three.guests[1]
    boots = len(guest.boots)
    with experiment(tmp_path, host, variants=20) as runner:
        runner.wait_until_finished(3, BOOT_SECONDS)
        end(psutil.Process(guest.boots[-1]))
        runner.ends(within=WITHIN)
    assert_complete(tmp_path / "outputs", 20)
    assert len(guest.boots) > boots
    assert failed_hosts(tmp_path)[host]["failures"] >= 1
    assert_no_requests(guest)


def test_a_run_that_is_interrupted_while_its_guest_boots_again(
    three: Range, tmp_path: Path
) -> None:
    host, guest = three.hosts[2], three.guests[2]
    with experiment(tmp_path, host, variants=20) as runner:
        runner.wait_until_finished(3, BOOT_SECONDS)
        tell_monitor(guest, "stop")
        runner.wait_until_said(f"{host} has failed 1 time", BOOT_SECONDS)
        wait_until(lambda: host not in locked_hosts(PORT), "its session is closed")
        wait_until(lambda: host in locked_hosts(PORT), "the next one waits for it to boot")
        runner.signal(signal.SIGINT)
        interrupted_at = time.monotonic()
        runner.ends(130)
        assert time.monotonic() - interrupted_at < STOP_SECONDS + 10
    assert_no_requests(guest)
    before = finished_rows(tmp_path / "outputs")
    assert 3 <= len(before) < 20
    with experiment(tmp_path, host, variants=20) as runner:
        runner.ends(within=WITHIN)
    assert_complete(tmp_path / "outputs", 20)
    after = finished_rows(tmp_path / "outputs")
    assert {number: after[number] for number in before} == before
    assert_no_requests(guest)


def test_a_guest_whose_agent_hangs_is_booted_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _, (host, *_) = fresh_range()
    initrd = hanging_image(tmp_path)
    with runtime() as directory, guests(directory, [host], "--initrd", initrd) as (guest,):
        monkeypatch.setenv("XDG_RUNTIME_DIR", str(directory))
        wait_until_serving(host)
        shutil.copy(IMAGE / "initramfs", tmp_path / "good")
        (tmp_path / "good").rename(initrd)  # what is booted from now on
        with experiment(tmp_path, host, variants=20) as runner:
            said = runner.ends(within=WITHIN)
        assert len(guest.boots) > 1
        assert_no_requests(guest)
    assert_complete(tmp_path / "outputs", 20)
    assert re.search(r"(frozen|in vain).*its QEMU instance is killed and boots again", said)
    assert failed_hosts(tmp_path)[host]["restarts"] >= 1


def hanging_image(directory: Path) -> Path:
    """The image, with a first process that stops the agent once a client stays for a second.

    The kernel unpacks archives one after the other, and the last /init is the one it starts.
    """
    init = (ROOT / "guest" / "init").read_text()
    client = 'busybox netstat -nt | busybox grep -q "[.:]3001 .*ESTABLISHED"'
    stop = "busybox killall -STOP python3"
    hang = f"(until {client} && busybox sleep 1 && {client}; do busybox sleep 0.1; done; {stop}) &"
    changed = init.replace("\npython3 ", f"\n{hang}\npython3 ")
    assert changed != init
    (directory / "init").write_text(changed)
    (directory / "init").chmod(0o755)
    archive = subprocess.run(
        ["cpio", "--quiet", "--create", "--format=newc"],
        input=b"init\n",
        cwd=directory,
        stdout=subprocess.PIPE,
        check=True,
    ).stdout
    image = (IMAGE / "initramfs").read_bytes()
    path = directory / "hanging"
    path.write_bytes(image + bytes(-len(image) % 4) + archive)
    return path


def test_guests_that_never_come_back_leave_the_work_to_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cidr, (gone, silent, good, *_) = fresh_range()
    with runtime() as directory, guests(directory, [gone, silent, good]) as instances:
        monkeypatch.setenv("XDG_RUNTIME_DIR", str(directory))
        wait_until_serving(gone, silent, good)
        bounds = ("restarts=0", "attempts=20", "session.boot_timeout=3")
        with experiment(tmp_path, cidr, *bounds) as runner:
            runner.wait_until_finished(6, BOOT_SECONDS)
            # Nobody serves requests for it any more.
            instances[1].process.send_signal(signal.SIGSTOP)
            tell_monitor(instances[1], "stop")
            instances[0].process.terminate()
            said = runner.ends(within=WITHIN)
        assert_no_requests(instances[2])
        instances[1].process.send_signal(signal.SIGCONT)
    rows = assert_complete(tmp_path / "outputs", VARIANTS)
    assert rows[-1]["host"] == good
    asked = f"the request to kill the QEMU instance of {silent}, port {PORT}, was taken back: "
    assert f"{asked}nobody has served it" in said
    failed = failed_hosts(tmp_path)
    assert failed[gone]["failures"] >= 1
    assert failed[silent]["put_aside"]
    assert failed[silent]["restarts"] == 0
