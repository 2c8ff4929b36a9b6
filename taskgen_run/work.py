"""What is still to be done of an experiment, shared by the threads that do it."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass

from taskgen_run.taskset import TaskSet

AHEAD = 64
"""How many variants are taken from the stream at a time at most …"""

AHEAD_SECONDS = 0.001
"""… and for how long."""


@dataclass(frozen=True, slots=True)
class Try:
    """One attempt at a variant."""

    taskset: TaskSet
    attempt: int


class Work:
    """The variants that have to be done: a lazy stream, and what came back from it.

    Threads that take work all the time must not meet at a lock: each would wait for the next one
    to be scheduled. So they do with single operations on a deque and a set, and the lock is for
    those who refill them, or wait.
    """

    def __init__(self, variants: Iterator[TaskSet]) -> None:
        self._variants = variants
        self._ready: deque[Try] = deque()
        self._undone: set[int] = set()  # numbers of the variants that were taken from the stream
        self._is_exhausted = False
        self._changed = threading.Condition()
        self._closed = False
        self.error: Exception | None = None

    def take(self) -> Try | None:
        """The next attempt, what came back first; None when all is done or closed.

        Waits while all that is left is being done by others, as it may come back.
        """
        while not self._closed:
            try:
                return self._ready.popleft()
            except IndexError:
                self._refill()
        return None

    def _refill(self) -> None:
        """Wait until something is ready, or all is done."""
        with self._changed:
            if not self._is_exhausted and not self._ready:
                self._read_ahead()
            self._close_if_done()
            while not (self._ready or self._closed) and self._is_exhausted:
                self._changed.wait()

    def _read_ahead(self) -> None:
        end = time.monotonic() + AHEAD_SECONDS
        try:
            for taskset in self._variants:
                self._undone.add(taskset.variant)
                self._ready.append(Try(taskset, 0))
                if len(self._ready) >= AHEAD or time.monotonic() >= end:
                    return
        except Exception as error:  # a task set is a plug-in: whatever its variants raise
            self.error = error
        self._is_exhausted = True

    def done(self, item: Try) -> None:
        """An attempt has come to its end, and its variant with it."""
        self._undone.discard(item.taskset.variant)
        if self._is_exhausted and not self._undone:
            with self._changed:
                self._close_if_done()

    def _close_if_done(self) -> None:
        if self._is_exhausted and not self._undone:
            self.close()

    def again(self, item: Try) -> None:
        """An attempt has to be made, or made again, by another session."""
        with self._changed:
            self._ready.appendleft(item)
            self._changed.notify()

    def close(self) -> None:
        """Let everybody who waits for work go."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()

    @property
    def closed(self) -> bool:
        """Whether there is nothing more to do."""
        return self._closed
