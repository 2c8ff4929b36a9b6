"""The threads of a run, and those of them after which it ends."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from typing import Any

log = logging.getLogger(__name__)


class Threads:
    """Threads that tell `fail` of an error that ends them.

    A thread may be one that connects to a host, until it says `connected`. A run does not end
    after such a one: the host may be frozen.
    """

    def __init__(self, fail: Callable[[Exception], None]) -> None:
        self._fail = fail
        self._running: set[threading.Thread] = set()
        self._connecting: dict[threading.Thread, float] = {}  # since when, on the monotonic clock
        self._mutex = threading.Lock()

    def spawn(
        self, call: Callable[..., None], name: str, *args: Any, connects: bool = False
    ) -> None:
        """Have `call` called with `args` in a thread of its own."""

        def body() -> None:
            try:
                call(*args)
            except Exception as error:
                self._fail(error)
            finally:
                with self._mutex:
                    self._running.discard(thread)
                    self._connecting.pop(thread, None)

        thread = threading.Thread(target=body, name=name, daemon=True)
        with self._mutex:
            self._running.add(thread)
            if connects:
                self._connecting[thread] = time.monotonic()
            thread.start()

    def connected(self) -> None:
        """The calling thread does not connect any more."""
        with self._mutex:
            del self._connecting[threading.current_thread()]

    def connecting(self, seconds: float) -> int:
        """How many threads connect, and have done so for less than this time."""
        recent = time.monotonic() - seconds
        with self._mutex:
            return sum(since > recent for since in self._connecting.values())

    @property
    def are_done(self) -> bool:
        """Whether a run may end."""
        return not self._awaited()

    def join(self, seconds: float) -> None:
        """Wait until a run may end, for `seconds` at most; what is late is logged."""
        deadline = time.monotonic() + seconds
        for thread in self._awaited():
            thread.join(max(0.0, deadline - time.monotonic()))
            if thread.is_alive():
                log.warning("%s did not end within %g s", thread.name, seconds)

    def _awaited(self) -> set[threading.Thread]:
        with self._mutex:
            return self._running - self._connecting.keys()
