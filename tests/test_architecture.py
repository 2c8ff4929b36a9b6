"""The house: what imports what, what is exported, what is slow to import."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

import taskgen_run

ROOT = Path(__file__).parent.parent


def test_the_import_directions_hold() -> None:
    done = subprocess.run(
        [Path(sys.executable).parent / "lint-imports", "--no-logo"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=100,
    )
    assert done.returncode == 0, done.stdout


def test_the_names_that_users_import() -> None:
    assert taskgen_run.__all__ == ["Experiment", "__version__", "compose", "results", "sweep"]
    for name in taskgen_run.__all__:
        assert getattr(taskgen_run, name) is not None
    with pytest.raises(AttributeError, match="has no attribute 'nothing'"):
        _ = taskgen_run.nothing


@pytest.mark.parametrize(
    ("module", "forbidden"),
    [
        ("taskgen_run", ["hydra", "pyarrow", "simso"]),
        ("taskgen_run.cli", ["pyarrow", "simso", "SimPy", "rich"]),
        ("taskgen_run.sessions.simso", ["simso", "SimPy"]),
        ("taskgen_run.sessions.genode", ["pyarrow", "hydra", "rich"]),
        ("taskgen_run.taskset", ["pyarrow", "hydra"]),
    ],
)
def test_heavy_imports_wait_until_they_are_needed(module: str, forbidden: list[str]) -> None:
    script = f"import sys, {module}; print([m for m in {forbidden!r} if m in sys.modules])"
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True, timeout=60
    )
    assert done.stdout.strip() == "[]"


def test_no_file_has_outgrown_its_room() -> None:
    for path in (ROOT / "taskgen_run").rglob("*.py"):
        assert len(path.read_text().splitlines()) <= 400, path


def test_every_configuration_says_what_it_is() -> None:
    for path in (ROOT / "conf").rglob("*.yaml"):
        assert path.read_text(encoding="utf-8").startswith("# "), path
