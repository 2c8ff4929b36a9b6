"""The frames of the wire protocol: numbers, sizes, names, and GO_SEND beside pushes."""

from __future__ import annotations

import struct
import tracemalloc

import pytest
from wire import SMALL, Outcome, bytewise, encoded, from_client, from_target, push, u32

from taskgen_run.errors import ConfigurationError, TargetError
from taskgen_run.taskloader.messages import MAX_XML_BYTES
from taskgen_run.taskloader.protocol import (
    DEFAULT_PORT,
    Binary,
    Clear,
    ClientDecoder,
    Command,
    Event,
    EventType,
    GetLive,
    GetProfile,
    GoSend,
    Limits,
    Live,
    LiveTask,
    Optimize,
    Profile,
    ProtocolError,
    Report,
    SendBinaries,
    SendDescs,
    Start,
    Stop,
    TargetDecoder,
    encode,
)

GO = u32(0x90)
EMPTY = Profile(())
START_0 = Profile((Event(EventType.START, 0, 63_466_000_000),))
XML_START_0 = (
    '<profile><events><event type="START" task-id="0" time-stamp="63466"/></events></profile>'
)


@pytest.mark.parametrize(
    ("message", "wire"),
    [
        (Clear(), "e60d0000"),
        (Start(), "e54d5100"),
        (Stop(), "e64d5100"),
        (GetLive(), "d2590100"),
        (GetProfile(), "d1590100"),
        (SendBinaries(3), "1ef1e50d 03000000"),
        (Binary("hey", b"\x7fELF"), "686579 00000000000000000000000000 04000000 7f454c46"),
        (SendDescs("<taskset/>"), "e50d0000 0a000000" + b"<taskset/>".hex()),
        (Optimize({}), "74706f00 15000000" + b"<optimize></optimize>".hex()),
        (GoSend(), "90000000"),
    ],
    ids=repr,
)
def test_the_bytes_of_a_message(message: Command | Report, wire: str) -> None:
    assert encode(message) == bytes.fromhex(wire)


def test_the_bytes_of_a_profile_and_of_a_live_answer() -> None:
    profile = (
        '<profile><events>\n<event type="EXIT" task-id="7" time-stamp="63466.05"/>\n'
        "</events></profile>"
    )
    assert encode(Profile((Event(EventType.EXIT, 7, 63_466_050_000),))) == push(profile)
    live = (
        '<live><task-descriptions>\n<task id="7" state="a&amp;b"/>\n</task-descriptions></live>\0'
    )
    assert encode(Live((LiveTask(7, {"state": "a&b"}),))) == push(live)


def test_the_port() -> None:
    assert DEFAULT_PORT == 3001


def test_a_protocol_error_is_the_targets_fault() -> None:
    assert issubclass(ProtocolError, TargetError)


# GO_SEND and the push of 144 bytes

PUSH_144 = push(XML_START_0.encode().ljust(0x90, b"\0"))


def test_no_encoded_push_has_144_bytes() -> None:
    padding = 0x90 - len(encode(Live((LiveTask(7, {"state": ""}),)))) + 4
    for length in range(padding - 2, padding + 3):
        message = Live((LiveTask(7, {"state": "x" * length}),))
        assert struct.unpack_from("<I", encode(message)) != (0x90,)
        assert from_target([encode(message)]) == ([message], "")


@pytest.mark.parametrize("pieces", [lambda stream: [stream], bytewise], ids=["whole", "bytewise"])
@pytest.mark.parametrize(
    ("due", "stream", "messages"),
    [
        pytest.param(0, PUSH_144, [START_0], id="no upload"),
        pytest.param(1, GO, [GoSend()], id="nothing follows"),
        pytest.param(2, GO + GO, [GoSend(), GoSend()], id="GO_SEND follows"),
        pytest.param(1, GO + push(XML_START_0), [GoSend(), START_0], id="push follows"),
        pytest.param(1, push(XML_START_0) + GO, [START_0, GoSend()], id="push before"),
        # The size of the push is 0x13c, whose first byte is that of '<'.
        pytest.param(
            1, GO + push(XML_START_0.ljust(0x13C)), [GoSend(), START_0], id="push of size '<'"
        ),
        pytest.param(1, PUSH_144, [GoSend(), START_0], id="a push under way"),
        pytest.param(1, PUSH_144 + GO, [GoSend(), START_0], id="GO_SEND after a push under way"),
        pytest.param(
            1, PUSH_144 * 3 + GO + PUSH_144, [GoSend(), *[START_0] * 4], id="many such pushes"
        ),
        pytest.param(
            2,
            PUSH_144 + GO + PUSH_144 + GO + PUSH_144,
            [GoSend(), START_0, GoSend(), START_0, START_0],
            id="two binaries",
        ),
        pytest.param(
            1, push(b" \n\t<profile/>".ljust(0x90)) + GO, [GoSend(), EMPTY], id="white space first"
        ),
    ],
)
def test_what_0x90_means(pieces: object, due: int, stream: bytes, messages: list[Report]) -> None:
    assert callable(pieces)
    assert from_target(pieces(stream), due=due) == (messages, "")


