"""Requests to `scripts/qemu-up.sh` to kill its instance, and what it tells of its hosts."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path

import pytest
from agents import ROOT, fresh_address, wait_until
from instances import end, instance, needs_qemu, needs_root, put_request, refused, runtime

from taskgen_run import requests
from taskgen_run.errors import InfrastructureError

pytestmark = needs_qemu

NOBODY = 65534


def test_a_request_kills_the_instance_and_boots_the_next(halts: Path) -> None:
    address = fresh_address()
    arguments = ("--kernel", halts, "--user", address, "--port", "4001")
    with runtime() as directory, instance(directory, *arguments) as up:
        first = up.wait_for_boot()
        request = put_request(directory / "taskgen_run" / "requests", address, 4001)
        up.wait_for_boot(2)
        assert not request.exists()
        assert not first.is_running()
        assert "a runner has asked for its end" in up.said


def test_it_boots_again_when_its_files_have_been_removed(halts: Path) -> None:
    address = fresh_address()
    with runtime() as directory, instance(directory, "--kernel", halts, "--user", address) as up:
        first = up.wait_for_boot()
        shutil.rmtree(directory / "taskgen_run")
        end(first)
        up.wait_for_boot(2)
        put_request(directory / "taskgen_run" / "requests", address)
        up.wait_for_boot(3)


def test_a_request_for_another_is_left_alone(halts: Path) -> None:
    one, other = fresh_address(), fresh_address()
    with (
        runtime() as directory,
        instance(directory, "--kernel", halts, "--user", one) as up,
    ):
        up.wait_for_boot()
        inbox = directory / "taskgen_run" / "requests"
        left = [put_request(inbox, other), put_request(inbox, one, 3002), put_request(inbox, "")]
        mine = put_request(inbox, one)
        wait_until(lambda: not mine.exists(), "its own request is served")
        assert [request.exists() for request in left] == [True, True, True]
        for request in left:
            request.unlink()


@pytest.mark.parametrize("since", ["5", "", "rubbish", "$(touch /tmp/x)", "-1", "9" * 30])
def test_a_request_about_an_earlier_boot_is_taken_away(halts: Path, since: str) -> None:
    address = fresh_address()
    with runtime() as directory, instance(directory, "--kernel", halts, "--user", address) as up:
        qemu = up.wait_for_boot()
        request = put_request(directory / "taskgen_run" / "requests", address, since=since)
        wait_until(lambda: not request.exists(), "it is taken away")
        # Had it asked for a kill, this one would have found another instance.
        assert len(up.boots) == 1
        assert qemu.is_running()


def test_requests_that_no_runner_has_made_are_left_alone(halts: Path, tmp_path: Path) -> None:
    address = fresh_address()
    with runtime() as directory, instance(directory, "--kernel", halts, "--user", address) as up:
        up.wait_for_boot()
        inbox = directory / "taskgen_run" / "requests"
        elsewhere = tmp_path / "elsewhere"
        elsewhere.write_text(f"{requests.now()}\n")
        strange = [inbox / f"{address}@3001@{name}" for name in ("link", "pipe", "directory")]
        strange[0].symlink_to(elsewhere)
        os.mkfifo(strange[1])
        strange[2].mkdir()
        mine = put_request(inbox, address, since=0)
        wait_until(lambda: not mine.exists(), "its own request is served")
        assert len(up.boots) == 1
        assert elsewhere.exists()
        for path in strange:
            path.rmdir() if path.name.endswith("directory") else path.unlink()


def test_instances_side_by_side_are_killed_one_by_one(halts: Path) -> None:
    addresses = [fresh_address() for _ in range(3)]
    with runtime() as directory, ExitStack() as stack:
        # Those that end first leave the files of the others.
        ups = [
            stack.enter_context(
                instance(directory, "--kernel", halts, "--user", address, alone=False)
            )
            for address in addresses
        ]
        for up in ups:
            up.wait_for_boot()
        put_request(directory / "taskgen_run" / "requests", addresses[1])
        ups[1].wait_for_boot(2)
        assert [len(up.boots) for up in ups] == [1, 2, 1]
        ups[0].process.send_signal(signal.SIGKILL)
        ups[0].ends(-signal.SIGKILL)
        end(ups[1].wait_for_boot(2))
        ups[1].wait_for_boot(3)
        assert [len(up.boots) for up in ups] == [1, 3, 1]
        assert ups[2].wait_for_boot().is_running()


def test_two_runners_that_ask_for_the_same_boot_kill_it_once(
    halts: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    address = fresh_address()
    with runtime() as directory, instance(directory, "--kernel", halts, "--user", address) as up:
        monkeypatch.setenv("XDG_RUNTIME_DIR", str(directory))
        up.wait_for_boot()
        since = requests.now()
        with ThreadPoolExecutor(8) as pool:
            list(pool.map(lambda _: requests.ask_for_kill(address, 3001, since), range(8)))
        up.wait_for_boot(2)
        requests.ask_for_kill(address, 3001, since)
        assert len(up.boots) == 2


@pytest.mark.parametrize("part", ["taskgen_run", "taskgen_run/requests"])
@pytest.mark.parametrize("fault", ["link", "group", "foreign"])
def test_a_directory_of_requests_of_others_is_refused(
    halts: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, part: str, fault: str
) -> None:
    if fault == "foreign" and os.geteuid() != 0:
        pytest.skip("only root can give a directory away")
    with runtime() as directory:
        place = directory / part
        place.parent.mkdir(mode=0o700, exist_ok=True)
        if fault == "link":
            (tmp_path / "elsewhere").mkdir(mode=0o700)
            place.symlink_to(tmp_path / "elsewhere")
        else:
            place.mkdir(mode=0o700)
            place.chmod(0o770 if fault == "group" else 0o700)
            os.chown(place, NOBODY if fault == "foreign" else -1, -1)
        said = refused(
            *("--accel", "tcg", "--kernel", halts, "--user", fresh_address()),
            environment={"XDG_RUNTIME_DIR": str(directory)},
        )
        assert said == (
            f"'{place}' must be a directory of user {os.geteuid()} with mode 700, for nobody else; "
            "remove it"
        )
        monkeypatch.setenv("XDG_RUNTIME_DIR", str(directory))
        with pytest.raises(InfrastructureError, match=f"'{place}' must be a directory of this"):
            requests.requests_directory()


@needs_root
def test_with_sudo_it_serves_the_requests_of_the_user(halts: Path) -> None:
    address = fresh_address()
    arguments = ("--kernel", halts, "--user", address)
    sudo = {"SUDO_UID": str(NOBODY)}
    with runtime(NOBODY) as directory, instance(directory, *arguments, environment=sudo) as up:
        up.wait_for_boot()
        assert (directory / "taskgen_run" / "requests").stat().st_uid == NOBODY
        asked = subprocess.run(
            [
                *("setpriv", "--reuid", str(NOBODY), "--clear-groups", sys.executable, "-c"),
                "from taskgen_run.requests import ask_for_kill, now\n"
                f"ask_for_kill('{address}', 3001, now())",
            ],
            env={"XDG_RUNTIME_DIR": str(directory), "PYTHONPATH": str(ROOT)},
            capture_output=True,
            text=True,
            timeout=60,
        )
        assert (asked.returncode, asked.stderr) == (0, "")
        assert up.wait_for_boot(2).uids().effective == 0
        own = Path("/run/user/0" if Path("/run/user/0").is_dir() else "/run", "taskgen_run")
        assert up.monitor.is_relative_to(own)
        put_request(own / "requests", address)
        up.wait_for_boot(3)
    wait_until(lambda: not list(own.glob(f"{address}.*")), "nothing is left")


# ---- hosts ----


def told(directory: Path) -> dict[str, Path]:
    """The files of the instances of a runtime directory, by host and port."""
    files = (directory / "taskgen_run" / "instances").iterdir()
    return {"@".join(file.name.split("@")[:2]): file for file in files}


def test_it_tells_of_its_host_until_it_ends(halts: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    one, other = fresh_address(), fresh_address()
    with runtime() as directory:
        monkeypatch.setenv("XDG_RUNTIME_DIR", str(directory))
        assert requests.served_hosts(3001) == set()
        with (
            instance(directory, "--kernel", halts, "--user", one, alone=False) as up,
            instance(directory, "--kernel", halts, "--user", other, "--port", "4001") as last,
        ):
            up.wait_for_boot()
            last.wait_for_boot()
            wait_until(lambda: {f"{one}@3001", f"{other}@4001"} == {*told(directory)}, "both")
            assert requests.served_hosts(3001) == {one}
            assert requests.served_hosts(4001) == {other}
            end(up.wait_for_boot())
            up.wait_for_boot(2)
            assert requests.served_hosts(3001) == {one}
            up.process.terminate()
            up.ends(143)
            assert {*told(directory)} == {f"{other}@4001"}
            last.process.send_signal(signal.SIGKILL)
            wait_until(lambda: not told(directory), "what SIGKILL leaves is cleared")


def test_what_it_tells_is_told_again_when_it_was_removed(halts: Path) -> None:
    address = fresh_address()
    with runtime() as directory, instance(directory, "--kernel", halts, "--user", address) as up:
        up.wait_for_boot()
        wait_until(lambda: bool(told(directory)), "it tells")
        told(directory)[f"{address}@3001"].unlink()
        wait_until(lambda: bool(told(directory)), "it tells again")


@needs_root
def test_with_sudo_it_tells_the_user(halts: Path) -> None:
    address = fresh_address()
    arguments = ("--kernel", halts, "--user", address)
    sudo = {"SUDO_UID": str(NOBODY)}
    with runtime(NOBODY) as directory, instance(directory, *arguments, environment=sudo) as up:
        up.wait_for_boot()
        wait_until(lambda: bool(told(directory)), "it tells")
        assert told(directory)[f"{address}@3001"].stat().st_uid == NOBODY
