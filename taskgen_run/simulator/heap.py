"""A binary heap of `layout.ENTRY`: the smallest `first` comes first, then the smallest `second`."""

from __future__ import annotations

from typing import Any

from taskgen_run.simulator.compiling import called


@called
def sift_up(heap: Any, place: int, first: int, second: int, third: int) -> None:
    """Add an entry to the `place` that the heap has."""
    while place > 0:
        parent = (place - 1) >> 1
        above = heap[parent]
        if above.first < first or (above.first == first and above.second < second):
            break
        heap[place].first = above.first
        heap[place].second = above.second
        heap[place].third = above.third
        place = parent
    heap[place].first = first
    heap[place].second = second
    heap[place].third = third


@called
def sift_down(heap: Any, size: int, first: int, second: int, third: int) -> None:
    """Put an entry in the place of the first, of a heap of `size` entries."""
    place = 0
    while True:
        child = 2 * place + 1
        if child >= size:
            break
        if child + 1 < size:
            left, right = heap[child], heap[child + 1]
            if right.first < left.first or (
                right.first == left.first and right.second < left.second
            ):
                child += 1
        below = heap[child]
        if first < below.first or (first == below.first and second < below.second):
            break
        heap[place].first = below.first
        heap[place].second = below.second
        heap[place].third = below.third
        place = child
    heap[place].first = first
    heap[place].second = second
    heap[place].third = third
