"""Non-preemptive fixed priorities, for SimSo."""

from __future__ import annotations

from typing import Any

from simso.core import Scheduler


class np_fp(Scheduler):  # type: ignore[misc]  # noqa: N801 - SimSo calls a scheduler like its file
    """The ready job with the smallest `priority` goes to an idle processor."""

    def init(self) -> None:
        self.ready_list: list[Any] = []

    def on_activate(self, job: Any) -> None:
        self.ready_list.append(job)
        job.cpu.resched()

    def on_terminated(self, job: Any) -> None:
        if job in self.ready_list:
            self.ready_list.remove(job)
        job.cpu.resched()

    def schedule(self, cpu: Any) -> Any:
        idle = [processor for processor in self.processors if processor.running is None]
        if not (self.ready_list and idle):
            return None
        job = min(self.ready_list, key=lambda job: job.data["priority"])
        self.ready_list.remove(job)
        return job, cpu if cpu in idle else idle[0]
