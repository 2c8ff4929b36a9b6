from __future__ import annotations

import logging
import subprocess
import sys
from pathlib import Path

import pytest

from taskgen_run.provenance import PACKAGES, log_file, provenance


def _facts() -> dict[str, object]:
    return provenance(fingerprint="f", seed=3, labels={"session": "simso"}, version="0.1.0")


def _git(*arguments: str) -> str:
    identity = ["-c", "user.name=t", "-c", "user.email=t@example.org"]
    done = subprocess.run(
        ["git", *identity, *arguments], capture_output=True, text=True, check=True, timeout=60
    )
    return done.stdout.strip()


def test_it_names_versions_seed_and_command() -> None:
    facts = _facts()
    assert facts["python"] == sys.version.split()[0]
    assert set(facts["packages"]) == set(PACKAGES)  # type: ignore[call-overload]
    assert facts["command"] == sys.orig_argv
    assert (facts["seed"], facts["labels"]) == (3, {"session": "simso"})


def test_outside_a_repository_there_is_no_commit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path.parent))
    assert (_facts()["git_commit"], _facts()["git_dirty"]) == (None, None)


def test_the_commit_is_that_of_the_working_directory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    _git("init", "-q")
    (tmp_path / "file").write_text("1")
    _git("add", ".")
    _git("commit", "-qm", "one")
    head = _git("rev-parse", "HEAD")
    assert (_facts()["git_commit"], _facts()["git_dirty"]) == (head, False)
    (tmp_path / "file").write_text("2")
    assert (_facts()["git_commit"], _facts()["git_dirty"]) == (head, True)


def test_the_log_is_appended_to_a_file_while_it_is_open(tmp_path: Path) -> None:
    log = logging.getLogger("taskgen_run.test")
    with log_file(tmp_path / "experiment.log"):
        log.warning("inside")
    log.warning("outside")
    text = (tmp_path / "experiment.log").read_text()
    assert "WARNING taskgen_run.test: inside" in text
    assert "outside" not in text
