"""The external sort, against a sort in memory."""

from __future__ import annotations

import random
from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from taskgen_run.results import sorting
from taskgen_run.results.streams import cut, joined

TYPES: dict[str, pa.DataType] = {"a": pa.int64(), "b": pa.int32(), "text": pa.string()}
SCHEMA = pa.schema(TYPES)
KEYS = ("a", "b")

rows = st.lists(st.lists(st.tuples(st.integers(0, 9), st.integers(0, 9)), max_size=20), max_size=12)


@pytest.fixture(autouse=True)
def small_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sorting, "CHUNK_ROWS", 8)
    monkeypatch.setattr(sorting, "RUN_ROWS", 3)
    monkeypatch.setattr(sorting, "FAN_IN", 3)


def batch(pairs: list[tuple[int, int]]) -> pa.RecordBatch:
    return pa.RecordBatch.from_pylist(
        [{"a": a, "b": b, "text": f"{a}-{b}"} for a, b in pairs], schema=SCHEMA
    )


def is_sorted_like_memory(batches: list[list[tuple[int, int]]], folder: Path) -> bool:
    given = [batch(pairs) for pairs in batches]
    found = list(sorting.in_order(lambda: iter(given), KEYS, folder / "sorting"))
    expected = sorted(pair for pairs in batches for pair in pairs)
    assert list(folder.iterdir()) == []
    return joined(found, SCHEMA).equals(batch(expected))


@given(rows)
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
def test_sorts_like_memory(tmp_path: Path, batches: list[list[tuple[int, int]]]) -> None:
    assert is_sorted_like_memory(batches, tmp_path)


def test_more_runs_than_are_merged_at_once(tmp_path: Path) -> None:
    pairs = [(n // 10, n % 10) for n in range(1000)]
    random.Random(1).shuffle(pairs)
    assert is_sorted_like_memory([pairs[n : n + 7] for n in range(0, 1000, 7)], tmp_path)


def test_what_is_in_order_is_passed_on_without_a_file(tmp_path: Path) -> None:
    given = [batch([(0, 0), (0, 1)]), batch([]), batch([(0, 1), (2, 0)])]
    found = list(sorting.in_order(lambda: iter(given), KEYS, tmp_path / "missing" / "folder"))
    assert [part.num_rows for part in found] == [2, 0, 2]


def test_the_folder_is_removed_after_an_error(tmp_path: Path) -> None:
    def source() -> Iterator[pa.RecordBatch]:
        yield batch([(n, 0) for n in range(30, 0, -1)])

    steps = sorting.in_order(source, KEYS, tmp_path / "sorting")
    next(steps)
    assert (tmp_path / "sorting").exists()
    with pytest.raises(OSError, match="full"):
        steps.throw(OSError("the disk is full"))  # type: ignore[attr-defined]
    assert not (tmp_path / "sorting").exists()


@given(st.lists(st.integers(0, 9)), st.integers(1, 7))
@settings(deadline=None)
def test_cut_gives_batches_of_one_size(sizes: list[int], size: int) -> None:
    pairs = [[(part, row) for row in range(count)] for part, count in enumerate(sizes)]
    found = list(cut((batch(part) for part in pairs), size))
    assert joined(found, SCHEMA).equals(batch([pair for part in pairs for pair in part]))
    assert all(part.num_rows == size for part in found[:-1])
    assert all(0 < part.num_rows <= size for part in found)
