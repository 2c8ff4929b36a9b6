"""How the simulator is compiled: without the interpreter's lock, and once for each machine.

Numba keeps compiled code by the file of a function alone, and would not notice that a function
that it calls has changed. So only what is called from outside is kept, in a directory named by
the content of all files of this package.
"""

from __future__ import annotations

import functools
import hashlib
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import numba
import numba.core.config

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
    """Where compiled code is kept: below NUMBA_CACHE_DIR, XDG_CACHE_HOME or ~/.cache."""
    home = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    parent = Path(os.environ.get("NUMBA_CACHE_DIR") or Path(home) / "taskgen_run")
    digest = hashlib.sha256(numba.__version__.encode())
    for file in sorted(Path(__file__).parent.glob("*.py")):
        digest.update(file.read_bytes())
    return parent / digest.hexdigest()[:16]


def is_compiled() -> bool:
    """Whether the simulator was compiled on this machine before."""
    return any(cache_directory().rglob("*.nbi"))
