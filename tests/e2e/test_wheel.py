"""The wheel, in a virtual environment of its own, run from any directory."""

from __future__ import annotations

import subprocess
import sys
import sysconfig
import venv
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent.parent


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("wheel")
    subprocess.run(
        [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", directory, ROOT],
        check=True,
        capture_output=True,
        timeout=100,
    )
    (built,) = directory.glob("*.whl")
    return built


@pytest.fixture(scope="module")
def environment(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A virtual environment with the wheel; its dependencies are lent by the one of the tests."""
    directory = tmp_path_factory.mktemp("venv")
    venv.create(directory, with_pip=True)
    subprocess.run(
        [directory / "bin" / "pip", "install", "--no-deps", "--no-index", wheel],
        check=True,
        capture_output=True,
        timeout=100,
    )
    version = f"python{sys.version_info.major}.{sys.version_info.minor}"
    packages = directory / "lib" / version / "site-packages"
    (packages / "lent.pth").write_text(sysconfig.get_path("purelib") + "\n")
    return directory


def test_the_configurations_travel_inside_the_package(wheel: Path) -> None:
    names = zipfile.ZipFile(wheel).namelist()
    ours = {str(path.relative_to(ROOT)) for path in (ROOT / "conf").rglob("*.yaml")}
    assert {f"taskgen_run/{name}" for name in ours} <= set(names)
    assert "taskgen_run/py.typed" in names
    assert not [name for name in names if name.startswith(("tests/", "benchmarks/"))]


@pytest.mark.parametrize("command", [["bin/python", "-m", "taskgen_run"], ["bin/taskgen-run"]])
def test_it_runs_from_any_directory(environment: Path, tmp_path: Path, command: list[str]) -> None:
    executable, *arguments = command
    asked = "import taskgen_run; print(taskgen_run)"
    python = environment / "bin" / "python"
    found = subprocess.run(
        [python, "-c", asked], cwd=tmp_path, capture_output=True, text=True, timeout=60
    )
    assert str(environment) in found.stdout, found.stdout + found.stderr
    done = subprocess.run(
        [environment / executable, *arguments, "session=simso", "taskset=example"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    assert "results in outputs/simso-example-" in done.stdout
    (tmp_path / "mine.py").write_text(
        "from taskgen_run.taskset import TaskSet\n"
        "from taskgen_run.task import Task\n"
        "def taskset():\n"
        "    return TaskSet([Task(period=5, executiontime=1)])\n"
    )
    (tmp_path / "own" / "taskset").mkdir(parents=True)
    (tmp_path / "own" / "taskset" / "mine.yaml").write_text("_target_: mine.taskset\n")
    done = subprocess.run(
        [environment / executable, *arguments, "--config-dir", "own", "taskset=mine"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
