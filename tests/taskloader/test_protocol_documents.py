"""The XML of the wire protocol: what is read, what is tolerated, what is refused."""

from __future__ import annotations

import time
import tracemalloc
from collections.abc import Callable, Iterator
from itertools import pairwise, product
from string import ascii_lowercase
from typing import Any

import pytest
import xmltodict
from hypothesis import given
from hypothesis import strategies as st
from wire import SMALL, Outcome, from_client, from_target, push, u32

from taskgen_run.task import Task
from taskgen_run.taskloader.protocol import (
    Event,
    EventType,
    Limits,
    Live,
    LiveTask,
    Optimize,
    Profile,
    SendDescs,
    encode,
)
from taskgen_run.taskset import TaskSet

MS = 10**6
ROOMY = Limits()


def profile(xml: str | bytes) -> Outcome:
    return from_target([push(xml)])


def descs(xml: str | bytes, limits: Limits = SMALL) -> Outcome:
    return from_client([u32(0xDE5) + push(xml)], limits)


def tasks(xml: str) -> tuple[dict[str, Any], ...]:
    messages, error = descs(xml)
    assert error == ""
    (message,) = messages
    assert isinstance(message, SendDescs)
    return message.tasks


def task(xml: str) -> Outcome:
    return descs(f"<taskset><periodictask>{xml}</periodictask></taskset>")


# Profiles

START = Event(EventType.START, 0, 63_466 * MS)


@pytest.mark.parametrize(
    "xml",
    [
        '<profile><events><event type="START" task-id="0" time-stamp="63466"/></events></profile>',
        """
        <profile>
          <events>
            <event type="START" task-id="0" time-stamp="63466">
              <task id="0" execution-time="12" ram_used="4096"/> text
            </event>
          </events>
        </profile>
        """,
        '<?xml version="1.0" encoding="none-such"?>\n<profile><events>'
        "<event time-stamp='63466.0' type='START' task-id='0' more='1'></event></events></profile>",
        '<profile><task-descriptions><task id="0"/></task-descriptions>'
        '<events n="1"><!-- c --><event type="&#83;TART" task-id="0" time-stamp="63466.000000000"/>'
        "<other/></events></profile>",
    ],
    ids=["plain", "children", "declaration", "unknown elements"],
)
@pytest.mark.parametrize(
    "rest",
    [
        b"",
        b"\0\0\0",
        b"\n \0",
        b"</events></profile>",
        b"\xff\xfe<",
        b"&nbsp;",
        b'<event type="EXIT" task-id="0" time-stamp="1"/></events></profile>',
        b"<!DOCTYPE a>",
        b"<a>" * 50,
        b'<live><task-descriptions><task id="1"/></task-descriptions></live>',
    ],
    ids=repr,
)
def test_profiles_of_sloppy_targets(xml: str, rest: bytes) -> None:
    assert profile(xml.encode() + rest) == ([Profile((START,))], "")


@pytest.mark.parametrize("name", [event.value for event in EventType])
def test_every_type_of_event(name: str) -> None:
    both = [
        f'<profile><events><event type="{name}" task-id="-1" time-stamp="0"/></events></profile>',
        f'<profile><events><event type="{name}" task-id="7" time-stamp="0"/></events></profile>',
    ]
    for xml, identifier in zip(both, [-1, 7], strict=True):
        assert profile(xml) == ([Profile((Event(EventType(name), identifier, 0),))], "")


def test_the_types_of_the_protocol() -> None:
    assert " ".join(EventType) == (
        "START EXIT EXIT_CRITICAL EXIT_EXTERNAL EXIT_ERROR EXIT_PERIOD OUT_OF_QUOTA NOT_SCHEDULED "
        "JOBS_DONE EXTERNAL"
    )


@pytest.mark.parametrize(
    "xml", ["<profile/>", "<profile><events/></profile>", "<profile></profile>"]
)
def test_profiles_without_events(xml: str) -> None:
    assert profile(xml) == ([Profile(())], "")


