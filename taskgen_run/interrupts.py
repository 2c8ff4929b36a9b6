"""SIGINT and SIGTERM, taken only where a run can be stopped without losing anything."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any


class Interrupted(KeyboardInterrupt):
    """Raised when the user or the system ends the run; `signum` tells by which signal."""

    def __init__(self, signum: int) -> None:
        super().__init__(signal.Signals(signum).name)
        self.signum = signum


class Interrupts:
    """While entered, SIGINT and SIGTERM raise `Interrupted`, and only inside `allowed()`.

    Elsewhere they wait for the next `allowed()`. A second signal does not wait. Outside the main
    thread, where Python delivers no signals, entering changes nothing.
    """

    def __init__(self) -> None:
        self._pending: int | None = None
        self._allowed = False
        self._previous: dict[int, Any] = {}

    def __enter__(self) -> Interrupts:
        if threading.current_thread() is threading.main_thread():
            for signum in (signal.SIGINT, signal.SIGTERM):
                self._previous[signum] = signal.signal(signum, self._handle)
        return self

    def __exit__(self, *_: object) -> None:
        for signum, handler in self._previous.items():
            signal.signal(signum, handler)
        self._previous.clear()

    def _handle(self, signum: int, _: FrameType | None) -> None:
        if self._allowed or self._pending is not None:
            raise Interrupted(signum)
        self._pending = signum

    @contextmanager
    def allowed(self) -> Iterator[None]:
        """The part of a run that may be left at any instruction. Raises Interrupted."""
        self._allowed = True
        try:
            self.check()
            yield
        finally:
            self._allowed = False

    def check(self) -> None:
        """Raise Interrupted if a signal waits."""
        if self._pending is not None:
            raise Interrupted(self._pending)
