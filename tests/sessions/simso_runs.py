"""What the tests of SimSoSession share: running it, running bare SimSo, and looking at rows."""

from __future__ import annotations

import contextlib
import io
from collections import defaultdict
from collections.abc import Iterable, Mapping
from typing import Any

from taskgen_run.job import Job
from taskgen_run.sessions import _simso_parts  # noqa: F401  # imports SimSo without its warnings
from taskgen_run.sessions.simso import SimSoSession
from taskgen_run.task import Task
from taskgen_run.taskset import TaskSet

# isort: split
from simso.configuration import Configuration
from simso.core import Model

MS = 1_000_000

Row = tuple[int, int]
Stretch = tuple[int, int, int]


def tasks(*pairs: tuple[float, float], **attributes: Any) -> list[Task]:
    """Tasks from (execution time, period) in ms, as textbooks write them."""
    return [Task(executiontime=c, period=t, **attributes) for c, t in pairs]


def simulate(
    members: Iterable[Task], *, seed: int = 0, variant: int = 0, **options: Any
) -> tuple[TaskSet, dict[Row, Job], dict[Row, list[Stretch]]]:
    """The task set, its jobs by (task, job), and their stretches (cpu, start, end)."""
    taskset = TaskSet(members, "tested")
    taskset.seed, taskset.variant = seed, variant
    session = SimSoSession("127.0.0.1", 0, **options)
    jobs: list[Job] = []
    session.start(taskset)
    while session.is_running(taskset):
        assert jobs == []
        jobs = session.run(taskset)
    assert [job for task in taskset for job in task.jobs] == jobs
    assert jobs == sorted(jobs, key=lambda job: (job.task, job.job))
    stretches: dict[Row, list[Stretch]] = defaultdict(list)
    segments = session.segments()
    for row in segments.to_pylist() if segments is not None else ():
        stretches[row["task"], row["job"]].append((row["cpu"], row["start_ns"], row["end_ns"]))
    session.close()
    return taskset, {(job.task, job.job): job for job in jobs}, stretches


def bare_simso(
    members: Iterable[Task], scheduler: str, cpus: int, duration_ms: int, cycles_per_ms: int
) -> Mapping[Row, float | None]:
    """When the jobs end in ns, by SimSo on its own; tasks have whole ms and implicit deadlines."""
    configuration = Configuration()
    configuration.cycles_per_ms = cycles_per_ms
    configuration.duration = duration_ms * MS
    unit = MS // cycles_per_ms
    for number, task in enumerate(members):
        configuration.add_task(
            f"T{number}",
            number,
            abort_on_miss=False,
            period=task["period"] * unit,
            activation_date=task.get("offset", 0) * unit,
            deadline=task["period"] * unit,
            wcet=task["executiontime"] * unit,
            data={**task.get("config", {}), "priority": -task.get("priority", 0)},
        )
    for cpu in range(cpus):
        configuration.add_processor(f"CPU {cpu}", cpu)
    configuration.scheduler_info.clas = f"simso.schedulers.{scheduler}"
    with contextlib.redirect_stdout(io.StringIO()):
        model = Model(configuration)
        model.run_model()
    return {
        (number, index): job.end_date
        for number, task in enumerate(model.task_list)
        for index, job in enumerate(task.jobs)
    }
