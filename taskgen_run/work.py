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


@dataclass(frozen=True, slots=True, eq=False)
class Try:
    """One attempt at a variant, which has failed on the hosts `failed_on`."""

    taskset: TaskSet
    attempt: int
    failed_on: frozenset[str] = frozenset()


class Work:
    """The variants that have to be done: a lazy stream, and what came back from it.

    Threads that take work all the time must not meet at a lock: each would wait for the next one
    to be scheduled. So they do with single operations on a deque and a set, and the lock is for
    those who refill them, or wait.
    """

    def __init__(self, variants: Iterator[TaskSet]) -> None:
        self._variants = variants
        self._ready: deque[Try] = deque()
        self._failed: list[Try] = []
        self._hosts: set[str] = set()
        self._undone: set[int] = set()  # numbers of the variants that were taken from the stream
        self._is_exhausted = False
        self._changed = threading.Condition()
        self._closed = False
        self.error: Exception | None = None

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

    def take(self, host: str, timeout: float) -> Try | None:
        """The next attempt for a host, what came back first; None when all is done or closed.

        While all that is left is being done by others, waits for up to `timeout` seconds, as it
        may come back. A variant that has failed on the host is left to the others, if there is one
        on which it has not.
        """
        deadline = time.monotonic() + timeout
        while not self._closed:
            if self._failed and (item := self._take_failed(host)) is not None:
                return item
            try:
                return self._ready.popleft()
            except IndexError:
                if not self._refill(host, deadline):
                    return None
        return None

    def _take_failed(self, host: str) -> Try | None:
        with self._changed:
            for item in self._failed_for(host):
                self._failed.remove(item)
                return item
        return None

    def _failed_for(self, host: str) -> list[Try]:
        return [
            item
            for item in self._failed
            if host not in item.failed_on or self._hosts <= item.failed_on
        ]

    def _refill(self, host: str, deadline: float) -> bool:
        """Wait until something is ready for the host; False if all is done, or it is too late."""
        with self._changed:
            self._fill()
            while not (self._ready or self._closed or self._failed_for(host)):
                left = deadline - time.monotonic()
                if left <= 0:
                    return False
                self._changed.wait(left)
            return not self._closed

    def _fill(self) -> None:
        """Make something ready, if the stream has it; close if all is done."""
        if not self._is_exhausted and not self._ready:
            self._read_ahead()
        if self._is_exhausted and not self._undone:
            self.close()

    def wait(self) -> bool:
        """Wait until there is something that nobody has taken; False when all is done or closed."""
        with self._changed:
            self._fill()
            while not (self.waits or self._closed):
                self._changed.wait()
                self._fill()
            return not self._closed

    def left_for(self, host: str) -> int:
        """How many attempts are known of that nobody has taken and this host may."""
        with self._changed:
            self._fill()
            return len(self._ready) + len(self._failed_for(host))

    @property
    def waits(self) -> bool:
        """Whether there is something that nobody has taken."""
        return bool(self._ready or self._failed)

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
        if not self._undone:
            with self._changed:
                self._fill()

    def again(self, item: Try) -> None:
        """An attempt has to be made, or made again, by another session."""
        with self._changed:
            if item.failed_on:
                self._failed.append(item)
            else:
                self._ready.appendleft(item)
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
