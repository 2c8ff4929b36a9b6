"""What a run keeps of the hosts that it has tried, and how much it tries."""

from __future__ import annotations

import time
from dataclasses import dataclass


@dataclass(frozen=True)
class Bounds:
    """How much is tried: `attempts` per variant, `restarts` of the session per host.

    `max_sessions` run at the same time. A probe takes at most `probe_timeout` seconds; without
    an available host for `available_timeout` seconds the experiment ends.
    """

    attempts: int = 3
    restarts: int = 3
    max_sessions: int = 256
    probe_timeout: float = 1.0
    available_timeout: float = 60.0


@dataclass(slots=True)
class KnownHost:
    """What is known of a host that was tried."""

    busy: bool = False
    restarts: int = 0
    failures_in_a_row: int = 0
    not_before: float = 0.0  # on the monotonic clock
    aside: bool = False
    has_refused: bool = False  # when a session was last made

    @property
    def may_be_asked(self) -> bool:
        return not (self.busy or self.aside or self.not_before > time.monotonic())

    @property
    def is_awaited(self) -> bool:
        """Whether a session is being made, or was, that may be had: its host may just boot."""
        return self.busy and not self.has_refused
