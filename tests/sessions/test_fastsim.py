"""FastSimSession: the contract, its options, batches, and what it says of what it cannot do."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

import pytest

from taskgen_run.errors import ConfigurationError
from taskgen_run.job import OUTCOMES, JobBatch, Outcome
from taskgen_run.sessions.contract import SessionContract
from taskgen_run.sessions.fastsim import FastSimSession
from taskgen_run.simulator import layout
from taskgen_run.task import Task
from taskgen_run.taskset import TaskSet

MS = 1_000_000


@pytest.fixture(scope="module", autouse=True)
def _compiled() -> None:
    """The simulator is compiled once per machine, and no test is to wait for it."""
    FastSimSession("", 0).run_batch([TaskSet([Task(period=5, executiontime=1)], "first")])


class TestFastSim(SessionContract):
    session = FastSimSession

    def taskset(self) -> TaskSet:
        return TaskSet([Task(period=5, executiontime=1, numberofjobs=3)], "short")


class TestTracedFastSim(TestFastSim):
    options = {"trace": True, "scheduler": "P_EDF", "cpus": 2}  # noqa: RUF012


def simulate(*members: Task, **options: Any) -> list[tuple[Any, ...]]:
    """Task, job, start and end in ms, outcome."""
    jobs = JobBatch(FastSimSession("", 0, **options).run_batch([TaskSet(members, "tested")]))
    return [
        (
            job.task,
            job.job,
            *(None if ns is None else ns / MS for ns in (job.start_ns, job.end_ns)),
            job.outcome,
        )
        for job in jobs
    ]


def test_the_simulator_writes_the_places_of_the_outcomes() -> None:
    places = {"finished": layout.FINISHED, "killed": layout.KILLED}
    places |= {"not_scheduled": layout.SKIPPED, "unfinished": layout.UNFINISHED}
    assert {name: OUTCOMES.to_pylist().index(name) for name in places} == places


def test_skip_next_skips_the_jobs_released_while_one_is_late() -> None:
    rows = simulate(Task(period=4, executiontime=9), on_miss="skip-next", duration_ms=20)
    assert rows == [
        (0, 0, 0, 9, Outcome.FINISHED),
        (0, 1, None, None, Outcome.NOT_SCHEDULED),
        (0, 2, None, None, Outcome.NOT_SCHEDULED),
        (0, 3, 12, None, Outcome.UNFINISHED),
        (0, 4, None, None, Outcome.NOT_SCHEDULED),
    ]


def test_a_job_that_ends_at_its_deadline_skips_nothing() -> None:
    rows = simulate(Task(period=4, executiontime=4), on_miss="skip-next", duration_ms=12)
    assert [row[4] for row in rows] == [Outcome.FINISHED] * 3


@pytest.mark.parametrize(
    ("packing", "expected"),
    [
        ("first-fit", [0, 1, 1, 0]),
        ("best-fit", [1, 1, 1, 0]),
        ("worst-fit", [1, 1, 2, 0]),
    ],
)
@pytest.mark.parametrize("scheduler", ["P_RM", "P_EDF"])
def test_packing_by_decreasing_utilization(
    scheduler: str, packing: str, expected: list[int]
) -> None:
    """The one of 0.7 comes first, then those of 0.4, and that of 0.1 fits on each processor."""
    members = [Task(period=10, executiontime=c) for c in (1, 4, 4, 7)]
    session = FastSimSession("", 0, scheduler=scheduler, cpus=3, packing=packing, trace=True)
    session.run_batch([TaskSet(members, "packed")])
    segments = session.segments()
    assert segments is not None
    found = {(row["task"], row["cpu"]) for row in segments.to_pylist()}
    assert found == set(enumerate(expected))


def test_a_task_set_that_does_not_fit_is_not_scheduled() -> None:
    members = [Task(period=10, executiontime=6) for _ in range(3)]
    rows = simulate(*members, scheduler="P_EDF", cpus=2, packing="worst-fit")
    assert {row[4] for row in rows} == {Outcome.NOT_SCHEDULED}


def test_a_batch_is_the_task_sets_one_by_one() -> None:
    sets = [
        TaskSet([Task(period=p, executiontime=2), Task(executiontime=e)], "one of many")
        for p, e in ((5, 3), (7, 30), (9, 1))
    ]
    for variant, taskset in enumerate(sets):
        taskset.variant = variant
    session = FastSimSession("", 0, scheduler="EDF")
    together = session.run_batch(sets).to_pylist()
    alone = [row for taskset in sets for row in session.run_batch([taskset]).to_pylist()]
    assert together == alone
    assert {row["taskset"] for row in together} == {0, 1, 2}


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"scheduler": "LLF"}, "session=simso has all schedulers"),
        ({"scheduler": "EDFF"}, "did you mean 'EDF'"),
        ({"cpus": 0}, "session.cpus must be ≥ 1, got 0"),
        ({"on_miss": "stop"}, "session.on_miss"),
        ({"packing": "best-fit"}, "session.packing must be simso"),
        ({"duration_ms": "long"}, "session.duration_ms must be a number"),
        ({"context_save_ms": -1}, "session.context_save_ms must be ≥ 0"),
        ({"duration_ms": 10**9}, "must release at most 10000000 jobs"),
    ],
)
def test_options_are_checked(options: dict[str, Any], message: str) -> None:
    taskset = TaskSet([Task(period=5, executiontime=1)], "checked")
    with pytest.raises(ConfigurationError, match=message):
        FastSimSession.check(taskset, **options)


def test_tasks_are_checked() -> None:
    with pytest.raises(ConfigurationError, match="executiontime must be set"):
        FastSimSession.check(TaskSet([Task(period=5)], "checked"))
    with pytest.raises(ConfigurationError, match="priority must be set"):
        FastSimSession.check(TaskSet([Task(period=5, executiontime=1)], "checked"), scheduler="FP")


def test_numba_is_imported_only_to_simulate() -> None:
    code = (
        "import sys; from taskgen_run.sessions.fastsim import FastSimSession as S;"
        "from taskgen_run.taskset import TaskSet; from taskgen_run.task import Task;"
        "S.check(TaskSet([Task(period=5, executiontime=1)], 'checked'));"
        "sys.exit('numba' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
