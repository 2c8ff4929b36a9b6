"""How long it takes to find the hosts that answer, beside fping in the same run.

::

    python benchmarks/discovery.py

As root, with fping and iproute2 installed. Alive: the 65 534 hosts of 127.1.0.0/16. Dead: a /24
in a network namespace that drops everything. The ratios are ours by that of `fping -i 0 -r 0`,
and by the time-out; below 1 is faster. With `--icmplib N` it also times icmplib, if that is
installed, with the first N of the hosts.
"""

from __future__ import annotations

import argparse
import importlib
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from itertools import islice

from taskgen_run.hosts import TargetRange
from taskgen_run.sessions.genode import GenodeSession, PingSession

ALIVE = "127.1.0.0/16"
DEAD = "10.7.1.0/24"
NAMESPACE = f"discovery-{os.getpid()}"


def seconds(action: Callable[[], object]) -> float:
    before = time.perf_counter()
    action()
    return time.perf_counter() - before


def ours(cidr: str, timeout: float) -> float:
    return seconds(lambda: list(PingSession.available(TargetRange(cidr), 3001, timeout)))


def fping(cidr: str, timeout: float) -> float:
    command = ["fping", "-i", "0", "-r", "0", "-q", "-a", "-t", str(round(timeout * 1000))]
    return seconds(
        lambda: subprocess.run(
            [*command, "-g", cidr], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
    )


def alive(rounds: int) -> None:
    hosts = TargetRange(ALIVE)
    found = sum(1 for _ in PingSession.available(hosts, 3001, 1.0))
    print(f"alive, {ALIVE}: {found} of {hosts.count} found")
    pairs = [(ours(ALIVE, 1.0), fping(ALIVE, 1.0)) for _ in range(rounds)]
    for name, times in zip(("ours", "fping"), zip(*pairs, strict=True), strict=True):
        print(f"  {name:6} median {statistics.median(times):.2f} s, best {min(times):.2f} s")
    print(f"  ratio  median {statistics.median(a / b for a, b in pairs):.2f}")


def dead(timeout: float) -> None:
    """Called in the namespace."""
    connecting = seconds(lambda: list(GenodeSession.available(TargetRange(DEAD), 3001, timeout)))
    pinging, theirs = ours(DEAD, timeout), fping(DEAD, timeout)
    print(f"dead, {DEAD}, time-out {timeout} s")
    print(f"  pings        {pinging:.3f} s, ratio {pinging / timeout:.2f}")
    print(f"  connections  {connecting:.3f} s, ratio {connecting / timeout:.2f}")
    print(f"  fping        {theirs:.3f} s, ratio {theirs / timeout:.2f}")


def dead_in_namespace(timeout: float) -> None:
    def ip(*arguments: str) -> None:
        subprocess.run(["ip", *arguments], check=True)

    ip("netns", "add", NAMESPACE)
    try:
        ip("-n", NAMESPACE, "link", "add", "void", "type", "veth", "peer", "name", "end")
        ip("-n", NAMESPACE, "link", "set", "end", "up")
        ip("-n", NAMESPACE, "link", "set", "void", "up", "arp", "off")
        ip("-n", NAMESPACE, "address", "add", "10.7.255.254/16", "dev", "void")
        command = [sys.executable, __file__, "--dead", str(timeout)]
        ip("netns", "exec", NAMESPACE, *command)
    finally:
        ip("netns", "del", NAMESPACE)


def icmplib(count: int) -> None:
    library = importlib.import_module("icmplib")
    hosts = list(islice(TargetRange(ALIVE), count))
    took = seconds(
        lambda: library.multiping(hosts, count=1, interval=0, timeout=1, concurrent_tasks=500)
    )
    each = 1000 * took / count
    print(f"icmplib, {count} hosts: {took:.1f} s, {each:.2f} ms each")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--timeout", type=float, default=1.0, help="of dead hosts, in seconds")
    parser.add_argument("--icmplib", type=int, metavar="N", help="also time icmplib")
    parser.add_argument("--dead", type=float, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.dead is not None:
        dead(arguments.dead)
        return
    alive(arguments.rounds)
    dead_in_namespace(arguments.timeout)
    if arguments.icmplib is not None:
        icmplib(arguments.icmplib)


if __name__ == "__main__":
    main()
