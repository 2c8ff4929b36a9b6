"""How a session drives a target over the taskloader protocol."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from taskgen_run import probing
from taskgen_run.errors import TargetError, TaskgenError, one_line
from taskgen_run.session import AbstractSession
from taskgen_run.sessions._genode_inputs import (
    Options,
    check_goal,
    check_tasks,
    find_binaries,
    read_binaries,
)
from taskgen_run.taskloader.client import Connection
from taskgen_run.taskloader.protocol import (
    Binary,
    Clear,
    GetLive,
    GoSend,
    Live,
    Profile,
    ProtocolError,
    Report,
    SendBinaries,
    SendDescs,
    Start,
    Stop,
)
from taskgen_run.taskset import TaskSet

if TYPE_CHECKING:
    from taskgen_run.job import Job
    from taskgen_run.sessions._genode_jobs import ObservedJobs

log = logging.getLogger(__name__)

RUN_SECONDS = 0.1
"""For how long one call of `run` collects jobs."""

RUN_JOBS = 10_000
"""After how many jobs it returns earlier; the target waits then, once the connection is full."""

ASK_SECONDS = 0.05
"""How often a target is asked whether it is clear."""

CLOSE_SECONDS = 1.0
"""How long `close` waits for a target to take the last command and to close its end."""


class GenodeSession(AbstractSession):
    """Runs task sets on a target. The options are explained in `conf/session/genode.yaml`.

    A failure is final: what was received before it is returned by `run` first, and from then on
    everything but `close` raises it.
    """

    admission_control = True

    def __init__(
        self,
        host: str,
        port: int,
        *,
        connect_timeout: float = Options.connect_timeout,
        reply_timeout: float = Options.reply_timeout,
        event_timeout: float = Options.event_timeout,
        upload_timeout: float = Options.upload_timeout,
        clear_timeout: float = Options.clear_timeout,
        get_live: bool = Options.get_live,
        duration_ms: float | None = Options.duration_ms,
        binaries: str | list[str] = Options.binaries,
    ) -> None:
        self._options = Options(
            connect_timeout=connect_timeout,
            reply_timeout=reply_timeout,
            event_timeout=event_timeout,
            upload_timeout=upload_timeout,
            clear_timeout=clear_timeout,
            get_live=get_live,
            duration_ms=duration_ms,
            binaries=binaries,
        )
        self._uploaded: set[str] = set()
        self._jobs: ObservedJobs | None = None
        self._failure: TaskgenError | None = None
        self._closed = self._used = self._has_reported = False
        self._unanswered = 0  # how many GET_LIVE were sent and not answered
        self._asked: float | None = None
        self._stop_by: float | None = None
        self._open(host, port, reply_timeout)

    def _open(self, host: str, port: int, patience: float) -> None:
        """Connect, and find out within `patience` seconds whether somebody is there.

        Raises OSError, TargetError.
        """
        self._unanswered = 0
        self._connection = Connection(host, port, self._options.connect_timeout)
        if self._options.get_live:
            try:
                self._ask_live(_after(patience))
            except BaseException as error:
                self._connection.close()
                if isinstance(error, ProtocolError):
                    raise TargetError(
                        f"what listens there must speak the taskloader protocol; check the port: "
                        f"{one_line(error)}"
                    ) from error
                raise

    @staticmethod
    def is_available(host: str, port: int, timeout: float) -> bool:
        """Tell within `timeout` seconds whether `host` takes connections on `port`.

        Whether somebody is there to talk to is found out once the session is made.
        """
        return any(probing.connectable([host], port, timeout))

    @classmethod
    def available(cls, hosts: Iterable[str], port: int, timeout: float) -> Iterator[str]:
        """Yield those of `hosts` that take connections on `port`, in the order they do."""
        return probing.connectable(hosts, port, timeout)

    @classmethod
    def check(cls, taskset: TaskSet, **options: Any) -> None:
        """Check the values of the options, that the tasks can be sent, and find their binaries.

        Raises ConfigurationError.
        """
        chosen = Options(**options)
        check_tasks(taskset)
        find_binaries(taskset, chosen.directories)

    @classmethod
    def files(cls, taskset: TaskSet, **options: Any) -> Iterable[Path]:
        """The binaries that the tasks name."""
        return find_binaries(taskset, Options(**options).directories).values()

    def start(self, taskset: TaskSet, *params: Any) -> None:
        """Clear the target, send it the goal, the task set and its binaries, and start it.

        Nothing is sent if anything is wrong with what was asked for. Raises ConfigurationError,
        TargetError.
        """
        # Imported here: it needs PyArrow, which is slow to import, and checks do without it.
        from taskgen_run.sessions._genode_jobs import ObservedJobs

        self._jobs = None
        self._raise_failure()
        xml = check_tasks(taskset)
        goal = check_goal(params)
        paths = find_binaries(taskset, self._options.directories)
        binaries = list(read_binaries(paths, self._uploaded))
        with self._failing():
            self._clear()
            if goal is not None:
                self._send(goal)
            self._send(SendDescs(xml))
            self._upload(binaries)
            self._send(Start())
        self._jobs = ObservedJobs(taskset, self._connection.peer)
        self._heard = time.monotonic()
        self._asked = None
        self._stop_by = None
        duration = self._options.duration_ms
        self._end = None if duration is None else self._heard + duration / 1000

    def run(self, taskset: TaskSet) -> list[Job]:
        """Collect for a moment; the jobs of which the target has told something new.

        Raises TargetError.
        """
        self._raise_failure()
        changed: dict[int, Job] = {}
        until = _after(RUN_SECONDS)
        try:
            with self._failing():
                while self._jobs is not None and len(changed) < RUN_JOBS:
                    self._advance(self._jobs, until, changed)
                    self._conclude(self._jobs, taskset)
                    if time.monotonic() >= until:
                        break
        except TargetError:
            if self._jobs is not None:
                taskset.horizon_ns = self._jobs.last_ns
            if not changed:
                raise
        self._report_error(taskset, changed.values())
        return list(changed.values())

    def _report_error(self, taskset: TaskSet, jobs: Iterable[Job]) -> None:
        """Log the first job that has ended with an error, of which only the target knows more."""
        from taskgen_run.job import Outcome  # which needs PyArrow, as in `start`

        for job in jobs:
            if job.outcome is Outcome.ERROR and not self._has_reported:
                self._has_reported = True
                log.warning(
                    "%s: a job of task %d ('%s') has ended with an error, and others may: its log "
                    "or console tells more",
                    *(self._connection.peer, job.task, taskset[job.task].get("pkg")),
                )

    def is_running(self, taskset: TaskSet) -> bool:
        """Whether the target may still tell of jobs, or a failure is to be raised."""
        return self._jobs is not None

    def stop(self) -> None:
        """Stop all tasks; `run` then returns how their jobs ended. Raises nothing: `run` does."""
        if self._jobs is None or self._failure is not None or self._stop_by is not None:
            return
        try:
            with self._failing():
                self._stop()
        except TargetError:
            return  # kept for `run`

    def close(self) -> None:
        """Clear the target if it still listens, and close the connection within a second or so."""
        if self._closed:
            return
        self._closed, self._jobs = True, None
        try:
            if self._used and self._failure is None:
                with self._failing():
                    self._connection.send(Clear(), _after(CLOSE_SECONDS))
                self._connection.close(CLOSE_SECONDS)
        except TargetError:
            return  # it is gone, and its tasks with it
        finally:
            self._failure = self._failure or TargetError(
                f"{self._connection.peer}: the session is closed"
            )
            self._connection.close()

    def _advance(self, jobs: ObservedJobs, until: float, changed: dict[int, Job]) -> None:
        """Wait for a message, at most `until` then; take it and the events that came with it."""
        due = self._end if self._stop_by is None else self._stop_by
        message = self._connection.receive(until if due is None else min(until, due))
        if message is None:
            self._watch(jobs)
            return
        alive = False
        while isinstance(message, Profile):
            for event in message.events:
                job = jobs.take(event)
                if job is not None:
                    changed[id(job)] = job
                    alive = True
            message = None if jobs.exhausted else self._connection.received()
        if isinstance(message, Live):
            self._unanswered = max(0, self._unanswered - 1)
            self._require_tasks(message)
            alive = True
        if alive or jobs.exhausted:
            self._heard, self._asked = time.monotonic(), None
        else:  # it may say nothing to the matter for ever
            self._watch(jobs)

    def _require_tasks(self, live: Live) -> None:
        """Raise TargetError if the target has lost what runs."""
        if not live.tasks and self._stop_by is None:
            raise TargetError(
                f"{self._connection.peer}: it must have the tasks that it was sent, and lists none"
            )

    def _watch(self, jobs: ObservedJobs) -> None:
        """Find out whether a silent target is frozen. Raises TimeoutError."""
        now, options = time.monotonic(), self._options
        if self._asked is not None:
            if now - self._asked >= options.reply_timeout:
                raise TimeoutError(
                    f"{self._connection.peer}: frozen: it has not answered GET_LIVE for "
                    f"{options.reply_timeout} s (session.reply_timeout)"
                )
        elif now - self._heard >= options.event_timeout and self._stop_by is None:
            if not options.get_live:
                raise TimeoutError(
                    f"{self._connection.peer}: frozen: no event for {options.event_timeout} s "
                    "(session.event_timeout); if jobs take longer, raise it"
                )
            self._get_live()

    def _conclude(self, jobs: ObservedJobs, taskset: TaskSet) -> None:
        """End the task set, or stop its tasks, if it is time to."""
        now = time.monotonic()
        if self._stop_by is None:
            settled = jobs.settled and self._end is None
            if not jobs.exhausted and (settled or (self._end is not None and now >= self._end)):
                self._stop()
            elif not jobs.exhausted:
                return
        late = self._stop_by is not None and now >= self._stop_by
        if late and self._unanswered and not jobs.exhausted:
            raise TimeoutError(
                f"{self._connection.peer}: frozen: it has not answered GET_LIVE after STOP for "
                f"{self._options.reply_timeout} s (session.reply_timeout)"
            )
        if jobs.exhausted or not (jobs.running or self._unanswered) or late:
            self._jobs = None
            instants = (jobs.stopped_ns, jobs.last_ns)
            taskset.horizon_ns = next((t for t in instants if t is not None), None)

    def _stop(self) -> None:
        """Send STOP. The answer to a GET_LIVE after it comes after all events before it."""
        self._send(Stop())
        if self._options.get_live:
            self._get_live()
        self._stop_by = _after(self._options.reply_timeout)

    def _clear(self) -> None:
        """Send CLEAR and wait until the target is clear: until it lists no task, if it can."""
        self._used = True
        clear_by = _after(self._options.clear_timeout)
        self._send(Clear())
        if not self._options.get_live:
            self._skip(clear_by)
            return
        while self._ask_live(clear_by + self._options.reply_timeout).tasks:
            if time.monotonic() >= clear_by:
                return
            self._skip(min(clear_by, _after(ASK_SECONDS)))

    def _upload(self, binaries: list[Binary]) -> None:
        if not binaries:
            return
        self._send(SendBinaries(len(binaries)))
        for binary in binaries:
            deadline = _after(self._options.upload_timeout)
            self._await(GoSend, deadline, f"to ask for binary {binary.name!r} (GO_SEND)")
            self._connection.send(binary, deadline)
            self._uploaded.add(binary.name)

    def _ask_live(self, deadline: float) -> Live:
        self._get_live()
        while True:
            answer = self._await(Live, deadline, "to answer GET_LIVE")
            self._unanswered -= 1
            if not self._unanswered:
                assert isinstance(answer, Live)
                return answer

    def _get_live(self) -> None:
        self._send(GetLive())
        self._unanswered += 1
        self._asked = time.monotonic()

    def _await(self, kind: type[Report], deadline: float, what: str) -> Report:
        """The next message of a `kind`. Others are of what ran before, and of no interest."""
        asked = time.monotonic()
        while (message := self._connection.receive(deadline)) is not None:
            if isinstance(message, kind):
                return message
            if time.monotonic() > deadline:
                break
        waited = round(time.monotonic() - asked, 1)
        raise TimeoutError(f"{self._connection.peer}: waited {waited} s in vain for it {what}")

    def _skip(self, until: float) -> None:
        """Wait `until` then; what arrives is of no interest."""
        while self._connection.receive(until) is not None and time.monotonic() < until:
            pass

    def _send(self, message: Any) -> None:
        self._connection.send(message, _after(self._options.reply_timeout))

    def _raise_failure(self) -> None:
        if self._failure is not None:
            raise self._failure

    @contextmanager
    def _failing(self) -> Iterator[None]:
        """Make whatever goes wrong with the target the session's failure. Raises TargetError."""
        try:
            yield
        except TaskgenError as error:
            self._failure = error
            raise
        except OSError as error:
            self._failure = self._blame(error)
            raise self._failure from error

    def _blame(self, error: OSError) -> TargetError:
        """What has gone wrong with the target, and what was done about it."""
        return TargetError(one_line(error))


def _after(seconds: float) -> float:
    """The instant of `time.monotonic()` that many seconds from now."""
    return time.monotonic() + seconds
