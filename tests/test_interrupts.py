from __future__ import annotations

import os
import signal
import threading

import pytest

from taskgen_run.interrupts import Interrupted, Interrupts


def _send(signum: int) -> None:
    os.kill(os.getpid(), signum)


@pytest.mark.parametrize("signum", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_is_raised_at_once_where_it_is_allowed(signum: int) -> None:
    reached = []
    with Interrupts() as interrupts, pytest.raises(Interrupted) as raised, interrupts.allowed():
        _send(signum)
        reached.append("after")  # pragma: no cover
    assert raised.value.signum == signum
    assert not reached


def test_a_signal_elsewhere_waits_until_it_is_allowed() -> None:
    done = []
    with Interrupts() as interrupts:
        _send(signal.SIGINT)
        done.append("the work in hand")
        with pytest.raises(Interrupted), interrupts.allowed():
            done.append("more")  # pragma: no cover
    assert done == ["the work in hand"]


def test_a_second_signal_does_not_wait() -> None:
    with Interrupts(), pytest.raises(Interrupted):
        _send(signal.SIGINT)
        _send(signal.SIGINT)


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
