"""The rows of a simulation: jobs and stretches of execution, ordered by task and job."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pyarrow as pa

from taskgen_run.job import SEGMENT_SCHEMA, Job, Outcome
from taskgen_run.sessions.horizon import releases_ns
from taskgen_run.taskset import TaskSet

if TYPE_CHECKING:
    from taskgen_run.sessions._simso_model import System
    from taskgen_run.sessions._simso_parts import Job as SimulatedJob


def jobs_of(system: System, taskset: TaskSet) -> list[Job]:
    """Every job that was simulated; also stored in the tasks' `jobs`."""
    rows: list[Job] = []
    for position, (task, simulated) in enumerate(zip(taskset, system.task_list, strict=True)):
        relative = task.deadline_ns
        task.jobs = [
            Job(
                position,
                number,
                job.release,
                job.first_execution,
                job.end_date,
                None if relative is None else job.release + relative,
                _outcome(job),
                job.preemptions,
                job.migrations,
            )
            for number, job in enumerate(simulated.jobs)
        ]
        rows += task.jobs
    return rows


def _outcome(job: SimulatedJob) -> Outcome:
    if job.end_date is None:
        return Outcome.UNFINISHED
    return Outcome.KILLED if job.aborted else Outcome.FINISHED


def jobs_not_scheduled(taskset: TaskSet, horizon_ns: int) -> list[Job]:
    """Every release of a task set that was refused; also stored in the tasks' `jobs`."""
    rows: list[Job] = []
    for position, task in enumerate(taskset):
        relative = task.deadline_ns
        task.jobs = [
            Job(
                position,
                number,
                release_ns=release,
                deadline_ns=None if relative is None else release + relative,
                outcome=Outcome.NOT_SCHEDULED,
                preemptions=0,
                migrations=0,
            )
            for number, release in enumerate(releases_ns(task, horizon_ns))
        ]
        rows += task.jobs
    return rows


def segments_of(system: System | None, variant: int) -> pa.RecordBatch:
    """The stretches of a simulation that traced them; none for None."""
    rows = [
        (variant, position, number, *stretch)
        for position, task in enumerate(system.task_list if system else ())
        for number, job in enumerate(task.jobs)
        for stretch in job.stretches
    ]
    columns = zip(*rows, strict=True) if rows else [()] * len(SEGMENT_SCHEMA)
    arrays = [pa.array(c, field.type) for c, field in zip(columns, SEGMENT_SCHEMA, strict=True)]
    return pa.RecordBatch.from_arrays(arrays, schema=SEGMENT_SCHEMA)
