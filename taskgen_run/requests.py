"""Requests to kill the QEMU instance of a target, which `scripts/qemu-up.sh` serves.

A request is a file in a directory that nobody but its user can write to; its name has host and
port, its content is an instant. Who serves it takes the file away, and kills the instance unless
that was booted after the instant: then the request is about one that is gone already. Beside it is
a directory in which those who serve have a file for each host. Its name has host, port, the instant
of the boot, and their own name, in which the last part but one is the number of their process.
"""

from __future__ import annotations

import os
import pwd
import re
import stat
import time
from pathlib import Path
from uuid import uuid4

from taskgen_run.errors import InfrastructureError, one_line
from taskgen_run.threads import let_go

SERVED_WITHIN = 5.0
"""Seconds in which a request is taken, if anybody serves the host."""

_POLL = 0.05


def now() -> int:
    """The present instant of requests: hundredths of a second since this machine was booted."""
    # The clock that a shell can read. In a container, it may be another one than CLOCK_BOOTTIME.
    return int(Path("/proc/uptime").read_text(encoding="ascii").split()[0].replace(".", ""))


def ask_for_kill(host: str, port: int, since: int) -> None:
    """Have the instance of `host` killed and booted again, if it was booted before `since`.

    Raises InfrastructureError if nobody serves the request, if it cannot be made, and if the
    calling thread is let go.
    """
    directory = requests_directory()
    request = directory / f"{host}@{port}@{uuid4().hex}"
    new = directory / f".{request.name}"
    try:
        new.write_text(f"{since}\n", encoding="ascii")
        new.rename(request)
    except OSError as error:
        new.unlink(missing_ok=True)
        raise InfrastructureError(
            f"a request to kill the instance of {host} cannot be made: {one_line(error)}"
        ) from error
    deadline = time.monotonic() + SERVED_WITHIN
    while request.exists():
        if let_go(_POLL):
            _take_back(request, "the run has ended")
            break
        if time.monotonic() > deadline:
            _take_back(
                request,
                f"nobody has served it within {SERVED_WITHIN:g} s; start the instance with "
                "scripts/qemu-up.sh, as this user or with sudo",
            )
            break


def _take_back(request: Path, why: str) -> None:
    host, port, _ = request.name.split("@")
    try:
        request.unlink()
    except FileNotFoundError:
        return  # it was served just now
    raise InfrastructureError(
        f"the request to kill the QEMU instance of {host}, port {port}, was taken back: {why}"
    )


def served_hosts(port: int) -> dict[str, int]:
    """The hosts whose instances are killed when a request asks for it, and when those were booted.

    Raises InfrastructureError as `requests_directory` does.
    """
    directory = _private_directory("instances")
    try:
        names = [file.name for file in directory.iterdir()]
    except OSError as error:
        raise InfrastructureError(f"'{directory}' cannot be read: {one_line(error)}") from error
    served: dict[str, int] = {}
    for name in names:
        host, _, rest = name.partition("@")
        match = re.fullmatch(rf"{port}@(\d+)@.+\.(\d+)\.\d+", rest)
        # What a script was killed too hard to take away is not looked at.
        if match and int(match[1]) <= now() and Path("/proc", match[2]).exists():
            served[host] = max(int(match[1]), served.get(host, 0))
    return served


def requests_directory() -> Path:
    """Where requests of this user are put, made if it is missing.

    Raises InfrastructureError if others could write to it.
    """
    return _private_directory("requests")


def _private_directory(name: str) -> Path:
    runtime = _runtime_directory()
    for directory in (runtime, runtime / name):
        try:
            directory.mkdir(mode=0o700, parents=True, exist_ok=True)
            found = directory.lstat()
        except OSError as error:
            raise InfrastructureError(
                f"the directory of requests cannot be made: {one_line(error)}; set "
                "XDG_RUNTIME_DIR to a directory of this user"
            ) from error
        mine = stat.S_ISDIR(found.st_mode) and found.st_uid == os.geteuid()
        if not mine or stat.S_IMODE(found.st_mode) != 0o700:
            raise InfrastructureError(
                f"'{directory}' must be a directory of this user with mode 700, for nobody else; "
                "remove it"
            )
    return runtime / name


def _runtime_directory() -> Path:
    """The same rule as `runtime_of` in scripts/qemu-up.sh, which sudo may have started."""
    user = os.geteuid()
    named = os.environ.get("XDG_RUNTIME_DIR")
    if named and Path(named).is_absolute() and _belongs_to(user, Path(named)):
        return Path(named, "taskgen_run")
    if Path(f"/run/user/{user}").is_dir():
        return Path(f"/run/user/{user}/taskgen_run")
    return Path("/run/taskgen_run") if user == 0 else _home(user) / ".cache" / "taskgen_run"


def _belongs_to(user: int, path: Path) -> bool:
    try:
        return path.stat().st_uid == user
    except OSError:
        return False


def _home(user: int) -> Path:
    """Not of the environment, which sudo changes."""
    try:
        return Path(pwd.getpwuid(user).pw_dir)
    except KeyError:
        return Path("/nonexistent")
