"""Every type of event, from real processes."""

from __future__ import annotations

import itertools
import json
import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from agents import Client, RunningAgent, agent, script, wait_until, workload

from taskgen_run.taskloader.linux import SCHED_DEADLINE
from taskgen_run.taskloader.protocol import EventType, Optimize, Start, Stop

START, EXIT, DONE = EventType.START, EventType.EXIT, EventType.JOBS_DONE
IDLE = {"pkg": "idle"}
HEY = {"pkg": "hey"}
IS_ROOT = os.geteuid() == 0


@pytest.fixture(scope="module")
def target(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningAgent]:
    with agent(tmp_path_factory.mktemp("agent")) as running:
        yield running


@pytest.fixture
def client(target: RunningAgent) -> Iterator[Client]:
    with Client(target) as connected:
        yield connected
    wait_until(lambda: not target.descendants(), "the jobs of a client are gone with it")


def test_a_job_starts_and_exits(client: Client) -> None:
    client.start(HEY, hey=workload("hey"))
    client.wait_for_event(DONE)
    assert client.kinds() == [START, EXIT, DONE]
    start, end = client.times_ns(START)[0], client.times_ns(EXIT)[0]
    assert 0 < start < end


@pytest.mark.parametrize("value", [1, 17, 19, 255])
def test_any_other_exit_value_is_an_error(client: Client, target: RunningAgent, value: int) -> None:
    client.start({"pkg": "fails"}, fails=script(f"exit {value}"))
    client.wait_for_event(DONE)
    assert client.kinds() == [START, EventType.EXIT_ERROR, DONE]
    assert f"has ended with exit value {value}" in target.log


def test_a_job_that_is_killed_by_a_signal_is_an_error(client: Client) -> None:
    client.start({"pkg": "dies"}, dies=script("kill -KILL $$"))
    client.wait_for_event(DONE)
    assert client.kinds() == [START, EventType.EXIT_ERROR, DONE]


def test_what_is_no_program_is_an_error(client: Client, target: RunningAgent) -> None:
    client.start({"pkg": "text", "numberofjobs": 2, "period": 200}, text=b"not a program")
    client.wait_for_event(DONE)
    assert client.kinds() == [START, EventType.EXIT_ERROR] * 2 + [DONE]
    assert "Exec format error" in target.log


def test_a_binary_that_was_not_sent_is_an_error(client: Client, target: RunningAgent) -> None:
    client.start({"pkg": "nowhere"}, {})
    client.wait_for_event(DONE)
    client.wait_for_event(DONE, 1)
    assert client.kinds() == client.kinds(1) == [START, EventType.EXIT_ERROR, DONE]
    assert "binary 'nowhere' was not sent" in target.log


def test_a_critical_time_kills(client: Client) -> None:
    client.start({**IDLE, "criticaltime": 80}, idle=workload("idle"))
    client.wait_for_event(DONE)
    assert client.kinds() == [START, EventType.EXIT_CRITICAL, DONE]
    [start], [end] = client.times_ns(START), client.times_ns(EventType.EXIT_CRITICAL)
    assert start < end
    assert end - start > 30_000_000


def test_a_critical_time_of_an_earlier_job_does_not_kill_a_later_one(client: Client) -> None:
    """The second job runs when the critical time of the first one comes."""
    task = {"pkg": "naps", "period": 1000, "criticaltime": 1300, "numberofjobs": 2}
    client.start(task, naps=script("sleep 0.5"))
    client.wait_for_event(DONE)
    assert client.kinds() == [START, EXIT] * 2 + [DONE]


def test_the_next_period_kills(client: Client) -> None:
    client.start({**IDLE, "period": 60, "numberofjobs": 3}, idle=workload("idle"))
    client.wait_for_event(START, count=3)
    client.send(Stop())
    client.wait_for_event(EventType.EXTERNAL, -1)
    overrun = [START, EventType.EXIT_PERIOD]
    # The last job has no next period.
    assert client.kinds() == [*overrun, *overrun, START, EventType.EXIT_EXTERNAL]
    assert len(client.times_ns(EventType.EXTERNAL, -1)) == 1


