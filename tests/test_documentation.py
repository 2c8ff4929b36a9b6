"""What the documentation says is tried out."""

from __future__ import annotations

import doctest
import re
import subprocess
import sys
from pathlib import Path

import pytest

import taskgen_run

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")


def _blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", README, flags=re.DOTALL)


def _commands() -> list[str]:
    return [
        line.rpartition("python -m taskgen_run")[2].strip()
        for block in _blocks("sh")
        for line in block.splitlines()
        if "-m taskgen_run" in line
    ]


@pytest.mark.parametrize("arguments", _commands())
def test_the_commands_of_the_readme_run(arguments: str, tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "taskgen_run", *arguments.split()],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=100,
    )
    assert done.returncode == 0, done.stderr


def test_the_output_that_the_readme_shows_is_what_comes(tmp_path: Path) -> None:
    (shown,) = [block for block in _blocks("text") if "worst response time" in block]
    done = subprocess.run(
        [sys.executable, "-m", "taskgen_run", *_commands()[0].split()],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=100,
    )
    assert done.stdout == shown


def test_the_verdicts_that_the_readme_shows_are_what_comes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (shown,) = _blocks("pycon")
    (arguments,) = [command for command in _commands() if "analysis=" in command]
    subprocess.run(
        [sys.executable, "-m", "taskgen_run", *arguments.split()],
        cwd=tmp_path,
        check=True,
        timeout=100,
    )
    monkeypatch.chdir(tmp_path)
    test = doctest.DocTestParser().get_doctest(shown, {}, "README", None, None)
    assert len(test.examples) == 3
    assert doctest.DocTestRunner().run(test).failed == 0


@pytest.mark.parametrize("code", [*_blocks("python"), taskgen_run.__doc__])
def test_the_python_examples_run(code: str, tmp_path: Path) -> None:
    if "::" in code:  # a docstring: its literal blocks are the code
        lines = [line[4:] for line in code.splitlines() if line.startswith("    ")]
        code = "\n".join(lines)
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, timeout=100
    )
    assert done.returncode == 0, done.stderr
    assert list(tmp_path.glob("outputs/**/jobs.parquet"))


def test_the_yaml_example_is_a_task_set(tmp_path: Path) -> None:
    (block,) = _blocks("yaml")
    (tmp_path / "conf" / "taskset").mkdir(parents=True)
    (tmp_path / "conf" / "taskset" / "mine.yaml").write_text(block)
    command = ["--config-dir", "conf", "session=simso", "taskset=mine", "max_variants=3"]
    done = subprocess.run(
        [sys.executable, "-m", "taskgen_run", *command, "plan=true"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=100,
    )
    assert done.returncode == 0, done.stderr
    assert (
        taskgen_run.compose(
            ["taskset=mine"], config_dir=str(tmp_path / "conf")
        ).taskset.variant_count()
        == 127 * 2 * 2
    )


def test_the_links_of_the_readme_lead_somewhere() -> None:
    for path in re.findall(
        r"`((?:conf|docs|scripts|taskgen_run|benchmarks|workloads)/[\w./]*)`", README
    ):
        assert (ROOT / path).exists() or path.endswith("mine.yaml"), path


def test_continuous_integration_calls_the_test_command_of_the_readme() -> None:
    (command,) = [block.strip() for block in _blocks("sh") if "check" in block]
    assert (ROOT / ".ci" / "run").read_text().splitlines()[-1] == command


def test_the_version_is_that_of_the_metadata() -> None:
    assert f'version = "{taskgen_run.__version__}"' in (ROOT / "pyproject.toml").read_text()
