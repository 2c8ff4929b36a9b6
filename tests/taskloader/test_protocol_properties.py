"""What must hold of the codec, whatever the messages and however their bytes are cut."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from wire import COMMANDS, EVENTS, REPORTS, bytewise, cut, encoded, from_client, from_target, push

from taskgen_run.taskloader.documents import write_profile
from taskgen_run.taskloader.protocol import (
    Binary,
    Command,
    Event,
    GoSend,
    Limits,
    Optimize,
    Profile,
    Report,
    SendBinaries,
    SendDescs,
)

PLACES = st.lists(st.integers(0, 10**6), max_size=6)
ROOMY = Limits(xml_bytes=2**16)


@given(COMMANDS, PLACES)
def test_a_target_receives_what_a_client_sends(commands: list[Command], places: list[int]) -> None:
    received, error = from_client(cut(encoded(commands), places), ROOMY)
    assert (received, error) == (commands, "")
    for sent, got in zip(commands, received, strict=True):
        if isinstance(sent, SendDescs):
            assert isinstance(got, SendDescs)
            assert got.tasks == sent.tasks
        if isinstance(sent, Optimize):
            assert isinstance(got, Optimize)
            assert got.applied == sent.applied


@given(COMMANDS)
def test_binaries_say_how_many_remain(commands: list[Command]) -> None:
    received, _ = from_client([encoded(commands)], ROOMY)
    remaining = 0
    for command in received:
        if isinstance(command, SendBinaries):
            remaining = command.count
        elif isinstance(command, Binary):
            remaining -= 1
            assert command.remaining == remaining
    assert remaining == 0


@given(st.lists(REPORTS, max_size=5), PLACES)
def test_a_client_receives_what_a_target_sends(reports: list[Report], places: list[int]) -> None:
    assert from_target(cut(encoded(reports), places), ROOMY) == (reports, "")


@given(st.lists(REPORTS | st.just(GoSend()), max_size=9), PLACES)
def test_go_sends_among_pushes(reports: list[Report], places: list[int]) -> None:
    due = reports.count(GoSend())
    assert from_target(cut(encoded(reports), places), ROOMY, due) == (reports, "")


def of_144_bytes(event: Event) -> bytes:
    return push(write_profile([event]).encode().ljust(0x90, b"\0"))


@given(st.lists(st.sampled_from(["go", "144"]) | REPORTS, max_size=9), PLACES, st.data())
def test_go_sends_among_pushes_of_144_bytes(
    plan: list[Report | str], places: list[int], data: st.DataObject
) -> None:
    small = st.builds(
        Event, EVENTS.map(lambda event: event.type), st.just(3), st.just(10**6), st.none()
    )
    stream = b""
    pushed: list[Report] = []
    for step in plan:
        if step == "go":
            stream += encoded([GoSend()])
        elif step == "144":
            event = data.draw(small)
            pushed.append(Profile((event,)))
            stream += of_144_bytes(event)
        elif not isinstance(step, str):
            pushed.append(step)
            stream += encoded([step])
    due = plan.count("go")
    whole, error = from_target([stream], ROOMY, due)
    assert error == ""
    assert [message for message in whole if message != GoSend()] == pushed
    assert whole.count(GoSend()) == due
    assert from_target(cut(stream, places), ROOMY, due) == (whole, "")
    assert from_target(bytewise(stream), ROOMY, due) == (whole, "")


@given(st.lists(EVENTS, max_size=5), st.binary(max_size=40), st.integers(0, 5))
def test_garbage_after_a_profile_is_ignored(events: list[Event], garbage: bytes, nuls: int) -> None:
    document = write_profile(events).encode() + bytes(nuls) + garbage
    assert from_target([push(document)], ROOMY) == ([Profile(tuple(events))], "")


@given(st.lists(EVENTS, max_size=5), st.sampled_from(["<!---->", " ", "\n\t", '<a b="c">d</a>']))
def test_plain_profiles_are_read_as_by_the_parser(events: list[Event], between: str) -> None:
    """What stands between the events sends the same profile through the parser of XML."""
    plain = write_profile(events)
    other = plain.replace("\n", between)
    assert from_target([push(plain) + push(other)], ROOMY) == ([Profile(tuple(events))] * 2, "")
