"""Where results come from: versions, commit, command line, composition and log."""

from __future__ import annotations

import logging
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf

PACKAGES = ("hydra", "omegaconf", "pyarrow", "simso")
"""The packages on which results depend; each tells its own version."""

_GIT_SECONDS = 5.0


def provenance(
    *, fingerprint: str, seed: int, labels: Mapping[str, str], version: str
) -> dict[str, Any]:
    """The static part of `experiment.json`: nothing in it changes while the experiment runs.

    The commit is that of the working directory; None outside a git repository.
    """
    commit, dirty = _git_commit()
    return {
        "fingerprint": fingerprint,
        "version": version,
        "seed": seed,
        "labels": dict(labels),
        "git_commit": commit,
        "git_dirty": dirty,
        "python": sys.version.split()[0],
        "packages": {name: import_module(name).__version__ for name in PACKAGES},
        "command": list(sys.orig_argv),
    }


def _git_commit() -> tuple[str | None, bool | None]:
    try:
        asked = subprocess.run(
            ["git", "describe", "--always", "--dirty", "--abbrev=40", "--exclude=*"],
            capture_output=True,
            text=True,
            timeout=_GIT_SECONDS,
            check=True,
        )
    except (OSError, subprocess.SubprocessError):
        return None, None  # no git, no repository, no commit yet, or a very large one
    commit, _, dirty = asked.stdout.strip().partition("-")
    return commit, dirty == "dirty"


def save_composition(composed: DictConfig, directory: Path) -> None:
    """Write `config.yaml`, `hydra.yaml` and `overrides.yaml` with the content Hydra gives them.

    Raises OSError.
    """
    directory.mkdir(exist_ok=True)
    contents = {
        "config.yaml": OmegaConf.masked_copy(
            composed, [str(key) for key in composed if key != "hydra"]
        ),
        "hydra.yaml": OmegaConf.masked_copy(composed, "hydra"),
        "overrides.yaml": composed.hydra.overrides.task,
    }
    for name, content in contents.items():
        (directory / name).write_text(OmegaConf.to_yaml(content), encoding="utf-8")


@contextmanager
def log_file(path: Path) -> Iterator[None]:
    """Append everything that is logged to `path`, too. Raises OSError."""
    handler = logging.FileHandler(path, encoding="utf-8")
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(name)s: %(message)s"))
    root = logging.getLogger()
    root.addHandler(handler)
    try:
        yield
    finally:
        root.removeHandler(handler)
        handler.close()
