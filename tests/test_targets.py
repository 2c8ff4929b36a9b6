from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from itertools import pairwise
from typing import Any, ClassVar

import pytest

import taskgen_run.targets
from taskgen_run.errors import (
    ConfigurationError,
    InfrastructureError,
    SilentError,
    TargetError,
)
from taskgen_run.hostlock import HostLock, locked_hosts
from taskgen_run.hosts import TargetRange
from taskgen_run.interrupts import Interrupted, Interrupts
from taskgen_run.job import Job, JobBatch, Outcome
from taskgen_run.known_hosts import Bounds
from taskgen_run.monitor import AbstractMonitor
from taskgen_run.session import AbstractSession
from taskgen_run.targets import Targets
from taskgen_run.task import Task
from taskgen_run.taskset import TaskSet
from taskgen_run.threads import let_go
from taskgen_run.values import Range

PORT = 1024 + os.getpid() % 60000
"""Of this process alone: hosts are locked on the whole machine, and other tests use them, too."""


class World:
    """What the hosts of a test are like; sessions of all hosts share it."""

    def __init__(self) -> None:
        self.dead: set[str] = set()
        self.refusing: set[str] = set()
        self.connect_seconds: dict[str, float] = {}
        self.broken: dict[str, int] = {}  # host: how many times this machine fails to connect
        self.boots_at: dict[str, float] = {}  # host: until when its machine is waited for
        self.let_go: list[str] = []
        self.stuck: set[str] = set()
        self.loosened = threading.Event()  # those that are stuck get no further before
        self.failing: dict[str, int] = {}  # host: how many times it fails
        self.silent: dict[str, int] = {}  # host: how many times it is killed before it serves
        self.invalid: set[int] = set()
        self.seconds = 0.0
        self.probe_seconds = 0.0
        self.mutex = threading.Lock()
        self.open: set[str] = set()
        self.most_open = 0
        self.served: list[tuple[int, str]] = []
        self.probes: list[str] = []
        self.probed_at: list[float] = []
        self.connected_at: list[float] = []
        self.stopped: list[str] = []
        self.numbers: list[int] = []  # how many jobs each task set had at its end


class Hosted(AbstractSession):
    """One job per task set, on a host of the `World`."""

    world: ClassVar[World]

    @staticmethod
    def is_available(host: str, port: int, timeout: float) -> bool:
        time.sleep(Hosted.world.probe_seconds)
        Hosted.world.probes.append(host)
        Hosted.world.probed_at.append(time.monotonic())
        return host not in Hosted.world.dead

    def __init__(self, host: str, port: int = 0) -> None:
        self.world.connected_at.append(time.monotonic())
        time.sleep(self.world.connect_seconds.get(host, 0))
        if host in self.world.stuck:
            assert self.world.loosened.wait(60)
        self._wait_for_machine(host)
        if self.world.broken.get(host, 0) > 0:
            self.world.broken[host] -= 1
            raise InfrastructureError("no more files")
        if host in self.world.refusing:
            raise ConnectionRefusedError(f"{host} refuses")
        if self.world.silent.get(host, 0) > 0:
            self.world.silent[host] -= 1
            raise SilentError(f"{host} is silent", restarted=True)
        with self.world.mutex:
            assert host not in self.world.open, "two sessions on one host"
            self.world.open.add(host)
            self.world.most_open = max(self.world.most_open, len(self.world.open))
        self.host = host

    def _wait_for_machine(self, host: str) -> None:
        if host not in self.world.boots_at:
            return
        if host in self.world.refusing:
            self.world.refusing.discard(host)
            raise ConnectionRefusedError(f"{host} refuses")
        while time.monotonic() < self.world.boots_at[host]:
            if let_go(0.1):
                self.world.let_go.append(host)
                raise ConnectionRefusedError(f"{host} was let go")

    def start(self, taskset: TaskSet, *params: Any) -> None:
        if taskset.variant in self.world.invalid:
            raise ConfigurationError("not this one")
        self._done = False
        taskset.horizon_ns = 10

    def run(self, taskset: TaskSet) -> list[Job]:
        time.sleep(self.world.seconds)
        with self.world.mutex:
            if self.world.failing.get(self.host, 0) > 0:
                self.world.failing[self.host] -= 1
                taskset[0].jobs.append(Job(0, 0))
                raise TargetError(f"{self.host} froze")
            self.world.served.append((taskset.variant, self.host))
        self._done = True
        taskset[0].jobs.append(Job(0, 0))
        self.world.numbers.append(len(taskset[0].jobs))
        return [Job(0, 0, release_ns=0, start_ns=0, end_ns=1, outcome=Outcome.FINISHED)]

    def is_running(self, taskset: TaskSet) -> bool:
        return not self._done

    def stop(self) -> None:
        self.world.stopped.append(self.host)

    def close(self) -> None:
        with self.world.mutex:
            self.world.open.discard(self.host)


