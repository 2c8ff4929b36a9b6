"""What is still to be done of an experiment, shared by the threads that do it."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass

from taskgen_run.taskset import TaskSet


@dataclass(frozen=True, slots=True)
class Try:
    """One attempt at a variant, which has failed on the hosts `failed_on`."""

    taskset: TaskSet
    attempt: int
    failed_on: frozenset[str] = frozenset()


class Work:
    """The variants that have to be done: a lazy stream, and what came back from it."""

    def __init__(self, variants: Iterator[TaskSet]) -> None:
        self._variants = variants
        self._next: TaskSet | None = None
        self._again: list[Try] = []
        self._hosts: set[str] = set()
        self._in_flight = 0
        self._changed = threading.Condition()
        self._closed = False
        self.error: Exception | None = None
        """What the stream of variants has raised, which has ended it."""

    def join(self, host: str) -> None:
        """A host begins to take attempts."""
        with self._changed:
            self._hosts.add(host)

    def leave(self, host: str) -> None:
        """A host takes no more attempts."""
        with self._changed:
            self._hosts.discard(host)
            self._changed.notify_all()

    @property
    def hosts(self) -> int:
        """How many hosts take attempts."""
        return len(self._hosts)

    def take(self, host: str, timeout: float | None = None) -> Try | None:
        """The next attempt for a host; None when all is done or closed, or nothing came in time.

        A variant that has failed on the host is left to the others, if any of them can take it.
        """
        deadline = None if timeout is None else time.monotonic() + timeout
        with self._changed:
            while self._goes_on():
                item = self._taken(host)
                if item is not None:
                    self._in_flight += 1
                    return item
                left = None if deadline is None else deadline - time.monotonic()
                if left is not None and left <= 0:
                    break
                self._changed.wait(left)
            return None

    def wait(self) -> bool:
        """Wait for an attempt that nobody has taken; False when all is done or closed."""
        with self._changed:
            while self._goes_on():
                if self._waits():
                    return True
                self._changed.wait()
            return False

    @property
    def waits(self) -> bool:
        """Whether there is an attempt that nobody has taken."""
        with self._changed:
            return self._waits()

    def done(self) -> None:
        """An attempt has come to its end, and its variant with it."""
        with self._changed:
            self._in_flight -= 1
            self._goes_on()
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

    def closes_within(self, seconds: float) -> bool:
        """Wait until there is nothing more to do, for so long at most; whether that is so."""
        with self._changed:
            return self._changed.wait_for(lambda: self._closed, seconds)

    def _goes_on(self) -> bool:
        if not (self._closed or self._in_flight or self._waits()):
            self._closed = True
            self._changed.notify_all()
        return not self._closed

    def _waits(self) -> bool:
        return not self._closed and bool(self._again or self._peek())

    def _taken(self, host: str) -> Try | None:
        for position, item in enumerate(self._again):
            if host not in item.failed_on or self._hosts <= item.failed_on:
                return self._again.pop(position)
        taskset, self._next = self._peek(), None
        return None if taskset is None else Try(taskset, 0)

    def _peek(self) -> TaskSet | None:
        """The next variant of the stream, which stays there."""
        if self._next is None:
            try:
                self._next = next(self._variants, None)
            except Exception as error:  # a task set is a plug-in: whatever its variants raise
                self.error = error
                self._variants = iter(())
        return self._next
