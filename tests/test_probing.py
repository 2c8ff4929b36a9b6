"""Hosts that answer and hosts that do not, on loopback addresses and in network namespaces."""

from __future__ import annotations

import itertools
import json
import os
import shutil
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from taskgen_run.errors import ConfigurationError
from taskgen_run.hosts import TargetRange
from taskgen_run.probing import CONNECTIONS, PINGS, connectable, pingable

ROOT = Path(__file__).parent.parent
_numbers = itertools.count()


def _namespaces_work() -> bool:
    if os.geteuid() or not shutil.which("ip"):
        return False
    name = f"taskgen-try-{os.getpid()}"
    made = subprocess.run(["ip", "netns", "add", name], capture_output=True).returncode == 0
    if made:
        subprocess.run(["ip", "netns", "del", name], check=True)
    return made


needs_namespaces = pytest.mark.skipif(
    not _namespaces_work(), reason="network namespaces need root and `ip` of iproute2"
)


class Namespace:
    """A network of its own: its loopback is alive, 10.7.0.0/16 and fd07::/64 drop
    everything, and in 10.8.0.0/16 nobody has an address."""

    def __init__(self) -> None:
        self.name = f"taskgen-{os.getpid()}-{next(_numbers)}"
        subprocess.run(["ip", "netns", "add", self.name], check=True)

    def build(self) -> None:
        self.ip("link", "set", "lo", "up")
        self.ip("link", "add", "void", "type", "veth", "peer", "name", "end")
        self.ip("link", "set", "end", "up")
        self.ip("link", "set", "void", "up", "arp", "off")  # so that "end" drops every frame
        self.ip("link", "add", "wire", "type", "veth", "peer", "name", "nobody")
        self.ip("link", "set", "nobody", "up")
        self.ip("link", "set", "wire", "up")  # nobody answers to ARP
        self.ip("address", "add", "10.8.255.254/16", "dev", "wire")
        self.ip("address", "add", "10.7.255.254/16", "dev", "void")
        self.ip("address", "add", "fd07::ffff/64", "dev", "void", "nodad")

    def ip(self, *arguments: str) -> None:
        subprocess.run(["ip", "-n", self.name, *arguments], check=True, timeout=20)

    def pings_allowed_to(self, groups: str) -> None:
        setting = f"net.ipv4.ping_group_range={groups}"
        self.run(["sysctl", "-qw", setting])

    def run(self, command: list[str]) -> str:
        done = subprocess.run(
            ["ip", "netns", "exec", self.name, *command],
            capture_output=True,
            text=True,
            timeout=60,
            cwd=ROOT,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    def python(self, code: str, *, as_nobody: bool = False) -> Any:
        """What the last expression of `code` evaluates to, and how many seconds it took."""
        script = (
            "import json, time\n"
            "from taskgen_run.hosts import TargetRange\n"
            "from taskgen_run.probing import *\n"
            "from taskgen_run.errors import *\n"
            "before = time.monotonic()\n"
            f"result = {code}\n"
            "print(json.dumps([result, time.monotonic() - before]))\n"
        )
        unprivileged = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups"]
        command = [sys.executable, "-c", script]
        return json.loads(self.run([*(unprivileged if as_nobody else []), *command]))

    def close(self) -> None:
        subprocess.run(["ip", "netns", "del", self.name], check=True, timeout=20)


@pytest.fixture
def namespace() -> Iterator[Namespace]:
    made = Namespace()
    try:
        made.build()
        yield made
    finally:
        made.close()


@pytest.fixture
def pinging() -> None:
    try:
        list(pingable([], 0.1)), list(pingable(["127.0.0.1"], 1.0))
    except ConfigurationError as error:
        pytest.skip(f"pings: {error}")


@pytest.mark.usefixtures("pinging")
def test_all_hosts_of_a_range_are_found_once() -> None:
    hosts = TargetRange("127.1.0.0/20")
    found = list(pingable(hosts, 2.0))
    assert len(found) == hosts.count
    assert set(found) == set(hosts)


@pytest.mark.usefixtures("pinging")
def test_both_versions_of_ip_in_one_go() -> None:
    assert sorted(pingable(["::1", "127.0.0.1", "127.0.0.2", "::1"], 2.0)) == [
        "127.0.0.1",
        "127.0.0.2",
        "::1",
    ]


@pytest.mark.usefixtures("pinging")
@pytest.mark.parametrize("probe", [pingable, lambda hosts, timeout: connectable(hosts, 1, timeout)])
def test_a_host_that_is_no_address_is_an_error(probe: Callable[..., Iterator[str]]) -> None:
    for host in ("localhost", "", "127.1", "127.0.0.1/8", "fe80::1%lo"):
        with pytest.raises(ConfigurationError, match="a host must be an IP address, got '"):
            list(probe([host], 0.2))


@pytest.mark.usefixtures("pinging")
def test_hosts_are_taken_lazily() -> None:
    taken = []

    def endless() -> Iterator[str]:
        for host in itertools.cycle(TargetRange("127.2.0.0/16")):
            taken.append(host)
            yield host

    answers = pingable(endless(), 5.0)
    first = [next(answers) for _ in range(1000)]
    assert len(set(first)) == 1000
    assert len(taken) <= 1000 + PINGS
    answers.close()


@pytest.mark.usefixtures("pinging")
def test_answers_of_other_pings_are_not_taken() -> None:
    """Two of these at once, in one process, see each other's answers on raw sockets."""
    results: list[list[str]] = []
    ranges = [TargetRange("127.3.0.0/21"), TargetRange("127.3.8.0/21")]
    threads = [
        threading.Thread(target=lambda hosts=hosts: results.append(sorted(pingable(hosts, 2.0))))
        for hosts in ranges
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(results) == sorted(sorted(hosts) for hosts in ranges)


def _open_files() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


@pytest.mark.usefixtures("pinging")
def test_nothing_stays_open() -> None:
    before, threads = _open_files(), threading.active_count()
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        for probe in (pingable(["127.0.0.1"] * 9, 1.0), connectable(["127.0.0.1"] * 9, port, 1.0)):
            assert next(probe) == "127.0.0.1"
            probe.close()
    assert _open_files() == before
    assert threading.active_count() == threads


def test_only_hosts_that_listen_take_connections() -> None:
    with socket.create_server(("127.4.0.7", 0)) as server:
        port = server.getsockname()[1]
        found = list(connectable(TargetRange(["127.4.0.0/22", "::1"]), port, 2.0))
    assert found == ["127.4.0.7"]


def test_more_hosts_than_connections_at_a_time_all_listening() -> None:
    with socket.create_server(("0.0.0.0", 0), backlog=4096) as server:
        port = server.getsockname()[1]
        hosts = TargetRange("127.5.0.0/22")
        found = list(connectable(hosts, port, 5.0))
    assert sorted(found) == sorted(hosts)
    assert hosts.count > 2 * CONNECTIONS


def test_it_makes_do_with_few_open_files() -> None:
    code = (
        "import resource, socket\n"
        "from taskgen_run.hosts import TargetRange\n"
        "from taskgen_run.probing import connectable\n"
        "server = socket.create_server(('0.0.0.0', 0), backlog=4096)\n"
        "resource.setrlimit(resource.RLIMIT_NOFILE, (20, 20))\n"
        "hosts = TargetRange('127.6.0.0/23')\n"
        "assert sorted(connectable(hosts, server.getsockname()[1], 5.0)) == sorted(hosts)\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60, cwd=ROOT)


@needs_namespaces
def test_a_dead_range_takes_one_timeout(namespace: Namespace) -> None:
    for code in ("pingable(hosts, 1)", "connectable(hosts, 3001, 1)"):
        hosts = "TargetRange(['10.7.1.0/24', 'fd07::/120'])"
        if code.startswith("connectable"):
            hosts = "TargetRange('10.7.1.0/24')"
        found, seconds = namespace.python(f"list({code.replace('hosts', hosts)})")
        assert found == []
        assert 1.0 <= seconds <= 1.2


@needs_namespaces
def test_the_living_among_the_dead(namespace: Namespace) -> None:
    namespace.ip("address", "add", "10.7.1.77/32", "dev", "lo")
    found, seconds = namespace.python("list(pingable(TargetRange('10.7.0.0/20'), 0.5))")
    assert found == ["10.7.1.77"]
    assert seconds < 2


@needs_namespaces
def test_a_full_table_of_neighbours_costs_no_living_host(namespace: Namespace) -> None:
    hosts = "[*TargetRange('10.8.0.0/21'), *TargetRange('127.0.0.0/24')]"
    found, seconds = namespace.python(f"list(pingable({hosts}, 0.5))")
    assert len(found) == 254
    assert seconds < 5


@needs_namespaces
def test_hosts_without_a_route_are_dead(namespace: Namespace) -> None:
    hosts = ["192.0.2.1", "2001:db8::1", "127.0.0.1", "255.255.255.255", "0.0.0.0"]
    found, _ = namespace.python(f"list(pingable({hosts}, 0.3))")
    assert set(found) - {"0.0.0.0"} == {"127.0.0.1"}
    found, _ = namespace.python(f"list(connectable({hosts}, 3001, 0.3))")
    assert found == []


@needs_namespaces
def test_datagrams_do_where_raw_sockets_are_not_allowed(namespace: Namespace) -> None:
    namespace.pings_allowed_to("0 2147483647")
    code = "list(pingable(['127.0.0.1', '::1'], 1))"
    found, _ = namespace.python(code, as_nobody=True)
    assert sorted(found) == ["127.0.0.1", "::1"]


@needs_namespaces
def test_who_may_not_ping_is_told_what_to_do(namespace: Namespace) -> None:
    namespace.pings_allowed_to("1 0")
    script = (
        "from taskgen_run.errors import ConfigurationError\n"
        "from taskgen_run.probing import check_ping\n"
        "try:\n    check_ping()\nexcept ConfigurationError as error:\n    print(error)\n"
    )
    unprivileged = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups"]
    told = namespace.run([*unprivileged, sys.executable, "-c", script])
    assert told == (
        "this user must be allowed to ping hosts, and is not; as root, allow the group with "
        "`sysctl net.ipv4.ping_group_range='65534 65534'`, or choose session=genode, which pings "
        "nobody\n"
    )


@needs_namespaces
@pytest.mark.parametrize("session", ["GenodeSession", "PingSession"])
def test_one_dead_host_is_bounded_by_its_timeout(namespace: Namespace, session: str) -> None:
    code = f"__import__('taskgen_run.sessions.genode', fromlist=['x']).{session}"
    found, seconds = namespace.python(f"{code}.is_available('10.7.1.1', 3001, 0.3)")
    assert found is False
    assert 0.3 <= seconds < 1.3  # with the import
