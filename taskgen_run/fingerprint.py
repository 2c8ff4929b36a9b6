"""The fingerprint of an experiment: what decides its results, and nothing else."""

from __future__ import annotations

import hashlib
import json
import sys
import sysconfig
from collections.abc import Iterable, Mapping
from decimal import Decimal
from numbers import Integral, Real
from pathlib import Path
from typing import Any

from taskgen_run.errors import ConfigurationError, one_line
from taskgen_run.values import Random, Range

IGNORED = (
    *("hydra", "monitor", "outputs", "rerun", "plan", "max_variants"),
    *("workers", "attempts", "restarts", "max_sessions", "probe_timeout", "available_timeout"),
)
"""Keys of a configuration that do not decide what a variant's results are."""

ADDED = ("analysis",)
"""Keys that decide what a variant's results are only where they have a value."""


def fingerprint(config: Mapping[str, Any], files: Iterable[Path]) -> str:
    """64 hexadecimal digits: SHA-256 of the configuration as sorted JSON and of the files.

    The order of a task's attributes decides the order of variants, so it counts.

    Raises ConfigurationError if a file cannot be read or a value has no lasting form.
    """
    decisive = {
        key: value
        for key, value in config.items()
        if key not in IGNORED and (value or key not in ADDED)
    }
    if "taskset" in decisive:
        decisive["taskset"] = _pairs(decisive["taskset"])
    digest = hashlib.sha256(json.dumps(plain(decisive), sort_keys=True).encode())
    for path in files:
        try:
            digest.update(hashlib.sha256(path.read_bytes()).digest())
        except OSError as error:
            raise ConfigurationError(f"cannot read '{path}': {one_line(error)}") from error
    return digest.hexdigest()


def code_files(value: Any) -> set[Path]:
    """The files of the modules that `_target_` names at any depth, as far as they are a user's own.

    Not those of this package and of installed ones, and not what a module of the user's imports.
    """
    if isinstance(value, list | tuple):
        return {file for item in value for file in code_files(item)}
    if not isinstance(value, Mapping):
        return set()
    files = code_files(list(value.values()))
    target = value.get("_target_")
    return files | _own_file(target) if isinstance(target, str) else files


def _own_file(target: str) -> set[Path]:
    parts = target.split(".")
    for length in range(len(parts) - 1, 0, -1):
        module = sys.modules.get(".".join(parts[:length]))
        file = getattr(module, "__file__", None)
        if file is not None:
            path = Path(file).resolve()
            installed = [sysconfig.get_path(name) for name in ("stdlib", "purelib", "platlib")]
            places = [Path(__file__).resolve().parent, *(Path(p).resolve() for p in installed)]
            return set() if any(path.is_relative_to(p) for p in places) else {path}
    return set()


def _pairs(value: Any) -> Any:
    """Mappings as lists of pairs, whose order counts."""
    if isinstance(value, Mapping):
        return [[key, _pairs(item)] for key, item in value.items()]
    return [_pairs(item) for item in value] if isinstance(value, list) else value


def plain(value: Any) -> Any:
    """`value` in terms of JSON, the same in every process.

    An object is its class and its attributes. Raises ConfigurationError for one that has none.
    """
    if value is None or isinstance(value, str | bool):
        return value
    if isinstance(value, Integral):
        return int(value)
    if isinstance(value, Real | Decimal):
        return float(value)
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    if isinstance(value, range):
        return {"range": [value.start, value.stop, value.step]}
    if isinstance(value, Range):
        return {"range": [value[0], len(value), value[-1]]}
    if isinstance(value, Random):
        return {"random": plain(value.choices)}
    if isinstance(value, type) or callable(value):
        return f"{value.__module__}.{value.__qualname__}"
    if hasattr(value, "__dict__"):
        return {"_target_": plain(type(value)), **plain(vars(value))}
    raise ConfigurationError(
        f"a {type(value).__name__} has no lasting form to tell experiments apart by, got "
        f"{value!r}; use a list, a range or an object with attributes"
    )