@pytest.mark.parametrize("extra", ["", " x='1'"], ids=["plain", "parsed"])
@pytest.mark.parametrize(
    ("ms", "ns"),
    [
        ("0", 0),
        ("1.5", 1_500_000),
        ("0.000001", 1),
        ("8.2", 8_200_000),
        ("0001.50", 1_500_000),
        ("1.1234560", 1_123_456),
        ("1790000000000.123456", 1_790_000_000_000_123_456),  # a clock that counts from 1970
        ("4611686018427.387904", 2**62),
    ],
)
def test_time_stamps_are_exact(ms: str, ns: int, extra: str) -> None:
    event = f'<event type="EXIT" task-id="3" time-stamp="{ms}"{extra}/>'
    assert profile(f"<profile><events>{event}</events></profile>") == (
        [Profile((Event(EventType.EXIT, 3, ns),))],
        "",
    )


TIME = "time-stamp of an event must be ms ≥ 0 with at most 6 decimals, got "
ID = "task-id must be a whole number from -1 to 9223372036854775807, got "


@pytest.mark.parametrize(
    ("attributes", "problem"),
    [
        (
            'type="STRAT" task-id="0" time-stamp="1"',
            "unknown type of event 'STRAT'; did you mean 'START'?",
        ),
        (
            'type="start" task-id="0" time-stamp="1"',
            "unknown type of event 'start'; did you mean 'START'",
        ),
        ('task-id="0" time-stamp="1"', "<event> must have a type, got {'task-id': '0', "),
        ('type="EXIT" time-stamp="1"', "<event> must have a task-id, got "),
        ('type="EXIT" task-id="0"', "<event> must have a time-stamp, got "),
        ('type="EXIT" task-id="" time-stamp="1"', ID + "''"),
        ('type="EXIT" task-id="x" time-stamp="1"', ID + "'x'"),
        ('type="EXIT" task-id="-2" time-stamp="1"', ID + "'-2'"),
        ('type="EXIT" task-id="1_0" time-stamp="1"', ID + "'1_0'"),
        ('type="EXIT" task-id=" 1" time-stamp="1"', ID + "' 1'"),
        ('type="EXIT" task-id="9223372036854775808" time-stamp="1"', ID + "'9223372036854775808'"),
        (f'type="EXIT" task-id="{"9" * 999}" time-stamp="1"', ID + "'999"),
        ('type="EXIT" task-id="\u0661" time-stamp="1"', ID + "'\u0661'"),
        ('type="EXIT" task-id="0" time-stamp=""', TIME + "''"),
        ('type="EXIT" task-id="0" time-stamp="-1"', TIME + "'-1'"),
        ('type="EXIT" task-id="0" time-stamp="1e3"', TIME + "'1e3'"),
        ('type="EXIT" task-id="0" time-stamp="nan"', TIME + "'nan'"),
        ('type="EXIT" task-id="0" time-stamp="1."', TIME + "'1.'"),
        ('type="EXIT" task-id="0" time-stamp="1.0000001"', TIME + "'1.0000001'"),
        (
            'type="EXIT" task-id="0" time-stamp="4611686018427.387905"',
            "time-stamp of an event must be ≤ 2^62 ns, ",
        ),
        (f'type="EXIT" task-id="0" time-stamp="{"9" * 999}"', TIME + "'999"),
        (
            'type="EXIT" type="EXIT" task-id="0" time-stamp="1"',
            "XML must be well-formed, got duplicate",
        ),
    ],
)
def test_events_that_are_refused(attributes: str, problem: str) -> None:
    messages, error = profile(f"<profile><events><event {attributes}/></events></profile>")
    assert messages == []
    assert error.startswith(problem)
    assert len(error) < 200


def test_an_event_elsewhere_is_not_lost_in_silence() -> None:
    event = '<event type="EXIT" task-id="0" time-stamp="1"/>'
    for xml in [
        f"<profile>{event}</profile>",
        f"<profile><event>{event}</event></profile>",
        f"<profile><old><events>{event}</events></old></profile>",
        f"<profile><events><x>{event}</x></events></profile>",
    ]:
        assert profile(xml)[1].startswith("<event> must stand in profile/events, got profile/")


