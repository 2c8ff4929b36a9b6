"""Sets of whole numbers that are mostly without gaps."""

from __future__ import annotations

from array import array
from bisect import bisect_left, bisect_right
from collections.abc import Iterator

import numpy as np
import numpy.typing as npt


class Intervals:
    """A set of numbers from 0, held as merged intervals: [0, 10⁹) takes as much memory as {0}."""

    def __init__(self) -> None:
        self._starts = array("q")
        self._stops = array("q")  # exclusive; no stop equals the next start
        self._count = 0

    def __contains__(self, number: int) -> bool:
        index = bisect_right(self._starts, number) - 1
        return index >= 0 and number < self._stops[index]

    def __len__(self) -> int:
        """How many numbers the set holds."""
        return self._count

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Intervals):
            return NotImplemented
        return self._starts == other._starts and self._stops == other._stops

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        return f"Intervals({list(self.intervals())})"

    def add(self, number: int) -> None:
        """Add one number."""
        index = bisect_right(self._starts, number)  # of the first interval behind it
        if index and number < self._stops[index - 1]:
            return
        self._count += 1
        follows = bool(index) and self._stops[index - 1] == number
        precedes = index < len(self._starts) and self._starts[index] == number + 1
        if follows and precedes:
            self._stops.pop(index - 1)
            self._starts.pop(index)
        elif follows:
            self._stops[index - 1] = number + 1
        elif precedes:
            self._starts[index] = number
        else:
            self._starts.insert(index, number)
            self._stops.insert(index, number + 1)

    def copy(self) -> Intervals:
        """An independent copy."""
        twin = Intervals()
        twin._starts, twin._stops, twin._count = self._starts[:], self._stops[:], self._count
        return twin

    def intervals(self) -> Iterator[tuple[int, int]]:
        """Yield (first, one past the last) of each interval, in order."""
        return zip(self._starts, self._stops, strict=True)

    def missing(self, below: int | None = None) -> Iterator[int]:
        """Yield the numbers from 0 that are not in the set, without end if `below` is None.

        Numbers may be added meanwhile.
        """
        number = 0
        while below is None or number < below:
            index = bisect_left(self._stops, number + 1)
            if index < len(self._starts) and self._starts[index] <= number:
                number = self._stops[index]
            else:
                yield number
                number += 1

    def mask(self, numbers: npt.NDArray[np.int64]) -> npt.NDArray[np.bool_]:
        """Which of the `numbers` are in the set."""
        if not self._starts:
            return np.zeros(len(numbers), np.bool_)
        starts, stops = np.array(self._starts), np.array(self._stops)
        index = np.searchsorted(starts, numbers, side="right") - 1
        return (index >= 0) & (numbers < stops[np.maximum(index, 0)])
