"""A short run of the fuzzer."""

from __future__ import annotations

import subprocess
import sys
import tracemalloc
from pathlib import Path

import pytest
from fuzz_protocol import check
from wire import u32


def test_a_round_of_the_fuzzer() -> None:
    script = Path(__file__).parent / "fuzz_protocol.py"
    done = subprocess.run(
        [sys.executable, script, "--seconds", "0", "--seed", "7"],
        capture_output=True,
        text=True,
        timeout=110,
        cwd=Path(__file__).parents[2],
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("round 7: 200 streams, ")


def test_the_fuzzer_notices_that_pieces_make_a_difference(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("fuzz_protocol.bytewise", lambda stream: [])
    tracemalloc.start()
    try:
        with pytest.raises(AssertionError):
            check(u32(0xDE6), 0, [])
    finally:
        tracemalloc.stop()