# Live answers


def test_live_answers() -> None:
    xml = """<live><task-descriptions>
      <task id="0" execution-time="12" priority="10" core="1" state="running" arrival-time="1"
            start-time="2" exit-time="0" session="init" thread="ep" ram_quota="1" ram_used="0.5"/>
      <task id="1"/></task-descriptions></live>"""
    for rest in ["\0", "", "\0\0</live>"]:
        (live,), error = from_target([push(xml + rest)])
        assert error == ""
        assert isinstance(live, Live)
        assert [one.id for one in live.tasks] == [0, 1]
        assert live.tasks[0].attributes["execution-time"] == "12"
        assert live.tasks[0].attributes["ram_used"] == "0.5"
        assert live.tasks[1] == LiveTask(1, {})


def test_a_live_answer_without_tasks() -> None:
    assert from_target([push("<live/>")]) == ([Live(())], "")


def test_a_live_task_without_id() -> None:
    xml = "<live><task-descriptions><task core='1'/></task-descriptions></live>"
    assert from_target([push(xml)])[1] == "<task> must have a id, got {'core': '1'}"


def test_an_answer_is_told_from_a_push_by_its_root() -> None:
    messages, error = from_target([push("<live/>\0") + push("<profile/>") + push("<live/>\0")])
    assert (messages, error) == ([Live(()), Profile(()), Live(())], "")


# What no XML may do


LAUGHS = (
    '<!DOCTYPE a [<!ENTITY a "ha">'
    + "".join(f'<!ENTITY {b} "{f"&{a};" * 10}">' for a, b in pairwise("abcdefghi"))
    + "]>"
)
HOSTILE: dict[str, tuple[str, str]] = {
    "billion laughs": (LAUGHS + "<ROOT>&i;</ROOT>", "XML must have no document type, got 'a'"),
    "external entity": (
        '<!DOCTYPE a [<!ENTITY x SYSTEM "file:///etc/passwd">]><ROOT>&x;</ROOT>',
        "XML must have no document type, got 'a'",
    ),
    "external document type": (
        '<!DOCTYPE a SYSTEM "http://127.0.0.1/"><ROOT/>',
        "XML must have no document type, got 'a'",
    ),
    "unknown entity": ("<ROOT>&x;</ROOT>", "XML must be well-formed, got undefined entity"),
    "nesting": ("<ROOT>" + "<a>" * 999, "XML must be nested ≤ 8 deep, got <a>"),
    "another root": ("<html/>", "XML of "),
    "no end": ("<ROOT><a>", "XML must be well-formed, got no element found"),
    "no root": (" ", "XML must be well-formed, got no element found"),
    "a NUL inside": ("<ROOT>\0</ROOT>", "XML must be well-formed, got not well-formed"),
    "a long root": (f"<{'a' * 4000}/>", "XML of "),
}  # fmt: skip


@pytest.mark.parametrize("name", HOSTILE)
@pytest.mark.parametrize("root", ["profile", "live", "taskset", "optimize"])
def test_hostile_xml(root: str, name: str) -> None:
    xml, problem = HOSTILE[name]
    wire = push(xml.replace("ROOT", root))
    magic = {"taskset": u32(0xDE5), "optimize": u32(0x6F7074)}.get(root)
    messages, error = from_target([wire]) if magic is None else from_client([magic + wire])
    assert messages == []
    assert error.startswith(problem)
    assert len(error) < 200


def test_the_depth_is_limited() -> None:
    for depth, problem in [
        (SMALL.depth, ""),
        (SMALL.depth + 1, "XML must be nested ≤ 8 deep, got <a>"),
    ]:
        inner = depth - 1
        assert profile("<profile>" + "<a>" * inner + "</a>" * inner + "</profile>")[1] == problem


