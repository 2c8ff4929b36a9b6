"""What many threads have to tell one reader, in order and bounded."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Iterator
from typing import Generic, TypeVar

_Item = TypeVar("_Item")


class Reports(Generic[_Item]):
    """A queue whose reader takes all that is there, and then lets those go on who wait for room.

    A queue that hands every item over by itself costs two switches of threads for each, far more
    than what is in it. And as in `work`, writers must not meet at a lock.
    """

    def __init__(self, items: int, rows: int) -> None:
        """Writers wait when there are that many items, or items with that many rows in all."""
        self._limits = items, rows
        self._items: deque[tuple[_Item, int]] = deque()
        self._rows = 0
        self._mutex = threading.Lock()  # of the number of rows
        self._filled = threading.Event()
        self._emptied = threading.Event()

    def put(self, item: _Item, rows: int, timeout: float) -> bool:
        """Add an item with `rows` rows; False if there was no room for `timeout` seconds."""
        if self._is_full():
            self._emptied.clear()
            if self._is_full() and not self._emptied.wait(timeout):
                return False
        self._count(rows)
        self._items.append((item, rows))
        if not self._filled.is_set():
            self._filled.set()
        return True

    def wait(self, timeout: float) -> bool:
        """Whether there is an item, at the latest after `timeout` seconds."""
        if not self._items:
            self._filled.clear()
            if not self._items:
                self._filled.wait(timeout)
        return bool(self._items)

    def take(self) -> Iterator[_Item]:
        """The items that are there now, those that came first first."""
        for _ in range(len(self._items)):
            item, rows = self._items.popleft()
            self._count(-rows)
            yield item
        self._emptied.set()

    def __len__(self) -> int:
        return len(self._items)

    def _count(self, rows: int) -> None:
        if rows:
            with self._mutex:
                self._rows += rows

    def _is_full(self) -> bool:
        items, rows = self._limits
        return len(self._items) >= items or self._rows >= rows
