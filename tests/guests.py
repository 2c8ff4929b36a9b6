"""Real QEMU guests of the image that `guest/build.py` builds, each behind a `qemu-up.sh`."""

from __future__ import annotations

import itertools
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path

import pytest
from agents import ROOT, wait_until
from filelock import FileLock
from instances import Instance, instance

from taskgen_run.taskloader.client import Connection
from taskgen_run.taskloader.protocol import GetLive

PORT = 3001
IMAGE = ROOT / "guest" / "build" / "x86_64"
SOURCES = ("guest", "taskgen_run", "workloads")
BUILD_SECONDS = 300.0

BOOT_SECONDS = 150.0
"""Within which a guest serves, on a machine that emulates several and tests besides."""

_numbers = itertools.count(os.getpid() * 32)


def fresh_range() -> tuple[str, list[str]]:
    """A range of loopback addresses that no other test uses, and its six hosts."""
    number = next(_numbers)
    network = f"127.{32 | number >> 13 & 31}.{number >> 5 & 255}."
    first = number % 32 * 8
    return f"{network}{first}/29", [f"{network}{first + host}" for host in range(1, 7)]


def need_image() -> Path:
    """The directory of an image of the present sources; skips the test if there can be none."""
    for tool, package in (("qemu-system-x86_64", "qemu-system-x86"), ("setpriv", "util-linux")):
        if shutil.which(tool) is None:
            pytest.skip(f"{package} is not installed")
    # Locked, as tests run in several processes, and one image is enough for all.
    with FileLock(Path(tempfile.gettempdir(), f"taskgen_run-{os.getuid()}-guest.lock")):
        if not _is_new(IMAGE / "initramfs"):
            built = subprocess.run(
                [sys.executable, ROOT / "guest" / "build.py"],
                stderr=subprocess.PIPE,
                text=True,
                timeout=BUILD_SECONDS,
            )
            said = built.stderr.strip()
            if "tools must be installed" in said or "must be in the lists of apt" in said:
                pytest.skip(f"there is no image: {said}")
            assert built.returncode == 0, said
    return IMAGE


def _is_new(image: Path) -> bool:
    """Whether none of the sources has changed since it was built."""
    if not image.exists():
        return False
    built = image.stat().st_mtime
    files = (path for name in SOURCES for path in (ROOT / name).rglob("*") if path.is_file())
    made = ("build", "__pycache__")
    return all(path.stat().st_mtime < built for path in files if not set(made) & {*path.parts})


def serves(host: str, port: int = PORT, timeout: float = 5.0) -> bool:
    """Whether a taskloader on the host answers GET_LIVE."""
    try:
        connection = Connection(host, port, timeout)
    except OSError:
        return False
    try:
        deadline = time.monotonic() + timeout
        connection.send(GetLive(), deadline)
        return connection.receive(deadline) is not None
    except OSError:
        return False
    finally:
        connection.close()


@contextmanager
def guests(runtime: Path, hosts: Sequence[str], *arguments: str | Path) -> Iterator[list[Instance]]:
    """A guest on each host, which boots; after the block, they have ended and left nothing."""
    with ExitStack() as stack:
        running = [
            stack.enter_context(instance(runtime, "--user", host, *arguments, alone=False))
            for host in hosts
        ]
        yield running
    running[0].assert_nothing_left()


def wait_until_serving(*hosts: str, port: int = PORT) -> None:
    """Wait until all of them serve."""
    for host in hosts:
        wait_until(partial(serves, host, port), f"{host} serves", BOOT_SECONDS)


def tell_monitor(guest: Instance, command: str) -> None:
    """Have QEMU obey a command of its monitor."""
    with socket.socket(socket.AF_UNIX) as monitor:
        monitor.settimeout(20)
        monitor.connect(str(guest.monitor))
        _read_until_prompt(monitor)
        monitor.sendall(f"{command}\n".encode())
        _read_until_prompt(monitor)


def _read_until_prompt(monitor: socket.socket) -> None:
    heard = b""
    while not heard.endswith(b"(qemu) "):
        received = monitor.recv(4096)
        assert received, heard
        heard += received
