"""The threads of a run, and those of them after which it ends."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from typing import Any

log = logging.getLogger(__name__)

LET_GO_SECONDS = 1.0
"""For how long those that connect are waited for once a run has ended."""

_own = threading.local()


def let_go(seconds: float = 0.0) -> bool:
    """Wait for `seconds`, or until the run of the calling thread lets it go; whether that is so.

    What connects to a host calls it while it waits for the host's machine, and gives up when it is
    let go: then the run has ended.
    """
    threads: Threads | None = getattr(_own, "threads", None)
    if threads is None:
        time.sleep(seconds)  # there is no run that could end
        return False
    return threads.waits_for_machine(seconds)


class Threads:
    """Threads that tell `fail` of an error that ends them.

    A thread may be one that connects to a host, until it says `connected`. A run does not end
    after such a one, but lets it go: the host may be frozen.
    """

    def __init__(self, fail: Callable[[Exception], None]) -> None:
        self._fail = fail
        self._running: set[threading.Thread] = set()
        self._connecting: dict[threading.Thread, float] = {}  # since when, on the monotonic clock
        self._waiting: set[threading.Thread] = set()  # of those that connect: for a machine
        self._mutex = threading.Lock()
        self._ended = threading.Event()

    def spawn(
        self, call: Callable[..., object], name: str, *args: Any, connects: bool = False
    ) -> None:
        """Have `call` called with `args` in a thread of its own."""

        def body() -> None:
            _own.threads = self
            try:
                call(*args)
            except Exception as error:  # told, as nobody else would hear of it
                self._fail(error)
            finally:
                with self._mutex:
                    self._running.discard(thread)
                    self._forget_connecting(thread)

        thread = threading.Thread(target=body, name=name, daemon=True)
        with self._mutex:
            self._running.add(thread)
            if connects:
                self._connecting[thread] = time.monotonic()
            thread.start()

    def connected(self) -> None:
        """The calling thread does not connect any more."""
        with self._mutex:
            self._forget_connecting(threading.current_thread())

    def _forget_connecting(self, thread: threading.Thread) -> None:
        self._connecting.pop(thread, None)
        self._waiting.discard(thread)

    def connecting(self, seconds: float) -> int:
        """How many threads connect, and have done so for less than this time."""
        recent = time.monotonic() - seconds
        with self._mutex:
            return sum(since > recent for since in self._connecting.values())

    def waits_for_machine(self, seconds: float) -> bool:
        """Wait in the calling thread until the run has ended, so long at most; whether it has."""
        with self._mutex:
            if threading.current_thread() in self._connecting:
                self._waiting.add(threading.current_thread())
        return self._ended.wait(seconds)

    @property
    def wait_for_machines(self) -> bool:
        """Whether a thread that connects waits for a machine."""
        return bool(self._waiting)

    @property
    def are_done(self) -> bool:
        """Whether a run may end."""
        return not self._awaited()

    def end(self, seconds: float) -> None:
        """Wait until a run may end, for `seconds` at most, and let those go that connect."""
        awaited = self._awaited()
        self._join(awaited, seconds)
        self._ended.set()
        with self._mutex:
            others = self._running - awaited
        self._join(others, min(seconds, LET_GO_SECONDS))

    def _join(self, threads: set[threading.Thread], seconds: float) -> None:
        deadline = time.monotonic() + seconds
        for thread in threads:
            thread.join(max(0.0, deadline - time.monotonic()))
            if thread.is_alive():
                log.warning("%s did not end within %g s", thread.name, seconds)

    def _awaited(self) -> set[threading.Thread]:
        with self._mutex:
            return self._running - self._connecting.keys()