def test_an_upload_that_begins_in_the_middle_of_a_size() -> None:
    decoder = ClientDecoder()
    assert list(decoder.feed(PUSH_144[:2])) == []
    decoder.expect_go_sends(1)
    assert list(decoder.feed(PUSH_144[2:])) == [GoSend(), START_0]
    assert list(decoder.feed(GO + PUSH_144)) == [START_0]


def test_an_upload_that_begins_after_a_size() -> None:
    decoder = ClientDecoder()
    assert list(decoder.feed(PUSH_144[:4])) == []
    decoder.expect_go_sends(1)
    assert list(decoder.feed(PUSH_144[4:] + GO)) == [START_0, GoSend()]


def test_the_largest_size_is_smaller_than_any_text() -> None:
    roomy = Limits(xml_bytes=MAX_XML_BYTES)
    assert from_target([push(b"\t\t\t\t<profile/>".ljust(0x90)) + GO], roomy, due=1) == (
        [GoSend(), EMPTY],
        "",
    )


def test_a_go_send_that_is_not_due_is_refused_when_more_comes() -> None:
    messages, error = from_target([GO + GO], due=1)
    assert (messages, error) == ([GoSend()], "")
    messages, error = from_target([GO + GO + GO], due=1)
    assert messages == [GoSend()]
    assert error == "XML of 144 bytes must begin with '<', got b'\\x90'"


# Sizes


@pytest.mark.parametrize("size", [0, 4097, 0xFFFFFFFF])
@pytest.mark.parametrize("command", [0xDE5, 0x6F7074])
def test_the_size_of_a_command_is_limited(command: int, size: int) -> None:
    expected: Outcome = ([], f"size of XML must be 1 to 4096, got {size}")
    assert from_client([u32(command, size)]) == expected
    assert from_client([u32(command, size) + b"<"]) == expected


@pytest.mark.parametrize("size", [0, 4097, 0xFFFFFFFF])
def test_the_size_of_a_push_is_limited(size: int) -> None:
    assert from_target([u32(size)]) == ([], f"size of XML must be 1 to 4096, got {size}")


def test_the_limits_are_inclusive() -> None:
    assert from_target([push(XML_START_0.encode().ljust(4096, b"\0"))]) == ([START_0], "")
    name = b"hey".ljust(16, b"\0")
    upload = u32(0xDE5F11E, 4) + (name + u32(4096) + bytes(4096)) * 4
    assert from_client([upload]) == ([SendBinaries(4), *[Binary("hey", bytes(4096))] * 4], "")


def test_the_number_and_the_size_of_binaries_are_limited() -> None:
    assert from_client([u32(0xDE5F11E, 5)]) == ([], "an upload must have ≤ 4 binaries, got 5")
    header = u32(0xDE5F11E, 1) + b"hey".ljust(16, b"\0") + u32(4097)
    assert from_client([header]) == (
        [SendBinaries(1)],
        "binary 'hey' must have ≤ 4096 bytes, got 4097",
    )


def test_an_upload_of_nothing() -> None:
    assert from_client([encoded([SendBinaries(0), Start()])]) == ([SendBinaries(0), Start()], "")


@pytest.mark.parametrize("limit", ["xml_bytes", "binary_bytes", "binaries", "tasks", "depth"])
def test_limits_are_checked(limit: str) -> None:
    with pytest.raises(ConfigurationError, match=f"^limit {limit} must be ≥ 1, got 0$"):
        Limits(**{limit: 0})


