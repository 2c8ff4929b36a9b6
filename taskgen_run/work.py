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
        self._reading = threading.Lock()  # held while a variant is made, which may take long
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
        while True:
            self._fill(1)
            with self._changed:
                if self._closed:
                    return False
                if self._ready or self._failed_for(host):
                    return True
                left = deadline - time.monotonic()
                if left <= 0:
                    return False
                if self._is_exhausted:
                    self._changed.wait(left)

    def _fill(self, count: int) -> None:
        """Make so many ready, if the stream has them; close if all is done."""
        while not (self._is_exhausted or self._closed) and len(self._ready) < count:
            with self._reading:
                if not self._is_exhausted and len(self._ready) < count:
                    self._read_ahead()
        if self._is_exhausted and not self._undone:
            self.close()

    def wait(self) -> bool:
        """Wait until there is something that nobody has taken; False when all is done or closed."""
        while True:
            self._fill(1)
            with self._changed:
                if self._closed or self.waits:
                    return not self._closed
                if self._is_exhausted:
                    self._changed.wait()

    def has_for(self, host: str, count: int) -> bool:
        """Whether this host may take as many attempts that nobody has taken; reads ahead for it."""
        with self._changed:
            failed = len(self._failed_for(host))
        self._fill(count - failed)
        return not self._closed and len(self._ready) + failed >= count

    @property
    def waits(self) -> bool:
        """Whether there is something that nobody has taken."""
        return bool(self._ready or self._failed)

    def _read_ahead(self) -> None:
        end = time.monotonic() + AHEAD_SECONDS
        read = 0
        try:
            for taskset in self._variants:
                self._undone.add(taskset.variant)
                self._ready.append(Try(taskset, 0))
                read += 1
                if read >= AHEAD or time.monotonic() >= end:
                    return
        except Exception as error:  # a task set is a plug-in: whatever its variants raise
            self.error = error
        self._is_exhausted = True

    def done(self, item: Try) -> None:
        """An attempt has come to its end, and its variant with it."""
        self._undone.discard(item.taskset.variant)
        if not self._undone:
            self._fill(1)

    def again(self, item: Try) -> None:
        """An attempt has to be made again, after one that has failed."""
        with self._changed:
            self._failed.append(item)
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
