"""Multi-valued and random attribute values, and their syntax in yaml.

=====================================  =====================================================
in yaml                                means
=====================================  =====================================================
``[5, 10]``                            each value in turn (inside ``config``: just a list)
``{values: [5, 10]}``                  each value in turn, everywhere
``{range: [1, 127]}``                  each number from 1 to 127; a third number is the step
``{random: [1, 127]}``                 one of the numbers of that range, drawn per variant
=====================================  =====================================================
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from decimal import Decimal, InvalidOperation
from hashlib import sha256
from numbers import Real
from typing import Any, overload

from taskgen_run.errors import ConfigurationError, unknown_name

Path = tuple[str | int, ...]
"""Where a value stands in a task: an attribute's name, then keys and positions below it."""

_NUMBERS = (Real, Decimal)
_SHORT = 10_000
_DIGITS = 15  # so many digits a Decimal holds in any case
_SINGLE = (str, int, float, bytes, Mapping)  # the usual ones first: asked for every variant


class Range(Sequence[int | float]):
    """The numbers from `first` to `last`, both included, `step` apart; any size costs nothing.

    Decimal steps are exact: ``Range(0, 1, 0.1)`` has 11 numbers. Whole numbers are ints, the others
    floats. Raises ConfigurationError for a step of 0 and for a range without numbers.
    """

    def __init__(
        self, first: float | Decimal, last: float | Decimal, step: float | Decimal = 1
    ) -> None:
        text = f"range [{first}, {last}, {step}]"
        start, end, stride = (_exact(number, text) for number in (first, last, step))
        if stride == 0:
            raise ConfigurationError(f"the step of {text} must not be 0")
        if (end - start) * stride < 0:
            raise ConfigurationError(f"{text} has no numbers; swap its ends or its step's sign")
        try:
            self._count = int((end - start) // stride) + 1
        except InvalidOperation:  # the quotient has more digits than a Decimal
            self._count = sys.maxsize + 1
        if self._count > sys.maxsize:
            raise ConfigurationError(
                f"{text} must have at most {sys.maxsize} numbers; take a larger step"
            )
        whole = start % 1 == stride % 1 == 0
        self._first: int | Decimal = int(start) if whole else start
        self._step: int | Decimal = int(stride) if whole else stride
        self._in_units = None if whole else _in_units(start, stride, end)

    def __len__(self) -> int:
        return self._count

    @overload
    def __getitem__(self, index: int) -> int | float: ...
    @overload
    def __getitem__(self, index: slice) -> list[int | float]: ...
    def __getitem__(self, index: int | slice) -> int | float | list[int | float]:
        if isinstance(index, slice):
            return [self[i] for i in range(*index.indices(self._count))]
        if not -self._count <= index < self._count:
            raise IndexError(index)
        steps = index % self._count
        if isinstance(self._step, int):
            return int(self._first) + self._step * steps
        if self._in_units is not None:
            first, step, per_one = self._in_units
            units = first + step * steps
            return units / per_one if units % per_one else units // per_one
        value = self._first + self._step * steps
        return int(value) if value == value.to_integral_value() else float(value)

    def at(self, indices: Iterable[int]) -> list[int | float]:
        """The numbers at these indices, which are not negative; faster than one by one."""
        if self._in_units is None:
            return [self[index] for index in indices]
        first, step, per_one = self._in_units
        units = [first + step * index for index in indices]
        return [unit / per_one if unit % per_one else unit // per_one for unit in units]

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Range):
            return NotImplemented
        return (self._first, self._step, self._count) == (other._first, other._step, other._count)

    def __hash__(self) -> int:
        return hash((self._first, self._step, self._count))

    def __repr__(self) -> str:
        return f"Range({self[0]}, {self[-1]}, {self._step})"


def _exact(number: object, text: str) -> Decimal:
    """What `number` is written as: the float 0.1 is a tenth."""
    if isinstance(number, bool) or not isinstance(number, _NUMBERS):
        raise ConfigurationError(f"a range takes numbers, got {number!r} in {text}")
    try:
        exact = Decimal(str(number))
    except InvalidOperation:
        raise ConfigurationError(f"a range takes decimal numbers, got {number!r}") from None
    if not exact.is_finite():
        raise ConfigurationError(f"a range takes finite numbers, got {text}")
    return exact


def _in_units(first: Decimal, step: Decimal, last: Decimal) -> tuple[int, int, int] | None:
    """The first number and the step in units of their last decimal, and how many make one.

    None where a Decimal would round. The quotient of two ints is the float that is nearest to it,
    as is that of a Decimal, which takes five times as long.
    """
    exponents = (int(number.as_tuple().exponent) for number in (first, step))
    units = Decimal(10) ** -min(*exponents, 0)
    if max(map(abs, (first, last))) * units >= 10**_DIGITS:
        return None
    return int(first * units), int(step * units), int(units)


class Random:
    """One of `choices`, chosen anew in every variant, each with the same probability.

    What is chosen is a function of the key it is asked with and of nothing else: no state, the
    same on every machine.
    """

    def __init__(self, choices: Sequence[Any]) -> None:
        if len(choices) == 0:
            raise ConfigurationError("a random value needs at least one value to choose from")
        self.choices = choices

    def choose(self, key: str) -> Any:
        """The value for `key`: the first 8 bytes of its SHA-256, as a fraction of the choices."""
        return self.choose_all([key.encode()], b"")[0]

    def choose_all(self, beginnings: Iterable[bytes], end: bytes) -> list[Any]:
        """The values for the keys with these beginnings and this end, in UTF-8."""
        size, number = len(self.choices), int.from_bytes
        digests = [sha256(beginning + end).digest() for beginning in beginnings]
        return at(self.choices, [number(digest[:8], "big") * size >> 64 for digest in digests])

    def __repr__(self) -> str:
        return f"Random({self.choices!r})"


def at(values: Sequence[Any], indices: Iterable[int]) -> list[Any]:
    """The `values` at these indices, which are not negative."""
    return values.at(indices) if type(values) is Range else [values[index] for index in indices]


def is_multivalued(value: object, *, inside_config: bool) -> bool:
    """Whether `value` stands for several values: any iterable but text, bytes and mappings.

    Inside `config`, a plain list is a value of its own.
    """
    if isinstance(value, _SINGLE) or not isinstance(value, Iterable):
        return False
    return not (inside_config and isinstance(value, list))


def samples(value: Any) -> Iterable[Any]:
    """The values of an attribute that can be looked at in short time.

    Every value of a short sequence, and the first and the last of a long one; none of an iterable
    of a user's own, whose values are seen variant by variant.
    """
    if isinstance(value, Random):
        value = value.choices
    elif not is_multivalued(value, inside_config=False):
        return (value,)
    if not hasattr(value, "__len__") or not hasattr(value, "__getitem__"):
        return ()
    return value if len(value) <= _SHORT else (value[0], value[-1])


def are_all_sampled(value: Any) -> bool:
    """Whether `samples` yields every value that a compact value may have."""
    return len(value.choices if isinstance(value, Random) else value) <= _SHORT


def is_compact(value: Any) -> bool:
    """Whether the values are few, or given by a rule of ours, and can be taken by their number."""
    if type(value) is Random:
        value = value.choices
    return type(value) in (Range, range) or (type(value) in (tuple, list) and len(value) <= _SHORT)


def walk(attributes: Mapping[str, Any]) -> Iterator[tuple[Path, Any]]:
    """Yield every multi-valued or random value of a task with its place, in the task's order."""
    for name, value in attributes.items():
        yield from _walk((name,), value, inside_config=name == "config")


def _walk(path: Path, value: Any, *, inside_config: bool) -> Iterator[tuple[Path, Any]]:
    if isinstance(value, Random) or is_multivalued(value, inside_config=inside_config):
        yield path, value
    elif inside_config and isinstance(value, Mapping):
        for key, item in value.items():
            yield from _walk((*path, key), item, inside_config=True)
    elif inside_config and isinstance(value, list):
        for index, item in enumerate(value):
            yield from _walk((*path, index), item, inside_config=True)


def replace(container: Any, path: Path, value: Any) -> Any:
    """A copy of `container` in which `value` stands at `path`; the rest is shared."""
    if not path:
        return value
    copy: Any = list(container) if isinstance(container, list) else dict(container)
    copy[path[0]] = replace(container[path[0]], path[1:], value)
    return copy


def from_yaml(value: Any, place: str, *, inside_config: bool = False) -> Any:
    """Turn the yaml forms of multi-valued and random values into objects, at any depth.

    Raises ConfigurationError, naming `place`.
    """
    if isinstance(value, Mapping):
        form = next(iter(value)) if len(value) == 1 else None
        if form in _FORMS:
            try:
                return _FORMS[form](value[form])
            except ConfigurationError as error:
                raise ConfigurationError(f"{place}: {error}") from None
        if inside_config:
            return {
                key: from_yaml(item, f"{place}.{key}", inside_config=True)
                for key, item in value.items()
            }
        if form is not None:
            raise ConfigurationError(f"{place}: {unknown_name('form of value', form, _FORMS)}")
        raise ConfigurationError(
            f"{place} must be a value, a list, or a mapping with one of the keys "
            f"{', '.join(_FORMS)}, got {value!r}"
        )
    if isinstance(value, list):
        if not inside_config:
            try:
                return _values(value)
            except ConfigurationError as error:
                raise ConfigurationError(f"{place}: {error}") from None
        return [
            from_yaml(item, f"{place}[{index}]", inside_config=True)
            for index, item in enumerate(value)
        ]
    return value


def _values(items: Any) -> tuple[Any, ...]:
    if not isinstance(items, list) or not items:
        raise ConfigurationError(f"values must be a list with at least one value, got {items!r}")
    return tuple(items)


def _range(bounds: Any, form: str = "range") -> Range:
    if not isinstance(bounds, list) or len(bounds) not in (2, 3):
        raise ConfigurationError(
            f"{form} must be [first, last] or [first, last, step], got {bounds!r}"
        )
    return Range(*bounds)


def _random(bounds: Any) -> Random:
    return Random(_range(bounds, "random"))


_FORMS: Mapping[Any, Callable[[Any], Any]] = {"values": _values, "range": _range, "random": _random}