def test_no_size_may_look_like_text() -> None:
    with pytest.raises(ConfigurationError, match=r"^limit xml_bytes must be ≤ 134217728, got 1342"):
        Limits(xml_bytes=MAX_XML_BYTES + 1)


# Names


@pytest.mark.parametrize(
    "name", ["", ".", "..", "a/b", "/", "../up", "x" * 16, "\x07", "ä", "a\0b", "a\n"], ids=repr
)
def test_names_that_are_refused(name: str) -> None:
    with pytest.raises(
        ConfigurationError, match=r"^name of a binary must be a file name of 1 to 15"
    ):
        encode(Binary(name, b""))
    wire = u32(0xDE5F11E, 1) + name.encode("latin-1").ljust(16, b"\0")[:16] + u32(0)
    messages, error = from_client([wire])
    assert messages == [SendBinaries(1)]
    assert error.startswith("name of a binary must be ")


@pytest.mark.parametrize("name", ["a", "x" * 15, "...", ".hidden", "a b", "-rf", "a..b"])
def test_names_that_are_taken(name: str) -> None:
    wire = encoded([SendBinaries(1), Binary(name, b"")])
    assert from_client([wire]) == ([SendBinaries(1), Binary(name, b"")], "")


def test_a_name_is_followed_by_nuls_only() -> None:
    wire = u32(0xDE5F11E, 1) + b"hey\0".ljust(16, b"x") + u32(0)
    assert from_client([wire])[1] == (
        "name of a binary must be padded with NULs, got b'hey\\x00xxxxxxxxxxxx'"
    )


# Streams


def test_binaries_may_come_before_their_go_send() -> None:
    commands: list[Command] = [SendBinaries(2), Binary("a", b"12"), Binary("b", b""), Start()]
    received = list(TargetDecoder().feed(encoded(commands)))
    assert received == commands
    assert [m.remaining for m in received if isinstance(m, Binary)] == [1, 0]


@pytest.mark.parametrize("number", [0, 0xDE7, 0x90, 0xFFFFFFFF])
def test_an_unknown_command(number: int) -> None:
    assert from_client([encode(Stop()) + u32(number)]) == (
        [Stop()],
        f"a command must begin with a known number, got {number:#x}",
    )


def test_messages_before_an_error_are_received_however_the_stream_is_cut() -> None:
    stream = encode(START_0) + GO + encode(START_0)
    first = encode(START_0)[:1]
    expected = ([START_0], f"XML of 144 bytes must begin with '<', got {first!r}")
    for pieces in ([stream], bytewise(stream)):
        assert from_target(pieces) == expected


def test_garbage_is_refused_at_its_first_byte() -> None:
    assert from_target([u32(4000) + b"x"])[1] == "XML of 4000 bytes must begin with '<', got b'x'"
    assert from_client([u32(0xDE5, 4000) + b"\0"])[1].endswith(r"got b'\x00'")


def test_after_an_error_nothing_more_is_received() -> None:
    decoder = TargetDecoder(SMALL)
    for _ in range(3):
        with pytest.raises(ProtocolError, match=r"^a command must begin .* got 0x0$"):
            list(decoder.feed(u32(0) + encode(Stop())))


def test_after_an_error_nothing_more_is_stored() -> None:
    decoder = TargetDecoder()
    tracemalloc.start()
    try:
        decoder.feed(u32(0) + bytes(500_000))
        for _ in range(3):
            with pytest.raises(ProtocolError):
                next(decoder.feed(bytes(500_000)))
        kept, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert kept < 50_000


def test_what_is_not_iterated_over_comes_later() -> None:
    decoder = TargetDecoder()
    decoder.feed(encode(Start()))
    first = decoder.feed(encode(Stop()) + encode(Clear()))
    assert next(first) == Start()
    assert list(decoder.feed(encode(GetLive()))) == [Stop(), Clear(), GetLive()]


@pytest.mark.parametrize("goal", [{"a b": 1}, {"a>": 1}, {"a": "\0"}, {"": 1}], ids=repr)
def test_a_goal_that_xml_cannot_express_is_a_mistake_in_the_configuration(
    goal: dict[str, object],
) -> None:
    with pytest.raises(
        ConfigurationError, match=r"^admission goal must be expressible as XML, got"
    ):
        encode(Optimize(goal))
