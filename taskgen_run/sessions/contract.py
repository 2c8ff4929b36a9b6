"""The contract of sessions as a test suite: every session runs it, also one of a user's own.

::

    class TestMySession(SessionContract):
        session = MySession
        host = "172.25.1.1"

        def taskset(self) -> TaskSet:
            return TaskSet([Task(period=5, executiontime=1, numberofjobs=3)], "mine")

pytest collects the tests that a subclass inherits; this module itself needs no pytest.
"""

from __future__ import annotations

import time
from abc import abstractmethod
from collections.abc import Mapping
from typing import Any, ClassVar

from taskgen_run.analysis.verdicts import TESTS, Analysis
from taskgen_run.job import JOB_SCHEMA, SEGMENT_SCHEMA, Job, JobBatch
from taskgen_run.session import AbstractSession, BatchSession, TracingSession
from taskgen_run.taskset import TaskSet


class SessionContract:
    """Subclass it, name the session, a host and a task set that it can run to its end."""

    session: type[AbstractSession]
    host: str = "127.0.0.1"
    port: int = 3001
    options: ClassVar[Mapping[str, Any]] = {}
    dead_host: str | None = None
    """An address where nothing answers, for sessions that reach out."""
    jobs_expected: bool = True
    """Whether running the task set makes jobs."""
    timeout: float = 2.0
    """Seconds within which hosts answer."""
    step_seconds: float = 5.0
    """What "a short, bounded time" means for `run`."""
    run_seconds: float = 60.0
    """Within which the task set ends."""

    @abstractmethod
    def taskset(self) -> TaskSet:
        """A task set whose first variant runs to its end."""

    def _first(self) -> TaskSet:
        return next(self.taskset().variants())

    def _connected(self) -> AbstractSession:
        return self.session(self.host, self.port, **self.options)

    def _run(self, session: AbstractSession, taskset: TaskSet) -> list[Job]:
        """Drive a task set to its end, holding the session to its bounds; the final jobs."""
        session.start(taskset)
        latest: dict[tuple[int, int], Job] = {}
        deadline = time.monotonic() + self.run_seconds
        running = True
        while running:
            before = time.monotonic()
            jobs = session.run(taskset)
            assert time.monotonic() - before <= self.step_seconds, "run() took too long"
            assert before < deadline, "the task set did not end"
            for job in jobs:
                known = latest.get((job.task, job.job))
                assert known is job or known is None or known.outcome is None, (
                    f"a final job was changed: {known}"
                )
                latest[job.task, job.job] = job
            running = session.is_running(taskset)
        return list(latest.values())

    def test_a_live_host_is_available(self) -> None:
        assert self.session.is_available(self.host, self.port, self.timeout) is True
        found = list(self.session.available([self.host], self.port, self.timeout))
        assert found == [self.host]

    def test_a_dead_host_is_not_available_within_the_timeout(self) -> None:
        if self.dead_host is None:
            assert self.session.computes, "a session that reaches out needs a dead_host"
            return
        before = time.monotonic()
        assert self.session.is_available(self.dead_host, self.port, self.timeout) is False
        assert time.monotonic() - before <= self.timeout + 1.0

    def test_the_task_set_passes_the_check(self) -> None:
        first = self._first()
        first.check(self.session.task_attributes)
        self.session.check(first, **self.options)
        for path in self.session.files(first, **self.options):
            assert path.is_file(), f"{path} decides the results and is not there"

    def test_schedulability_tests_understand_how_it_schedules(self) -> None:
        analysis = Analysis(tuple(TESTS), self.session.scheduling(**self.options))
        assert analysis(self._first()).keys() == TESTS.keys()

    def test_it_runs_a_task_set_to_its_end(self) -> None:
        session, taskset = self._connected(), self._first()
        try:
            jobs = self._run(session, taskset)
            assert bool(jobs) is self.jobs_expected
            assert session.is_running(taskset) is False
            stored = [job for task in taskset for job in task.jobs]
            assert sorted(map(_key, stored)) == sorted(map(_key, jobs))
        finally:
            session.close()

    def test_its_jobs_are_well_formed(self) -> None:
        session, taskset = self._connected(), self._first()
        try:
            jobs = self._run(session, taskset)
        finally:
            session.close()
        for job in jobs:
            assert 0 <= job.task < len(taskset)
            assert job.job >= 0
            times = [t for t in (job.release_ns, job.start_ns, job.end_ns) if t is not None]
            assert times == sorted(times), f"release ≤ start ≤ end does not hold: {job}"
            assert all(isinstance(t, int) for t in times)
        assert len({_key(job) for job in jobs}) == len(jobs)
        batch = JobBatch.from_jobs(jobs, taskset=0, attempt=0, host=self.host)
        assert batch.record_batch.schema.equals(JOB_SCHEMA)

    def test_one_session_runs_several_task_sets(self) -> None:
        session = self._connected()
        try:
            first = self._run(session, self._first())
            second = self._run(session, self._first())
        finally:
            session.close()
        assert sorted(map(_key, first)) == sorted(map(_key, second))
        if self.session.computes:
            assert sorted(first, key=_key) == sorted(second, key=_key)

    def test_it_can_be_stopped_early(self) -> None:
        session = self._connected()
        try:
            session.start(stopped := self._first())
            session.stop()
            deadline = time.monotonic() + self.run_seconds
            while session.is_running(stopped):
                session.run(stopped)
                assert time.monotonic() < deadline, "stop() did not end the task set"
            assert bool(self._run(session, self._first())) is self.jobs_expected
        finally:
            session.close()

    def test_it_can_be_closed_twice(self) -> None:
        session = self._connected()
        session.close()
        session.close()

    def test_it_computes_batches_as_it_computes_single_task_sets(self) -> None:
        session = self._connected()
        try:
            if not isinstance(session, BatchSession):
                return
            jobs = session.run_batch([self._first(), self._first()])
            assert jobs.schema.equals(JOB_SCHEMA)
            assert jobs.num_rows == 2 * len(self._run(session, self._first()))
        finally:
            session.close()

    def test_its_segments_add_up(self) -> None:
        session = self._connected()
        try:
            if not isinstance(session, TracingSession):
                return
            jobs = self._run(session, self._first())
            segments = session.segments()
            if segments is None:
                return
            assert segments.schema.equals(SEGMENT_SCHEMA)
            traced = {(row["task"], row["job"]) for row in segments.to_pylist()}
            assert traced <= set(map(_key, jobs))
        finally:
            session.close()


def _key(job: Job) -> tuple[int, int]:
    return job.task, job.job
