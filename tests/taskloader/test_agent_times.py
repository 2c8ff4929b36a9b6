"""The events of a task come in the order of its jobs, and tell when what they tell of happened."""

from __future__ import annotations

import itertools
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
from agents import Client, RunningAgent, agent, wait_until, workload

from taskgen_run.taskloader.admission import TEST_SECONDS
from taskgen_run.taskloader.protocol import EventType, Optimize, Start, Stop

START, EXIT, DONE = EventType.START, EventType.EXIT, EventType.JOBS_DONE
PERIOD, CRITICAL = EventType.EXIT_PERIOD, EventType.EXIT_CRITICAL
NOT_SCHEDULED = EventType.NOT_SCHEDULED
MS = 10**6
FAIR = Optimize({"goal": {"fairness": {"apply": 1}}})


@pytest.fixture
def target(tmp_path: Path) -> Iterator[RunningAgent]:
    with agent(tmp_path) as running:
        yield running


@pytest.fixture
def client(target: RunningAgent) -> Iterator[Client]:
    with Client(target) as connected:
        yield connected


def pause(target: RunningAgent, seconds: float) -> None:
    """Let the agent be late."""
    target.process.send_signal(signal.SIGSTOP)
    time.sleep(seconds)
    target.process.send_signal(signal.SIGCONT)


def last_release_ns(client: Client) -> int:
    return round(float(client.live().tasks[0].attributes["arrival-time"]) * MS)


def test_a_job_that_overruns_is_killed_at_the_release_of_the_next_one(client: Client) -> None:
    count = 21
    task = {"pkg": "idle", "period": 60, "numberofjobs": count, "criticaltime": 100}
    client.start(task, idle=workload("idle"))
    client.wait_for_event(DONE)
    last_ns = last_release_ns(client)
    job, late_ns = -1, []
    for event in client.events:
        job += event.type in (START, NOT_SCHEDULED)
        if event.type is PERIOD:
            late_ns.append(event.time_ns - (last_ns - (count - 2 - job) * 60 * MS))
    assert job == count - 1
    # Never early, and seldom late: a machine that has more to do may be, now and then.
    assert min(late_ns) >= 0
    assert sorted(late_ns)[len(late_ns) // 2] < 10 * MS, late_ns


def test_missed_periods_of_a_job_that_overruns_are_told_after_its_end(
    client: Client, target: RunningAgent
) -> None:
    count = 20
    task = {"pkg": "idle", "period": 50, "numberofjobs": count, "criticaltime": 100}
    client.start(task, idle=workload("idle"))
    client.wait_for_event(START, count=2)
    pause(target, 0.4)
    client.wait_for_event(DONE)
    assert client.kinds().count(NOT_SCHEDULED) >= 5
    assert client.kinds().count(START) + client.kinds().count(NOT_SCHEDULED) == count
    running = False
    for kind in client.kinds():
        # Of one job after the other: none is missed or starts while another one runs.
        assert running is (kind in (PERIOD, CRITICAL)), client.kinds()
        running = kind is START
    times = [event.time_ns for event in client.events if event.task_id == 0]
    assert times == sorted(times)


def test_a_missed_period_has_the_time_of_its_release(client: Client, target: RunningAgent) -> None:
    client.start({"pkg": "hey", "period": 50, "numberofjobs": 20}, hey=workload("hey"))
    client.wait_for_event(EXIT, count=2)
    time.sleep(0.02)
    pause(target, 0.4)
    client.wait_for_event(DONE)
    missed = client.times_ns(NOT_SCHEDULED)
    last_ns = last_release_ns(client)
    # Seven of the pause; others are those of a machine that has more to do.
    exact = [time_ns for time_ns in missed if (last_ns - time_ns) % (50 * MS) == 0]
    assert len(exact) >= 5, missed
    assert len(set(exact)) == len(exact)
    times = [event.time_ns for event in client.events if event.task_id == 0]
    assert times == sorted(times)


def test_jobs_that_are_not_admitted_have_the_times_of_their_releases(client: Client) -> None:
    client.send(FAIR)
    task = {"pkg": "hey", "period": 20, "executiontime": 30, "priority": 1, "numberofjobs": 5}
    client.start(task, hey=workload("hey"))
    client.wait_for_event(DONE)
    missed = client.times_ns(NOT_SCHEDULED)
    assert [later - earlier for earlier, later in itertools.pairwise(missed)] == [20 * MS] * 4


def hostile() -> list[dict[str, object]]:
    """Tasks whose periods have nothing in common, the least common multiple among it."""
    return [
        {
            "pkg": "hey",
            "id": number,
            "priority": number % 128,
            "period": 10**11 + number * 789_789_787 + number**5 % 1_000_003,
            "executiontime": 10**8,
            "numberofjobs": 0,
        }
        for number in range(1000)
    ]


def test_the_agent_answers_while_a_task_set_is_tested(client: Client, target: RunningAgent) -> None:
    client.send(FAIR)
    client.start(*hostile(), hey=workload("hey"))
    before = time.monotonic()
    assert {task.attributes["state"] for task in client.live().tasks} == {"queued"}
    assert time.monotonic() - before < 2
    testing = psutil.Process(target.process.pid).children()
    assert len(testing) == 2
    # The test is not waited for, neither by STOP nor by those who start anew.
    client.send(Start(), Stop())
    client.wait_for_event(EventType.EXTERNAL, -1)
    assert len(psutil.Process(target.process.pid).children()) == 1
    assert NOT_SCHEDULED not in [event.type for event in client.events]
    client.send(Start())
    client.live()
    client.socket.close()
    wait_until(
        lambda: len(psutil.Process(target.process.pid).children()) == 1, "the test has ended"
    )
    with Client(target) as another:
        assert another.live().tasks == ()


def test_a_test_that_takes_too_long_admits_nothing(client: Client, target: RunningAgent) -> None:
    launcher = psutil.Process(target.process.pid).children()
    client.send(FAIR)
    client.start(*hostile(), hey=workload("hey"))
    client.live()
    before = time.monotonic()
    [test] = set(psutil.Process(target.process.pid).children()) - set(launcher)
    test.suspend()
    client.wait_for_event(NOT_SCHEDULED, 999)
    assert TEST_SECONDS - 2 < time.monotonic() - before < TEST_SECONDS + 5
    assert f"must end within {TEST_SECONDS} s" in target.log


def test_a_test_that_dies_admits_nothing(client: Client, target: RunningAgent) -> None:
    launcher = psutil.Process(target.process.pid).children()
    client.send(FAIR)
    client.start(*hostile(), hey=workload("hey"))
    client.live()
    [test] = set(psutil.Process(target.process.pid).children()) - set(launcher)
    test.kill()
    client.wait_for_event(NOT_SCHEDULED, 999)
    assert "the schedulability test has ended without an answer" in target.log