def names() -> Iterator[str]:
    for length in (1, 2, 3, 4):
        yield from map("".join, product(ascii_lowercase, repeat=length))


def filled(before: str, after: str, item: Callable[[str], str]) -> str:
    """A document as large as it may be, full of items with different names."""
    items = []
    size = len(before) + len(after)
    for text in map(item, names()):
        size += len(text)
        if size > ROOMY.xml_bytes:
            break
        items.append(text)
    return before + "".join(items) + after


CONFIG = "<taskset><periodictask><id>0</id><config"
END = "</periodictask></taskset>"
EVENT = '<event type="EXIT" task-id="0" time-stamp="0"/>'
LARGEST = {
    "attributes": filled("<profile ", "/>", lambda name: f'{name}="" '),
    "config attributes": filled(f"{CONFIG} ", f"/>{END}", lambda name: f'{name}="" '),
    "config": filled(f"{CONFIG}>", f"</config>{END}", lambda name: f'<{name} a=""/>'),
    "events": filled("<profile><events a=''>", "</events></profile>", lambda name: EVENT),
    "plain events": filled("<profile><events>", "</events></profile>", lambda name: EVENT),
    "live": filled(
        "<live><task-descriptions>", "</task-descriptions></live>", lambda name: '<task id="1"/>'
    ),
    "text": filled("<taskset>", "</taskset>", lambda name: "&#10;"),
}


@pytest.mark.parametrize("name", LARGEST)
def test_the_largest_documents_take_bounded_memory_and_time(name: str) -> None:
    xml = LARGEST[name]
    client = xml.startswith("<taskset")
    pieces = [u32(0xDE5) + push(xml)] if client else [push(xml)]
    began = time.monotonic()
    tracemalloc.start()
    try:
        messages, error = from_client(pieces, ROOMY) if client else from_target(pieces, ROOMY)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert (len(messages), error) == (1, "")
    assert peak <= 64 * ROOMY.xml_bytes
    assert time.monotonic() - began < 60  # an endless loop, or a square of the size, takes longer


def test_an_absurd_size_allocates_nothing() -> None:
    tracemalloc.start()
    try:
        for size in (10**9, 2**32 - 1):
            assert from_target([u32(size)], ROOMY)[1]
            assert from_client([u32(0xDE5, size)], ROOMY)[1]
            assert from_client([u32(0xDE5F11E, 1) + b"a".ljust(16, b"\0") + u32(size)], ROOMY)[1]
        from_client([u32(0xDE5F11E, 1) + b"a".ljust(16, b"\0") + u32(ROOMY.binary_bytes)], ROOMY)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 50_000


# Task sets


def test_what_a_task_set_writes_is_read() -> None:
    written = TaskSet(
        [
            Task(
                executiontime=3,
                criticaltime=0,
                priority=10,
                deadline=0,
                period=10,
                offset=2,
                numberofjobs=4,
                quota="1M",
                caps=235,
                cores=2,
                coreoffset=-1,
                pkg="hey",
                config={"arg1": 13, "@v": "1", "nested": {"a": [1, None, {"b": "ä<&"}]}},
            ),
            Task(pkg="pi"),
        ]
    ).to_xml()
    (message,), error = from_client([encode(SendDescs(written))])
    assert error == ""
    assert message == SendDescs(written)
    assert isinstance(message, SendDescs)
    assert message.tasks == (
        {
            "id": 0,
            "executiontime": 3,
            "criticaltime": 0,
            "priority": 10,
            "deadline": 0,
            "period": 10,
            "offset": 2,
            "numberofjobs": 4,
            "quota": 2**20,
            "caps": 235,
            "cores": 2,
            "coreoffset": -1,
            "pkg": "hey",
            "config": {"arg1": "13", "@v": "1", "nested": {"a": ["1", None, {"b": "ä<&"}]}},
        },
        {"id": 1, "deadline": 0, "numberofjobs": 1, "pkg": "pi"},
    )


