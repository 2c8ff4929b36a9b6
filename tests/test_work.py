from __future__ import annotations

import threading
import time
from collections.abc import Iterator

import pytest

from taskgen_run.task import Task
from taskgen_run.taskset import TaskSet
from taskgen_run.values import Range
from taskgen_run.work import AHEAD, Try, Work


def _variants(count: int) -> Iterator[TaskSet]:
    return TaskSet([Task(period=5, executiontime=Range(1, count))], "mine").variants()


def _numbers(work: Work) -> list[int]:
    numbers = []
    while (item := work.take("", 30)) is not None:
        numbers.append(item.taskset.variant)
        work.done(item)
    return numbers


def test_work_comes_in_order_and_ends() -> None:
    work = Work(_variants(200))
    assert _numbers(work) == list(range(200))
    assert work.closed


def test_work_of_nothing_ends_at_once() -> None:
    work = Work(iter(()))
    assert work.take("", 30) is None
    assert work.closed


def test_many_threads_do_every_variant_once_though_they_give_some_back() -> None:
    work, count = Work(_variants(20_000)), 20_000
    finished: list[int] = []

    def serve() -> None:
        while (item := work.take("", 30)) is not None:
            if item.taskset.variant % 7 == 0 and item.attempt == 0:
                work.again(Try(item.taskset, 1))
            else:
                finished.append(item.taskset.variant)
                work.done(item)

    threads = [threading.Thread(target=serve, daemon=True) for _ in range(32)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
        assert not thread.is_alive(), "a thread waits for work for ever"
    assert sorted(finished) == list(range(count))
    assert work.closed


def test_what_came_back_is_taken_first() -> None:
    work = Work(_variants(3))
    first = work.take("", 30)
    assert first is not None
    work.again(Try(first.taskset, 1))
    again = work.take("", 30)
    assert again is not None
    assert (again.taskset.variant, again.attempt) == (0, 1)


def test_the_last_one_is_waited_for_as_it_may_come_back() -> None:
    work = Work(_variants(1))
    item = work.take("", 30)
    assert item is not None
    taken: list[Try | None] = []
    thread = threading.Thread(target=lambda: taken.append(work.take("", 30)), daemon=True)
    thread.start()
    time.sleep(0.05)
    assert thread.is_alive()
    work.again(item)
    thread.join(5)
    assert taken == [item]
    work.done(item)
    assert work.take("", 30) is None


def test_closing_lets_those_go_who_wait() -> None:
    work = Work(_variants(1))
    work.take("", 30)
    thread = threading.Thread(target=work.take, args=("", 30), daemon=True)
    thread.start()
    time.sleep(0.05)
    work.close()
    thread.join(5)
    assert not thread.is_alive()


def test_an_endless_stream_is_read_no_further_than_a_little_ahead() -> None:
    drawn: list[int] = []

    def endless() -> Iterator[TaskSet]:
        while True:
            taskset = TaskSet([Task(period=5)], "endless")
            taskset.variant = len(drawn)
            drawn.append(taskset.variant)
            yield taskset

    work = Work(endless())
    for _ in range(3 * AHEAD):
        item = work.take("", 30)
        assert item is not None
        work.done(item)
    assert len(drawn) <= 4 * AHEAD


def test_a_slow_stream_is_not_waited_for_longer_than_for_one_variant() -> None:
    def slow() -> Iterator[TaskSet]:
        for taskset in _variants(50):
            time.sleep(0.05)
            yield taskset

    before = time.monotonic()
    assert Work(slow()).take("", 30) is not None
    assert time.monotonic() - before < 1.0


def test_a_stream_that_fails_ends_the_work_and_its_error_is_kept() -> None:
    def failing() -> Iterator[TaskSet]:
        yield from _variants(2)
        raise ValueError("no more")

    work = Work(failing())
    assert _numbers(work) == [0, 1]
    assert isinstance(work.error, ValueError)


@pytest.mark.parametrize("count", [1, AHEAD, AHEAD + 1])
def test_the_end_of_the_stream_is_found_wherever_reading_ahead_stops(count: int) -> None:
    assert _numbers(Work(_variants(count))) == list(range(count))


def _failed_once(work: Work, host: str) -> Try:
    """The first attempt, which has failed on the host."""
    item = work.take(host, 0)
    assert item is not None
    again = Try(item.taskset, item.attempt + 1, item.failed_on | {host})
    work.again(again)
    return again


def test_what_failed_on_a_host_is_left_to_the_others() -> None:
    work = Work(_variants(2))
    for host in ("bad", "good"):
        work.join(host)
    again = _failed_once(work, "bad")
    other = work.take("bad", 0)
    assert other is not None
    assert (other.taskset.variant, other.attempt) == (1, 0)
    assert work.take("bad", 0) is None
    assert work.waits
    assert not work.has_for("bad", 1)
    assert work.has_for("good", 1)
    assert not work.has_for("good", 2)
    assert work.take("good", 0) is again


def test_a_host_that_is_alone_tries_again_what_failed_on_it() -> None:
    work = Work(_variants(1))
    work.join("bad")
    again = _failed_once(work, "bad")
    assert work.take("bad", 0) is again


def test_a_host_tries_again_what_failed_on_it_once_the_others_are_gone() -> None:
    work = Work(_variants(1))
    for host in ("bad", "good"):
        work.join(host)
    again = _failed_once(work, "bad")
    taken: list[Try | None] = []
    thread = threading.Thread(target=lambda: taken.append(work.take("bad", 30)), daemon=True)
    thread.start()
    time.sleep(0.05)
    assert thread.is_alive()
    work.leave("good")
    thread.join(5)
    assert taken == [again]


@pytest.mark.parametrize("count", [1, AHEAD, AHEAD + 1])
def test_it_is_closed_as_soon_as_the_last_variant_is_done(count: int) -> None:
    work = Work(_variants(count))
    items = [work.take("", 30) for _ in range(count)]
    assert not work.closes_within(0)
    for item in items:
        assert item is not None
        work.done(item)
    assert work.closes_within(0)


def test_waiting_for_work_ends_when_something_comes_back_or_all_is_done() -> None:
    work = Work(_variants(1))
    assert work.wait()
    item = work.take("", 30)
    assert item is not None
    waited: list[bool] = []
    for end in (work.again, work.done):
        thread = threading.Thread(target=lambda: waited.append(work.wait()), daemon=True)
        thread.start()
        time.sleep(0.05)
        assert thread.is_alive()
        end(item)
        thread.join(5)
        work.take("", 0)
    assert waited == [True, False]


def test_it_reads_ahead_as_far_as_is_asked_for() -> None:
    drawn: list[int] = []

    def stream() -> Iterator[TaskSet]:
        for taskset in _variants(500):
            drawn.append(taskset.variant)
            yield taskset

    work = Work(stream())
    assert work.has_for("host", 200)
    assert 200 <= len(drawn) <= 200 + AHEAD
    assert work.has_for("host", 500)
    assert not work.has_for("host", 501)
    work.close()
    assert not work.has_for("host", 1)
