"""QEMU instances that `scripts/qemu-up.sh` boots, and kernels for them that need no guest."""

from __future__ import annotations

import itertools
import os
import re
import shutil
import signal
import socket
import struct
import subprocess
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import psutil
import pytest
from agents import PATIENCE, ROOT, wait_until

from taskgen_run import requests

SCRIPT = ROOT / "scripts" / "qemu-up.sh"

needs_qemu = pytest.mark.skipif(
    not (shutil.which("qemu-system-x86_64") and shutil.which("setpriv")),
    reason="qemu-system-x86 and util-linux are not installed",
)
needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root may do this")

EMPTY = ["taskgen_run", "taskgen_run/instances", "taskgen_run/requests"]
"""The directories that stay in a runtime directory."""

_LOAD_AT = 0x100000
_HALTS = bytes.fromhex("fa f4 eb fc")  # cli; hlt, again and again
_DIES = bytes.fromhex("0f 01 1d 00 00 00 00 cc") + bytes(8)  # lidt [0]; int3: a triple fault


def kernel(directory: Path, *, dies: bool = False) -> Path:
    """A kernel that does nothing, or one that lets QEMU end at once.

    It is what the Multiboot specification, version 0.6.96, calls an image with an address.
    """
    magic, flags = 0x1BADB002, 1 << 16
    end = _LOAD_AT + 8 * 4
    header = (magic, flags, -(magic + flags) & 2**32 - 1, _LOAD_AT, _LOAD_AT, 0, 0, end)
    path = directory / ("dies.elf" if dies else "halts.elf")
    path.write_bytes(struct.pack("<8I", *header) + (_DIES if dies else _HALTS))
    return path


def arm_kernel(directory: Path) -> Path:
    """An ELF image for Arm, version 5 of the ABI, that does nothing."""
    load_at, size_of_headers = 0x70010000, 52 + 32
    machine, executable, loadable, readable = 40, 2, 1, 5
    header = struct.pack(
        "<4s12B2H5I6H",
        *(b"\x7fELF", 1, 1, 1, *bytes(9), executable, machine, 1, load_at, 52, 0, 0x5000400),
        *(52, 32, 1, 0, 0, 0),
    )
    halts = struct.pack("<I", 0xEAFFFFFE)  # b .
    segment = (loadable, size_of_headers, load_at, load_at, len(halts), len(halts), readable, 4)
    path = directory / "image.elf"
    path.write_bytes(header + struct.pack("<8I", *segment) + halts)
    return path


@contextmanager
def runtime(owner: int = -1) -> Iterator[Path]:
    """A runtime directory, of a user, whose path is short enough for a socket."""
    with tempfile.TemporaryDirectory(prefix="run-") as name:
        path = Path(name)
        os.chown(path, owner, owner)
        yield path


class Instance:
    """A running `qemu-up.sh`, and what it has said."""

    def __init__(self, process: subprocess.Popen[str], log: Path, runtime: Path) -> None:
        self.process = process
        self.runtime = runtime
        self._log = log

    @property
    def said(self) -> str:
        """All that it has printed so far."""
        return self._log.read_text()

    @property
    def boots(self) -> list[int]:
        """The process of each QEMU that it has booted, in order."""
        return [int(pid) for pid in re.findall(r"boots, process (\d+)", self.said)]

    @property
    def monitor(self) -> Path:
        """The socket of QEMU's monitor."""
        return Path(re.findall(r"monitor (\S+)", self.said)[-1])

    def wait_for_boot(self, count: int = 1) -> psutil.Process:
        """The QEMU that it boots as number `count`, which has a monitor."""

        def has_booted() -> bool:
            assert self.process.poll() is None, self.said
            # A QEMU that is killed leaves its socket to the next one.
            return len(self.boots) >= count and _is_served(self.monitor)

        wait_until(has_booted, f"boot {count}")
        return psutil.Process(self.boots[count - 1])

    def ends(self, code: int) -> str:
        """What it has said when it has ended with this exit code."""
        assert self.process.wait(PATIENCE) == code, self.said
        return self.said

    def assert_nothing_left(self) -> None:
        """No process and no file of it is there, but the directory of requests."""
        wait_until(lambda: not _processes_that_name(self.runtime), "all processes have ended")
        expected = EMPTY
        wait_until(lambda: left_in(self.runtime) == expected, "all files are gone")


@contextmanager
def instance(
    runtime: Path,
    *arguments: str | Path,
    environment: Mapping[str, str] | None = None,
    prefix: tuple[str, ...] = (),
    alone: bool = True,
) -> Iterator[Instance]:
    """`qemu-up.sh` with `arguments`, emulated; it has ended after the block.

    It has left nothing, which is asserted unless it shares its runtime directory: not `alone`.
    """
    with tempfile.NamedTemporaryFile("w", prefix="qemu-up-", suffix=".log") as log:
        process = subprocess.Popen(
            [*prefix, str(SCRIPT), "--accel", "tcg", *map(str, arguments)],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            text=True,
            env={**os.environ, "XDG_RUNTIME_DIR": str(runtime), **(environment or {})},
            process_group=0,
        )
        started = Instance(process, Path(log.name), runtime)
        try:
            yield started
        finally:
            process.terminate()
            try:
                process.wait(PATIENCE)
            finally:
                process.kill()
        if alone:
            started.assert_nothing_left()


def left_in(runtime: Path) -> list[str]:
    """The files and directories in a runtime directory."""
    return sorted(str(path.relative_to(runtime)) for path in runtime.rglob("*"))


def end(process: psutil.Process) -> None:
    """Kill a process outright."""
    process.send_signal(signal.SIGKILL)


def _is_served(path: Path) -> bool:
    with socket.socket(socket.AF_UNIX) as client:
        return client.connect_ex(str(path)) == 0


def _processes_that_name(directory: Path) -> list[psutil.Process]:
    found = []
    for process in psutil.process_iter():
        try:
            if any(str(directory) in word for word in process.cmdline()):
                found.append(process)
        except (psutil.NoSuchProcess, psutil.AccessDenied):
            continue
    return found


def run(
    *arguments: str | Path, environment: dict[str, str] | None = None, prefix: tuple[str, ...] = ()
) -> subprocess.CompletedProcess[str]:
    """The script, which is expected to end by itself."""
    return subprocess.run(
        [*prefix, str(SCRIPT), *map(str, arguments)],
        capture_output=True,
        text=True,
        timeout=60,
        env={**os.environ, **(environment or {})},
    )


def refused(*arguments: str | Path, environment: dict[str, str] | None = None) -> str:
    """The one line with which the script refuses its arguments."""
    done = run(*arguments, environment=environment)
    assert (done.returncode, done.stdout) == (2, ""), done.stderr
    (line,) = done.stderr.splitlines()
    assert line.startswith("qemu-up.sh: ")
    return line.removeprefix("qemu-up.sh: ")


def put_request(directory: Path, host: str, port: int = 3001, since: object = None) -> Path:
    """A request as a runner puts it, about the present boot if `since` tells no other instant."""
    request = directory / f"{host}@{port}@{next(_numbers)}"
    new = directory / f".{request.name}"
    new.write_text(f"{requests.now() if since is None else since}\n")
    return new.rename(request)


_numbers = itertools.count()