class Recorder(AbstractMonitor):
    def __init__(self) -> None:
        self.thread = threading.get_ident()
        self.starts: list[tuple[int, int]] = []
        self.finished: dict[int, tuple[str, int]] = {}
        self.failed: dict[int, str] = {}
        self.stopped: list[int] = []
        self.host_failures: list[tuple[str, str, bool]] = []
        self.jobs: list[Job] = []

    def on_start(self, taskset: TaskSet, host: str, attempt: int) -> None:
        assert threading.get_ident() == self.thread
        self.starts.append((taskset.variant, attempt))

    def on_jobs(self, jobs: JobBatch) -> None:
        self.jobs += jobs

    def on_finish(self, taskset: TaskSet, host: str, attempt: int) -> None:
        assert taskset.variant not in self.finished, "finished twice"
        self.finished[taskset.variant] = host, attempt

    def on_fail(self, taskset: TaskSet, host: str, attempt: int, error: Exception) -> None:
        assert taskset.variant not in self.failed
        self.failed[taskset.variant] = str(error)

    def on_stop(self, taskset: TaskSet, host: str, attempt: int) -> None:
        self.stopped.append(taskset.variant)

    def on_host_fail(self, host: str, error: Exception, *, put_aside: bool) -> None:
        assert threading.get_ident() == self.thread
        self.host_failures.append((host, str(error), put_aside))


@pytest.fixture
def world(monkeypatch: pytest.MonkeyPatch) -> World:
    monkeypatch.setattr(taskgen_run.targets, "FIRST_DELAY", 0.02)
    monkeypatch.setattr(taskgen_run.targets, "LONGEST_DELAY", 0.1)
    Hosted.world = World()
    return Hosted.world


def _taskset(variants: int) -> TaskSet:
    return TaskSet([Task(period=5, executiontime=Range(1, variants))], "mine")


def _run(variants: int, targets: Any = "127.7.0.0/29", **bounds: Any) -> Recorder:
    monitor = Recorder()
    with Interrupts() as interrupts:
        _targets(monitor, interrupts, targets, **bounds).run(_taskset(variants).variants())
    return monitor


def _targets(
    monitor: AbstractMonitor, interrupts: Interrupts, targets: Any, **bounds: Any
) -> Targets:
    return Targets(
        session=Hosted,
        connect=Hosted,
        targets=TargetRange(targets),
        port=PORT,
        monitor=monitor,
        interrupts=interrupts,
        bounds=Bounds(**bounds),
    )


def test_every_variant_is_finished_once_on_some_host(world: World) -> None:
    monitor = _run(200)
    assert sorted(monitor.finished) == list(range(200))
    assert sorted(variant for variant, _ in world.served) == list(range(200))
    assert sorted(job.taskset for job in monitor.jobs) == list(range(200))
    assert world.open == set()


def test_hosts_work_at_the_same_time_within_the_bound(world: World) -> None:
    world.seconds = 0.05
    monitor = _run(30, max_sessions=3)
    assert len(monitor.finished) == 30
    assert world.most_open == 3


def test_dead_hosts_are_left_out_and_asked_again(world: World) -> None:
    world.dead = {"127.7.0.1", "127.7.0.2"}
    world.seconds = 0.05
    monitor = _run(40)
    assert len(monitor.finished) == 40
    assert {host for _, host in world.served}.isdisjoint(world.dead)
    assert world.probes.count("127.7.0.1") > 1


