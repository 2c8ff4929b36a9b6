"""Tests of taskgen_run.values."""

from __future__ import annotations

import hashlib
import math
import sys
from collections import Counter
from collections.abc import Iterator
from decimal import Decimal
from fractions import Fraction
from itertools import islice
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from taskgen_run.errors import ConfigurationError
from taskgen_run.values import Random, Range, from_yaml, is_multivalued, replace, samples, walk

decimals = st.decimals(-100, 100, places=2)


class Endless:
    """A re-iterable of a user's own, without a length."""

    def __iter__(self) -> Iterator[int]:
        number = 0
        while True:
            yield number
            number += 1


def naive_range(first: Decimal, last: Decimal, step: Decimal) -> list[Decimal]:
    numbers = []
    while (first <= last) if step > 0 else (first >= last):
        numbers.append(first)
        first += step
    return numbers


@given(decimals, decimals, decimals.filter(lambda step: abs(step) >= 1))
def test_range_is_a_list_of_exact_decimals(first: Decimal, last: Decimal, step: Decimal) -> None:
    expected = naive_range(first, last, step)
    if not expected:
        with pytest.raises(ConfigurationError, match="has no numbers"):
            Range(float(first), float(last), float(step))
        return
    numbers = Range(float(first), float(last), float(step))
    assert list(numbers) == [float(number) for number in expected]
    assert numbers == Range(first, last, step)
    assert list(reversed(numbers)) == list(numbers)[::-1]
    assert numbers[-1] == numbers[len(expected) - 1]
    assert numbers[1:-1:2] == list(numbers)[1:-1:2]
    assert all(type(n) is (int if n == int(n) else float) for n in numbers)


@pytest.mark.parametrize(
    ("bounds", "numbers"),
    [
        ((1, 3), [1, 2, 3]),
        ((0, 1, 0.1), [0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1]),
        ((3, 1, -1), [3, 2, 1]),
        ((5, 5), [5]),
        ((5, 5, -2), [5]),
        ((1, 6, 2), [1, 3, 5]),
        ((-1, 1), [-1, 0, 1]),
        ((0.5, 2.6), [0.5, 1.5, 2.5]),
        ((1e-7, 3e-7, 1e-7), [1e-7, 2e-7, 3e-7]),
    ],
)
def test_range(bounds: Any, numbers: list[float]) -> None:
    assert list(Range(*bounds)) == numbers
    assert len(Range(*bounds)) == len(numbers)


def test_ranges_of_any_size_cost_nothing() -> None:
    huge = Range(1, sys.maxsize - 1)
    assert len(huge) == sys.maxsize - 1
    assert huge[-1] == sys.maxsize - 1
    assert sys.getsizeof(huge) < 100


@pytest.mark.parametrize("index", [3, -4])
def test_range_index_outside(index: int) -> None:
    with pytest.raises(IndexError):
        Range(1, 3)[index]


def test_equal_ranges() -> None:
    assert Range(0, 1, 0.5) == Range(0, Decimal("1.2"), Decimal("0.50"))
    assert hash(Range(0, 4, 2)) == hash(Range(0, 5, 2))
    assert Range(1, 3) != Range(1, 4)
    assert Range(1, 3) != [1, 2, 3]
    assert repr(Range(1, 4, 2)) == "Range(1, 3, 2)"


