"""Messages, streams and pieces of streams for the tests of the wire protocol."""

from __future__ import annotations

import struct
from collections.abc import Iterable, Sequence
from itertools import chain
from typing import Any

import xmltodict
from hypothesis import strategies as st

from taskgen_run.taskloader.protocol import (
    Binary,
    Clear,
    ClientDecoder,
    Command,
    Event,
    EventType,
    GetLive,
    GetProfile,
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

SMALL = Limits(xml_bytes=4096, binary_bytes=4096, binaries=4, tasks=8, depth=8)

Outcome = tuple[list[Command | Report], str]
"""What a decoder made of a stream: messages, and the error that ended it, if any."""


def u32(*numbers: int) -> bytes:
    return struct.pack(f"<{len(numbers)}I", *numbers)


def push(xml: str | bytes) -> bytes:
    document = xml.encode() if isinstance(xml, str) else xml
    return u32(len(document)) + document


def from_target(pieces: Iterable[bytes], limits: Limits = SMALL, due: int = 0) -> Outcome:
    decoder = ClientDecoder(limits)
    decoder.expect_go_sends(due)
    return _outcome(decoder, pieces)


def from_client(pieces: Iterable[bytes], limits: Limits = SMALL) -> Outcome:
    return _outcome(TargetDecoder(limits), pieces)


def _outcome(decoder: ClientDecoder | TargetDecoder, pieces: Iterable[bytes]) -> Outcome:
    messages: list[Command | Report] = []
    try:
        for piece in pieces:
            for message in decoder.feed(piece):
                messages.append(message)
    except ProtocolError as error:
        return messages, str(error)
    return messages, ""


def cut(stream: bytes, places: Sequence[int]) -> list[bytes]:
    """`stream` in pieces, cut at `places` modulo its length."""
    ends = sorted({place % (len(stream) + 1) for place in places} | {len(stream)})
    return [stream[start:end] for start, end in zip([0, *ends], ends, strict=False)]


def bytewise(stream: bytes) -> list[bytes]:
    return [stream[at : at + 1] for at in range(len(stream))]


TEXT = st.text(
    st.characters(exclude_categories=["Cs", "Cc"], exclude_characters="\ufffe\uffff"), max_size=9
)
NAMES = st.from_regex(r"[A-Za-z0-9_+-][A-Za-z0-9_.+ -]{0,14}", fullmatch=True)

EVENTS = st.builds(
    Event,
    st.sampled_from(EventType),
    st.integers(-1, 9) | st.integers(-1, 2**63 - 1),
    st.integers(0, 10**6).map(lambda ms: ms * 10**6) | st.integers(0, 2**62),
    st.none() | st.integers(0, 10**6).map(lambda ms: ms * 10**6) | st.integers(0, 2**62),
)
LIVE_TASKS = st.builds(
    LiveTask,
    st.integers(-1, 2**63 - 1),
    st.dictionaries(st.sampled_from(["state", "core", "ram_quota", "execution-time"]), TEXT),
)
REPORTS: st.SearchStrategy[Report] = st.one_of(
    st.builds(Profile, st.lists(EVENTS, max_size=5).map(tuple)),
    st.builds(Live, st.lists(LIVE_TASKS, max_size=4).map(tuple)),
)

MS = st.integers(0, 10**12)
COUNT = st.integers(0, 2**63 - 1)
LEAVES = st.none() | TEXT.map(str.strip).filter(bool)
KEYS = st.sampled_from(["arg1", "arg2", "rom", "_x", "a.b", "Long-Name"])
NODES = st.recursive(
    LEAVES,
    lambda nodes: st.dictionaries(
        KEYS, nodes | st.lists(nodes, min_size=2, max_size=3), min_size=1
    ),
    max_leaves=4,
)
CONFIGS = st.builds(
    lambda attributes, elements: {**attributes, **elements},
    st.dictionaries(st.just("@version"), TEXT),
    st.dictionaries(KEYS, NODES, max_size=3),
)
TASKS = st.fixed_dictionaries(
    {"id": COUNT},
    optional={
        "executiontime": MS,
        "criticaltime": MS,
        "priority": st.integers(0, 128),
        "deadline": MS,
        "period": MS,
        "offset": MS,
        "numberofjobs": COUNT,
        "quota": COUNT,
        "caps": COUNT,
        "cores": COUNT,
        "coreoffset": st.integers(-(2**31), 2**31),
        "pkg": NAMES.map(str.strip).filter(bool),
        "config": CONFIGS,
    },
)
TASKSETS = st.lists(TASKS, max_size=4, unique_by=lambda task: task["id"])


def descs(tasks: Sequence[dict[str, Any]]) -> SendDescs:
    """`tasks` as a client sends them, in the document that the convention of xmltodict gives."""
    xml = xmltodict.unparse({"taskset": {"periodictask": list(tasks)}}, full_document=False)
    return SendDescs(xml.encode("ascii", "xmlcharrefreplace").decode(), tuple(tasks))


def optimize(applied: str | None, known: Sequence[str], interval: int) -> Optimize:
    goals = {name: {"apply": int(name == applied)} for name in known}
    return Optimize({"goal": goals, "query_interval": interval})


GOALS = ["fairness", "utilization"]
UPLOADS: st.SearchStrategy[list[Command]] = st.lists(
    st.builds(Binary, NAMES, st.binary(max_size=200)), max_size=4
).map(lambda binaries: [SendBinaries(len(binaries)), *binaries])
SINGLES: st.SearchStrategy[Command] = st.one_of(
    st.sampled_from([Clear(), Start(), Stop(), GetLive(), GetProfile()]),
    TASKSETS.map(descs),
    st.builds(optimize, st.sampled_from([None, *GOALS]), st.just(GOALS), MS),
)
COMMANDS: st.SearchStrategy[list[Command]] = st.lists(
    UPLOADS | SINGLES.map(lambda command: [command]), max_size=5
).map(lambda groups: list(chain.from_iterable(groups)))


def encoded(messages: Iterable[Command | Report]) -> bytes:
    return b"".join(map(encode, messages))