@pytest.mark.parametrize("state", ["dead", "refusing"])
def test_hosts_that_are_not_there_are_asked_less_and_less_often(
    state: str, world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(taskgen_run.targets, "LONGEST_DELAY", 10.0)
    getattr(world, state).add("127.7.0.1")
    with pytest.raises(TargetError, match="was available"):
        _run(1, targets="127.7.0.1", available_timeout=2.0)
    asked = world.probed_at if state == "dead" else world.connected_at
    pauses = [later - earlier for earlier, later in pairwise(asked)]
    for pause, least in zip(pauses, [0.04, 0.08, 0.16, 0.32, *[0.5] * 10], strict=False):
        assert pause >= 0.99 * least, "twice as long each time, up to a quarter of the time-out"
    assert len(pauses) > 2


def test_one_variant_needs_one_host_of_many(world: World) -> None:
    monitor = _run(1, targets="127.8.0.0/16")
    assert len(monitor.finished) == 1
    assert world.most_open == 1
    assert len(world.probes) < 1000, "the range is asked lazily"


def test_a_variant_that_failed_is_finished_by_another_attempt(world: World) -> None:
    world.failing = {"127.7.0.1": 1}
    world.seconds = 0.02
    monitor = _run(30)
    assert sorted(monitor.finished) == list(range(30))
    retried = [variant for variant, attempt in monitor.starts if attempt == 1]
    assert len(retried) == 1
    assert monitor.finished[retried[0]][1] == 1


def test_the_attempts_of_a_variant_are_bounded(world: World) -> None:
    world.failing = {"127.7.0.1": 10**6}
    monitor = _run(1, targets="127.7.0.1", attempts=3, restarts=100)
    assert monitor.failed == {0: "127.7.0.1 froze"}
    assert monitor.starts == [(0, 0), (0, 1), (0, 2)]


def test_another_attempt_begins_without_the_jobs_of_the_one_before(world: World) -> None:
    world.failing = {"127.7.0.1": 2}
    assert _run(1, targets="127.7.0.1").finished == {0: ("127.7.0.1", 2)}
    assert world.numbers == [1]


def test_a_variant_that_failed_is_left_to_another_host_however_long_that_is_busy(
    world: World,
) -> None:
    world.failing = {"127.7.0.1": 10**6}
    world.seconds = 0.5
    monitor = _run(4, targets=["127.7.0.1", "127.7.0.2"], attempts=2, restarts=10**6)
    assert sorted(monitor.finished) == list(range(4))
    assert monitor.failed == {}


def test_it_ends_at_once_when_the_last_variant_has_failed_for_good(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(taskgen_run.targets, "FIRST_DELAY", 20.0)
    monkeypatch.setattr(taskgen_run.targets, "LONGEST_DELAY", 20.0)
    world.failing = {"127.7.0.1": 10**6}
    before = time.monotonic()
    assert _run(1, targets="127.7.0.1", attempts=1, restarts=0).failed == {0: "127.7.0.1 froze"}
    assert time.monotonic() - before < 10


def test_hosts_that_are_slow_to_refuse_do_not_count_as_available(world: World) -> None:
    world.refusing = {"127.7.0.1", "127.7.0.2"}
    world.connect_seconds = {"127.7.0.1": 0.2, "127.7.0.2": 0.25}
    before = time.monotonic()
    with pytest.raises(TargetError, match=r"for 1 s .*; 127\.7\.0\.[12] cannot be used: 127\."):
        _run(1, targets=["127.7.0.1", "127.7.0.2"], available_timeout=1.0)
    assert time.monotonic() - before < 5


def test_many_hosts_work_at_the_same_time_though_variants_and_connections_are_slow(
    world: World,
) -> None:
    hosts = [f"127.7.1.{number}" for number in range(20)]
    world.connect_seconds = dict.fromkeys(hosts, 0.2)
    world.seconds = 0.3

    def stream() -> Iterator[TaskSet]:
        for taskset in _taskset(100).variants():
            time.sleep(0.005)
            yield taskset

    monitor = Recorder()
    with Interrupts() as interrupts:
        _targets(monitor, interrupts, hosts).run(stream())
    assert len(monitor.finished) == 100
    assert world.most_open >= 15


def test_what_is_finished_is_told_while_the_next_variant_is_made(world: World) -> None:
    told = threading.Event()

    class Telling(Recorder):
        def on_finish(self, taskset: TaskSet, host: str, attempt: int) -> None:
            super().on_finish(taskset, host, attempt)
            told.set()

    def stream() -> Iterator[TaskSet]:
        for taskset in _taskset(2).variants():
            time.sleep(0.005)  # so that no more are read with it
            if taskset.variant == 1:
                assert told.wait(20)
            yield taskset

    monitor = Telling()
    with Interrupts() as interrupts:
        _targets(monitor, interrupts, "127.7.0.0/29").run(stream())
    assert sorted(monitor.finished) == [0, 1]


def test_a_failure_of_this_machine_while_connecting_uses_up_no_attempt(world: World) -> None:
    world.broken = {"127.7.0.1": 2}
    monitor = _run(3, "127.7.0.1")
    assert sorted(monitor.finished) == [0, 1, 2]
    assert monitor.host_failures == [("127.7.0.1", "no more files", False)] * 2
    world.broken = {"127.7.0.1": 9}
    with pytest.raises(TargetError, match=r"as each has failed more than 3 times \(restarts\)"):
        _run(3, "127.7.0.1")


def test_a_host_that_waits_for_its_machine_is_waited_for(world: World) -> None:
    """Although it has refused before."""
    world.refusing = {"127.7.0.1"}
    world.boots_at = {"127.7.0.1": time.monotonic() + 3}
    assert list(_run(1, "127.7.0.1", available_timeout=1.0).finished) == [0]


def test_who_waits_for_a_machine_is_let_go_when_the_work_is_done(world: World) -> None:
    world.boots_at = {"127.7.0.1": time.monotonic() + 60}
    world.seconds = 0.02
    assert len(_run(100, probe_timeout=0.1).finished) == 100
    assert world.let_go == ["127.7.0.1"]
    assert locked_hosts(PORT) == set()


def test_the_work_is_finished_while_a_host_is_stuck(world: World) -> None:
    world.stuck = {"127.7.0.1"}
    world.seconds = 0.02
    try:
        monitor = _run(100, probe_timeout=0.1)
        assert sorted(monitor.finished) == [*range(100)]
        assert "127.7.0.1" in locked_hosts(PORT)
    finally:
        world.loosened.set()
    while "127.7.0.1" in locked_hosts(PORT):
        time.sleep(0.01)
    assert not world.open


def test_one_variant_is_finished_though_the_first_host_is_stuck(world: World) -> None:
    world.stuck = {"127.7.0.0"}
    try:
        assert list(_run(1, probe_timeout=0.1).finished) == [0]
    finally:
        world.loosened.set()


def test_a_host_that_keeps_failing_is_put_aside(world: World) -> None:
    world.failing = {"127.7.0.1": 10**6}
    world.seconds = 0.01
    monitor = _run(500, restarts=2, attempts=10)
    assert sorted(monitor.finished) == list(range(500))
    assert 10**6 - world.failing["127.7.0.1"] <= 3
    told = [("127.7.0.1", "127.7.0.1 froze", aside) for aside in (False, False, True)]
    assert monitor.host_failures == told


def test_a_host_whose_machine_is_killed_for_its_silence_has_failed(world: World) -> None:
    world.silent = {"127.7.0.1": 2}
    monitor = _run(3, "127.7.0.1")
    assert monitor.host_failures == [("127.7.0.1", "127.7.0.1 is silent", False)] * 2
    assert sorted(monitor.finished.values()) == [("127.7.0.1", 0)] * 3
    world.silent = {"127.7.0.1": 9}
    monitor = _run(3, ["127.7.0.1", "127.7.0.2"], restarts=1)
    assert {host for host, _ in monitor.finished.values()} == {"127.7.0.2"}


def test_a_host_that_is_silent_for_longer_than_hosts_are_waited_for(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    # It is seen to be idle before it is asked again.
    monkeypatch.setattr(taskgen_run.targets, "FIRST_DELAY", 0.3)
    monkeypatch.setattr(taskgen_run.targets, "LONGEST_DELAY", 0.3)
    world.silent = {"127.7.0.1": 2}
    world.connect_seconds = {"127.7.0.1": 1.5}
    monitor = _run(1, targets="127.7.0.1", available_timeout=1.2)
    assert monitor.finished == {0: ("127.7.0.1", 0)}
    assert len(monitor.host_failures) == 2


def test_when_all_hosts_are_put_aside_the_run_ends(world: World) -> None:
    world.failing = {"127.7.0.1": 10**6}
    with pytest.raises(TargetError, match=r"all 1 hosts of 127\.7\.0\.1 were put aside"):
        _run(5, targets="127.7.0.1", restarts=1, attempts=10)


def test_no_available_host_ends_the_run(world: World) -> None:
    world.dead = {"127.7.0.1"}
    with pytest.raises(TargetError, match=r"no host of 127\.7\.0\.1 was available for 0\.3 s"):
        _run(1, targets="127.7.0.1", available_timeout=0.3)


def test_hosts_that_were_not_asked_yet_are_told_of(world: World) -> None:
    world.dead = {f"127.7.0.{number}" for number in range(1, 255)}
    world.probe_seconds = 0.2
    with pytest.raises(TargetError, match=r"or give it more time: \d+ of 254 were asked"):
        _run(1, targets="127.7.0.0/24", available_timeout=0.1)


def test_a_host_that_refuses_uses_up_no_attempt(world: World) -> None:
    world.refusing = {"127.7.0.1"}

    timer = threading.Timer(0.3, world.refusing.clear)
    timer.start()
    monitor = _run(1, targets="127.7.0.1", attempts=1)
    timer.join()
    assert monitor.finished == {0: ("127.7.0.1", 0)}


def test_a_configuration_error_is_not_retried(world: World) -> None:
    world.invalid = {3}
    monitor = _run(10)
    assert monitor.failed == {3: "not this one"}
    assert len(monitor.finished) == 9
    assert [start for start in monitor.starts if start[0] == 3] == [(3, 0)]


def test_a_host_that_another_experiment_drives_is_left_alone(world: World) -> None:
    lock = HostLock("127.7.0.1", PORT)
    assert lock.acquire()
    try:
        monitor = _run(50, targets=["127.7.0.1", "127.7.0.2"])
    finally:
        lock.release()
    assert {host for host, _ in monitor.finished.values()} == {"127.7.0.2"}


def test_a_host_that_another_experiment_drives_is_not_even_asked(world: World) -> None:
    lock = HostLock("127.7.0.1", PORT)
    assert lock.acquire()
    timer = threading.Timer(0.4, lock.release)
    timer.start()
    try:
        with pytest.raises(TargetError, match=r"127\.7\.0\.1 cannot be used: another experiment"):
            _run(1, targets="127.7.0.1", available_timeout=0.2)
        assert world.probes == []
        assert _run(1, targets="127.7.0.1").finished == {0: ("127.7.0.1", 0)}
    finally:
        timer.join()


def test_of_many_hosts_that_cannot_be_used_few_are_named(
    world: World, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO", "taskgen_run")
    world.refusing = {f"127.7.0.{number}" for number in range(1, 31)}
    with pytest.raises(TargetError, match="was available"):
        _run(20, targets="127.7.0.0/27", available_timeout=1.0)
    told = [record.getMessage() for record in caplog.records if "cannot be" in record.message]
    assert len(told) == taskgen_run.targets.NAMED
    assert told[-1].endswith("refuses, and perhaps others")


def test_a_signal_stops_the_sessions_and_keeps_what_is_finished(world: World) -> None:
    world.seconds = 0.02
    monitor = Recorder()

    class Signalling(Recorder):
        def on_finish(self, taskset: TaskSet, host: str, attempt: int) -> None:
            super().on_finish(taskset, host, attempt)
            if len(self.finished) == 20:
                os.kill(os.getpid(), signal.SIGTERM)

    monitor = Signalling()
    with Interrupts() as interrupts, pytest.raises(Interrupted):
        _targets(monitor, interrupts, "127.7.0.0/29").run(_taskset(10**6).variants())
    assert 20 <= len(monitor.finished) < 40
    assert world.open == set()
    assert set(monitor.stopped).isdisjoint(monitor.finished)


def test_an_error_of_the_monitor_ends_the_run(world: World) -> None:
    class Full(Recorder):
        def on_finish(self, taskset: TaskSet, host: str, attempt: int) -> None:
            raise OSError("full")

    with Interrupts() as interrupts, pytest.raises(OSError, match="full"):
        _targets(Full(), interrupts, "127.7.0.0/29").run(_taskset(10**6).variants())
    assert world.open == set()


def test_variants_that_cannot_be_made_end_the_run_after_those_that_could(world: World) -> None:
    def variants() -> Iterator[TaskSet]:
        yield from _taskset(5).variants()
        raise KeyError("no more")

    monitor = Recorder()
    with Interrupts() as interrupts, pytest.raises(KeyError):
        _targets(monitor, interrupts, "127.7.0.0/29").run(variants())
    assert len(monitor.finished) == 5


def test_a_lock_is_released_when_its_process_dies() -> None:
    code = (
        "from taskgen_run.hostlock import HostLock\n"
        "import sys, time\n"
        f"print(HostLock('127.7.0.9', {PORT}).acquire(), flush=True)\n"
        f"held = HostLock('127.7.0.8', {PORT})\n"
        "print(held.acquire(), flush=True)\n"
        "time.sleep(60)\n"
    )
    process = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
    with process:
        assert process.stdout is not None
        assert process.stdout.readline() == "True\n"
        assert process.stdout.readline() == "True\n"
        assert HostLock("127.7.0.8", PORT).acquire() is False
        assert locked_hosts(PORT) >= {"127.7.0.8"}
        assert "127.7.0.8" not in locked_hosts(PORT + 1)
        process.kill()
    again, other = HostLock("127.7.0.8", PORT), HostLock("127.7.0.8", PORT + 1)
    assert again.acquire() is True
    assert HostLock("127.7.0.8", PORT).acquire() is False
    assert other.acquire() is True
    again.release()
    other.release()