@pytest.mark.parametrize(
    ("bounds", "problem"),
    [
        ((1, 3, 0), "the step of range [1, 3, 0] must not be 0"),
        ((3, 1), "range [3, 1, 1] has no numbers; swap"),
        ((1, 3, -1), "has no numbers; swap"),
        ((1, math.inf), "finite numbers"),
        ((math.nan, 1), "finite numbers"),
        ((1, 3, Decimal("NaN")), "finite numbers"),
        ((True, 3), "takes numbers, got True"),
        ((1, "3"), "takes numbers, got '3'"),
        ((None, 3), "takes numbers, got None"),
        ((Fraction(1, 3), 3), "decimal numbers, got Fraction(1, 3)"),
        ((0, 10**19), f"at most {sys.maxsize} numbers"),
        ((0, 1e30, 1e-30), f"at most {sys.maxsize} numbers"),
    ],
)
def test_range_errors(bounds: Any, problem: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        Range(*bounds)
    assert problem in str(caught.value)


def test_random_is_the_sha256_of_its_key() -> None:
    # sha256("0/0/0/priority") begins with 5e1049d9c60e67fa, the fraction 0.36743… of 2**64;
    # 0.36743 × 127 = 46.66, so it is the choice number 46.
    digest = hashlib.sha256(b"0/0/0/priority").hexdigest()
    assert digest.startswith("5e1049d9c60e67fa")
    assert Random(Range(0, 126)).choose("0/0/0/priority") == 46
    assert Random(Range(1, 127)).choose("0/0/0/priority") == 47


def test_random_reaches_every_choice_equally_often() -> None:
    random = Random(["a", "b", "c", "d"])
    counts = Counter(random.choose(str(key)) for key in range(4000))
    # Expected: 1000 each, with a standard deviation of 27; the draw is fixed.
    assert set(counts) == {"a", "b", "c", "d"}
    assert all(abs(count - 1000) < 100 for count in counts.values())


def test_random_of_a_huge_range_stays_inside() -> None:
    random = Random(Range(1, sys.maxsize - 1))
    assert all(1 <= random.choose(str(key)) < sys.maxsize for key in range(100))


def test_random_of_nothing() -> None:
    with pytest.raises(ConfigurationError, match="at least one value"):
        Random([])


@pytest.mark.parametrize(
    ("value", "outside", "inside"),
    [
        ([1], True, False),
        ((1,), True, True),
        ({1}, True, True),
        (range(3), True, True),
        (Range(1, 3), True, True),
        (Endless(), True, True),
        ({}.keys(), True, True),
        ("abc", False, False),
        (b"abc", False, False),
        ({"a": 1}, False, False),
        (1, False, False),
        (1.5, False, False),
        (True, False, False),
        (None, False, False),
        (Random([1]), False, False),
    ],
)
def test_is_multivalued(value: object, outside: bool, inside: bool) -> None:
    assert is_multivalued(value, inside_config=False) is outside
    assert is_multivalued(value, inside_config=True) is inside


def test_samples() -> None:
    assert list(samples(5)) == [5]
    assert list(samples("abc")) == ["abc"]
    assert list(samples([1, 2])) == [1, 2]
    assert list(samples(Range(1, 10**12))) == [1, 10**12]
    assert list(samples(Random(Range(1, 3)))) == [1, 2, 3]
    assert list(samples(Endless())) == []


def test_walk_finds_values_at_any_depth_in_order() -> None:
    random = Random([1, 2])
    task = {
        "period": [1, 2],
        "pkg": "hey",
        "config": {"a": [{"b": (1, 2)}, 5], "c": random, "d": [1, 2]},
        "offset": random,
    }
    assert list(walk(task)) == [
        (("period",), [1, 2]),
        (("config", "a", 0, "b"), (1, 2)),
        (("config", "c"), random),
        (("offset",), random),
    ]


def test_replace_shares_what_it_does_not_change() -> None:
    original: dict[str, Any] = {"a": [{"b": 1}, {"c": 2}], "d": {}}
    copy = replace(original, ("a", 0, "b"), 9)
    assert copy == {"a": [{"b": 9}, {"c": 2}], "d": {}}
    assert original == {"a": [{"b": 1}, {"c": 2}], "d": {}}
    assert copy["d"] is original["d"]
    assert copy["a"][1] is original["a"][1]
    assert replace(original, (), 5) == 5


@pytest.mark.parametrize(
    ("yaml", "value"),
    [
        (5, 5),
        ("1M", "1M"),
        (None, None),
        ([5, 10], (5, 10)),
        ({"values": [5, 10]}, (5, 10)),
        ({"range": [1, 3]}, Range(1, 3)),
        ({"range": [1, 3, 0.5]}, Range(1, 3, 0.5)),
    ],
)
def test_from_yaml(yaml: Any, value: Any) -> None:
    assert from_yaml(yaml, "task 0: period") == value


def test_from_yaml_random() -> None:
    value = from_yaml({"random": [1, 9, 2]}, "task 0: priority")
    assert isinstance(value, Random)
    assert list(value.choices) == [1, 3, 5, 7, 9]


def test_from_yaml_inside_config() -> None:
    config = {
        "arg1": {"range": [1, 2]},
        "list": [1, {"values": [3, 4]}],
        "map": {"values": 1, "x": 2},
    }
    assert from_yaml(config, "task 0: config", inside_config=True) == {
        "arg1": Range(1, 2),
        "list": [1, (3, 4)],
        "map": {"values": 1, "x": 2},
    }
    assert from_yaml({}, "task 0: config", inside_config=True) == {}


@pytest.mark.parametrize(
    ("yaml", "inside", "problem"),
    [
        ([], False, "p: values must be a list with at least one value, got []"),
        ({"values": []}, False, "p: values must be a list with at least one value"),
        ({"values": 5}, False, "p: values must be a list"),
        ({"range": [1]}, False, "p: range must be [first, last] or [first, last, step], got [1]"),
        ({"range": {"first": 1}}, False, "p: range must be [first, last]"),
        ({"random": [1, 2, 3, 4]}, False, "p: random must be [first, last]"),
        ({"random": [2, 1]}, False, "p: range [2, 1, 1] has no numbers"),
        ({"rnage": [1, 2]}, False, "p: unknown form of value 'rnage'; did you mean 'range'?"),
        ({}, False, "p must be a value, a list, or a mapping with one of the keys values, range"),
        ({"range": [1, 2], "values": [3]}, False, "p must be a value, a list, or a mapping"),
        ({"a": [{"range": [1, "x"]}]}, True, "p.a[0]: a range takes numbers, got 'x'"),
        ({"a": {"b": {"values": []}}}, True, "p.a.b: values must be a list"),
    ],
)
def test_from_yaml_errors_name_the_place(yaml: Any, inside: bool, problem: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        from_yaml(yaml, "p", inside_config=inside)
    assert str(caught.value).startswith(problem)


def test_an_endless_iterable_is_not_consumed() -> None:
    assert list(islice(next(walk({"period": Endless()}))[1], 3)) == [0, 1, 2]


@pytest.mark.parametrize(
    "bounds",
    [
        (0.1, 2, 0.005),
        (-1, 1, 0.25),
        (1e-7, 3e-7, 1e-7),
        (0.5, 1e15, 1e14),
        (1, 9, 2),
        (5, 0, -0.1),
        (0.1, 123456789.3, 98765.4321),
        (Decimal("0.1"), Decimal("0.5"), Decimal("1e-18")),
    ],
)
def test_numbers_of_a_range_are_the_nearest_floats(bounds: Any) -> None:
    numbers = Range(*bounds)
    indices = [0, 1, len(numbers) // 2, len(numbers) - 1]
    first, _, step = (Decimal(str(number)) for number in bounds)
    exact = [first + step * index for index in indices]
    expected = [int(n) if n == n.to_integral_value() else float(n) for n in exact]
    for found in (numbers.at(indices), [numbers[index] for index in indices]):
        assert found == expected
        assert list(map(type, found)) == list(map(type, expected))


def test_many_random_values_are_those_that_are_chosen_one_by_one() -> None:
    for choices in (Range(1, 99), Range(0, 1, 0.01), ("a", "b", "c")):
        random = Random(choices)
        together = random.choose_all([f"7/{n}/".encode() for n in range(50)], "1/ä".encode())
        assert together == [random.choose(f"7/{n}/1/ä") for n in range(50)]
        assert len(set(together)) > 1
