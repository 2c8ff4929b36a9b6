"""What SimSo does not have, against the obvious simulator."""

from __future__ import annotations

import random
from collections.abc import Callable

import pytest
from obvious import Executed, simulate

from taskgen_run.errors import ConfigurationError
from taskgen_run.sessions.fastsim import FastSimSession
from taskgen_run.task import Task
from taskgen_run.taskset import TaskSet

MS = 1_000_000
HORIZON_MS = 40


def random_tasks(rng: random.Random) -> list[Task]:
    periods = rng.choice([[4, 8], [3, 5, 7], [6], list(range(2, 20))])
    return [
        Task(
            period=rng.choice(periods),
            executiontime=rng.choice([0, 1, 1, 2, 3, 5]),
            offset=rng.choice([0, 0, 1, 4]),
            deadline=rng.choice([1, 3, 4, 6, 8, 12, 20]),
            priority=rng.randint(0, 2),
        )
        for _ in range(rng.randint(1, 6))
    ]


@pytest.mark.parametrize("on_miss", ["continue", "abort", "skip-next"])
@pytest.mark.parametrize("scheduler", ["NP_FP", "NP_EDF", "FP", "RM", "DM", "EDF", "P_EDF"])
def test_it_agrees_with_the_obvious_simulator(scheduler: str, on_miss: str) -> None:
    rng = random.Random(f"{scheduler} {on_miss}")
    sets = [random_tasks(rng) for _ in range(100)]
    for members in sets:
        keys: dict[str, Callable[[Executed], float]] = {
            "FP": lambda job, tasks=members: tasks[job.task]["priority"],  # type: ignore[misc]
            "RM": lambda job, tasks=members: tasks[job.task]["period"],  # type: ignore[misc]
            "DM": lambda job, tasks=members: tasks[job.task]["deadline"],  # type: ignore[misc]
            "EDF": lambda job: job.deadline,
        }
        expected = simulate(
            members,
            HORIZON_MS,
            keys[scheduler.split("_")[-1]],
            preemptive=not scheduler.startswith("NP_"),
            on_miss=on_miss,
        )
        session = FastSimSession(
            "", 0, scheduler=scheduler, on_miss=on_miss, tie="index", duration_ms=HORIZON_MS,
            packing="simso",
        )  # fmt: skip
        taskset = TaskSet(members, "beyond")
        session.start(taskset)
        if scheduler == "P_EDF" and sum(t["executiontime"] / t["period"] for t in members) > 1:
            continue
        found = [
            (
                job.task,
                job.job,
                None if job.start_ns is None else job.start_ns // MS,
                None if job.end_ns is None else job.end_ns // MS,
                job.outcome,
            )
            for job in session.run(taskset)
        ]
        assert found == [(j.task, j.number, j.start, j.end, j.outcome) for j in expected], members


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            {"scheduler": "EDF", "tie": "index", "cpus": 2},
            "session.cpus must be 1 with session.tie",
        ),
        (
            {"scheduler": "NP_EDF", "tie": "index", "context_save_ms": 1},
            "session.context_save_ms must be 0 with session.tie=index, got 1; use tie=simso",
        ),
    ],
)
def test_what_is_not_there_is_said(options: dict[str, object], message: str) -> None:
    taskset = TaskSet([Task(period=5, executiontime=1)], "checked")
    with pytest.raises(ConfigurationError, match=message):
        FastSimSession.check(taskset, **options)
