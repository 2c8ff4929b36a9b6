"""The set of finished variants."""

from __future__ import annotations

from itertools import islice, pairwise

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from taskgen_run.results import Intervals

numbers = st.lists(st.integers(0, 40))


def holding(values: list[int]) -> Intervals:
    intervals = Intervals()
    for value in values:
        intervals.add(value)
    return intervals


@given(numbers)
def test_is_a_set(values: list[int]) -> None:
    intervals, expected = holding(values), set(values)
    assert [n for n in range(50) if n in intervals] == sorted(expected)
    assert len(intervals) == len(expected)
    assert intervals == holding(sorted(expected, reverse=True))


@given(numbers)
def test_is_merged(values: list[int]) -> None:
    edges = [edge for interval in holding(values).intervals() for edge in interval]
    assert all(left < right for left, right in pairwise(edges))


@given(numbers, st.integers(0, 50))
def test_missing_numbers(values: list[int], below: int) -> None:
    expected = [n for n in range(below) if n not in set(values)]
    assert list(holding(values).missing(below)) == expected


@given(numbers, numbers)
def test_mask(values: list[int], asked: list[int]) -> None:
    mask = holding(values).mask(np.array(asked, np.int64))
    assert mask.tolist() == [n in set(values) for n in asked]


def test_missing_without_end() -> None:
    assert list(islice(holding([0, 1, 3]).missing(), 3)) == [2, 4, 5]


def test_missing_goes_on_while_numbers_are_added() -> None:
    intervals = Intervals()
    seen = []
    for number in intervals.missing(5):
        seen.append(number)
        intervals.add(number)
        intervals.add(number + 1)
    assert seen == [0, 2, 4]


def test_a_copy_is_independent() -> None:
    original = holding([1])
    twin = original.copy()
    twin.add(2)
    assert list(original.intervals()) == [(1, 2)]
    assert list(twin.intervals()) == [(1, 3)]
    assert original != twin
    assert repr(twin) == "Intervals([(1, 3)])"