def test_a_quota_that_is_too_small_to_start(client: Client, target: RunningAgent) -> None:
    client.start(
        {**HEY, "quota": "64K", "period": 10, "numberofjobs": 2},
        {**HEY, "quota": "1M"},
        {**HEY, "quota": "1000000G"},
        hey=workload("hey"),
    )
    for task in range(3):
        client.wait_for_event(DONE, task)
    assert client.kinds(0) == [EventType.OUT_OF_QUOTA] * 2 + [DONE]
    assert client.kinds(1) == [START, EXIT, DONE]
    assert client.kinds(2) == [EventType.OUT_OF_QUOTA, DONE]
    assert "quota must be ≥" in target.log


def test_a_quota_limits_the_memory_of_a_job(client: Client) -> None:
    task = {"pkg": "linpack", "config": {"arg1": 400}}
    client.start({**task, "quota": "1M"}, {**task, "quota": "8M"}, linpack=workload("linpack"))
    client.wait_for_event(DONE, 0)
    client.wait_for_event(DONE, 1)
    assert client.kinds(0) == [START, EventType.EXIT_ERROR, DONE]
    assert client.kinds(1) == [START, EXIT, DONE]


FITTING = {**HEY, "period": 400, "executiontime": 150, "numberofjobs": 2}
FAIR = Optimize({"goal": {"fairness": {"apply": 1}}})
NO_GOAL = Optimize({"goal": {"fairness": {"apply": 0}, "utilization": {"apply": 0}}})


@pytest.mark.parametrize(
    ("goal", "tasks", "admitted"),
    [
        (FAIR, [{"priority": 1}, {"priority": 2}], True),
        (FAIR, [{"priority": 1}, {"priority": 2, "deadline": 290}], False),
        (FAIR, [{"priority": 1}, {"priority": 2}, {"priority": 3}], False),
        (FAIR, [{"priority": 128}, {"priority": 128}], True),
        (FAIR, [{"priority": 128}, {"priority": 128, "deadline": 200}], True),
        (FAIR, [{"priority": 128, "deadline": 200}, {"priority": 128, "deadline": 200}], False),
        (FAIR, [{"priority": 128}, {"priority": 0, "deadline": 200}], False),
        (FAIR, [{"priority": 128}, {"priority": 0}, {}], False),
        (NO_GOAL, [{"priority": 1}, {"priority": 2}, {"priority": 3}], True),
    ],
)
def test_the_admission_test(
    client: Client, goal: Optimize, tasks: list[dict[str, int]], admitted: bool
) -> None:
    client.send(goal)
    client.start(*({**FITTING, **task} for task in tasks), hey=workload("hey"))
    for task in range(len(tasks)):
        client.wait_for_event(DONE, task)
        expected = [START, EXIT] if admitted else [EventType.NOT_SCHEDULED]
        assert client.kinds(task) == expected * 2 + [DONE]


def test_a_task_set_that_cannot_be_tested_is_not_started(
    client: Client, target: RunningAgent
) -> None:
    client.send(Optimize({"goal": {"utilization": {"apply": 1}}}))
    client.start({**HEY, "period": 10, "priority": 1, "numberofjobs": 1}, hey=workload("hey"))
    client.wait_for_event(DONE)
    assert client.kinds() == [EventType.NOT_SCHEDULED, DONE]
    assert "executiontime must be set" in target.log


def test_releases_do_not_drift(client: Client) -> None:
    """The last of some hundred releases lies on the grid of the first, to the ns.

    A start may be late by any time, though never early. But the earliest of the last hundred are no
    later than a part of the period; were each release as late as the job before it, they would be.
    """
    count, period_ns = 400, 10_000_000
    client.start({**HEY, "period": 10, "offset": 50, "numberofjobs": count}, hey=workload("hey"))
    client.wait_for_event(DONE)
    kinds = client.kinds()
    assert kinds.count(START) + kinds.count(EventType.NOT_SCHEDULED) == count
    starts = client.times_ns(START)
    last_release_ns = round(float(client.live().tasks[0].attributes["arrival-time"]) * 1e6)
    first_release_ns = last_release_ns - (count - 1) * period_ns
    late = [(start - first_release_ns) % period_ns for start in starts]
    assert starts[0] >= first_release_ns
    assert starts[-1] >= last_release_ns
    assert min(late[-100:]) < period_ns // 3
    assert all(later - earlier > 0 for earlier, later in itertools.pairwise(starts))


