"""Binary heaps: of `layout.ENTRY`, ordered by `first` and `second`; and of instants and turns."""

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
    """Put an entry in the place of the first, of a heap of `size` entries.

    It is likely to come late. So the gap goes down to the end by way of the smaller of two, without
    a comparison with what is to fill it, and that rises from there.
    """
    gap, child = 0, 1
    while child + 1 < size:
        left, right = heap[child], heap[child + 1]
        child += (right.first < left.first) | (
            (right.first == left.first) & (right.second < left.second)
        )
        below = heap[child]
        heap[gap].first = below.first
        heap[gap].second = below.second
        heap[gap].third = below.third
        gap, child = child, 2 * child + 1
    if child < size:
        below = heap[child]
        heap[gap].first = below.first
        heap[gap].second = below.second
        heap[gap].third = below.third
        gap = child
    sift_up(heap, gap, first, second, third)


@called
def rise(times: Any, turns: Any, place: int, time: int, turn: int) -> None:
    """Add an instant, and whose turn it is, to the `place` that the heap has."""
    while place > 0:
        parent = (place - 1) >> 1
        if times[parent] < time or (times[parent] == time and turns[parent] < turn):
            break
        times[place] = times[parent]
        turns[place] = turns[parent]
        place = parent
    times[place] = time
    turns[place] = turn


@called
def replace_first(times: Any, turns: Any, size: int, time: int, turn: int) -> None:
    """Put another instant in the place of the first.

    As `sift_down` does it.
    """
    gap, child = 0, 1
    while child + 1 < size:
        left, right = times[child], times[child + 1]
        child += (right < left) | ((right == left) & (turns[child + 1] < turns[child]))
        times[gap] = times[child]
        turns[gap] = turns[child]
        gap, child = child, 2 * child + 1
    if child < size:
        times[gap] = times[child]
        turns[gap] = turns[child]
        gap = child
    rise(times, turns, gap, time, turn)
