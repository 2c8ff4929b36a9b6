"""A guest on a bridge, with its own MAC and IP address: it is frozen, and comes back."""

from __future__ import annotations

from pathlib import Path

import psutil
import pytest
from guests import BOOT_SECONDS, need_image, tell_monitor
from instances import instance, left_in, needs_qemu, runtime
from networks import BRIDGE, dhcp, mac_of, needs_dhcp, needs_networks, network
from real_targets import Runner, assert_complete, need_workloads

from taskgen_run import results

VARIANTS = 12
FIRST, LAST = "10.77.0.9", "10.77.0.10"
RANGE = "10.77.0.8/30"

pytestmark = [needs_qemu, needs_networks, needs_dhcp, pytest.mark.timeout(300)]


def test_a_frozen_guest_comes_back_with_its_addresses(
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
            variants=VARIANTS,
            session="qemu",
            prefix=net.prefix,
        ) as runner:
            runner.wait_until_finished(3, BOOT_SECONDS)
            address = net.address_of(mac)
            tell_monitor(up, "stop")
            runner.wait_until_finished(4, BOOT_SECONDS)
            assert mac_of(up.wait_for_boot(2)) == mac
            assert net.address_of(mac) == address
            runner.ends(0)
        assert_complete(runner.outputs, VARIANTS)
        assert {row["host"] for row in results.read(runner.outputs, "tasksets").to_pylist()} == {
            address
        }
        (row,) = results.read(runner.outputs, "hosts").to_pylist()
        assert (row["host"], row["restarts"], row["put_aside"]) == (address, 1, False)
        assert len(up.boots) == 2
        assert not psutil.pid_exists(qemu.pid)

        assert net.devices == {"lo", BRIDGE, "tap1"}
        up.process.terminate()
        up.ends(143)
        assert net.devices == {"lo", BRIDGE}
        assert net.ip("neigh") == ""
        assert left_in(directory) == ["taskgen_run", "taskgen_run/requests"]
