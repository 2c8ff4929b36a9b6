"""QemuSession: as GenodeSession, and it has an instance killed that is silent for too long."""

from __future__ import annotations

import inspect
import os
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import yaml
from agents import wait_until
from genode_targets import (
    QUICK,
    binaries,
    event,
    finish,
    good,
    loopback,
    one_job,
    periodic,
    push,
    run,
    single,
    started,
)

from taskgen_run import requests
from taskgen_run.errors import ConfigurationError, InfrastructureError, SilentError, TargetError
from taskgen_run.sessions import genode
from taskgen_run.sessions.contract import SessionContract
from taskgen_run.sessions.genode import GenodeSession, QemuSession
from taskgen_run.taskloader.fake import Close, Expect, FakeTarget, Hang, KnowNoLive, Peer, Step
from taskgen_run.taskloader.protocol import Clear, GetLive, SendDescs
from taskgen_run.taskset import TaskSet
from taskgen_run.threads import Threads

CONF = Path(__file__).parents[2] / "conf" / "session"


@pytest.fixture(autouse=True)
def _runtime(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    with tempfile.TemporaryDirectory() as name:
        monkeypatch.setenv("XDG_RUNTIME_DIR", name)
        yield


class TestContract(SessionContract):
    session = QemuSession
    dead_host = "240.0.0.1"
    step_seconds = 0.5

    @pytest.fixture(autouse=True)
    def _target(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
        options = {**QUICK, "binaries": binaries(tmp_path / "bin")}
        monkeypatch.setattr(type(self), "options", options)
        with FakeTarget(good(*one_job(0), *one_job(10)), loopback()) as target:
            monkeypatch.setattr(type(self), "host", target.host)
            monkeypatch.setattr(type(self), "port", target.port)
            yield

    def taskset(self) -> TaskSet:
        return periodic(2)


@contextmanager
def served(delay: float = 0.0) -> Iterator[list[tuple[str, str, int]]]:
    """Somebody who takes requests, as `qemu-up.sh` does: host, port and instant of each so far."""
    taken: list[tuple[str, str, int]] = []
    ended = threading.Event()
    directory = requests.requests_directory()

    def serve() -> None:
        while not ended.wait(0.02):
            for request in directory.glob("*@*@*"):
                if request.name.startswith("."):
                    continue
                time.sleep(delay)
                host, port, _ = request.name.split("@")
                taken.append((host, port, int(request.read_text())))
                request.unlink()

    thread = threading.Thread(target=serve)
    thread.start()
    try:
        yield taken
    finally:
        ended.set()
        thread.join()


def session_on(target: FakeTarget, directory: Path, **options: Any) -> QemuSession:
    chosen = {**QUICK, "binaries": binaries(directory / "bin"), **options}
    return QemuSession(target.host, target.port, **chosen)


SILENT: dict[str, list[Step]] = {
    "CLEAR": [Expect(Clear)],
    "an upload": [Expect(Clear), Expect(SendDescs)],
    "START": started(),
    "an event": [*started(), push(event("START", 0, 1))],
}
"""The steps of a good target, up to the one after which it is silent."""


@pytest.mark.parametrize("step", SILENT)
def test_an_instance_that_is_silent_is_killed_once(step: str, tmp_path: Path) -> None:
    before = requests.now()
    with served() as taken, FakeTarget([*SILENT[step], Hang()], loopback()) as target:
        session = session_on(target, tmp_path)
        connected = requests.now()
        with pytest.raises(SilentError, match="its QEMU instance is killed and boots") as caught:
            run(session, single())
        with pytest.raises(SilentError):
            session.run(single())
        session.stop()
        session.close()
    assert caught.value.restarted
    ((host, port, since),) = taken
    assert (host, port) == (target.host, str(target.port))
    assert before <= since <= connected


def test_an_instance_that_is_silent_after_stop_is_killed(tmp_path: Path) -> None:
    script = [*started(), push(event("START", 0, 1)), Hang()]
    with served() as taken, FakeTarget(script, loopback()) as target:
        session = session_on(target, tmp_path, event_timeout=30)
        taskset = single()
        session.start(taskset)
        while not session.run(taskset):
            pass
        session.stop()
        with pytest.raises(SilentError):
            finish(session, taskset)
        session.close()
    assert len(taken) == 1


def test_a_request_that_nobody_serves_is_reported_and_taken_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(requests, "SERVED_WITHIN", 0.2)
    with FakeTarget([*started(), Hang()], loopback()) as target:
        session = session_on(target, tmp_path)
        with pytest.raises(
            SilentError, match=r"frozen: .*; the request .* was taken back: nobody has served it"
        ) as caught:
            run(session, single())
        session.close()
    assert not caught.value.restarted
    assert not list(requests.requests_directory().iterdir())


def test_an_instance_that_closes_is_not_killed(tmp_path: Path) -> None:
    with served() as taken, FakeTarget([*started(), Close()], loopback()) as target:
        session = session_on(target, tmp_path)
        with pytest.raises(TargetError, match="closed") as caught:
            run(session, single())
        session.close()
    assert not isinstance(caught.value, SilentError)
    assert taken == []


class Silent(Step):
    """Take a connection and answer nothing until it is closed."""

    def __call__(self, peer: Peer) -> None:
        for step in (KnowNoLive(), Expect(GetLive), Expect(Clear)):
            step(peer)

    def __str__(self) -> str:
        return "Silent()"


class Booting(Step):
    """Before it serves, a machine takes connections and is silent, or closes them."""

    def __init__(self, *before: Step) -> None:
        self._before = list(before)

    def __call__(self, peer: Peer) -> None:
        if self._before:
            self._before.pop(0)(peer)


@pytest.mark.parametrize("step", [Silent(), Close(), Close(reset=True)], ids=str)
def test_a_machine_that_boots_is_waited_for(
    step: Step, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(genode, "FIRST_PATIENCE", 0.05)
    script = [Booting(step, step, step), *good(*one_job())]
    with served() as taken, FakeTarget(script, loopback()) as target:
        session = session_on(target, tmp_path, boot_timeout=20)
        assert len(run(session, periodic(1))) == 1
        session.close()
    assert target.connections == 4
    assert taken == []


@pytest.mark.parametrize("step", [Silent(), Close()], ids=str)
def test_a_machine_that_never_boots_is_killed(step: Step, tmp_path: Path) -> None:
    before = requests.now()
    with served() as taken, FakeTarget([step], loopback()) as target:
        begin = time.monotonic()
        with pytest.raises(SilentError, match=r"had 1 s to boot \(session.boot_timeout\)"):
            session_on(target, tmp_path, boot_timeout=1)
        assert 1 <= time.monotonic() - begin < 4
    ((_, _, since),) = taken
    assert before <= since <= before + 50


def test_a_machine_that_is_not_there_is_not_waited_for(tmp_path: Path) -> None:
    with FakeTarget([], loopback()) as target:
        pass
    begin = time.monotonic()
    with served() as taken, pytest.raises(ConnectionError, match="no connection"):
        session_on(target, tmp_path)
    assert time.monotonic() - begin < 1
    assert taken == []


@contextmanager
def told(*hosts: str, port: int, booted: float = 0.0) -> Iterator[None]:
    """A script says that it serves these hosts, and has booted them so many seconds ago."""
    directory = requests.requests_directory().parent / "instances"
    assert requests.served_hosts(port) == {}
    instant = requests.now() - int(booted * 100)
    files = [directory / f"{host}@{port}@{instant}@{host}.{os.getpid()}.2" for host in hosts]
    for file in files:
        file.touch()
    yield
    for file in files:
        file.unlink()


def test_a_machine_that_a_script_serves_is_available_whatever_it_does() -> None:
    with FakeTarget([], loopback()) as there:
        boots, absent = loopback(), loopback()
        hosts = [absent, boots, there.host]
        with told(boots, port=there.port):
            assert set(QemuSession.available(hosts, there.port, 1)) == {boots, there.host}
            assert QemuSession.is_available(boots, there.port, 1)
            assert not QemuSession.is_available(absent, there.port, 1)
            assert list(QemuSession.available([boots], there.port + 1, 1)) == []


def test_a_machine_that_a_script_serves_is_killed_though_it_takes_no_connections(
    tmp_path: Path,
) -> None:
    with FakeTarget([], loopback()) as target:
        pass
    with (
        told(target.host, port=target.port),
        served() as taken,
        pytest.raises(SilentError, match=r"had 1 s to boot .*; its QEMU instance is killed"),
    ):
        session_on(target, tmp_path, boot_timeout=1)
    assert [host for host, _, _ in taken] == [target.host]


def test_a_machine_that_was_booted_long_ago_is_killed_as_soon_as_it_does_not_answer(
    tmp_path: Path,
) -> None:
    script: list[Step] = [KnowNoLive(), Expect(GetLive), Hang()]
    with (
        FakeTarget(script, loopback()) as target,
        told(target.host, port=target.port, booted=100),
        served() as taken,
    ):
        begin = time.monotonic()
        with pytest.raises(SilentError, match=r"had 90 s to boot .*; its QEMU instance is killed"):
            session_on(target, tmp_path, boot_timeout=90, reply_timeout=1.5)
        assert 1.5 <= time.monotonic() - begin < 20
    assert len(taken) == 1


def test_a_session_that_is_let_go_asks_for_nothing(tmp_path: Path) -> None:
    with FakeTarget([], loopback()) as target:
        pass
    errors: list[Exception] = []
    threads = Threads(errors.append)
    with told(target.host, port=target.port), served() as taken:
        threads.spawn(session_on, "one", target, tmp_path, connects=True)
        wait_until(lambda: threads.wait_for_machines, "it waits for the machine")
        threads.end(20)
        assert taken == []
    (error,) = errors
    assert isinstance(error, ConnectionError)


def test_a_machine_that_a_script_serves_no_more_is_not_waited_for(tmp_path: Path) -> None:
    with FakeTarget([], loopback()) as target:
        pass

    def leave() -> None:
        with told(target.host, port=target.port):
            began.set()
            time.sleep(0.5)  # meanwhile the session waits

    began = threading.Event()
    script = threading.Thread(target=leave)
    script.start()
    assert began.wait(10)
    with served() as taken, pytest.raises(ConnectionError, match="no connection"):
        session_on(target, tmp_path, boot_timeout=60)
    script.join()
    assert taken == []


def test_boot_timeout_must_be_positive(tmp_path: Path) -> None:
    for seconds in (0, -1, float("inf"), float("nan")):
        with pytest.raises(
            ConfigurationError, match=r"session.boot_timeout must be > 0 s and finite, got"
        ):
            QemuSession.check(single(), boot_timeout=seconds, binaries=binaries(tmp_path / "bin"))


def test_a_check_finds_that_requests_cannot_be_made(tmp_path: Path) -> None:
    requests.requests_directory().chmod(0o770)
    with pytest.raises(InfrastructureError, match="mode 700"):
        QemuSession.check(single(), binaries=binaries(tmp_path / "bin"))


def test_the_configuration_lists_every_option_with_its_default() -> None:
    config = yaml.safe_load((CONF / "qemu.yaml").read_text())
    assert config.pop("_target_") == "taskgen_run.sessions.genode.QemuSession"
    assert config.pop("boot_timeout") == genode.BOOT_TIMEOUT
    parameters = inspect.signature(GenodeSession.__init__).parameters.values()
    assert config == {p.name: p.default for p in parameters if p.kind is p.KEYWORD_ONLY}


def test_files_are_those_of_the_binaries(tmp_path: Path) -> None:
    folder = binaries(tmp_path / "bin")
    found = QemuSession.files(single(), boot_timeout=5, binaries=folder)
    assert [os.fspath(path) for path in found] == [f"{folder}/hey"]