def test_one_task_many_and_none() -> None:
    one = "<periodictask><id>{}</id></periodictask>"
    assert tasks("<taskset/>") == tasks("<taskset>\n</taskset>\0\0") == ()
    assert tasks(f"<taskset>{one.format(5)}</taskset>") == ({"id": 5},)
    assert tasks(f"<taskset>{one.format(5)}{one.format(2)}</taskset>") == ({"id": 5}, {"id": 2})


def test_an_empty_config() -> None:
    assert tasks("<taskset><periodictask><id>0</id><config/></periodictask></taskset>") == (
        {"id": 0, "config": {}},
    )


@pytest.mark.parametrize(
    ("quota", "read"), [("0", 0), ("4096", 4096), ("64K", 2**16), ("1M", 2**20), ("2G", 2**31)]
)
def test_quotas(quota: str, read: int) -> None:
    xml = f"<taskset><periodictask><id>0</id><quota>{quota}</quota></periodictask></taskset>"
    assert tasks(xml) == ({"id": 0, "quota": read},)


ID_RANGE = "task 0: id must be a whole number from 0 to 9223372036854775807, got "
PKG = "task 0: pkg must be a file name of 1 to 15 ASCII characters, got "
WHOLE_MS = "task 0: {} must be a whole number from 0 to 1000000000000, got {}"


@pytest.mark.parametrize(
    ("xml", "problem"),
    [
        ("", "task 0: id must be set, got {}"),
        ("<id/>", ID_RANGE + "None"),
        ("<id>-1</id>", ID_RANGE + "'-1'"),
        ("<id>0</id><id>0</id>", ID_RANGE + "['0', '0']"),
        ("<id>0</id><period>2.5</period>", WHOLE_MS.format("period", "'2.5'")),
        (
            "<id>0</id><period a='1'>2</period>",
            WHOLE_MS.format("period", "{'@a': '1', '#text': '2'}"),
        ),
        ("<id>0</id><offset>1000000000001</offset>", WHOLE_MS.format("offset", "'1000000000001'")),
        ("<id>0</id><deadline/>", WHOLE_MS.format("deadline", "None")),
        (
            "<id>0</id><executiontime><a/></executiontime>",
            WHOLE_MS.format("executiontime", "{'a': None}"),
        ),
        (
            "<id>0</id><criticaltime>1 000</criticaltime>",
            WHOLE_MS.format("criticaltime", "'1 000'"),
        ),
        (
            "<id>0</id><priority>129</priority>",
            "task 0: priority must be a whole number from 0 to 128, got '129'",
        ),
        (
            "<id>0</id><quota>1T</quota>",
            "task 0: quota must be bytes as a whole number, with K, M or G, got '1T'",
        ),
        (
            "<id>0</id><quota>9223372036854775807K</quota>",
            "task 0: quota must be bytes as a whole number",
        ),
        ("<id>0</id><pkg>../sh</pkg>", PKG + "'../sh'"),
        ("<id>0</id><pkg/>", PKG + "''"),
        ("<id>0</id><config>13</config>", "task 0: config must hold elements, got '13'"),
        (
            "<id>0</id><preiod>1</preiod>",
            "task 0: unknown element 'preiod'; did you mean 'period'?",
        ),
        ("text", "task 0 must hold elements, got 'text'"),
        ("<id>0</id>text", "task 0: unknown element '#text'; known are: "),
    ],
)
def test_tasks_that_are_refused(xml: str, problem: str) -> None:
    messages, error = task(xml)
    assert messages == []
    assert error.startswith(problem)


