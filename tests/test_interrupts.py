from __future__ import annotations

import os
import signal
import threading

import pytest

from taskgen_run.interrupts import Interrupted, Interrupts


def _send(signum: int) -> None:
    os.kill(os.getpid(), signum)


class Work:
    """Takes a signal, and tells how far it came."""

    def __init__(self, interrupts: Interrupts) -> None:
        self.done: list[str] = []
        self._interrupts = interrupts

    def interruptible(self, signum: int) -> None:
        with self._interrupts.allowed():
            _send(signum)
            self.done.append("after")

    def uninterruptible(self, *signums: int) -> None:
        for signum in signums:
            _send(signum)
            self.done.append(f"after {len(self.done) + 1}")


@pytest.mark.parametrize("signum", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_is_raised_at_once_where_it_is_allowed(signum: int) -> None:
    with Interrupts() as interrupts:
        work = Work(interrupts)
        with pytest.raises(Interrupted) as raised:
            work.interruptible(signum)
    assert raised.value.signum == signum
    assert work.done == []


def test_a_signal_elsewhere_waits_until_it_is_allowed() -> None:
    with Interrupts() as interrupts:
        work = Work(interrupts)
        work.uninterruptible(signal.SIGINT)
        assert work.done == ["after 1"]
        with pytest.raises(Interrupted):
            work.interruptible(signal.SIGTERM)
    assert work.done == ["after 1"]


def test_a_second_signal_does_not_wait() -> None:
    with Interrupts() as interrupts:
        work = Work(interrupts)
        with pytest.raises(Interrupted):
            work.uninterruptible(signal.SIGINT, signal.SIGINT)
    assert work.done == ["after 1"]


def test_the_handlers_of_before_are_back_afterwards() -> None:
    before = signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)
    with Interrupts():
        assert signal.getsignal(signal.SIGINT) != before[0]
    assert (signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)) == before


def test_outside_the_main_thread_nothing_changes() -> None:
    before = signal.getsignal(signal.SIGINT)
    seen = []

    def work() -> None:
        with Interrupts() as interrupts, interrupts.allowed():
            seen.append(signal.getsignal(signal.SIGINT))

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert seen == [before]


def test_interrupted_is_no_error_that_a_plugin_could_swallow() -> None:
    assert not issubclass(Interrupted, Exception)
    assert issubclass(Interrupted, KeyboardInterrupt)
    assert str(Interrupted(signal.SIGTERM)) == "SIGTERM"
