"""How many jobs per second an agent of this machine keeps up with, and how late they start.

::

    python benchmarks/agent_jobs.py

Tasks of `hey` with a period of 100 ms, their releases spread evenly, at one rate after the other.
Late is the time from the release of a job to its START, which it tells right before its program
begins. Kept up is a rate at which every job has started and none was killed by its next period. CPU
is what the agent and everything below it have used for each job, the program included.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import time
from pathlib import Path

import psutil

from taskgen_run.task import Task
from taskgen_run.taskloader.client import Connection
from taskgen_run.taskloader.protocol import (
    Binary,
    Clear,
    Command,
    Event,
    EventType,
    GetLive,
    GoSend,
    Live,
    Profile,
    SendBinaries,
    SendDescs,
    Start,
)
from taskgen_run.taskset import TaskSet

PERIOD_MS = 100
ADDRESS, PORT = "127.0.9.1", 3901
HEY = Path(__file__).parents[1] / "workloads" / "build" / "hey"


def cpu_seconds(agent: psutil.Process) -> float:
    return sum(sum(process.cpu_times()[:4]) for process in [agent, *agent.children()])


def answers(connection: Connection, events: list[Event]) -> Live | GoSend:
    while True:
        report = connection.receive(time.monotonic() + 10)
        if isinstance(report, Profile):
            events += report.events
        elif isinstance(report, Live | GoSend):
            return report
        else:
            raise TimeoutError("the agent does not answer")


def measure(agent: psutil.Process, rate: int, jobs: int) -> str:
    connection = Connection(ADDRESS, PORT, 5)
    events: list[Event] = []

    def send(*commands: Command) -> None:
        for command in commands:
            connection.send(command, time.monotonic() + 10)

    count = rate * PERIOD_MS // 1000
    tasks = [
        Task(
            id=number,
            pkg="hey",
            period=PERIOD_MS,
            offset=50 + number * PERIOD_MS // count,
            numberofjobs=jobs,
        )
        for number in range(count)
    ]
    send(Clear(), SendDescs(next(TaskSet(tasks, "jobs").variants()).to_xml()), SendBinaries(1))
    answers(connection, events)
    send(Binary("hey", HEY.read_bytes()), Start())
    before = cpu_seconds(agent)
    end = time.monotonic() + jobs * PERIOD_MS / 1000 + 5
    while sum(event.type is EventType.JOBS_DONE for event in events) < count:
        report = connection.receive(end)
        if report is None:
            break
        assert isinstance(report, Profile)
        events += report.events
    used = cpu_seconds(agent) - before
    send(GetLive())
    live = answers(connection, events)
    assert isinstance(live, Live)
    grid = {
        task.id: round(float(task.attributes.get("arrival-time", "0")) * 1e6)
        % (PERIOD_MS * 1_000_000)
        for task in live.tasks
    }
    late = sorted(
        (event.time_ns - grid[event.task_id]) % (PERIOD_MS * 1_000_000) / 1e6
        for event in events
        if event.type is EventType.START
    )
    ended = sum(event.type is EventType.EXIT for event in events)
    connection.close(5)
    kept = "kept up" if ended == count * jobs else f"NOT kept up: {ended} of {count * jobs} jobs"
    return (
        f"{rate:5} jobs/s: late {late[len(late) // 2]:6.2f} ms (median), "
        f"{late[len(late) * 99 // 100]:6.2f} ms (99 %), CPU {used / max(ended, 1) * 1000:5.2f} ms, "
        f"{kept}"
    )


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rates", type=int, nargs="+", default=[20, 100, 200, 300, 400, 600, 800])
    parser.add_argument("--jobs", type=int, default=50, help="jobs of each task (%(default)s)")
    arguments = parser.parse_args()
    command = [sys.executable, "-m", "taskgen_run.taskloader", "--bind", ADDRESS, "--port"]
    subprocess.run(["make", "-s", "-C", HEY.parents[1]], check=True)
    with subprocess.Popen([*command, str(PORT)], stderr=subprocess.DEVNULL) as process:
        try:
            time.sleep(1)
            for rate in arguments.rates:
                print(measure(psutil.Process(process.pid), rate, arguments.jobs), flush=True)
        finally:
            process.terminate()


if __name__ == "__main__":
    main()
