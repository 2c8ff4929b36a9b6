"""How long a guest takes from the request to kill it until it serves again, beside a plain boot.

::

    python guest/build.py && python benchmarks/qemu_restart.py

Both in the same run, alternating: a guest of `scripts/qemu-up.sh` that a request kills, and QEMU
started with the same arguments and nothing around it. It serves when it answers GET_LIVE, which is
asked over and over. Prints the medians and their ratio, and the load of the machine, which ought to
be low.
"""

from __future__ import annotations

import argparse
import os
import re
import shlex
import statistics
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil

from taskgen_run import requests
from taskgen_run.taskloader.client import Connection
from taskgen_run.taskloader.protocol import GetLive

SCRIPT = Path(__file__).parent.parent / "scripts" / "qemu-up.sh"
RESTARTED, PLAIN = "127.0.9.1", "127.0.9.2"
PORT = 3001
PATIENCE = 120.0
ASK_SECONDS = 0.05
ANSWER_SECONDS = 0.5


def serves(host: str) -> bool:
    """Whether a taskloader answers within a moment."""
    try:
        connection = Connection(host, PORT, ANSWER_SECONDS)
        try:
            deadline = time.monotonic() + ANSWER_SECONDS
            connection.send(GetLive(), deadline)
            return connection.receive(deadline) is not None
        finally:
            connection.close()
    except OSError:
        return False


def wait_until(condition: Callable[[], bool], what: str) -> None:
    deadline = time.monotonic() + PATIENCE
    while not condition():
        if time.monotonic() > deadline:
            raise SystemExit(f"{what} not within {PATIENCE:g} s")
        time.sleep(ASK_SECONDS)


@contextmanager
def target(log: Path) -> Iterator[subprocess.Popen[bytes]]:
    """The script with its guest, which serves."""
    with log.open("wb") as output:
        script = subprocess.Popen([SCRIPT, "--user", RESTARTED], stdout=output, stderr=output)
    try:
        wait_until(lambda: script.poll() is not None or serves(RESTARTED), "the guest serves")
        if script.poll() is not None:
            raise SystemExit(log.read_text())
        yield script
    finally:
        script.terminate()
        script.wait()


def restart() -> float:
    """Seconds from the request until the next instance serves."""
    begin = time.monotonic()
    requests.ask_for_kill(RESTARTED, PORT, requests.now())
    wait_until(lambda: serves(RESTARTED), "the next guest serves")
    return time.monotonic() - begin


def boot(command: list[str]) -> float:
    """Seconds from QEMU's start until its guest serves."""
    begin = time.monotonic()
    qemu = subprocess.Popen(command, stdin=subprocess.DEVNULL)
    try:
        wait_until(lambda: serves(PLAIN), "the guest serves")
        return time.monotonic() - begin
    finally:
        qemu.kill()
        qemu.wait()


def plain_command(log: Path, directory: Path) -> list[str]:
    """What the script has started, for another address and another monitor."""
    pid, monitor = re.findall(r"boots, process (\d+), monitor (\S+)", log.read_text())[-1]
    arguments = psutil.Process(int(pid)).cmdline()
    return [
        argument.replace(monitor, str(directory / "monitor")).replace(RESTARTED, PLAIN)
        for argument in arguments
    ]


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--rounds", type=int, default=9)
    rounds = parser.parse_args().rounds
    with tempfile.TemporaryDirectory() as name:
        directory = Path(name)
        os.environ["XDG_RUNTIME_DIR"] = name
        with target(directory / "log"):
            command = plain_command(directory / "log", directory)
            print(shlex.join(command))
            pairs = []
            for _ in range(rounds):
                pairs.append((restart(), boot(command)))
                print(f"restart {pairs[-1][0]:.2f} s, boot {pairs[-1][1]:.2f} s, {_load()}")
    again, plain = (statistics.median(times) for times in zip(*pairs, strict=True))
    print(f"from the request to a serving guest: {again:.2f} s")
    print(f"plain boot: {plain:.2f} s")
    print(f"ratio: {again / plain:.2f}")


def _load() -> str:
    return f"load {os.getloadavg()[0]:.1f}"


if __name__ == "__main__":
    main()
