"""What variants that have ended come to."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(slots=True)
class Ended:
    """Which variants have finished, and which have failed, and the jobs of both, counted."""

    finished: list[int] = field(default_factory=list)
    failed: list[int] = field(default_factory=list)
    jobs: int = 0
    deadline_misses: int = 0
    unknown_misses: int = 0

    def __iadd__(self, other: Ended) -> Ended:
        self.finished += other.finished
        self.failed += other.failed
        self.jobs += other.jobs
        self.deadline_misses += other.deadline_misses
        self.unknown_misses += other.unknown_misses
        return self
