"""How the simulator is compiled: without the interpreter's lock, and once for each machine.

Numba keeps compiled code by the file of a function alone, and would not notice that a function
that it calls has changed. So only what is called from outside is kept, in a directory named by
the content of all files of this package, and by all that compiles it and for what.
"""

from __future__ import annotations

import atexit
import functools
import hashlib
import logging
import os
import re
import shutil
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import filelock
import llvmlite
import numba
import numba.core.config
from llvmlite import binding

from taskgen_run.errors import InfrastructureError, one_line

logger = logging.getLogger(__name__)

# Untyped: what is compiled keeps the signature that it has in Python.
_njit: Any = numba.njit
_config: Any = numba.core.config

COMPILED = "compiled"
"""The file with the digest of all that was compiled; each use touches it."""

KEPT_DAYS = 30
"""For how long code is kept that is not used."""

Function = TypeVar("Function", bound=Callable[..., Any])


def compiled(function: Function) -> Function:
    """Compile a function as a part of the functions that call it.

    Otherwise a call would hand over each array of the machine, field by field. Without `_nrt`, as
    numba's own modules say it, no references are counted: nothing is allocated here, and counting
    takes fifteen times as long as all the rest.
    """
    result: Function = _njit(nogil=True, _nrt=False, forceinline=True)(function)
    return result


def called(function: Function) -> Function:
    """Compile a function of few arrays, that compiled functions call."""
    result: Function = _njit(nogil=True, _nrt=False)(function)
    return result


def kept(function: Function) -> Function:
    """Compile a function that is called from outside, and keep its code on disk."""
    before = _config.CACHE_DIR
    _config.CACHE_DIR = str(cache_directory())
    try:
        result: Function = _njit(nogil=True, cache=True)(function)
    finally:
        _config.CACHE_DIR = before
    return result


@functools.cache
def cache_directory() -> Path:
    """Where compiled code is kept: below NUMBA_CACHE_DIR, XDG_CACHE_HOME or ~/.cache.

    Where nothing can be written, a directory for this process and those that it starts.
    """
    home = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    parent = Path(os.environ.get("NUMBA_CACHE_DIR") or Path(home) / "taskgen_run")
    digest = hashlib.sha256()
    for part in (
        Path(__file__).parent,  # numba's own directory in it is named by it
        *(numba.__version__, llvmlite.__version__, sys.implementation.cache_tag),
        *(binding.get_host_cpu_name(), binding.get_host_cpu_features().flatten()),
    ):
        digest.update(f"{part}\n".encode())
    for file in sorted(Path(__file__).parent.glob("*.py")):
        digest.update(file.read_bytes())
    directory = parent / digest.hexdigest()[:16]
    try:
        directory.mkdir(parents=True, exist_ok=True)
        tempfile.TemporaryFile(dir=directory).close()
    except OSError as error:
        directory = Path(tempfile.mkdtemp(prefix="taskgen_run-"), directory.name)
        directory.mkdir()
        atexit.register(shutil.rmtree, directory.parent, ignore_errors=True)
        os.environ["NUMBA_CACHE_DIR"] = str(directory.parent)
        logger.warning(
            "%s: cannot be written: %s; the compiled simulator is kept for this run only; set "
            "NUMBA_CACHE_DIR to a directory that can be written",
            parent,
            error.strerror,
        )
    return directory


def compile_once(use: Callable[[], object]) -> None:
    """Have everything compiled that `use` uses, unless it was before; by one process at a time.

    The others wait for it, and load what it has kept. Raises InfrastructureError if that cannot be
    kept, and what `use` raises.
    """
    directory = cache_directory()
    if _is_kept(directory):
        return
    lock = filelock.FileLock(directory / "compiling.lock")
    try:
        lock.acquire(timeout=0)
    except filelock.Timeout:
        logger.info("waiting for another process, which compiles the simulator")
        lock.acquire()
    try:
        if not _is_kept(directory):
            _compile(directory, use)
    finally:
        lock.release()


def _is_kept(directory: Path) -> bool:
    """Whether everything was compiled before, and is there as it was written."""
    done = directory / COMPILED
    if not done.exists() or done.read_text(encoding="ascii") != _digest_of_code(directory):
        return False
    os.utime(done)
    return True


def _digest_of_code(directory: Path) -> str:
    digest = hashlib.sha256()
    for file in sorted(directory.rglob("*.nb[ci]")):
        digest.update(file.name.encode() + file.read_bytes())
    return digest.hexdigest()


def _compile(directory: Path, use: Callable[[], object]) -> None:
    done = directory / COMPILED
    if done.exists():
        logger.warning("%s: the compiled simulator was damaged", directory)
    logger.info("compiling the simulator, once on this machine: about a minute …")
    try:
        done.unlink(missing_ok=True)
        for file in directory.rglob("*.nb[ci]"):
            file.unlink(missing_ok=True)
        use()
        done.write_text(_digest_of_code(directory), encoding="ascii")
    except OSError as error:
        raise InfrastructureError(
            f"{directory}: the compiled simulator cannot be kept: {one_line(error)}; make room, or "
            "set NUMBA_CACHE_DIR to another directory"
        ) from error
    long_ago = time.time() - KEPT_DAYS * 86400
    for other in directory.parent.glob(f"*/{COMPILED}"):
        if re.fullmatch("[0-9a-f]{16}", other.parent.name) and other.stat().st_mtime < long_ago:
            shutil.rmtree(other.parent, ignore_errors=True)
