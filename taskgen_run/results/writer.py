"""The monitor that writes a result directory."""

from __future__ import annotations

import shutil
import threading
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from taskgen_run.errors import (
    BugError,
    ConfigurationError,
    InfrastructureError,
    TaskgenError,
    one_line,
)
from taskgen_run.monitor import AbstractMonitor
from taskgen_run.results import directory as directories
from taskgen_run.results import files
from taskgen_run.results.directory import Contents, Status
from taskgen_run.results.failed_hosts import FailedHosts
from taskgen_run.results.intervals import Intervals
from taskgen_run.results.journal import Journal
from taskgen_run.results.pending import Pending
from taskgen_run.results.publish import publish
from taskgen_run.results.schemas import FORMAT, HOSTS, TABLES, attributes, plain, schema

if TYPE_CHECKING:
    import filelock
    import pyarrow as pa

    from taskgen_run.job import JobBatch
    from taskgen_run.task import Attribute
    from taskgen_run.taskset import TaskSet

COMMIT_SECONDS = 0.02
"""What has ended is in the journal about this much later, whatever the runner does meanwhile."""

COMMIT_SIZE = 2**15
"""What has been reported is written down at once when it is about as many rows."""


class ResultWriter(AbstractMonitor):
    """Writes what it is told of an experiment into one directory, in bounded memory.

    Its methods raise InfrastructureError when the disk fails, and BugError when they are called
    against their contract, possibly one call late. Every later call raises the error again; what
    was in the journal until then is kept.
    """

    def __init__(
        self,
        directory: Path,
        facts: Mapping[str, Any],
        declared: Mapping[str, Attribute],
        tests: Sequence[str],
        held: Contents | None,
    ) -> None:
        """Begin in a locked directory, with the finished variants that it held. Use `open`."""
        self.directory = directory
        self._schemas = {table: schema(table, declared, tests) for table in (*TABLES, HOSTS)}
        self._pending = Pending(attributes(declared), self._schemas)
        self._finished = held.finished if held else Intervals()
        self._failed = Intervals()
        self._jobs = held.jobs if held else 0
        self._deadline_misses = held.deadline_misses if held else 0
        self._unknown_misses = held.unknown_misses if held else 0
        self._facts = dict(facts)
        self._started = _now()
        self._failed_hosts = FailedHosts()
        self._lock: filelock.BaseFileLock | None = None
        self._error: TaskgenError | None = None
        self._is_told = False
        self._is_done = False
        self._mutex = threading.Lock()
        self._ended = threading.Event()
        self._closing = threading.Event()
        self._thread: threading.Thread | None = None
        self._journal = Journal(directory, self._schemas, self._recovered(held))

    @classmethod
    def open(
        cls,
        directory: Path,
        facts: Mapping[str, Any],
        *,
        rerun: bool = False,
        declared: Mapping[str, Attribute] | None = None,
        tests: Sequence[str] = (),
    ) -> ResultWriter:
        """Claim `directory` for one experiment, and go on with what it holds of it.

        `facts` goes into experiment.json and has at least its `fingerprint`, the `version` of
        the package and the `seed`; `labels` in it become columns when a sweep is read.
        `declared` are the attributes that the session adds to those of every task, `tests` the
        schedulability tests whose verdicts variants come with. Failed variants are forgotten, to be
        run again; with `rerun` so is everything, but the old Parquet files stay until the new ones
        replace them.

        Raises ConfigurationError for a directory with another experiment, with files of others or
        with results of another version, and InfrastructureError for one that cannot be written or
        is being written.
        """
        directory = Path(directory)
        found = directories.identify(directory, facts["fingerprint"], facts["version"])
        found.require_usable(rerun=rerun)
        with files.disk(directory):
            directory.mkdir(parents=True, exist_ok=True)
            lock = _claim(directory)
            try:
                found = directories.identify(directory, facts["fingerprint"], facts["version"])
                found.require_usable(rerun=rerun)
                files.remove_leftovers(directory)
                earlier = directories.record(directory)
                held = None
                if earlier is not None and not rerun:
                    held = directories.contents(directory, Status(earlier["status"]))
                writer = cls(directory, facts, declared or {}, tests, held)
                if held is not None and earlier is not None:
                    writer._started = earlier["started"]
                    writer._failed_hosts = FailedHosts(earlier.get("failed_hosts", ()))
                try:
                    writer._write_record(Status.RUNNING, None)
                except BaseException:
                    writer._journal.close()
                    raise
            except BaseException:
                lock.release()
                raise
        writer._lock = lock
        return writer

    @property
    def finished(self) -> Intervals:
        """The variants whose results are in the directory, as of now; a copy."""
        with self._mutex:
            return self._finished.copy()

    @property
    def failed(self) -> int:
        """How many variants have failed in this run."""
        with self._mutex:
            return len(self._failed) + self._pending.failures

    def on_start(self, taskset: TaskSet, host: str, attempt: int) -> None:
        """An attempt at a variant begins."""
        with self._reporting():
            number = taskset.variant
            if number in self._finished or number in self._failed:
                raise BugError(f"variant {number} has ended already and must not be started again")
            self._pending.start(taskset, host, attempt)

    def on_jobs(self, jobs: JobBatch) -> None:
        """New or changed jobs."""
        with self._reporting():
            self._pending.add_jobs(jobs.record_batch)
            self._commit_much()

    def on_segments(self, segments: pa.RecordBatch) -> None:
        """New stretches of execution."""
        with self._reporting():
            self._pending.add_segments(segments)

    def on_finish(self, taskset: TaskSet, host: str, attempt: int) -> None:
        """A variant has finished; all of its jobs have an outcome."""
        with self._reporting():
            self._pending.finish(taskset)
            self._commit_soon()

    def on_stop(self, taskset: TaskSet, host: str, attempt: int) -> None:
        """A variant was stopped: it leaves no rows, and the next run repeats it."""
        with self._reporting():
            self._pending.drop(taskset)

    def on_fail(self, taskset: TaskSet, host: str, attempt: int, error: Exception) -> None:
        """A variant has failed for good; the jobs it had are kept, open ones as unfinished."""
        with self._reporting():
            self._pending.fail(taskset, host, attempt, one_line(error))
            self._commit_soon()

    def on_host_fail(self, host: str, error: Exception, *, put_aside: bool) -> None:
        """A host has failed; that is kept at once, as it belongs to no variant."""
        with self._reporting(), files.disk(self.directory):
            self._failed_hosts.count(host, error, put_aside=put_aside)
            self._write_record(Status.RUNNING, None)

    def finish(self, status: str, error: str | None = None) -> None:
        """End the experiment as 'finished' or 'failed', with Parquet files, or as 'stopped'.

        A stopped experiment keeps its journal, from which the next run goes on. After a BugError
        an experiment can be finished as failed with what was in the journal.
        """
        ending = Status(status)
        if self._error is None:
            with self._reporting():
                self._commit()
        elif not self._is_told or isinstance(self._error, InfrastructureError):
            self._is_told = True
            raise self._error
        self._is_done = True
        with self._mutex, files.disk(self.directory):
            if ending.is_complete:
                publish(
                    Contents(
                        self.directory,
                        self._journal.path,
                        self._journal.commits,
                        self._finished,
                        self._failed,
                    ),
                    self._schemas,
                    self._failed_hosts.table(),
                )
            self._write_record(ending, error)
            if ending.is_complete:
                shutil.rmtree(self._journal.path)

    def close(self) -> None:
        """Release the directory; an experiment that was not finished counts as stopped."""
        lock, self._lock = self._lock, None
        if lock is None:
            return
        try:
            if not self._is_done and self._error is None:
                self.finish(Status.STOPPED)
            elif self._error is not None and not self._is_told:
                self._is_told = True
                raise self._error
        finally:
            self._closing.set()
            self._ended.set()
            if self._thread is not None:
                self._thread.join()
            self._journal.close()
            lock.release()

    def _recovered(self, held: Contents | None) -> Mapping[str, Iterable[pa.RecordBatch]]:
        if held is None:
            return {}
        for table in TABLES:
            columns = held.columns(table)
            expected = plain(self._schemas[table])
            if columns is not None and not plain(columns).equals(expected, check_metadata=True):
                raise ConfigurationError(
                    f"{self.directory}: its {table} have the columns {columns.names}, not "
                    f"{expected.names}; start anew with rerun=true, or choose another directory"
                )
        return {table: held.rows(table, held.finished) for table in TABLES}

    @contextmanager
    def _reporting(self) -> Iterator[None]:
        """One call at a time; what goes wrong in it is the end of the writer."""
        with self._mutex:
            if self._error is not None:
                self._is_told = True
                raise self._error
            try:
                yield
            except BaseException as error:
                self._error = _as_ours(error)
                self._is_told = threading.current_thread() is not self._thread
                if isinstance(error, Exception) and error is not self._error:
                    raise self._error from error
                raise

    def _commit_much(self) -> None:
        if self._pending.size >= COMMIT_SIZE:
            self._commit()

    def _commit_soon(self) -> None:
        if self._thread is None:
            self._thread = threading.Thread(
                target=self._commit_late, name="taskgen_run results", daemon=True
            )
            self._thread.start()
        self._commit_much()
        if not self._ended.is_set():
            self._ended.set()

    def _commit_late(self) -> None:
        """The thread that writes down what has ended while the runner is busy."""
        while self._error is None:
            self._ended.wait()
            self._ended.clear()
            if self._closing.wait(COMMIT_SECONDS):
                return
            # An error is kept, and raised by the runner's next call.
            with suppress(TaskgenError), self._reporting():
                self._commit()

    def _commit(self) -> None:
        rows, ended = self._pending.take()
        if any(batch.num_rows for batch in rows.values()):
            self._journal.commit(rows)
        for variant in ended:
            has_finished = variant.outcome == Status.FINISHED
            (self._finished if has_finished else self._failed).add(variant.taskset.variant)
            self._jobs += variant.jobs
            self._deadline_misses += variant.deadline_misses
            self._unknown_misses += variant.unknown_misses

    def _write_record(self, status: Status, error: str | None) -> None:
        directories.write_record(
            self.directory,
            {
                "format": FORMAT,
                "status": status.value,
                **self._facts,
                "started": self._started,
                "ended": None if status is Status.RUNNING else _now(),
                "counts": {
                    "finished": len(self._finished),
                    "failed": len(self._failed),
                    "jobs": self._jobs,
                    "deadline_misses": self._deadline_misses,
                    "unknown_misses": self._unknown_misses,
                },
                "failed_hosts": self._failed_hosts.rows,
                "error": error,
            },
        )


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="milliseconds")


def _as_ours(error: BaseException) -> TaskgenError:
    if isinstance(error, TaskgenError):
        return error
    return BugError(f"writing results broke off: {type(error).__name__}: {one_line(error)}")


def _claim(directory: Path) -> filelock.BaseFileLock:
    import filelock

    lock = filelock.FileLock(directory / files.LOCK, timeout=0, thread_local=False)
    try:
        lock.acquire()
    except filelock.Timeout as error:
        raise InfrastructureError(
            f"{directory}: is being written by another process; wait for it, or choose another "
            "directory"
        ) from error
    return lock
