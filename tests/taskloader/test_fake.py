"""The fake target does what its script says, and says what did not go by it."""

from __future__ import annotations

import time

import pytest

from taskgen_run.taskloader.client import Connection
from taskgen_run.taskloader.fake import Expect, FakeTarget, Hang, Pause, Send, Serve, Upload
from taskgen_run.taskloader.protocol import (
    Binary,
    Clear,
    Command,
    GetLive,
    GoSend,
    Live,
    Report,
    SendBinaries,
    Start,
    Stop,
)


def _client(target: FakeTarget) -> Connection:
    return Connection(target.host, target.port, 2.0)


def _soon() -> float:
    return time.monotonic() + 5.0


def _disappoint(target: FakeTarget, error: type[Exception] | None = None) -> None:
    with target:
        client = _client(target)
        client.send(Stop(), _soon())
        with pytest.raises(ConnectionError):
            client.receive(_soon())
        client.close()
        if error is not None:
            raise error


def test_a_command_that_was_not_expected_is_raised_where_the_target_is_left() -> None:
    with pytest.raises(AssertionError, match=r"Clear must come next, got Stop\(\)"):
        _disappoint(FakeTarget([Expect(Clear)]))


def test_what_fails_inside_is_raised_first() -> None:
    with pytest.raises(KeyError):
        _disappoint(FakeTarget([Expect(Clear)]), KeyError)


def test_every_connection_begins_the_script_anew() -> None:
    with FakeTarget([Expect(Clear), Send(GoSend())]) as target:
        for _ in range(3):
            client = _client(target)
            client.send(Clear(), _soon())
            with pytest.raises(ConnectionError, match="closed the connection"):
                client.receive(_soon())
            client.close()
    assert target.connections == target.count(Clear) == 3


def test_uploads_and_live_answers() -> None:
    def answer(command: Command) -> list[Report]:
        return [Live(())] if isinstance(command, Start) else []

    with FakeTarget([Upload(), Serve(answer)]) as target:
        client = _client(target)
        for _ in range(2):
            client.send(SendBinaries(2), _soon())
            for name in ("a", "b"):
                assert client.receive(_soon()) == GoSend()
                client.send(Binary(name, b"x" * 100_000), _soon())
        for command in (GetLive(), Start()):
            client.send(command, _soon())
            assert client.receive(_soon()) == Live(())
        client.close()
    assert target.count(Binary) == 4


def test_leaving_it_ends_a_step_that_waits() -> None:
    for script in ([Hang()], [Pause(60)], [Expect(Clear)], [Send(b"x" * (64 << 20))]):
        before = time.monotonic()
        with FakeTarget(script) as target:
            client = _client(target)
            time.sleep(0.05)
        client.close()
        assert time.monotonic() - before < 2
