from __future__ import annotations

import subprocess
import sys
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from taskgen_run.errors import ConfigurationError
from taskgen_run.fingerprint import IGNORED, fingerprint, plain
from taskgen_run.values import Random, Range


class Custom:
    def __init__(self, size: int) -> None:
        self.size = size

    def __iter__(self) -> Any:
        return iter(range(self.size))


def test_the_order_of_keys_does_not_matter() -> None:
    assert fingerprint({"a": 1, "b": 2}, []) == fingerprint({"b": 2, "a": 1}, [])


@pytest.mark.parametrize("key", IGNORED)
def test_what_does_not_decide_results_is_ignored(key: str) -> None:
    assert fingerprint({"seed": 1, key: "x"}, []) == fingerprint({"seed": 1, key: "y"}, [])


def test_a_file_counts_by_its_content(tmp_path: Path) -> None:
    one, same, other = tmp_path / "one.py", tmp_path / "same.py", tmp_path / "other.py"
    one.write_text("x = 1\n")
    same.write_text("x = 1\n")
    other.write_text("x = 2\n")
    assert fingerprint({}, [one]) == fingerprint({}, [same])
    assert fingerprint({}, [one]) != fingerprint({}, [other])
    assert fingerprint({}, [one]) != fingerprint({}, [])


def test_a_file_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match=r"cannot read '.*gone\.py'"):
        fingerprint({}, [tmp_path / "gone.py"])


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (Range(1, 5), Range(1, 6)),
        (Range(1, 5), Range(1, 5, 2)),
        (Range(1, 5), Random(Range(1, 5))),
        (range(5), range(6)),
        (Custom(1), Custom(2)),
        (Decimal("1.5"), Decimal("1.6")),
        ((1, 2), (2, 1)),
        (1, "1"),
    ],
)
def test_different_values_have_different_forms(one: object, other: object) -> None:
    assert plain(one) == plain(one)
    assert plain(one) != plain(other)


def test_a_value_without_a_lasting_form_is_refused() -> None:
    with pytest.raises(ConfigurationError, match="generator has no lasting form"):
        plain(x for x in range(3))


def test_it_is_the_same_in_another_process() -> None:
    script = (
        "from taskgen_run.fingerprint import fingerprint\n"
        "from taskgen_run.values import Range, Random\n"
        "print(fingerprint({'a': Range(1, 5), 'b': {'c': Random((1, 2))}, 'd': 0.1}, []))"
    )
    runs = {
        subprocess.run(
            [sys.executable, "-c", script], capture_output=True, text=True, check=True, timeout=60
        ).stdout
        for _ in range(2)
    }
    assert len(runs) == 1


def test_the_order_of_a_tasks_attributes_counts() -> None:
    one = {"taskset": {"tasks": [{"period": [5, 10], "priority": [1, 2]}]}}
    other = {"taskset": {"tasks": [{"priority": [1, 2], "period": [5, 10]}]}}
    assert fingerprint(one, []) != fingerprint(other, [])
