"""What the agent is made of, piece by piece."""

from __future__ import annotations

import os
import select
import time

import pytest
from agents import script, workload

from taskgen_run.task import Task
from taskgen_run.taskloader.admission import refusal
from taskgen_run.taskloader.binaries import Binaries, needed_bytes
from taskgen_run.taskloader.linux import Timer, descendants, executable_in_memory
from taskgen_run.taskloader.messages import ProtocolError
from taskgen_run.taskloader.policies import Deadline, FixedPriority, Other, cores, levels, policies


def test_levels_keep_the_order_and_differ_where_they_can() -> None:
    assert levels([]) == {}
    assert levels([5]) == {5: 98}
    assert levels([127, 0, 10, 10]) == {0: 98, 10: 97, 127: 96}
    few = levels(range(98))
    assert sorted(few.values(), reverse=True) == list(range(98, 0, -1))


def test_levels_of_all_priorities() -> None:
    every = [level for _, level in sorted(levels(range(128)).items())]
    assert every == sorted(every, reverse=True)
    assert (every[0], every[-1]) == (98, 1)
    assert len(set(every)) == 98


MS = 1_000_000


@pytest.mark.parametrize(
    ("task", "policy"),
    [
        (Task(), Other()),
        (Task(priority=3), FixedPriority(98)),
        (Task(priority=128, executiontime=2, period=10), Deadline(2 * MS, 10 * MS, 10 * MS)),
        (
            Task(priority=128, executiontime=2, period=10, deadline=5),
            Deadline(2 * MS, 5 * MS, 10 * MS),
        ),
        (
            Task(priority=128, executiontime=2, period=10, deadline=50),
            Deadline(2 * MS, 10 * MS, 10 * MS),
        ),
        (Task(priority=128, executiontime=2, deadline=5), Deadline(2 * MS, 5 * MS, 5 * MS)),
        (Task(priority=128, executiontime=2), Other()),
        (Task(priority=128, period=10), Other()),
    ],
)
def test_the_policy_of_a_task(task: Task, policy: object) -> None:
    assert policies([task]) == [policy]


@pytest.mark.parametrize(
    ("task", "expected"),
    [
        (Task(), None),
        (Task(cores=9), None),
        (Task(cores=0), None),
        (Task(cores=2), {2, 4}),
        (Task(coreoffset=0), {2}),
        (Task(coreoffset=3), {8}),
        (Task(coreoffset=5), {4}),
        (Task(coreoffset=-1), {8}),
        (Task(coreoffset=3, cores=2), {4}),
    ],
)
def test_the_cores_of_a_task(task: Task, expected: set[int] | None) -> None:
    assert cores(task, [2, 4, 6, 8]) == expected


def _task(number: int, **attributes: int) -> Task:
    return Task(id=number, period=10, executiontime=6, priority=number, **attributes)


def test_each_core_is_tested_for_itself() -> None:
    assert refusal([_task(0, coreoffset=0), _task(1, coreoffset=1)], [0, 1]) is None
    together = refusal([_task(0, coreoffset=1), _task(1, coreoffset=3)], [0, 1])
    assert together is not None
    assert "core 1: a task of priority 1 has a worst-case response time of no bound" in together
    assert refusal([_task(0), _task(1, coreoffset=0)], [0, 1]) is not None
    assert refusal([_task(0), _task(1, coreoffset=1)], [0, 1]) is None


def test_deadline_tasks_delay_all_others() -> None:
    other = Task(id=2, period=10, executiontime=5, priority=0)
    edf = Task(id=1, period=10, executiontime=5, priority=128)
    assert refusal([edf, other], [0]) is None
    reason = refusal([edf, Task(other, deadline=9)], [0])
    assert reason is not None
    assert "response time of 10000000 ns, and a deadline of 9000000 ns" in reason
    assert refusal([edf, Task(edf, id=2), other], [0]) is not None


def test_what_a_program_needs_to_be_loaded() -> None:
    assert 2**19 < needed_bytes(workload("hey")) < 2**20
    assert needed_bytes(script("exit 0")) == 0
    assert needed_bytes(b"") == 0


@pytest.mark.parametrize("size", [0, 4, 5, 6, 20, 60, 64, 70, 200, 10_000])
def test_a_cut_off_program_is_no_problem(size: int) -> None:
    assert needed_bytes(workload("hey")[:size]) >= 0


def test_binaries_are_limited_in_number_and_size() -> None:
    binaries = Binaries(most=2, most_bytes=10)
    binaries.add("a", b"12345")
    binaries.add("b", b"12345")
    with pytest.raises(ProtocolError, match="binaries must be ≤ 2, got 'c' as one more"):
        binaries.add("c", b"")
    with pytest.raises(ProtocolError, match="≤ 10 bytes together, got 11 with 'b'"):
        binaries.add("b", b"123456")
    binaries.add("b", b"1234")
    kept = binaries.get("b")
    assert kept is not None
    assert os.pread(kept.fd, 100, 0) == b"1234"
    binaries.clear()
    assert binaries.get("a") is None
    binaries.add("c", b"1234567890")
    binaries.clear()


def test_an_executable_in_memory_never_changes() -> None:
    fd = executable_in_memory("x", b"content")
    try:
        with pytest.raises(PermissionError):
            os.pwrite(fd, b"X", 0)
        with pytest.raises(PermissionError):
            os.ftruncate(fd, 0)
        assert os.pread(fd, 100, 0) == b"content"
    finally:
        os.close(fd)


def test_a_timer_expires_at_its_time() -> None:
    timer = Timer()
    poll = select.poll()
    poll.register(timer.fileno(), select.POLLIN)
    try:
        assert not poll.poll(0)
        time_ns = time.monotonic_ns() + 3_000_000
        timer.set(time_ns)
        assert poll.poll(10_000)
        assert time.monotonic_ns() >= time_ns
        timer.set(None)
        assert not poll.poll(0)
        timer.set(0)
        assert poll.poll(10_000)
    finally:
        timer.close()


def test_descendants() -> None:
    reader, writer = os.pipe()
    child = os.fork()
    if not child:
        grandchild = os.fork()
        if grandchild:
            os.write(writer, str(grandchild).encode())
        time.sleep(100)
        os._exit(0)
    try:
        grandchild = int(os.read(reader, 20))
        assert descendants(os.getpid()) >= {child, grandchild}
        assert os.getpid() not in descendants(os.getpid())
        os.kill(grandchild, 9)
    finally:
        os.kill(child, 9)
        os.waitpid(child, 0)
        os.close(reader)
        os.close(writer)
