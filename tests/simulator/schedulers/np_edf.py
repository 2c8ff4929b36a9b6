"""Non-preemptive EDF, for SimSo."""

from __future__ import annotations

from typing import Any

from simso.core import Scheduler


class np_edf(Scheduler):  # type: ignore[misc]  # noqa: N801 - SimSo calls a scheduler like its file
    """The waiting job with the earliest deadline goes to an idle processor."""

    def on_activate(self, job: Any) -> None:
        job.cpu.resched()

    def on_terminated(self, job: Any) -> None:
        job.cpu.resched()

    def schedule(self, cpu: Any) -> Any:
        waiting = [
            task.job for task in self.task_list if task.is_active() and not task.job.is_running()
        ]
        idle = [processor for processor in self.processors if processor.running is None]
        if not (waiting and idle):
            return None
        # In whole ns: SimSo's ms are floats, and equal deadlines may differ in them.
        job = min(waiting, key=lambda job: round(job.absolute_deadline * 1_000_000))
        return job, cpu if cpu in idle else idle[0]
