"""A slow and obvious simulator of one processor, tick by tick, for what SimSo does not have."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from taskgen_run.task import Task


@dataclass
class Executed:
    """A job, in ticks; what became of it."""

    task: int
    number: int
    release: int
    deadline: float
    left: int
    start: int | None = None
    end: int | None = None
    outcome: str = "unfinished"


def simulate(
    tasks: Sequence[Task],
    horizon: int,
    key: Callable[[Executed], float],
    *,
    preemptive: bool,
    on_miss: str,
) -> list[Executed]:
    """All jobs of tasks with a period, whose times are whole ticks; of equals the first task's."""
    jobs: list[Executed] = []
    running: Executed | None = None

    def waiting(task: int) -> list[Executed]:
        return [j for j in jobs if j.task == task and j.outcome == "unfinished"]

    def end(job: Executed, now: int, outcome: str) -> None:
        job.end, job.outcome = now, outcome
        if outcome == "finished" and job.start is None:
            job.start = now

    for now in range(horizon + 1):
        if running is not None and running.left == 0:
            end(running, now, "finished")
            running = None
        for job in jobs:
            if on_miss == "abort" and job.outcome == "unfinished" and job.deadline == now:
                end(job, now, "killed")
                running = None if running is job else running
        if now == horizon:
            break
        for position, task in enumerate(tasks):
            number, rest = divmod(now - task.get("offset", 0), task["period"])
            if rest or number < 0:
                continue
            late = any(job.deadline <= now for job in waiting(position))
            deadline = now + task.get("deadline", task["period"])
            job = Executed(position, number, now, deadline, task["executiontime"])
            if late and on_miss == "skip-next":
                job.outcome = "not_scheduled"
            jobs.append(job)
        while True:
            heads = [waiting(task)[0] for task in range(len(tasks)) if waiting(task)]
            best = min((j for j in heads if j is not running), key=key, default=None)
            if best is not None and (running is None or (preemptive and key(best) < key(running))):
                running = best
            if running is None or running.left > 0:
                break
            end(running, now, "finished")
            running = None
        if running is not None:
            running.start = now if running.start is None else running.start
            running.left -= 1
    return sorted(jobs, key=lambda job: (job.task, job.number))
