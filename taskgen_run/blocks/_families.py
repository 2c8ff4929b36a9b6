"""What families of blocks have in common: their `Value`, `Variants` and `Random`."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple, Protocol

from taskgen_run.errors import ConfigurationError
from taskgen_run.values import Random, Range


class RangeBlock(Protocol):
    """A function that returns a block with the numbers from `first` to `last`, both included."""

    def __call__(self, first: float, last: float, step: float = 1) -> dict[str, Any]:
        """Raises ConfigurationError for a range without numbers."""


class AttributeBlocks(NamedTuple):
    """The blocks of one attribute."""

    value: Callable[[float], dict[str, Any]]
    variants: RangeBlock
    random: RangeBlock


class WorkloadBlocks(NamedTuple):
    """The blocks of one workload that has an argument."""

    value: Callable[[int], dict[str, Any]]
    variants: Callable[[int], dict[str, Any]]
    random: Callable[[int, int], dict[str, Any]]


def attribute_blocks(attribute: str, unit: str) -> AttributeBlocks:
    """The blocks of a numeric `attribute`; `unit` completes their documentation."""

    def value(value: float) -> dict[str, Any]:
        return {attribute: value}

    def variants(first: float, last: float, step: float = 1) -> dict[str, Any]:
        return {attribute: Range(first, last, step)}

    def random(first: float, last: float, step: float = 1) -> dict[str, Any]:
        return {attribute: Random(Range(first, last, step))}

    numbers = "the numbers from `first` to `last`, both included, `step` apart"
    value.__doc__ = f"The {attribute}: {unit}."
    variants.__doc__ = f"The {attribute} is in turn each of {numbers}: {unit}."
    random.__doc__ = f"The {attribute} is, drawn per variant, one of {numbers}: {unit}."
    return AttributeBlocks(value, variants, random)


def workload_blocks(
    block: Mapping[str, Any], argument: str, milliseconds: Callable[[int, int], float]
) -> WorkloadBlocks:
    """The blocks of a workload with an argument, `config.arg1`; `argument` says what it is.

    To `block` they add the argument and the execution time, the most that is needed for any of
    the arguments. `milliseconds` estimates it from the smallest and the largest argument.
    """

    def filled(first: int, last: int, arg1: Any) -> dict[str, Any]:
        worst = max(1, math.ceil(milliseconds(first, last)))
        return {**block, "executiontime": worst, "config": {"arg1": arg1}}

    def checked(number: object) -> int:
        if isinstance(number, bool) or not isinstance(number, int) or number < 0:
            raise ConfigurationError(
                f"the argument of {block['pkg']} must be a whole number ≥ 0, got {number!r}"
            )
        return number

    def value(arg1: int) -> dict[str, Any]:
        return filled(checked(arg1), arg1, arg1)

    def variants(count: int) -> dict[str, Any]:
        return filled(1, checked(count), Range(1, count))

    def random(first: int, last: int) -> dict[str, Any]:
        return filled(checked(first), checked(last), Random(Range(first, last)))

    value.__doc__ = f"One argument: {argument}."
    variants.__doc__ = f"Each argument from 1 to `count` in turn: {argument}."
    random.__doc__ = f"An argument from `first` to `last`, drawn per variant: {argument}."
    return WorkloadBlocks(value, variants, random)
