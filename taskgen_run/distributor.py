"""Feeds the variants of a task set to one session after the other."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice
from typing import Any

import pyarrow as pa

from taskgen_run.analysis.verdicts import Analysis
from taskgen_run.driving import blame, close, drive
from taskgen_run.errors import TaskgenError
from taskgen_run.hosts import TargetRange
from taskgen_run.interrupts import Interrupted, Interrupts
from taskgen_run.job import JOB_SCHEMA, JobBatch
from taskgen_run.monitor import AbstractMonitor
from taskgen_run.session import AbstractSession, BatchSession, TracingSession
from taskgen_run.task import Attribute
from taskgen_run.taskset import TaskSet

BATCH = 1024
"""How many variants a session that computes in batches gets at a time."""

ATTEMPT = 0
"""Every variant is tried once."""


@dataclass
class Distributor:
    """Runs variants on hosts, one after the other, and tells `monitor` of everything.

    Variant *n* runs on host *n* mod count, so results do not depend on timing. `connect` makes a
    session for a host, `params` go to its `start`; `declared` are the attributes of tasks that
    sessions of this kind add; `analysis` gives each variant its verdicts before it runs.
    """

    connect: Callable[[str], AbstractSession]
    targets: TargetRange
    monitor: AbstractMonitor
    interrupts: Interrupts
    params: Sequence[Any] = ()
    declared: Mapping[str, Attribute] = field(default_factory=dict)
    analysis: Analysis | None = None

    def __post_init__(self) -> None:
        self._session: AbstractSession | None = None
        self._host = ""

    def run(self, variants: Iterable[TaskSet]) -> None:
        """Process every variant; a variant that fails does not stop the others.

        Raises Interrupted, and what a monitor raises.
        """
        stream = iter(variants)
        try:
            for taskset in stream:
                try:
                    with self.interrupts.allowed():
                        session = self._session_on(self._host_of(taskset))
                except Exception as error:  # sessions are plug-ins: whatever they raise
                    self._fail([taskset], blame(error, "connecting"))
                    continue
                if isinstance(session, BatchSession):
                    self._run_batch(session, [taskset, *islice(stream, BATCH - 1)])
                else:
                    self._run_one(session, taskset)
        finally:
            self._close()

    def _host_of(self, taskset: TaskSet) -> str:
        return self.targets[taskset.variant % self.targets.count]

    def _session_on(self, host: str) -> AbstractSession:
        if self._session is None or self._host != host:
            self._close()
            self._session, self._host = self.connect(host), host
        return self._session

    def _run_one(self, session: AbstractSession, taskset: TaskSet) -> None:
        host = self._host_of(taskset)
        self.monitor.on_start(taskset, host, ATTEMPT)
        steps = drive(
            session,
            taskset,
            host=host,
            attempt=ATTEMPT,
            params=self.params,
            declared=self.declared,
            analysis=self.analysis,
            waiting=self.interrupts.allowed,
        )
        while True:
            try:
                jobs, segments = next(steps)
            except StopIteration:
                break
            except Interrupted:
                self.monitor.on_stop(taskset, host, ATTEMPT)
                session.stop()
                raise
            except Exception as error:
                self._close()  # what failed once is not trusted with the next variant
                self.monitor.on_fail(taskset, host, ATTEMPT, blame(error, "running"))
                return
            if jobs is not None:
                self.monitor.on_jobs(jobs)
            if segments is not None:
                self.monitor.on_segments(segments)
        self.monitor.on_finish(taskset, host, ATTEMPT)

    def _run_batch(self, session: BatchSession, tasksets: list[TaskSet]) -> None:
        valid = []
        for taskset in tasksets:
            try:
                taskset.check(self.declared)
            except TaskgenError as error:
                self._fail([taskset], error)
            else:
                valid.append(taskset)
        if not valid:
            return
        for taskset in valid:
            self.monitor.on_start(taskset, self._host_of(taskset), ATTEMPT)
        try:
            with self.interrupts.allowed():
                if self.analysis is not None:
                    for taskset in valid:
                        taskset.verdicts = self.analysis(taskset)
                jobs = session.run_batch(valid)
                segments = session.segments() if isinstance(session, TracingSession) else None
        except Interrupted:
            for taskset in valid:
                self.monitor.on_stop(taskset, self._host_of(taskset), ATTEMPT)
            raise
        except Exception as error:
            self._close()
            for taskset in valid:
                self.monitor.on_fail(
                    taskset, self._host_of(taskset), ATTEMPT, blame(error, "running")
                )
            return
        self.monitor.on_jobs(JobBatch(self._with_hosts(jobs, valid)))
        if segments is not None:
            self.monitor.on_segments(segments)
        for taskset in valid:
            self.monitor.on_finish(taskset, self._host_of(taskset), ATTEMPT)

    def _with_hosts(self, jobs: pa.RecordBatch, tasksets: list[TaskSet]) -> pa.RecordBatch:
        """Put the host of each variant into the `host` column, which a session cannot know."""
        import pyarrow.compute as pc  # slow to import, and only batches need it

        variants = pa.array([taskset.variant for taskset in tasksets], pa.int64())
        hosts = pa.array([self._host_of(taskset) for taskset in tasksets]).dictionary_encode()
        position = JOB_SCHEMA.get_field_index("host")
        column = hosts.take(pc.index_in(jobs.column("taskset"), value_set=variants))
        return jobs.set_column(position, JOB_SCHEMA.field("host"), column)

    def _fail(self, tasksets: list[TaskSet], error: TaskgenError) -> None:
        for taskset in tasksets:
            host = self._host_of(taskset)
            self.monitor.on_start(taskset, host, ATTEMPT)
            self.monitor.on_fail(taskset, host, ATTEMPT, error)

    def _close(self) -> None:
        session, self._session = self._session, None
        if session is not None:
            close(session, self._host)