def test_the_offset_delays_the_first_release(client: Client) -> None:
    client.start({**HEY, "offset": 200}, HEY, hey=workload("hey"))
    client.wait_for_event(DONE)
    client.wait_for_event(DONE, 1)
    assert client.times_ns(START)[0] > client.times_ns(START, 1)[0]


def test_a_task_without_end_goes_on(client: Client) -> None:
    client.start({**HEY, "period": 5}, hey=workload("hey"))
    client.wait_for_event(EXIT, count=10)
    assert DONE not in client.kinds()


def test_a_job_gets_its_argument_and_its_configuration(
    client: Client, target: RunningAgent
) -> None:
    """It tells them with its exit value: a job has no output."""
    config = {"arg1": 13, "deep": {"list": ["a", "b"], "text": "<&>"}}
    expected = json.dumps({"arg1": "13", "deep": {"list": ["a", "b"], "text": "<&>"}})
    right = script(
        f'[ "$#" = 1 ] && [ "$1" = 13 ] && [ "$TASKLOADER_TASK" = 7 ] && '
        f"[ \"$TASKLOADER_CONFIG\" = '{expected}' ]"
    )
    client.start({"id": 7, "pkg": "right", "config": config}, right=right)
    client.wait_for_event(DONE, 7)
    assert client.kinds(7) == [START, EXIT, DONE], target.log


def test_a_job_without_arg1_gets_no_argument(client: Client) -> None:
    client.start({"pkg": "none"}, none=script('[ "$#" = 0 ]'))
    client.wait_for_event(DONE)
    assert client.kinds() == [START, EXIT, DONE]


def test_a_job_has_nothing_of_the_agent(client: Client, target: RunningAgent) -> None:
    client.start({"pkg": "naps"}, naps=script("exec sleep 100"))
    client.wait_for_event(START)
    wait_until(lambda: "sleep" in {p.name() for p in target.descendants()}, "the job sleeps")
    [job] = [p for p in target.descendants() if p.name() == "sleep"]
    assert set(job.environ()) <= {
        *("PATH", "HOME", "PWD", "OLDPWD", "_"),
        *("TASKLOADER_TASK", "TASKLOADER_CONFIG", "TASKLOADER_JOB"),
    }
    links = [str(fd.readlink()) for fd in Path(f"/proc/{job.pid}/fd").iterdir()]
    assert all(link == "/dev/null" or link.startswith("/memfd:naps") for link in links), links
    assert os.getsid(job.pid) == job.pid
    status = Path(f"/proc/{job.pid}/status").read_text()
    assert "NoNewPrivs:\t1" in status
    assert "CapEff:\t0000000000000000" in status
    if IS_ROOT:
        assert job.uids().real == job.uids().effective == job.uids().saved != 0
        assert job.gids().real == job.gids().effective == job.gids().saved != 0
        assert "Groups:\t \n" in status


def test_a_job_cannot_change_its_binary(client: Client) -> None:
    client.start(
        {"pkg": "writes", "period": 100, "numberofjobs": 2},
        writes=script("for fd in /proc/self/fd/*; do echo 'exit 1' > $fd; done; exit 0"),
    )
    client.wait_for_event(DONE)
    assert EventType.EXIT_ERROR not in client.kinds()


def test_a_job_can_write_into_its_directory(client: Client) -> None:
    client.start({"pkg": "writes"}, writes=script("echo x > file && [ -s $HOME/file ]"))
    client.wait_for_event(DONE)
    assert client.kinds() == [START, EXIT, DONE]


def test_fixed_priorities_are_fifo_levels_where_the_machine_allows(
    client: Client, target: RunningAgent
) -> None:
    client.start(
        *({**IDLE, "priority": priority} for priority in (0, 127, 10, 10)),
        IDLE,
        idle=workload("idle"),
    )
    for task in range(5):
        client.wait_for_event(START, task)
    by_task = {int(p.environ()["TASKLOADER_TASK"]): p.pid for p in target.descendants()}
    policies = [os.sched_getscheduler(by_task[task]) for task in range(5)]
    if "not allow" in target.log:
        assert policies == [os.SCHED_OTHER] * 5
        return
    assert policies == [os.SCHED_FIFO] * 4 + [os.SCHED_OTHER]
    levels = [os.sched_getparam(by_task[task]).sched_priority for task in range(4)]
    assert 99 > levels[0] > levels[2] == levels[3] > levels[1] >= 1
    assert os.sched_getparam(target.process.pid).sched_priority == 99


