"""The index of a sweep: which experiments it is made of."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Sequence
from pathlib import Path

from taskgen_run.errors import ConfigurationError, one_line
from taskgen_run.results import files


def write_index(directory: Path, experiments: Sequence[Path]) -> Path:
    """Write the index of a sweep into `directory`; the same sweep has the same index.

    Returns its path, which `read` takes. Raises InfrastructureError.
    """
    names = [os.path.relpath(experiment, directory) for experiment in experiments]
    digest = hashlib.sha256("\n".join(sorted(names)).encode()).hexdigest()
    path = directory / f"sweep-{digest[:8]}.json"
    with files.disk(path):
        files.write_json(path, {"experiments": names})
    return path


def read_index(path: Path) -> list[Path]:
    """The directories of the experiments of a sweep. Raises ConfigurationError."""
    try:
        names = json.loads(path.read_text(encoding="utf-8"))["experiments"]
        return [path.parent / name for name in names]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ConfigurationError(
            f"{path}: is no index of a sweep: {one_line(error)}; give one, or a directory"
        ) from error
