"""A guest on a bridge, with its own MAC and IP address: it freezes at any time, and comes back."""

from __future__ import annotations

from pathlib import Path

import psutil
import pytest
from agents import wait_until
from guests import BOOT_SECONDS, need_image, tell_monitor
from instances import EMPTY, instance, left_in, needs_qemu, runtime
from networks import BRIDGE, dhcp, mac_of, needs_dhcp, needs_networks, network
from real_targets import Runner, assert_complete, need_workloads

from taskgen_run import requests, results

VARIANTS = 12
BOOT_TIMEOUT = 40
"""Seconds: as long as a boot takes on a busy machine, which emulates the guest."""

FIRST, LAST = "10.77.0.9", "10.77.0.10"
RANGE = "10.77.0.8/30"

pytestmark = [needs_qemu, needs_networks, needs_dhcp, pytest.mark.timeout(300)]


def test_a_guest_comes_back_that_freezes_at_work_and_as_it_boots(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    need_image()
    need_workloads()
    arguments = (BRIDGE, "tap1")
    with (
        network() as net,
        runtime() as directory,
        dhcp(net, tmp_path, FIRST, LAST),
        instance(directory, *arguments, prefix=net.prefix) as up,
    ):
        monkeypatch.setenv("XDG_RUNTIME_DIR", str(directory))
        qemu = up.wait_for_boot()
        mac = mac_of(qemu)
        with Runner(
            tmp_path,
            *(f"targets={RANGE}", "available_timeout=150", "session.event_timeout=2"),
            *("session.reply_timeout=2", "session.connect_timeout=2"),
            f"session.boot_timeout={BOOT_TIMEOUT}",
            variants=VARIANTS,
            session="qemu",
            prefix=net.prefix,
        ) as runner:
            runner.wait_until_finished(3, BOOT_SECONDS)
            address = net.address_of(mac)
            tell_monitor(up, "stop")
            runner.wait_until_finished(4, BOOT_SECONDS)
            booting = up.wait_for_boot(2)
            tell_monitor(up, "stop")  # before it could take a connection
            up.wait_for_boot(3)
            assert not booting.is_running()
            assert mac_of(up.wait_for_boot(3)) == mac
            runner.ends(within=BOOT_SECONDS)
            assert net.address_of(mac) == address
        assert_complete(runner.outputs, VARIANTS)
        assert {row["host"] for row in results.read(runner.outputs, "tasksets").to_pylist()} == {
            address
        }
        (row,) = results.read(runner.outputs, "hosts").to_pylist()
        assert (row["host"], row["restarts"], row["put_aside"]) == (address, 2, False)
        assert len(up.boots) == 3
        assert not psutil.pid_exists(qemu.pid)

        assert net.devices == {"lo", BRIDGE, "tap1"}
        up.process.terminate()
        up.ends(143)
        assert net.devices == {"lo", BRIDGE}
        assert net.ip("neigh") == ""
        assert left_in(directory) == EMPTY


def test_a_guest_that_has_frozen_before_an_experiment_comes_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    need_image()
    need_workloads()
    with (
        network() as net,
        runtime() as directory,
        dhcp(net, tmp_path, FIRST, FIRST),
        instance(directory, BRIDGE, "tap1", prefix=net.prefix) as up,
    ):
        monkeypatch.setenv("XDG_RUNTIME_DIR", str(directory))
        qemu = up.wait_for_boot()
        wait_until(lambda: {*requests.served_hosts(3001)} == {FIRST}, "its address", BOOT_SECONDS)
        tell_monitor(up, "stop")
        with Runner(
            tmp_path,
            f"targets={RANGE}",
            f"session.boot_timeout={BOOT_TIMEOUT}",
            variants=3,
            session="qemu",
            prefix=net.prefix,
        ) as runner:
            runner.ends(within=2 * BOOT_SECONDS)
        assert_complete(runner.outputs, 3)
        assert not qemu.is_running()
        assert len(up.boots) == 2