def test_deadline_tasks_are_deadline_scheduled_where_the_machine_allows(
    client: Client, target: RunningAgent
) -> None:
    task = {**IDLE, "priority": 128, "executiontime": 5, "deadline": 50}
    client.start({**task, "period": 60, "numberofjobs": 1}, idle=workload("idle"))
    client.wait_for_event(START)
    [job] = target.descendants()
    if "does not allow Deadline" in target.log:
        assert os.sched_getscheduler(job.pid) == os.SCHED_OTHER
    else:
        assert os.sched_getscheduler(job.pid) & 0xFF == SCHED_DEADLINE


def test_a_policy_that_the_kernel_refuses_is_logged_once(
    client: Client, target: RunningAgent
) -> None:
    """No machine has the capacity for so many."""
    task = {**IDLE, "priority": 128, "executiontime": 90, "deadline": 100}
    client.start(*[task] * (2 * (os.cpu_count() or 1)), idle=workload("idle"))
    for number in range(2 * (os.cpu_count() or 1)):
        client.wait_for_event(START, number)
    assert target.log.count("does not allow Deadline(runtime_ns=90000000") == 1
    assert len(target.descendants()) == 2 * (os.cpu_count() or 1)


def test_the_core_of_a_task(client: Client, target: RunningAgent) -> None:
    allowed = sorted(os.sched_getaffinity(target.process.pid))
    client.start(
        IDLE,
        {**IDLE, "coreoffset": 0},
        {**IDLE, "coreoffset": 1},
        {**IDLE, "coreoffset": 1, "cores": 1},
        {**IDLE, "cores": 1},
        idle=workload("idle"),
    )
    for task in range(5):
        client.wait_for_event(START, task)
    used = {
        int(p.environ()["TASKLOADER_TASK"]): sorted(os.sched_getaffinity(p.pid))
        for p in target.descendants()
    }
    assert used == {
        0: allowed,
        1: allowed[:1],
        2: [allowed[1 % len(allowed)]],
        3: allowed[:1],
        4: allowed[:1],
    }


def test_live_data_of_running_jobs(client: Client) -> None:
    client.start(
        {"pkg": "pi", "config": {"arg1": 10**15}, "quota": "2M", "priority": 5},
        {**HEY, "offset": 100_000},
        HEY,
        pi=workload("pi"),
        hey=workload("hey"),
    )
    client.wait_for_event(START)
    client.wait_for_event(DONE, 2)
    wait_until(
        lambda: float(client.live().tasks[0].attributes["execution-time"]) > 20, "the job executes"
    )
    running, waiting, done = client.live().tasks
    assert [task.id for task in (running, waiting, done)] == [0, 1, 2]
    assert running.attributes["state"] == "running"
    assert running.attributes["priority"] == "5"
    assert running.attributes["ram_quota"] == str(2 * 2**20)
    assert 0 < int(running.attributes["ram_used"]) <= 2 * 2**20
    assert int(running.attributes["core"]) in os.sched_getaffinity(0)
    assert running.attributes["session"] == "000.pi"
    assert "exit-time" not in running.attributes
    assert waiting.attributes["state"] == "waiting"
    assert "start-time" not in waiting.attributes
    times = [float(done.attributes[f"{name}-time"]) for name in ("arrival", "start", "exit")]
    assert times == sorted(times)
    assert done.attributes["state"] == "done"


def test_stopped_tasks_start_again_from_their_first_job(client: Client) -> None:
    client.start({**HEY, "period": 200, "numberofjobs": 3}, hey=workload("hey"))
    client.wait_for_event(DONE)
    client.send(Stop(), Start())
    client.wait_for_event(DONE, count=2)
    assert client.kinds() == ([START, EXIT] * 3 + [DONE]) * 2


def test_a_second_start_starts_what_was_added(client: Client) -> None:
    client.start({**HEY, "id": 1}, hey=workload("hey"))
    client.wait_for_event(DONE, 1)
    client.load({**HEY, "id": 2})
    client.send(Start())
    client.wait_for_event(DONE, 2)
    assert client.kinds(1) == client.kinds(2) == [START, EXIT, DONE]
