"""Whatever events come, the jobs are well-formed or the target is said to lie."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from taskgen_run.errors import TargetError
from taskgen_run.job import Job
from taskgen_run.sessions._genode_jobs import ObservedJobs
from taskgen_run.task import Task
from taskgen_run.taskloader.protocol import Event, EventType
from taskgen_run.taskset import TaskSet

EVENTS = st.lists(
    st.builds(Event, st.sampled_from(EventType), st.integers(-1, 3), st.integers(0, 30)),
    max_size=40,
)


def _tasks() -> TaskSet:
    return TaskSet(
        [
            Task(id=0, period=1e-6, deadline=2e-6),
            Task(id=1, period=5e-6, numberofjobs=3),
            Task(id=3),
        ],
        "mine",
    )


@given(EVENTS, st.booleans())
def test_jobs_are_well_formed_or_the_target_lies(events: list[Event], in_order: bool) -> None:
    taskset = _tasks()
    observed = ObservedJobs(taskset, "target 127.0.0.1")
    final: dict[tuple[int, int], Job] = {}
    settled = False
    for event in sorted(events, key=lambda event: event.time_ns) if in_order else events:
        try:
            job = observed.take(event)
        except TargetError:
            break
        if job is not None and job.outcome is not None:
            assert final.setdefault((job.task, job.job), job) is job
        settled = settled or observed.settled
        assert observed.settled is settled
    jobs = [job for task in taskset for job in task.jobs]
    for task in taskset:
        assert [job.job for job in task.jobs] == list(range(len(task.jobs)))
        assert task.job_count is None or len(task.jobs) <= task.job_count
    for job in jobs:
        times = [t for t in (job.release_ns, job.start_ns, job.end_ns) if t is not None]
        assert times == sorted(times)
        ended = job.outcome is not None and job.start_ns is not None
        assert ended is (job.end_ns is not None)
    running = [job for job in jobs if job.outcome is None]
    assert observed.running == len(running)
    assert not (observed.exhausted and running)
    assert not observed.exhausted or observed.settled
