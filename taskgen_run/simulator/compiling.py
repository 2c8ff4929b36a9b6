"""How the simulator is compiled: without the interpreter's lock, and once for each machine.

Numba keeps compiled code by the file of a function alone, and would not notice that a function
that it calls has changed. So only what is called from outside is kept, in a directory named by
the content of all files of this package.
"""

from __future__ import annotations

import atexit
import functools
import hashlib
import logging
import os
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import filelock
import numba
import numba.core.config

logger = logging.getLogger(__name__)

# Untyped: what is compiled keeps the signature that it has in Python.
_njit: Any = numba.njit
_config: Any = numba.core.config

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
    digest = hashlib.sha256(numba.__version__.encode())
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
    """Have everything compiled that `use` uses, unless it was before, by one process at a time.

    The others wait for it, and load what it has kept.
    """
    done = cache_directory() / "compiled"
    if done.exists():
        return
    lock = filelock.FileLock(cache_directory() / "compiling.lock")
    try:
        lock.acquire(timeout=0)
    except filelock.Timeout:
        logger.info("waiting for another process, which compiles the simulator")
        lock.acquire()
    try:
        if not done.exists():
            logger.info("compiling the simulator, once on this machine: about a minute …")
            use()
            done.touch()
    finally:
        lock.release()
