"""Real targets: one session per available host, and every variant finished exactly once.

A thread per running session drives it; one more thread probes hosts, lazily, for as long as there
is work that nobody has taken. What sessions report passes through one bounded queue to the thread
of the caller, which alone talks to the monitor: when that is slow, the queue fills, sessions wait,
and targets are held back by TCP.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any

from taskgen_run.analysis.verdicts import Analysis
from taskgen_run.driving import blame, close, drive
from taskgen_run.errors import (
    InfrastructureError,
    SilentError,
    TargetError,
    TaskgenError,
    one_line,
)
from taskgen_run.hostlock import HostLock, locked_hosts
from taskgen_run.hosts import TargetRange
from taskgen_run.interrupts import Interrupted, Interrupts
from taskgen_run.known_hosts import Bounds, KnownHost
from taskgen_run.monitor import AbstractMonitor
from taskgen_run.reports import Reports
from taskgen_run.session import AbstractSession
from taskgen_run.task import Attribute
from taskgen_run.taskset import TaskSet
from taskgen_run.threads import Threads
from taskgen_run.work import Try, Work

if TYPE_CHECKING:
    import pyarrow as pa

    from taskgen_run.job import JobBatch

log = logging.getLogger(__name__)

WAITING_REPORTS = 2**10
WAITING_JOBS = 2**17
"""How much may wait for the monitor before sessions have to."""

FIRST_DELAY = 0.5
LONGEST_DELAY = 30.0
"""Seconds before a host that did not answer or failed is asked again; doubled each time, up to the
longest and a quarter of `available_timeout`."""

NAMED = 3  # of the hosts that cannot be used, in the log
DRIVEN = "another experiment drives it"

STOP_SECONDS = 10.0
"""For how long sessions are waited for when a run is stopped."""
IDLE_SECONDS = 1.0
"""For how long a session without work waits for some before it gives its host back."""
TICK = 0.1
"""Seconds between two looks at the clock while nothing is reported."""


Report = Callable[[], None]
"""Something to tell the monitor, told in the thread of the caller."""


@dataclass
class Targets:
    """Distributes variants over the hosts of a target range; see the module."""

    session: type[AbstractSession]
    connect: Callable[[str], AbstractSession]
    targets: TargetRange
    port: int
    monitor: AbstractMonitor
    interrupts: Interrupts
    bounds: Bounds = field(default_factory=Bounds)
    params: Sequence[Any] = ()
    declared: Mapping[str, Attribute] = field(default_factory=dict)
    analysis: Analysis | None = None

    def run(self, variants: Iterator[TaskSet]) -> None:
        """Process every variant. Raises Interrupted, TargetError when no host is left, and what
        a monitor or the stream of variants raises.
        """
        self._work = Work(variants)
        self._reports: Reports[Report] = Reports(WAITING_REPORTS, WAITING_JOBS)
        self._stop = threading.Event()
        self._mutex = threading.Lock()
        self._hosts: dict[str, KnownHost] = {}
        self._sessions = 0
        self._changed = threading.Condition(self._mutex)  # notified of sessions
        self._alive_at = time.monotonic()
        self._asked = 0
        self._has_looked = False
        self._named: set[str] = set()
        self._last_problem = ""
        self._running: dict[int, tuple[Try, str]] = {}
        self._threads = Threads(lambda error: self._tell(partial(_raise, error)))
        self._threads.spawn(self._probe, "probing")
        try:
            self._watch()
        except Interrupted:
            self._end()
            for item, host in self._running.values():
                self.monitor.on_stop(item.taskset, host, item.attempt)
            raise
        finally:
            self._end()
        if self._work.error is not None:
            raise self._work.error

    def _watch(self) -> None:
        """Tell the monitor what is reported, until all is done."""
        while True:
            with self.interrupts.allowed():
                reported = self._reports.wait(TICK)
            if reported:
                for report in self._reports.take():
                    self.interrupts.check()
                    report()
            elif not self._work.closed:
                self._check_hosts()
            elif self._threads.are_done and not self._reports:
                return

    def _check_hosts(self) -> None:
        """Raise TargetError when nobody is there, or comes, to do the work."""
        with self._mutex:
            aside = sum(host.aside for host in self._hosts.values())
            awaited = any(host.is_awaited for host in self._hosts.values())
            awaited |= self._threads.wait_for_machines
            waited = time.monotonic() - self._alive_at
        # Somebody is there, takes connections and may be booting, or was there until just now.
        if self._work.hosts or awaited or self._reports:
            return
        if aside == self.targets.count:
            raise TargetError(
                f"targets: all {aside} hosts of {self.targets} were put aside, as each has failed "
                f"more than {self.bounds.restarts} times (restarts); look at them, the same "
                "command continues"
            )
        if waited > self.bounds.available_timeout:
            advice = f"{self._last_problem}; see to it" if self._last_problem else "start one"
            if not self._has_looked:
                advice += (
                    f", or give it more time: {self._asked} of {self.targets.count} were asked"
                )
            raise TargetError(
                f"targets: no host of {self.targets} was available for "
                f"{self.bounds.available_timeout:g} s (available_timeout); {advice}, the same "
                "command continues"
            )

    def _end(self) -> None:
        """Let all threads end, within a bounded time."""
        if self._stop.is_set():
            return
        self._stop.set()
        self._work.close()
        with self._mutex:
            self._changed.notify_all()
        self._threads.end(STOP_SECONDS)

    def _tell(self, report: Report, jobs: int = 0) -> None:
        """Queue a report, waiting while there are too many; dropped once the run is ending."""
        while not self._stop.is_set():
            if self._reports.put(report, jobs, TICK):
                return

    # ---- probing ----

    def _probe(self) -> None:
        """Find hosts for work that nobody has taken, until there is none."""
        delay = FIRST_DELAY
        while self._work.wait():
            self._asked = 0
            found = False
            for host in self.session.available(
                self._candidates(), self.port, self.bounds.probe_timeout
            ):
                if self._may_begin(host):
                    found = True
                    self._begin(host)
                elif not self._work.waits:
                    break
            dead = self._asked and not found
            if dead and not self._has_looked:
                seconds = self.bounds.available_timeout
                log.info(
                    "no host of %s is available yet; waits for one, %g s at most",
                    self.targets,
                    seconds,
                )
            self._has_looked = True
            delay = min(2 * delay, self._longest_delay) if dead else FIRST_DELAY
            self._work.closes_within(delay)

    @property
    def _longest_delay(self) -> float:
        return min(LONGEST_DELAY, self.bounds.available_timeout / 4)

    def _candidates(self) -> Iterator[str]:
        own = {host for host, known in self._hosts.items() if known.busy}
        locked = locked_hosts(self.port) - own  # in this order, as only this thread makes sessions
        for host in self.targets:
            if self._stop.is_set():
                return
            known = self._hosts.get(host)
            if known is not None and not known.may_be_asked:
                continue
            if host in locked:  # not even asked: a target may take only one connection
                self._tell_unusable(host, DRIVEN)
                continue
            self._asked += 1
            yield host

    def _may_begin(self, host: str) -> bool:
        """Wait until there may be one more session; False if there is no work for it."""
        # The lock is not held while a variant is asked for: that may take long.
        while self._work.has_for(host, 1):
            # Those that are slow to connect may be frozen: the others do not wait for them.
            quick = self._threads.connecting(self.bounds.probe_timeout)
            room = self._sessions < self.bounds.max_sessions
            if room and self._work.has_for(host, quick + 1):
                return True
            with self._changed:
                self._changed.wait(TICK)
        return False

    def _begin(self, host: str) -> None:
        with self._mutex:
            self._hosts.setdefault(host, KnownHost()).busy = True
            self._sessions += 1
        self._threads.spawn(self._serve, f"the session on {host}", host, connects=True)

    # ---- one host ----

    def _serve(self, host: str) -> None:
        """Have a session on a host, and drive it as long as there is work."""
        known = self._hosts[host]
        lock = HostLock(host, self.port)
        try:
            session = self._connected(host, lock, known)
            if session is not None:
                self._drive(session, host, known)
        finally:
            lock.release()
            with self._changed:
                known.busy = False
                self._sessions -= 1
                self._changed.notify_all()

    def _connected(self, host: str, lock: HostLock, known: KnownHost) -> AbstractSession | None:
        """A session on the host; None if it cannot be had now, which uses up no attempt."""
        try:
            if not lock.acquire():
                raise TargetError(DRIVEN)
            return self.connect(host)
        except Exception as error:
            problem = blame(error, "connecting")
            if isinstance(problem, SilentError):
                self._alive_at = time.monotonic()  # from now on its next instance boots
            if isinstance(problem, SilentError | InfrastructureError):
                self._restart_later(host, known, problem)
            elif isinstance(problem, TargetError):
                known.has_refused = True
                self._tell_unusable(host, one_line(problem))
                self._rest(known)
            else:
                self._rest(known)
                item = self._work.take(host, 0)
                if item is None:
                    log.warning("%s: %s", host, one_line(problem))
                else:
                    self._fail(item, host, problem)
            return None

    def _tell_unusable(self, host: str, why: str) -> None:
        """Keep why a host cannot be used, and log it: of the first hosts, and once."""
        self._last_problem = problem = f"{host} cannot be used: {why}"
        with self._mutex:
            if host in self._named or len(self._named) == NAMED:
                return
            self._named.add(host)
            also = ", and perhaps others" if len(self._named) == NAMED else ""
        log.info("%s%s", problem, also)

    def _rest(self, known: KnownHost) -> None:
        known.failures_in_a_row += 1
        delay = min(FIRST_DELAY * 2**known.failures_in_a_row, self._longest_delay)
        known.not_before = time.monotonic() + delay

    def _drive(self, session: AbstractSession, host: str, known: KnownHost) -> None:
        self._work.join(host)
        known.has_refused = False
        self._last_problem = ""
        try:
            item = self._work.take(host, IDLE_SECONDS)
            self._threads.connected()
            with self._changed:
                self._changed.notify_all()
            while item is not None:
                problem = self._attempt(session, host, item)
                if problem is None:
                    known.failures_in_a_row = 0
                elif isinstance(problem, TargetError | InfrastructureError):
                    self._restart_later(host, known, problem)
                    return
                item = self._work.take(host, IDLE_SECONDS)
        finally:
            self._alive_at = time.monotonic()
            self._work.leave(host)
            close(session, host)

    def _restart_later(self, host: str, known: KnownHost, problem: TaskgenError) -> None:
        known.restarts += 1
        self._rest(known)
        known.aside = known.restarts > self.bounds.restarts
        what = "is put aside" if known.aside else "is used again when it is available"
        times = f"{known.restarts} time{'s' if known.restarts > 1 else ''}"
        log.warning("%s has failed %s and %s: %s", host, times, what, one_line(problem))
        self._tell(partial(self.monitor.on_host_fail, host, problem, put_aside=known.aside))

    def _attempt(self, session: AbstractSession, host: str, item: Try) -> TaskgenError | None:
        """Run one attempt and report it; what went wrong, if something did."""
        taskset, attempt = item.taskset, item.attempt
        self._tell(lambda: self._started(item, host))
        steps = drive(
            session,
            taskset,
            host=host,
            attempt=attempt,
            params=self.params,
            declared=self.declared,
            analysis=self.analysis,
        )
        try:
            for jobs, segments in steps:
                if jobs is not None or segments is not None:
                    self._tell(partial(self._stepped, jobs, segments), len(jobs or ()))
                if self._stop.is_set():
                    session.stop()
                    return None
        except Exception as error:
            problem = blame(error, "running")
            retried = isinstance(problem, TargetError | InfrastructureError)
            if retried and attempt + 1 < self.bounds.attempts:
                log.warning(
                    "variant %d failed on %s, attempt %d of %d: %s",
                    *(taskset.variant, host, attempt + 1, self.bounds.attempts),
                    one_line(problem),
                )
                self._work.again(Try(taskset, attempt + 1, item.failed_on | {host}))
            else:
                self._fail(item, host, problem)
            return problem
        self._tell(lambda: self._ended(item, host, None))
        self._work.done(item)
        return None

    def _fail(self, item: Try, host: str, problem: TaskgenError) -> None:
        self._tell(lambda: self._ended(item, host, problem))
        self._work.done(item)

    # ---- told to the monitor, in the caller's thread ----

    def _started(self, item: Try, host: str) -> None:
        self._running[item.taskset.variant] = item, host
        self.monitor.on_start(item.taskset, host, item.attempt)

    def _stepped(self, jobs: JobBatch | None, segments: pa.RecordBatch | None) -> None:
        if jobs is not None:
            self.monitor.on_jobs(jobs)
        if segments is not None:
            self.monitor.on_segments(segments)

    def _ended(self, item: Try, host: str, problem: TaskgenError | None) -> None:
        self._running.pop(item.taskset.variant, None)
        if problem is None:
            self.monitor.on_finish(item.taskset, host, item.attempt)
        else:
            self.monitor.on_fail(item.taskset, host, item.attempt, problem)


def _raise(error: Exception) -> None:
    raise error
