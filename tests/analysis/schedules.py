"""What the tests of the analyses compare with: schedules, made one unit of time after the other."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from hypothesis import strategies as st

from taskgen_run.analysis.sporadic import SporadicTask

PERIODS = [2, 3, 4, 6, 8, 12]
"""Their hyperperiods are short: 24 at most."""


@dataclass
class SimulatedJob:
    """A job, with its absolute deadline; `left` is the work that it still needs."""

    task: int
    release: int
    deadline: float
    left: int
    finish: int = 0


def fixed_priority(tasks: Sequence[SporadicTask]) -> Callable[[SimulatedJob], tuple[float, ...]]:
    """Jobs of a task in the order of their release."""
    priorities = [task.priority or 0 for task in tasks]
    return lambda job: (priorities[job.task], job.release)


def earliest_deadline(job: SimulatedJob) -> tuple[float, ...]:
    """Ties go to the first task."""
    return job.deadline, job.task


def schedule(
    tasks: Sequence[SporadicTask], until: int, order: Callable[[SimulatedJob], tuple[float, ...]]
) -> list[SimulatedJob]:
    """All jobs that are released before `until`, first all at 0 and then as early as they may."""
    jobs = []
    for position, task in enumerate(tasks):
        count = task.most_jobs
        releases = range(0, until, task.period_ns or until)
        for release in releases if count is None else releases[:count]:
            deadline = math.inf if task.deadline_ns is None else release + task.deadline_ns
            jobs.append(SimulatedJob(position, release, deadline, task.execution_ns))
    pending, now = sorted(jobs, key=lambda job: job.release), 0
    while pending:
        ready = [job for job in pending if job.release <= now]
        now += 1
        if ready:
            job = min(ready, key=order)
            job.left -= 1
            if not job.left:
                job.finish = now
                pending.remove(job)
    return jobs


def long_enough(tasks: Sequence[SporadicTask]) -> int:
    """When jobs that have an end are all released and due, and two hyperperiods are over."""
    periods = [task.period_ns for task in tasks if task.most_jobs is None]
    last = max(task.last_release_ns + (task.deadline_ns or 0) for task in tasks)
    return last + 2 * math.lcm(*periods)


@st.composite
def task_sets(draw: st.DrawFn, most: int = 4) -> list[SporadicTask]:
    """Up to `most` small tasks with different priorities."""
    tasks = []
    for priority in draw(st.permutations(range(most)))[: draw(st.integers(1, most))]:
        period = draw(st.sampled_from([*PERIODS, *PERIODS, 0]))
        tasks.append(
            SporadicTask(
                execution_ns=draw(st.integers(1, max(1, period // 2) if period else 5)),
                period_ns=period,
                deadline_ns=draw(st.one_of(st.integers(1, 20), st.none(), st.just(period or 7))),
                priority=priority,
                jobs=draw(st.one_of(st.none(), st.none(), st.integers(1, 4))),
            )
        )
    return tasks
