"""What is still to be done of an experiment, shared by the threads that do it."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass

from taskgen_run.taskset import TaskSet


@dataclass(frozen=True, slots=True)
class Try:
    """One attempt at a variant."""

    taskset: TaskSet
    attempt: int


class Work:
    """The variants that have to be done: a lazy stream, and what came back from it."""

    def __init__(self, variants: Iterator[TaskSet]) -> None:
        self._variants = variants
        self._again: deque[Try] = deque()
        self._in_flight = 0
        self._changed = threading.Condition()
        self._closed = False
        self.error: Exception | None = None

    def take(self, timeout: float | None = None) -> Try | None:
        """The next attempt; None when all is done or closed, or nothing came in time."""
        deadline = None if timeout is None else time.monotonic() + timeout
        with self._changed:
            while not self._closed:
                if self._again:
                    self._in_flight += 1
                    return self._again.popleft()
                taskset = self._next()
                if taskset is not None:
                    self._in_flight += 1
                    return Try(taskset, 0)
                if self._in_flight == 0:
                    self._closed = True
                    self._changed.notify_all()
                    break
                left = None if deadline is None else deadline - time.monotonic()
                if left is not None and left <= 0:
                    break
                self._changed.wait(left)
            return None

    def _next(self) -> TaskSet | None:
        try:
            return next(self._variants, None)
        except Exception as error:  # a task set is a plug-in: whatever its variants raise
            self.error = error
            self._variants = iter(())
            return None

    def done(self) -> None:
        """An attempt has come to its end, and its variant with it."""
        with self._changed:
            self._in_flight -= 1
            self._changed.notify_all()

    def again(self, item: Try) -> None:
        """An attempt has to be made, or made again, by another session."""
        with self._changed:
            self._in_flight -= 1
            self._again.append(item)
            self._changed.notify_all()

    def close(self) -> None:
        """Let everybody who waits for work go."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()

    @property
    def closed(self) -> bool:
        """Whether there is nothing more to do."""
        return self._closed
