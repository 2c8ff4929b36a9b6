"""The files of a result directory: their names, and how they come into being whole."""

from __future__ import annotations

import json
import os
import re
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from taskgen_run.errors import InfrastructureError, one_line

RECORD = "experiment.json"
LOCK = ".lock"
SORTING = "sorting.tmp"
"""The directory of what the sort of a finished experiment does not keep in memory."""

_JOURNAL = re.compile(r"journal-(\d+)")
_HYDRA = re.compile(r"\.hydra|.*\.log")
_LEFTOVER = re.compile(
    r"(experiment\.json|(jobs|segments|tasks|tasksets|hosts)\.parquet|sorting|journal-\d+)\.tmp"
)
_BEGINNING = re.compile(rf"\.lock|journal-\d+|{_LEFTOVER.pattern}")


def parquet(directory: Path, table: str) -> Path:
    """Where a table of a finished experiment lies."""
    return directory / f"{table}.parquet"


def temporary(path: Path) -> Path:
    """The sibling of `path` under which it is written until it is whole."""
    return path.with_name(f"{path.name}.tmp")


def journal(directory: Path, number: int) -> Path:
    """Where generation `number` of the journal lies."""
    return directory / f"journal-{number}"


def journals(directory: Path) -> list[int]:
    """The generations of the journal that are complete, oldest first."""
    names = (_JOURNAL.fullmatch(entry.name) for entry in directory.iterdir())
    return sorted(int(match[1]) for match in names if match)


def foreign(directory: Path) -> list[str]:
    """The names of what lies in `directory`, except what a run begins with and what is Hydra's."""
    names = sorted(entry.name for entry in directory.iterdir())
    return [name for name in names if not (_BEGINNING.fullmatch(name) or _HYDRA.fullmatch(name))]


@contextmanager
def disk(path: Path) -> Iterator[None]:
    """Turn an error of the operating system into one that says what to do about `path`.

    Raises InfrastructureError.
    """
    try:
        yield
    except OSError as error:
        reason = error.strerror or one_line(error)
        raise InfrastructureError(
            f"{error.filename or path}: cannot be written: {reason}; free or repair it and give "
            "the same command again, what has finished is kept"
        ) from error


def sync(path: Path) -> None:
    """Wait until a file, or the names in a directory, are on the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def write_json(path: Path, content: Mapping[str, Any]) -> None:
    """Write a JSON file that appears under its name only when it is whole."""
    sibling = temporary(path)
    sibling.write_text(json.dumps(content, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    sync(sibling)
    sibling.replace(path)
    sync(path.parent)


def remove_leftovers(directory: Path) -> None:
    """Remove what an interrupted run left half written."""
    for entry in directory.iterdir():
        if _LEFTOVER.fullmatch(entry.name):
            if entry.is_dir():
                shutil.rmtree(entry)
            else:
                entry.unlink()