@pytest.mark.parametrize(
    ("xml", "problem"),
    [
        ("<taskset>a</taskset>", "taskset must hold elements, got 'a'"),
        ("<taskset a='1'/>", "taskset: unknown element '@a'; known are: periodictask"),
        ("<taskset><task/></taskset>", "taskset: unknown element 'task'; "),
        ("<taskset/><taskset/>", "XML must end with </taskset>, got junk after document element"),
        ("<taskset/>\0x", "XML must end with </taskset>, got "),
        (
            "<?xml version='1.0'?><taskset/>",
            "XML of a client must be ASCII without XML declaration",
        ),
        ("\n<?xml version='1.0'?><taskset/>", "XML must be well-formed, got "),
        ("<taskset>ä</taskset>", "XML of a client must be ASCII without XML declaration"),
        (f"<taskset>{'<periodictask/>' * 9}</taskset>", "a task set must have ≤ 8 tasks, got 9"),
        (
            f"<taskset>{'<periodictask><id>4</id></periodictask>' * 2}</taskset>",
            "task 1: id must be unique, got 4 again",
        ),
    ],
)
def test_task_sets_that_are_refused(xml: str, problem: str) -> None:
    messages, error = descs(xml)
    assert messages == []
    assert error.startswith(problem)


# Goals

APPLY = "goal fairness: apply must be a whole number from 0 to 1, got "


@pytest.mark.parametrize(
    ("content", "applied"),
    [
        ({}, None),
        ({"goal": {}}, None),
        ({"query_interval": 1000}, None),
        ({"goal": {"fairness": {"apply": 0}, "utilization": {"apply": 0}}}, None),
        ({"goal": {"fairness": {"apply": 1}}, "query_interval": 0}, "fairness"),
        ({"goal": {"fairness": {"apply": 0}, "utilization": {"apply": 1}}}, "utilization"),
    ],
)
def test_goals(content: dict[str, Any], applied: str | None) -> None:
    (message,), error = from_client([encode(Optimize(content))])
    assert error == ""
    assert message == Optimize(content)
    assert isinstance(message, Optimize)
    assert message.applied == applied


@pytest.mark.parametrize(
    ("xml", "problem"),
    [
        ("a", "optimize must hold elements, got 'a'"),
        ("<goals/>", "optimize: unknown element 'goals'; did you mean 'goal'?"),
        ("<goal>fairness</goal>", "optimize: goal must hold elements, got 'fairness'"),
        ("<goal><fair/></goal>", "goal: unknown element 'fair'; did you mean 'fairness'?"),
        ("<goal><fairness/></goal>", APPLY + "None"),
        ("<goal><fairness><apply>2</apply></fairness></goal>", APPLY + "'2'"),
        (
            "<goal><fairness><apply>1</apply></fairness>"
            "<utilization><apply>1</apply></utilization></goal>",
            "at most one goal must apply, got fairness, utilization",
        ),
        (
            "<query_interval>0.5</query_interval>",
            "optimize: query_interval must be a whole number from 0 to ",
        ),
    ],
)
def test_goals_that_are_refused(xml: str, problem: str) -> None:
    messages, error = from_client([u32(0x6F7074) + push(f"<optimize>{xml}</optimize>")])
    assert messages == []
    assert error.startswith(problem)


WORDS = st.text("ab <&>\"'\t\n", max_size=5)
TREES = st.recursive(
    WORDS | st.none(),
    lambda inner: st.dictionaries(
        st.sampled_from("abc"), inner | st.lists(inner, min_size=2, max_size=3), max_size=3
    ).flatmap(
        lambda element: st.dictionaries(st.sampled_from(["@x", "@y", "#text"]), WORDS).map(
            lambda more: {**more, **element}
        )
    ),
    max_leaves=10,
)


@given(st.dictionaries(st.sampled_from("abc"), TREES, max_size=3))
def test_config_is_read_by_the_convention_of_xmltodict(config: dict[str, Any]) -> None:
    xml = xmltodict.unparse(
        {"taskset": {"periodictask": {"id": 1, "config": config}}}, full_document=False
    )
    [read] = tasks(xml)
    assert read["config"] == (xmltodict.parse(xml)["taskset"]["periodictask"]["config"] or {})


def test_attributes_of_live_tasks_are_escaped() -> None:
    sent = Live((LiveTask(1, {"session": "<&>\"'\t\r\n ö"}),))
    assert from_target([encode(sent)]) == ([sent], "")
