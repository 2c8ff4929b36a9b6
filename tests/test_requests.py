"""Requests to kill a QEMU instance, as a runner makes them."""

from __future__ import annotations

import os
import stat
import subprocess
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from agents import wait_until

from taskgen_run import requests
from taskgen_run.errors import InfrastructureError
from taskgen_run.threads import Threads


@pytest.fixture
def inbox(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The directory of requests, which is empty in the end."""
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    directory = requests.requests_directory()
    yield directory
    assert list(directory.iterdir()) == []


def serve(inbox: Path) -> tuple[str, str]:
    """Take one request away, as the script does: its name, and what is in it."""
    found: list[Path] = []

    def is_there() -> bool:
        found[:] = inbox.glob("[!.]*@*@*")
        return bool(found)

    wait_until(is_there, "a request")
    (request,) = found
    told = request.name, request.read_text()
    request.unlink()
    return told


def test_the_directory_is_private_and_stays(tmp_path: Path, inbox: Path) -> None:
    assert inbox == tmp_path / "taskgen_run" / "requests"
    assert stat.S_IMODE(inbox.stat().st_mode) == 0o700
    assert stat.S_IMODE(inbox.parent.stat().st_mode) == 0o700
    assert requests.requests_directory() == inbox


def test_a_request_names_host_port_and_instant(inbox: Path) -> None:
    served: list[tuple[str, str]] = []
    server = threading.Thread(target=lambda: served.append(serve(inbox)))
    server.start()
    requests.ask_for_kill("127.0.9.1", 3001, 4217)
    server.join()
    ((name, content),) = served
    assert name.split("@")[:2] == ["127.0.9.1", "3001"]
    assert content == "4217\n"


def test_a_request_that_nobody_serves_is_taken_back(
    inbox: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(requests, "SERVED_WITHIN", 0.3)
    begin = time.monotonic()
    with pytest.raises(InfrastructureError) as caught:
        requests.ask_for_kill("127.0.9.1", 3001, requests.now())
    assert time.monotonic() - begin < 5
    assert str(caught.value) == (
        "the request to kill the QEMU instance of 127.0.9.1, port 3001, was taken back: nobody has "
        "served it within 0.3 s; start the instance with scripts/qemu-up.sh, as this user or with "
        "sudo"
    )


def test_a_request_is_taken_back_when_its_run_has_ended(inbox: Path) -> None:
    errors: list[Exception] = []
    threads = Threads(errors.append)
    threads.spawn(requests.ask_for_kill, "one", "127.0.9.1", 3001, 0, connects=True)
    wait_until(lambda: any(inbox.glob("[!.]*")), "the request")
    threads.end(20)
    (error,) = errors
    assert isinstance(error, InfrastructureError)
    assert str(error).endswith("was taken back: the run has ended")


def test_hosts_are_served_that_a_living_script_tells_of(inbox: Path) -> None:
    assert requests.served_hosts(3001) == {}
    directory = inbox.parent / "instances"
    ended = subprocess.Popen(["true"])
    ended.wait()
    now, own = requests.now(), os.getpid()
    for name in (
        f"127.0.9.1@3001@{now - 700}@127.0.9.1.{own}.17",
        f"127.0.9.1@3001@{now - 500}@127.0.9.1.{own}.17",
        f"10.77.0.9@3001@{now - 20}@tap1.{own}.4",
        f"127.0.9.2@3001@{now + 100_000}@127.0.9.2.{own}.17",  # of before this machine was booted
        f"127.0.9.3@3001@{now - 500}@127.0.9.3.{ended.pid}.17",
        f"127.0.9.4@4001@{now - 500}@127.0.9.4.{own}.17",
        f"127.0.9.5@3001@127.0.9.5.{own}.17",
        "rubbish",
    ):
        (directory / name).touch()
    assert requests.served_hosts(3001) == {"127.0.9.1": now - 500, "10.77.0.9": now - 20}


def test_the_instant_is_that_of_the_script() -> None:
    hundredths = requests.now()
    up = float(Path("/proc/uptime").read_text().split()[0])
    assert 0 <= round(up * 100) - hundredths < 500


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a directory away")
def test_a_runtime_directory_of_another_user_is_not_used(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    os.chown(tmp_path, 65534, -1)
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    assert requests.requests_directory().is_relative_to("/run")
    assert list(tmp_path.iterdir()) == []


def test_a_relative_runtime_directory_is_not_used(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_RUNTIME_DIR", ".")
    assert requests.requests_directory().is_absolute()
    assert list(tmp_path.iterdir()) == []


def test_a_request_that_cannot_be_written_leaves_nothing(
    inbox: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(self: Path, target: Path) -> Path:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "rename", refuse)
    with pytest.raises(InfrastructureError, match=r"cannot be made: .* No space left on device"):
        requests.ask_for_kill("127.0.9.1", 3001, 0)


@pytest.mark.parametrize("fault", ["a file", "a link", "for a group"])
def test_a_directory_that_is_not_private_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fault: str
) -> None:
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    place = tmp_path / "taskgen_run"
    if fault == "a file":
        place.touch()
    elif fault == "a link":
        (tmp_path / "elsewhere").mkdir(mode=0o700)
        place.symlink_to(tmp_path / "elsewhere")
    else:
        place.mkdir()
        place.chmod(0o750)
    said = "cannot be made" if fault == "a file" else f"'{place}' must be a directory of this user"
    with pytest.raises(InfrastructureError, match=said):
        requests.requests_directory()
    assert not (tmp_path / "elsewhere" / "requests").exists()
