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

import psutil
import pytest
from agents import ROOT, fresh_address, wait_until
from instances import end, instance, needs_qemu, needs_root, put_request, refused, runtime
from networks import BRIDGE, mac_of, needs_networks, network

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


@pytest.mark.parametrize("since", ["5", "", "rubbish", "$(touch /tmp/x)", "-1", "9" * 30, "9" * 14])
def test_a_request_about_another_boot_is_taken_away(halts: Path, since: str) -> None:
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
        assert requests.served_hosts(3001) == {}
        with (
            instance(directory, "--kernel", halts, "--user", one, alone=False) as up,
            instance(directory, "--kernel", halts, "--user", other, "--port", "4001") as last,
        ):
            up.wait_for_boot()
            last.wait_for_boot()
            wait_until(lambda: {f"{one}@3001", f"{other}@4001"} == {*told(directory)}, "both")
            assert {*requests.served_hosts(4001)} == {other}
            booted = requests.served_hosts(3001)
            assert booted.keys() == {one}
            assert requests.now() - 2000 < booted[one] <= requests.now()
            end(up.wait_for_boot())
            up.wait_for_boot(2)
            wait_until(lambda: requests.served_hosts(3001)[one] > booted[one], "the next boot")
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


@needs_root
def test_with_sudo_it_boots_again_though_the_user_has_logged_out(halts: Path) -> None:
    address = fresh_address()
    arguments = ("--kernel", halts, "--user", address)
    sudo = {"SUDO_UID": str(NOBODY)}
    with (
        runtime(NOBODY) as directory,
        instance(directory, *arguments, environment=sudo, alone=False) as up,
    ):
        up.wait_for_boot()
        shutil.rmtree(directory)
        end(psutil.Process(up.boots[0]))
        up.wait_for_boot(2)
        directory.mkdir(exist_ok=True)
        os.chown(directory, NOBODY, -1)
        end(up.wait_for_boot(2))
        up.wait_for_boot(3)
        wait_until(lambda: bool(told(directory)), "it tells the user, who is there again")


# ---- a bridge ----


@needs_networks
def test_on_a_bridge_it_serves_the_address_that_its_guest_has(halts: Path) -> None:
    def has(address: str, mac: str) -> None:
        net.ip("neigh", "replace", address, "lladdr", mac, "dev", BRIDGE, "nud", "stale")

    def tells(*expected: tuple[str, str]) -> None:
        def told_now() -> set[tuple[str, str]]:
            files = (directory / "taskgen_run" / "instances").iterdir()
            names = (file.name.split("@") for file in files)
            return {(script.split(".")[0], host) for host, _, _, script in names}

        wait_until(lambda: told_now() == {*expected}, f"{expected}")

    with network() as net, runtime() as directory:
        inbox = directory / "taskgen_run" / "requests"
        arguments = ("--kernel", halts, BRIDGE)
        with (
            instance(directory, *arguments, "tap1", prefix=net.prefix, alone=False) as one,
            instance(directory, *arguments, "tap2", prefix=net.prefix, alone=False) as two,
        ):
            first, second = mac_of(one.wait_for_boot()), mac_of(two.wait_for_boot())
            has("10.77.0.9", first)
            tells(("tap1", "10.77.0.9"))
            # A new lease; the entry of the one before is still in the table.
            has("10.77.0.10", first)
            tells(("tap1", "10.77.0.10"))
            left = [put_request(inbox, "10.77.0.9"), put_request(inbox, "10.77.0.10", 4444)]
            # Another guest takes the address, and it is asked for at once.
            has("10.77.0.10", second)
            put_request(inbox, "10.77.0.10")
            two.wait_for_boot(2)
            has("10.77.0.10", second)
            tells(("tap2", "10.77.0.10"))
            # It keeps it, although the table forgets it, and from boot to boot.
            net.ip("neigh", "del", "10.77.0.10", "dev", BRIDGE)
            put_request(inbox, "10.77.0.10")
            two.wait_for_boot(3)
            tells(("tap2", "10.77.0.10"))
            assert [len(one.boots), len(two.boots)] == [1, 3]
            for request in left:
                request.unlink()
        one.assert_nothing_left()


@needs_networks
def test_on_a_bridge_a_guest_that_sends_nothing_boots_again(halts: Path) -> None:
    arguments = ("--kernel", halts, "--boot-timeout", "1", BRIDGE, "tap1")
    with (
        network() as net,
        runtime() as directory,
        instance(directory, *arguments, prefix=net.prefix) as up,
    ):
        first = up.wait_for_boot()
        up.wait_for_boot(2)
        assert not first.is_running()
        assert "tap1: its guest has sent nothing for 1 s" in up.said
