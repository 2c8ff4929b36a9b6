from __future__ import annotations

import logging
import subprocess
import sys
from pathlib import Path
from typing import Any, ClassVar

import pytest
from simso_runs import MS, simulate, tasks

from taskgen_run.errors import BugError
from taskgen_run.job import Outcome
from taskgen_run.sessions.contract import SessionContract
from taskgen_run.sessions.simso import SimSoSession
from taskgen_run.task import Task
from taskgen_run.taskset import TaskSet

TEXTBOOK = [(3, 7), (3, 12), (5, 20)]


class TestSimSoContract(SessionContract):
    session = SimSoSession
    options: ClassVar[dict[str, Any]] = {"trace": True}

    def taskset(self) -> TaskSet:
        return TaskSet(tasks(*TEXTBOOK), "textbook")


def test_importing_the_session_does_not_import_simso() -> None:
    code = (
        "import sys, taskgen_run.sessions.simso\n"
        "assert not {'simso', 'SimPy', 'pyarrow'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_worst_response_times_of_the_textbook() -> None:
    taskset, _, _ = simulate(tasks(*TEXTBOOK))
    assert taskset.horizon_ns == 2 * 420 * MS
    worst = [
        max(job.end_ns - job.release_ns for job in task.jobs)  # type: ignore[operator]
        for task in taskset
    ]
    assert worst == [3 * MS, 6 * MS, 20 * MS]


def test_edf_meets_what_rm_misses() -> None:
    members = tasks((2, 5), (4, 7))
    _, edf, _ = simulate(members, scheduler="EDF")
    assert all(job.end_ns <= job.deadline_ns for job in edf.values())  # type: ignore[operator]
    _, rm, _ = simulate(members, scheduler="RM")
    assert (rm[1, 0].deadline_ns, rm[1, 0].end_ns) == (7 * MS, 8 * MS)


@pytest.mark.parametrize("scheduler", ["RM", "LLF", "PD2"])
def test_periods_do_not_drift(scheduler: str) -> None:
    _, jobs, _ = simulate(
        [Task(period=8.2, executiontime=0.1)], scheduler=scheduler, duration_ms=8200
    )
    assert [job.release_ns for job in jobs.values()] == [k * 8_200_000 for k in range(1000)]
    for job in jobs.values():
        assert job.deadline_ns == job.release_ns + 8_200_000  # type: ignore[operator]
    if scheduler == "RM":
        assert all(job.end_ns == job.release_ns + 100_000 for job in jobs.values())  # type: ignore[operator]


def test_a_job_starts_when_it_first_executes() -> None:
    _, jobs, _ = simulate(tasks((3, 10), (2, 20)), duration_ms=10)
    assert (jobs[1, 0].release_ns, jobs[1, 0].start_ns, jobs[1, 0].end_ns) == (0, 3 * MS, 5 * MS)


def test_nothing_is_released_at_the_horizon() -> None:
    _, jobs, _ = simulate(tasks((1, 5)), duration_ms=10)
    assert list(jobs) == [(0, 0), (0, 1)]


def test_unfinished_jobs_have_no_end() -> None:
    _, jobs, _ = simulate(tasks((4, 10), (5, 20)), duration_ms=6)
    assert jobs[1, 0].outcome is Outcome.UNFINISHED
    assert (jobs[1, 0].start_ns, jobs[1, 0].end_ns, jobs[1, 0].preemptions) == (4 * MS, None, 0)


def test_offsets_and_numbers_of_jobs() -> None:
    members = [Task(period=5, executiontime=1, offset=2, numberofjobs=3)]
    _, jobs, _ = simulate(members, duration_ms=100)
    assert [job.release_ns for job in jobs.values()] == [2 * MS, 7 * MS, 12 * MS]


def test_single_jobs_have_the_lowest_priority_and_no_deadline() -> None:
    for scheduler in ("RM", "DM", "EDF"):
        _, jobs, _ = simulate([Task(executiontime=2), *tasks((3, 5))], scheduler=scheduler)
        assert (jobs[0, 0].start_ns, jobs[0, 0].end_ns) == (3 * MS, 5 * MS)
        assert jobs[0, 0].deadline_ns is None


def test_a_job_without_work_starts_and_ends_when_it_executes() -> None:
    _, jobs, stretches = simulate(tasks((3, 10), (0, 20)), duration_ms=10, trace=True)
    assert (jobs[1, 0].start_ns, jobs[1, 0].end_ns) == (3 * MS, 3 * MS)
    assert jobs[1, 0].outcome is Outcome.FINISHED
    assert stretches == {(0, 0): [(0, 0, 3 * MS)]}


def test_a_migration_is_a_preemption() -> None:
    # At 2, task 2's job leaves processor 1 for task 1's; at 4 it goes on on processor 0.
    members = [
        Task(executiontime=4, period=10, priority=0),
        Task(executiontime=5, period=10, offset=2, priority=1),
        Task(executiontime=4, period=10, priority=2),
    ]
    _, jobs, stretches = simulate(members, scheduler="FP", cpus=2, duration_ms=10, trace=True)
    (first, start, end), (second, *_) = stretches[2, 0]
    assert (start, end, first != second) == (0, 2 * MS, True)
    assert (jobs[2, 0].preemptions, jobs[2, 0].migrations) == (1, 1)
    assert (jobs[2, 0].start_ns, jobs[2, 0].end_ns) == (0, 6 * MS)


def test_a_job_that_never_goes_on_was_preempted() -> None:
    _, jobs, _ = simulate([*tasks((4, 8), offset=1), Task(executiontime=9)], duration_ms=4)
    assert (jobs[1, 0].outcome, jobs[1, 0].preemptions) == (Outcome.UNFINISHED, 1)


def test_only_the_kernels_overhead_is_no_preemption() -> None:
    # The activation of task 1 interrupts the job of task 0 for 0.5 ms; nobody else executes.
    members = [*tasks((3, 10)), *tasks((1, 20), offset=1)]
    _, jobs, stretches = simulate(
        members, duration_ms=10, trace=True, activate_overhead_ms=0.4, schedule_overhead_ms=0.1
    )
    assert [end - start for _, start, end in stretches[0, 0]] == [MS // 2, 5 * MS // 2]
    assert jobs[0, 0].preemptions == 0


def test_overheads_and_context_switches_take_time() -> None:
    _, jobs, _ = simulate(
        tasks((1, 10)),
        duration_ms=10,
        activate_overhead_ms=0.1,
        schedule_overhead_ms=0.01,
        context_load_ms=0.2,
    )
    assert (jobs[0, 0].start_ns, jobs[0, 0].end_ns) == (310_000, 1_310_000)


def test_fp_runs_the_smallest_number_first() -> None:
    members = [Task(executiontime=1, period=10, priority=p) for p in (5, 0, 128)]
    _, jobs, _ = simulate(members, scheduler="FP", duration_ms=10)
    assert [job.start_ns for job in jobs.values()] == [MS, 0, 2 * MS]


def test_dm_runs_the_shortest_deadline_first_and_those_without_last() -> None:
    members = [Task(executiontime=1, period=10, deadline=d) for d in (9, 0, 3)]
    _, jobs, _ = simulate(members, scheduler="DM", duration_ms=10)
    assert [job.start_ns for job in jobs.values()] == [MS, 2 * MS, 0]


def test_a_packing_failure_is_a_result(caplog: pytest.LogCaptureFixture) -> None:
    for scheduler in ("P_EDF", "P_EDF2", "P_EDF_WF", "RUN", "EKG"):
        caplog.clear()
        with caplog.at_level(logging.INFO):
            taskset, jobs, _ = simulate(
                tasks((6, 10), (6, 10)), scheduler=scheduler, duration_ms=20, trace=True
            )
        assert taskset.horizon_ns == 20 * MS
        assert [(j.release_ns, j.deadline_ns) for j in jobs.values()] == 2 * [
            (0, 10 * MS),
            (10 * MS, 20 * MS),
        ]
        for job in jobs.values():
            assert (job.outcome, job.start_ns, job.end_ns) == (Outcome.NOT_SCHEDULED, None, None)
            assert (job.preemptions, job.migrations) == (0, 0)
        assert scheduler in caplog.text


def test_random_execution_times_belong_to_the_job_alone() -> None:
    members = [Task(period=10, executiontime=4, acet=2, et_stddev=0.5) for _ in range(2)]

    def executed(**options: Any) -> dict[tuple[int, int], int]:
        _, jobs, stretches = simulate(members, etm="acet", trace=True, duration_ms=100, **options)
        assert {job.outcome for job in jobs.values()} == {Outcome.FINISHED}
        return {row: sum(e - s for _, s, e in own) for row, own in stretches.items()}

    rm = executed(scheduler="RM")
    assert rm == executed(scheduler="LLF", cpus=2) == executed(scheduler="RM")
    assert len(set(rm.values())) == 20
    assert max(rm.values()) <= 4 * MS
    assert rm != executed(seed=1)
    assert rm != executed(variant=1)


def test_penalties_lengthen_preempted_jobs() -> None:
    members = [Task(executiontime=1, period=5, offset=1), Task(executiontime=2, period=10)]
    _, jobs, _ = simulate(members, etm="fixedpenalty", preemption_penalty_ms=0.5, duration_ms=5)
    assert jobs[1, 0].end_ns == 3_500_000


def test_the_cache_model_counts_instructions(tmp_path: Path) -> None:
    profile = tmp_path / "stack.txt"
    profile.write_text("10 0.75\n1000 0.25\n")
    members = [Task(period=10, executiontime=5, n_instr=100_000, mix=0.5, stack_file=str(profile))]
    options: dict[str, Any] = {"etm": "cache", "memory_access_ns": 100, "duration_ms": 10}
    _, jobs, _ = simulate(members, **options)
    assert jobs[0, 0].end_ns == 100_000 * (1 + 0.5 * 100)
    # A quarter of the accesses miss a cache of 500.
    _, jobs, _ = simulate(members, caches=[{"size": 500, "access_ns": 2}], **options)
    assert jobs[0, 0].end_ns == 100_000 * (1 + 0.5 * (2 + 0.25 * 98))


def test_the_cache_model_can_kill_a_job_that_never_ran(tmp_path: Path) -> None:
    profile = tmp_path / "stack.txt"
    profile.write_text("10 1\n")
    members = [
        Task(executiontime=1, period=9, n_instr=10_000, mix=1, stack_file=str(profile), deadline=d)
        for d in (9, 0.5)
    ]
    _, jobs, _ = simulate(members, etm="cache", on_miss="abort", duration_ms=9)
    assert jobs[1, 0].outcome is Outcome.KILLED
    assert jobs[1, 0].start_ns is None


def test_auto_lets_single_jobs_run_to_their_end() -> None:
    taskset, jobs, _ = simulate([*tasks((4, 5)), Task(executiontime=3)])
    assert jobs[1, 0].end_ns == 15 * MS
    assert taskset.horizon_ns == 20 * MS
    taskset, jobs, _ = simulate([Task(executiontime=3), Task(executiontime=4, offset=1)])
    assert [job.end_ns for job in jobs.values()] == [3 * MS, 7 * MS]
    assert taskset.horizon_ns == 8 * MS


def test_the_cap_is_logged_when_it_bites(caplog: pytest.LogCaptureFixture) -> None:
    session = SimSoSession("127.0.0.1", 0, duration_cap_ms=50)
    for members in (tasks((1, 7), (1, 11)), [*tasks((5, 5)), Task(executiontime=1)]):
        taskset = TaskSet(members, "long")
        with caplog.at_level(logging.DEBUG):
            session.start(taskset)
            while session.is_running(taskset):
                session.run(taskset)
        assert taskset.horizon_ns == 50 * MS
    levels = [record.levelno for record in caplog.records]
    assert levels == [logging.WARNING, logging.DEBUG]
    assert "duration_cap_ms = 50" in caplog.text


def test_a_call_of_run_is_short() -> None:
    taskset = TaskSet(tasks(*[(0.1, 1)] * 8), "many")
    session = SimSoSession("127.0.0.1", 0, duration_ms=3_000)
    session.start(taskset)
    assert session.run(taskset) == []
    assert session.is_running(taskset)
    session.stop()
    assert not session.is_running(taskset)
    assert session.run(taskset) == []


def test_a_session_that_traces_nothing_has_no_segments() -> None:
    taskset = TaskSet(tasks((1, 5)), "short")
    session = SimSoSession("127.0.0.1", 0)
    session.start(taskset)
    session.run(taskset)
    assert session.segments() is None


def test_segments_carry_the_variant_and_add_up() -> None:
    taskset = TaskSet(tasks(*TEXTBOOK), "textbook")
    taskset.variant = 7
    session = SimSoSession("127.0.0.1", 0, trace=True)
    session.start(taskset)
    while session.is_running(taskset):
        session.run(taskset)
    segments = session.segments()
    assert segments is not None
    assert set(segments.column("taskset").to_pylist()) == {7}
    executed = sum(row["end_ns"] - row["start_ns"] for row in segments.to_pylist())
    assert executed == (120 * 3 + 70 * 3 + 42 * 5) * MS


def test_a_scheduler_that_stops_time_is_a_bug(tmp_path: Path) -> None:
    file = tmp_path / "Restless.py"
    file.write_text(
        "from simso.core import Scheduler\n"
        "class Restless(Scheduler):\n"
        "    def on_activate(self, job):\n"
        "        job.cpu.resched()\n"
        "    def schedule(self, cpu):\n"
        "        cpu.resched()\n"
    )
    with pytest.raises(BugError, match="time does not pass after 0 ns"):
        simulate(tasks((1, 5)), scheduler=str(file))
