"""What must hold of every schedule, whatever the task set."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from itertools import pairwise
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
from simso_runs import MS, Row, Stretch, simulate

from taskgen_run.job import Job, Outcome
from taskgen_run.task import Task
from taskgen_run.taskset import TaskSet

HORIZON_MS = 60
TENTHS = st.integers(0, 120)


@st.composite
def random_tasks(draw: st.DrawFn) -> list[Task]:
    members = []
    for priority in draw(st.permutations(range(4)))[: draw(st.integers(1, 4))]:
        period = draw(st.integers(10, 250)) / 10
        task = Task(
            period=period,
            executiontime=min(draw(TENTHS) / 10, period),
            offset=draw(st.sampled_from([0, 0, 0.1, 3, 7.7])),
            priority=priority,
        )
        deadline = draw(st.sampled_from([None, None, 0, 5, 8.2, 30]))
        if deadline is not None:
            task["deadline"] = deadline
        if draw(st.booleans()) and draw(st.booleans()):
            task["numberofjobs"] = draw(st.integers(1, 3))
        members.append(task)
    if draw(st.booleans()):
        members.append(Task(executiontime=draw(TENTHS) / 10, offset=2, priority=5))
    return members


Schedule = tuple[TaskSet, dict[Row, Job], dict[Row, list[Stretch]]]

PRIORITY: Mapping[str, Callable[[Task, Job], float]] = {
    "RM": lambda task, job: task.period_ns or float("inf"),
    "FP": lambda task, job: task["priority"],
    "DM": lambda task, job: task.deadline_ns or float("inf"),
    "EDF": lambda task, job: job.release_ns + (task.deadline_ns or 2**52),  # type: ignore[operator]
}

RUNS = st.fixed_dictionaries(
    {
        "scheduler": st.sampled_from(sorted(PRIORITY)),
        "on_miss": st.sampled_from(["continue", "abort"]),
        "cpus": st.sampled_from([1, 1, 2, 3]),
    }
)


@settings(max_examples=150, deadline=None, derandomize=True)
@given(random_tasks(), RUNS)
def test_priority_driven_schedules_are_right(members: list[Task], options: dict[str, Any]) -> None:
    schedule = simulate(members, duration_ms=HORIZON_MS, trace=True, **options)
    check_jobs(schedule, kills=options["on_miss"] == "abort")
    check_counts(schedule)
    check_decisions(schedule, PRIORITY[options["scheduler"]], options["cpus"])


def check_jobs(schedule: Schedule, *, kills: bool) -> None:
    """Each job executes for its execution time after its release, after those before it."""
    taskset, jobs, stretches = schedule
    for (position, number), job in jobs.items():
        task, own = taskset[position], stretches[position, number]
        work = task.executiontime_ns
        assert work is not None
        assert job.release_ns == task.offset_ns + number * task.period_ns
        assert job.release_ns < HORIZON_MS * MS
        done = sum(end - start for _, start, end in own)
        if own:
            assert job.start_ns == own[0][1]
            assert job.release_ns <= own[0][1]
            assert own[-1][2] <= (HORIZON_MS * MS if job.end_ns is None else job.end_ns)
        previous = jobs.get((position, number - 1))
        if previous is not None and job.start_ns is not None:
            assert previous.end_ns is not None
            assert previous.end_ns <= job.start_ns
        if job.outcome is Outcome.FINISHED:
            assert done == work
            assert job.end_ns is not None
            assert not own or job.end_ns == own[-1][2]
            assert not kills or job.deadline_ns is None or job.end_ns <= job.deadline_ns
        elif job.outcome is Outcome.KILLED:
            assert kills
            assert job.end_ns == job.deadline_ns
            assert done < work or work == 0
        else:
            assert job.outcome is Outcome.UNFINISHED
            assert job.end_ns is None
            assert done < work or work == 0
            assert not kills or job.deadline_ns is None or job.deadline_ns > HORIZON_MS * MS


def check_counts(schedule: Schedule) -> None:
    """Without overheads, every gap is a preemption, and every change of processor a migration."""
    _, jobs, stretches = schedule
    for row, job in jobs.items():
        own = stretches[row]
        assert job.migrations == sum(a[0] != b[0] for a, b in pairwise(own))
        until = HORIZON_MS * MS if job.end_ns is None else job.end_ns
        left = bool(own) and own[-1][2] < until
        assert job.preemptions == max(len(own) - 1, 0) + left


def check_decisions(schedule: Schedule, priority: Callable[[Task, Job], float], cpus: int) -> None:
    """At any time the jobs that execute are those of highest priority, as many as can."""
    taskset, jobs, stretches = schedule
    horizon = HORIZON_MS * MS
    instants = {0, horizon}
    for row, job in jobs.items():
        instants |= {t for t in (job.release_ns, job.end_ns) if t is not None}
        instants |= {t for _, start, end in stretches[row] for t in (start, end)}
    ordered = sorted(instant for instant in instants if instant <= horizon)
    for start, end in pairwise(ordered):
        running: dict[Row, int] = {
            row: cpu for row, own in stretches.items() for cpu, s, e in own if s <= start < e
        }
        assert len(set(running.values())) == len(running)
        heads: dict[int, Row] = {}
        for row, job in sorted(jobs.items()):
            assert job.release_ns is not None
            if job.release_ns <= start and (job.end_ns is None or job.end_ns >= end):
                heads.setdefault(row[0], row)
        assert set(running) <= set(heads.values())
        assert len(running) == min(cpus, len(heads)), (start, end, running, heads)
        waiting = [
            priority(taskset[row[0]], jobs[row]) for row in heads.values() if row not in running
        ]
        executing = [priority(taskset[row[0]], jobs[row]) for row in running]
        assert not waiting or max(executing) <= min(waiting), (start, end, running, heads)


@st.composite
def coarse_tasks(draw: st.DrawFn) -> list[Task]:
    """Tasks whose events often coincide with each other and with the end of an overhead."""
    return [
        Task(
            period=draw(st.integers(6, 30)),
            executiontime=draw(st.integers(1, 8)),
            deadline=draw(st.integers(1, 20)),
            offset=draw(st.integers(0, 3)),
            priority=draw(st.integers(0, 9)),
            numberofjobs=draw(st.integers(1, 4)),
        )
        for _ in range(draw(st.integers(2, 5)))
    ]


OVERHEADS = st.fixed_dictionaries(
    {
        "schedule_overhead_ms": st.sampled_from([0, 0.25, 1]),
        "activate_overhead_ms": st.sampled_from([0, 0.25]),
        "terminate_overhead_ms": st.sampled_from([0, 0.25]),
        "context_save_ms": st.sampled_from([0, 0.5]),
        "context_load_ms": st.sampled_from([0, 1]),
    }
)


@settings(max_examples=200, deadline=None, derandomize=True)
@given(coarse_tasks(), RUNS, OVERHEADS)
def test_no_job_is_lost_while_the_kernel_works(
    members: list[Task], options: dict[str, Any], overheads: dict[str, Any]
) -> None:
    _, jobs, _ = simulate(members, duration_ms=1000, **overheads, **options)
    assert Outcome.UNFINISHED not in {job.outcome for job in jobs.values()}
