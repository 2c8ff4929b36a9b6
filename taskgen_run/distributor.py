"""Feeds the variants of a task set to one session after the other."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import pyarrow as pa

from taskgen_run.analysis.verdicts import Analysis
from taskgen_run.driving import blame, close, drive
from taskgen_run.errors import TaskgenError
from taskgen_run.hosts import TargetRange
from taskgen_run.interrupts import Interrupted, Interrupts
from taskgen_run.job import JOB_SCHEMA, JobBatch
from taskgen_run.monitor import AbstractMonitor, Batch
from taskgen_run.session import AbstractSession, BatchSession, SizingSession, TracingSession
from taskgen_run.task import Attribute
from taskgen_run.taskset import TaskSet
from taskgen_run.variants import Stream, TaskSets

BATCH = 1024
"""How many variants a session that computes in batches gets at a time at most …"""

BATCH_ROWS = 2**18
"""… and how many rows they have together, as far as that is known beforehand."""

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

    def run(self, variants: Iterable[TaskSet], go_on: Callable[[], bool] = lambda: True) -> None:
        """Process every variant; a variant that fails does not stop the others.

        Asks `go_on` before each one, or each batch, whether to process it. Raises Interrupted, and
        what a monitor raises.
        """
        stream = variants if isinstance(variants, Stream) else Stream(variants)
        count = 1  # until it is known that the session takes more
        try:
            while go_on() and (tasksets := stream.take(count)):
                try:
                    with self.interrupts.allowed():
                        session = self._session_on(self._host_of(tasksets.numbers[0]))
                except Exception as error:  # sessions are plug-ins: whatever they raise
                    for taskset in tasksets:
                        self._fail(taskset, blame(error, "connecting"))
                    continue
                if isinstance(session, BatchSession):
                    done = self._run_batch(session, tasksets)
                    stream.put_back(len(tasksets) - done)
                    count = min(2 * done, BATCH)
                else:
                    self._run_one(session, tasksets[0])
        finally:
            self._close()

    def _host_of(self, variant: int) -> str:
        return self.targets[variant % self.targets.count]

    def _session_on(self, host: str) -> AbstractSession:
        if self._session is None or self._host != host:
            self._close()
            self._session, self._host = self.connect(host), host
        return self._session

    def _run_one(self, session: AbstractSession, taskset: TaskSet) -> None:
        host = self._host_of(taskset.variant)
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

    def _run_batch(self, session: BatchSession, tasksets: TaskSets) -> int:
        """Run those that come first, so many that their rows are not too many; how many."""
        refused = tasksets.problems(self.declared)
        chosen: list[int] = []
        rows, done = 0, 0
        valid = [n for n in range(len(tasksets)) if n not in refused]
        sizes = self._rows(session, tasksets.only(valid) if refused else tasksets)
        size_of = dict(zip(valid, sizes, strict=True))
        for position in range(len(tasksets)):
            size = refused.get(position) or size_of[position]
            if isinstance(size, TaskgenError):
                self._fail(tasksets[position], size)
            elif chosen and rows + size > BATCH_ROWS:
                break
            else:
                chosen.append(position)
                rows += size
            done += 1
        if chosen:
            self._compute(tasksets if len(chosen) == len(tasksets) else tasksets.only(chosen))
        return done

    def _rows(self, session: BatchSession, tasksets: TaskSets) -> Sequence[int | TaskgenError]:
        if not isinstance(session, SizingSession):
            return [0] * len(tasksets)
        try:
            with self.interrupts.allowed():
                return session.estimate_rows(tasksets)
        except Exception as error:  # sessions are plug-ins: whatever they raise
            return [blame(error, "estimating rows")] * len(tasksets)

    def _compute(self, tasksets: TaskSets) -> None:
        """Run a batch; if it fails, its halves, until those that are to blame fail alone."""
        try:
            with self.interrupts.allowed():
                session: Any = self._session_on(self._host_of(tasksets.numbers[0]))
                if self.analysis is not None:
                    for taskset in tasksets:
                        if not taskset.verdicts:  # a half of a batch that failed has them
                            taskset.verdicts = self.analysis(taskset)
                jobs = session.run_batch(tasksets)
                segments = session.segments() if isinstance(session, TracingSession) else None
        except Exception as error:
            self._close()
            if len(tasksets) == 1:
                self._fail(tasksets[0], blame(error, "running"))
                return
            half = len(tasksets) // 2
            self._compute(tasksets[:half])
            self._compute(tasksets[half:])
            return
        hosts = [self._host_of(variant) for variant in tasksets.numbers]
        told = JobBatch(_with_hosts(jobs, tasksets.numbers, hosts))
        self.monitor.on_batch(Batch(tasksets, hosts, ATTEMPT, told, segments))

    def _fail(self, taskset: TaskSet, error: TaskgenError) -> None:
        host = self._host_of(taskset.variant)
        self.monitor.on_start(taskset, host, ATTEMPT)
        self.monitor.on_fail(taskset, host, ATTEMPT, error)

    def _close(self) -> None:
        session, self._session = self._session, None
        if session is not None:
            close(session, self._host)


def _with_hosts(
    jobs: pa.RecordBatch, variants: Sequence[int], hosts: Sequence[str]
) -> pa.RecordBatch:
    """Put the host of each variant into the `host` column, which a session cannot know."""
    import pyarrow.compute as pc  # slow to import, and only batches need it

    column = pa.array(hosts).dictionary_encode()
    of_job = pc.index_in(jobs.column("taskset"), value_set=pa.array(variants, pa.int64()))
    position = JOB_SCHEMA.get_field_index("host")
    return jobs.set_column(position, JOB_SCHEMA.field("host"), column.take(of_job))
