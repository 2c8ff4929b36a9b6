"""A short run of the fuzzer of the agent, and what it notices."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from agents import ROOT, Client, agent, workload
from fuzz_agent import Invariants

from taskgen_run.taskloader.protocol import EventType


def test_some_rounds_of_the_fuzzer() -> None:
    done = subprocess.run(
        [sys.executable, ROOT / "tests/fuzz_agent.py", "--seconds", "0", "--seed", "70"],
        capture_output=True,
        text=True,
        timeout=110,
        cwd=Path(__file__).parents[2],
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.startswith("round 94: 200 connections, ")


def test_the_fuzzer_notices_what_is_left(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("fuzz_agent.PATIENCE", 0.5)
    temporary = tmp_path / "temporary"
    temporary.mkdir()
    with agent(tmp_path, temporary=temporary) as target:
        invariants = Invariants(target, temporary)
        invariants.check()
        (temporary / "taskloader-0").mkdir()
        with pytest.raises(AssertionError, match="directories are left"):
            invariants.check()
        (temporary / "taskloader-0").rmdir()
        invariants.warm_bytes = 1
        with pytest.raises(AssertionError, match="memory has grown"):
            invariants.check()
        invariants.warm_bytes = 0
        with Client(target) as client:
            client.start({"pkg": "idle"}, idle=workload("idle"))
            client.wait_for_event(EventType.START)
            with pytest.raises(AssertionError, match="does not answer"):
                invariants.check()
