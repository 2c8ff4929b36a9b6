"""The threads of a run: which of them it waits for, and which it lets go."""

from __future__ import annotations

import threading

import pytest
from agents import wait_until

from taskgen_run.threads import Threads, let_go


@pytest.fixture
def errors() -> list[Exception]:
    return []


@pytest.fixture
def threads(errors: list[Exception]) -> Threads:
    return Threads(errors.append)


def test_a_run_ends_after_its_threads(threads: Threads) -> None:
    may_end = threading.Event()
    assert threads.are_done
    threads.spawn(may_end.wait, "one")
    assert not threads.are_done
    may_end.set()
    threads.end(20)
    assert threads.are_done


def test_an_error_is_told(threads: Threads, errors: list[Exception]) -> None:
    error = ValueError("lost")

    def fail() -> None:
        raise error

    threads.spawn(fail, "one")
    threads.end(20)
    assert errors == [error]


def test_a_thread_that_connects_is_waited_for_once_it_has(threads: Threads) -> None:
    has_connected, goes_on, may_end = (threading.Event() for _ in range(3))

    def connect() -> None:
        goes_on.wait()
        threads.connected()
        has_connected.set()
        may_end.wait()

    threads.spawn(connect, "one", connects=True)
    assert threads.are_done
    assert threads.connecting(60) == 1
    assert threads.connecting(0) == 0
    goes_on.set()
    has_connected.wait()
    assert not threads.are_done
    assert threads.connecting(60) == 0
    may_end.set()
    threads.end(20)


def test_who_waits_for_a_machine_is_let_go(threads: Threads) -> None:
    answers = []

    def connect() -> None:
        answers.append(let_go(60))

    threads.spawn(connect, "one", connects=True)
    wait_until(lambda: threads.wait_for_machines, "it waits")
    threads.end(20)
    assert answers == [True]
    assert not threads.wait_for_machines


def test_nobody_is_let_go_outside_of_a_run() -> None:
    assert not let_go()
    assert not let_go(0.01)


def test_what_does_not_end_is_logged(threads: Threads, caplog: pytest.LogCaptureFixture) -> None:
    may_end = threading.Event()
    threads.spawn(may_end.wait, "the slow one")
    threads.end(0.1)
    assert caplog.messages == ["the slow one did not end within 0.1 s"]
    may_end.set()
