"""Networks of their own for tests: a namespace with a bridge and, if that is asked for, DHCP."""

from __future__ import annotations

import itertools
import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import psutil
import pytest
from agents import PATIENCE, wait_until

BRIDGE = "netbr1"
OWN = "10.77.0.1"
"""The address of the bridge, and with it that of the machine."""


def _can_be_made() -> bool:
    if os.geteuid() != 0 or shutil.which("ip") is None or not Path("/dev/net/tun").exists():
        return False
    return subprocess.run(["unshare", "--net", "true"], capture_output=True).returncode == 0


needs_networks = pytest.mark.skipif(
    not _can_be_made(),
    reason="a network namespace needs root, iproute2, /dev/net/tun and a machine that allows it",
)
needs_dhcp = pytest.mark.skipif(shutil.which("dnsmasq") is None, reason="dnsmasq is not installed")

_numbers = itertools.count()


@dataclass(frozen=True)
class Network:
    """A namespace with a bridge."""

    name: str

    @property
    def prefix(self) -> tuple[str, ...]:
        """Put before a command, it runs in the namespace."""
        return ("ip", "netns", "exec", self.name)

    def ip(self, *arguments: str) -> str:
        """What `ip` prints for this network."""
        return _run("ip", "-n", self.name, *arguments)

    @property
    def devices(self) -> set[str]:
        """The names of its devices."""
        return set(re.findall(r"^\d+: ([^:@]+)", self.ip("-o", "link"), flags=re.MULTILINE))

    def address_of(self, mac: str) -> str:
        """The IPv4 address that the neighbour table has for a MAC address, or nothing."""
        for line in self.ip("-4", "neigh", "show", "dev", BRIDGE).splitlines():
            address, *rest = line.split()
            if mac in rest:
                return address
        return ""


@contextmanager
def network() -> Iterator[Network]:
    """A namespace with a bridge that has an address; all of it is gone after the block."""
    made = Network(f"taskgen-{os.getpid()}-{next(_numbers)}")
    _run("ip", "netns", "add", made.name)
    try:
        made.ip("link", "set", "lo", "up")
        made.ip("link", "add", BRIDGE, "address", "52:54:00:77:00:01", "type", "bridge")
        made.ip("address", "add", f"{OWN}/24", "dev", BRIDGE)
        made.ip("link", "set", BRIDGE, "up")
        yield made
    finally:
        _run("ip", "netns", "del", made.name)


@contextmanager
def dhcp(of: Network, directory: Path, first: str, last: str) -> Iterator[None]:
    """A DHCP server on the bridge that gives out the addresses from `first` to `last`."""
    log = directory / "dnsmasq.log"
    with log.open("w") as file:
        server = subprocess.Popen(
            [
                *(*of.prefix, "dnsmasq", "--no-daemon", "--conf-file=/dev/null", "--port=0"),
                *(f"--interface={BRIDGE}", "--bind-interfaces", "--log-dhcp", "--user=root"),
                *(f"--dhcp-range={first},{last},255.255.255.0,1h", "--dhcp-authoritative"),
                *(f"--dhcp-leasefile={directory}/leases", "--no-ping"),
            ],
            stdout=file,
            stderr=file,
        )
    try:
        wait_until(lambda: "IP range" in log.read_text(), "the DHCP server is there")
        yield
    finally:
        server.terminate()
        server.wait(PATIENCE)


def mac_of(qemu: psutil.Process) -> str:
    """The MAC address that QEMU was told to give to its guest.

    Raises psutil.NoSuchProcess if it ends, or does not become a QEMU.
    """
    found: list[str] = []

    def is_told() -> bool:
        found[:] = re.findall(r"mac(?:addr)?=([0-9a-f:]{17})", " ".join(qemu.cmdline()))
        return bool(found) or not qemu.is_running()

    wait_until(is_told, "QEMU is started")
    if not found:
        raise psutil.NoSuchProcess(qemu.pid)
    return found[0]


def _run(*command: str) -> str:
    done = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE)
    assert done.returncode == 0, done.stderr
    return done.stdout
