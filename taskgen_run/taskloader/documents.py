"""The XML of the wire protocol: profiles, live answers, task sets and goals.

Document types are refused, and with them every kind of entity; nesting is limited before anything
is built.

Sloppy targets are known, so of a target's XML everything after the end of the root element is
ignored, as are unknown elements and attributes, comments, and an XML declaration (whatever
encoding it names: the text is UTF-8). No client is known to be sloppy: of its XML, trailing NULs
and comments are ignored and nothing else.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from typing import Any
from xml.parsers import expat

from taskgen_run.errors import ConfigurationError, unknown_name
from taskgen_run.taskloader.messages import (
    Event,
    EventType,
    Limits,
    Live,
    LiveTask,
    Profile,
    ProtocolError,
    name_problem,
    shown,
)

NS_PER_MS = 1_000_000
MAX_MS = 10**12  # about 31 years
MAX_TIME_NS = 2**62  # leaves room for a deadline in an int64
MAX_INT = 2**63 - 1

_PATHS = {"profile": ["profile", "events", "event"], "live": ["live", "task-descriptions", "task"]}
_PLAIN_EVENT = (
    rb'<event type="([A-Z_]++)" task-id="([0-9]{1,18}+)" '
    rb'time-stamp="([0-9]{1,12}+)(?:\.([0-9]{1,6}+))?+"/>[ \t\r\n]*+'
)
_PLAIN_PROFILE = re.compile(
    rb"<profile>[ \t\r\n]*+<events>[ \t\r\n]*+(?:%s)*+</events>[ \t\r\n]*+</profile>"
    % re.sub(rb"\((?!\?)", b"(?:", _PLAIN_EVENT)
)
_PLAIN_EVENTS = re.compile(_PLAIN_EVENT)
_TYPES = {kind.encode(): kind for kind in EventType}

_INTEGER = re.compile(r"-?[0-9]{1,19}")
_TIME = re.compile(r"([0-9]{1,13})(?:\.([0-9]+))?")
_QUOTA = re.compile(r"([0-9]{1,19})([KMG]?)")
_ESCAPED = str.maketrans(
    {"&": "&amp;", "<": "&lt;", ">": "&gt;", '"': "&quot;"} | {c: f"&#{ord(c)};" for c in "\t\n\r"}
)
_QUOTA_UNIT = {"": 1, "K": 2**10, "M": 2**20, "G": 2**30}


def read_report(document: bytes, limits: Limits) -> Profile | Live:
    """What a target has sent: its root element tells a profile from a live answer.

    Raises ProtocolError for what is neither, for an event of unknown type (the end of a job might
    be lost with it), for a `task-id` that is no number, and for a `time-stamp` that is missing or
    no whole number of ns.
    """
    if (events := _plain_events(document)) is not None:
        return Profile(events)
    items: list[dict[str, str]] = []
    root = ""

    def visit(path: list[str], attributes: dict[str, str]) -> None:
        nonlocal root
        root = path[0]
        if root not in _PATHS:
            raise ProtocolError(f"XML of a target must be <profile> or <live>, got <{root[:60]}>")
        if path == _PATHS[root]:
            items.append(attributes)
        elif path[-1] == _PATHS[root][-1]:
            place = "/".join(_PATHS[root][:-1])
            raise ProtocolError(f"<{path[-1]}> must stand in {place}, got {'/'.join(path)[:80]}")

    _walk(document, limits, visit)
    if root == "profile":
        return Profile(tuple(map(_event, items)))
    return Live(tuple(map(_live_task, items)))


def write_profile(events: Iterable[Event]) -> str:
    """The XML of a profile push."""
    lines = [
        f'<event type="{event.type}" task-id="{event.task_id}" time-stamp="{_ms(event.time_ns)}"/>'
        for event in events
    ]
    return "\n".join(["<profile><events>", *lines, "</events></profile>"])


def write_live(tasks: Iterable[LiveTask]) -> str:
    """The XML of a live answer, with the NUL that ends it."""
    lines = []
    for task in tasks:
        attributes = {"id": str(task.id), **task.attributes}
        text = " ".join(
            f'{name}="{value.translate(_ESCAPED)}"' for name, value in attributes.items()
        )
        lines.append(f"<task {text}/>")
    return "\n".join(["<live><task-descriptions>", *lines, "</task-descriptions></live>\0"])


def read_taskset(document: bytes, limits: Limits) -> tuple[dict[str, Any], ...]:
    """The tasks of a task set, by the convention of xmltodict, their known attributes typed.

    Times are whole ms, `quota` is in bytes, the text in `config` stays text. Raises ProtocolError
    for an unknown attribute, a value out of its range, an id that is missing or not unique, and
    more than `limits.tasks` tasks.
    """
    content = _read(document, limits, "taskset")
    _known_keys(content, {"periodictask"}, "taskset")
    tasks = content.get("periodictask", [])
    tasks = tasks if isinstance(tasks, list) else [tasks]
    if len(tasks) > limits.tasks:
        raise ProtocolError(f"a task set must have ≤ {limits.tasks} tasks, got {len(tasks)}")
    typed = tuple(_task(task, f"task {position}") for position, task in enumerate(tasks))
    ids: set[int] = set()
    for position, task in enumerate(typed):
        if task["id"] in ids:
            raise ProtocolError(f"task {position}: id must be unique, got {task['id']} again")
        ids.add(task["id"])
    return typed


def read_goal(document: bytes, limits: Limits) -> dict[str, Any]:
    """The optimization goal: ``{"goal": {name: {"apply": 0 or 1}}, "query_interval": ms}``.

    Raises ProtocolError for unknown names, and for more than one goal that applies.
    """
    content = _read(document, limits, "optimize")
    _known_keys(content, {"goal", "query_interval"}, "optimize")
    typed: dict[str, Any] = {}
    if "goal" in content:
        goals = _mapping(content["goal"], "optimize: goal")
        _known_keys(goals, {"fairness", "utilization"}, "goal")
        typed["goal"] = {name: _apply(goal, f"goal {name}") for name, goal in goals.items()}
        applied = [name for name, goal in typed["goal"].items() if goal["apply"]]
        if len(applied) > 1:
            raise ProtocolError(f"at most one goal must apply, got {', '.join(applied)}")
    if "query_interval" in content:
        interval = _integer(0, MAX_MS)(content["query_interval"], "optimize: query_interval")
        typed["query_interval"] = interval
    return typed


def write_goal(goal: Mapping[str, Any]) -> str:
    """The XML of a goal. Raises ConfigurationError for one that XML cannot express."""
    import xmltodict  # only here, as a target may do without it

    try:
        xml: str = xmltodict.unparse({"optimize": goal}, full_document=False)
        _walk(xml.encode(), Limits(), lambda path, attributes: None)
    except (ValueError, ProtocolError) as error:
        raise ConfigurationError(
            f"admission goal must be expressible as XML, got {shown(goal)}: {error}"
        ) from error
    return xml


def _walk(
    document: bytes,
    limits: Limits,
    visit: Callable[[list[str], dict[str, str]], None],
    leave: Callable[[str], None] = lambda name: None,
    take_text: Callable[[str], None] = lambda text: None,
) -> str:
    """Call `visit` with the path and the attributes of every element of the root.

    And `leave` with its name at its end, and `take_text` with every piece of its text. Returns what
    is wrong with what follows the root, empty if nothing is.
    """
    path: list[str] = []
    ended = False

    def start(name: str, attributes: dict[str, str]) -> None:
        if len(path) == limits.depth:
            raise ProtocolError(f"XML must be nested ≤ {limits.depth} deep, got <{name[:60]}>")
        path.append(name)
        visit(path, attributes)

    def end(name: str) -> None:
        nonlocal ended
        leave(name)
        path.pop()
        ended = not path

    def refuse(name: str, *_: object) -> None:
        raise ProtocolError(f"XML must have no document type, got {shown(name)}")

    parser = expat.ParserCreate("utf-8")
    parser.StartElementHandler = start
    parser.EndElementHandler = end
    parser.CharacterDataHandler = take_text
    parser.StartDoctypeDeclHandler = refuse
    try:
        parser.Parse(document, True)
    except expat.ExpatError as error:
        if not ended:
            raise ProtocolError(f"XML must be well-formed, got {error}") from error
        return str(error)
    return ""


def _plain_events(document: bytes) -> tuple[Event, ...] | None:
    """The events of a profile with nothing but plain events; None for everything else.

    What `write_profile` writes is such a profile. This reads it ten times as fast as a parser of
    XML, and whatever it reads, the parser would read the same.
    """
    match = _PLAIN_PROFILE.match(document)
    if match is None:
        return None
    try:
        return tuple(
            [
                Event(
                    _TYPES[kind],
                    int(task),
                    int(ms) * NS_PER_MS + (int(ns.ljust(6, b"0")) if ns else 0),
                )
                for kind, task, ms, ns in _PLAIN_EVENTS.findall(document, 0, match.end())
            ]
        )
    except KeyError:  # the parser says what is wrong with it
        return None


def _event(attributes: Mapping[str, str]) -> Event:
    name = _attribute(attributes, "type", "event")
    if name not in EventType.__members__:
        raise ProtocolError(unknown_name("type of event", name[:60], EventType.__members__))
    text = _attribute(attributes, "time-stamp", "event")
    match = _TIME.fullmatch(text)
    decimals = (match[2] or "").rstrip("0") if match else ""
    if match is None or len(decimals) > 6:
        raise ProtocolError(
            f"time-stamp of an event must be ms ≥ 0 with at most 6 decimals, got {shown(text)}"
        )
    time_ns = int(match[1]) * NS_PER_MS + int(decimals.ljust(6, "0"))
    if time_ns > MAX_TIME_NS:
        raise ProtocolError(f"time-stamp of an event must be ≤ 2^62 ns, got {text} ms")
    identifier = _integer(-1, MAX_INT)(_attribute(attributes, "task-id", "event"), "task-id")
    return Event(EventType(name), identifier, time_ns)


def _live_task(attributes: Mapping[str, str]) -> LiveTask:
    identifier = _integer(-1, MAX_INT)(_attribute(attributes, "id", "task"), "id of a live task")
    return LiveTask(identifier, {key: attributes[key] for key in attributes if key != "id"})


def _attribute(attributes: Mapping[str, str], name: str, element: str) -> str:
    if name not in attributes:
        raise ProtocolError(f"<{element}> must have a {name}, got {shown(dict(attributes))}")
    return attributes[name]


def _ms(ns: int) -> str:
    """Exact ms of `ns`, with as many decimals as it takes."""
    whole, rest = divmod(ns, NS_PER_MS)
    return f"{whole}.{rest:06}".rstrip("0") if rest else str(whole)


def _read(document: bytes, limits: Limits, root: str) -> dict[str, Any]:
    """What stands in `root`, by the convention of xmltodict."""
    text = document.rstrip(b"\0")
    if not text.isascii() or text.startswith(b"<?xml"):
        raise ProtocolError("XML of a client must be ASCII without XML declaration")

    # Of each element that is open, from the outside in; the first one holds the root.
    contents: list[dict[str, Any]] = [{}]
    texts: list[list[str]] = [[]]

    def visit(path: list[str], attributes: dict[str, str]) -> None:
        if path[0] != root:
            raise ProtocolError(f"XML of this command must be <{root}>, got <{path[0][:60]}>")
        contents.append({f"@{name}": value for name, value in attributes.items()})
        texts.append([])

    def leave(name: str) -> None:
        content, inner = contents.pop(), "".join(texts.pop()).strip()
        if content and inner:
            content["#text"] = inner
        value = content or inner or None
        siblings = contents[-1]
        if name not in siblings:
            siblings[name] = value
        elif isinstance(siblings[name], list):
            siblings[name].append(value)
        else:
            siblings[name] = [siblings[name], value]

    if problem := _walk(text, limits, visit, leave, lambda piece: texts[-1].append(piece)):
        raise ProtocolError(f"XML must end with </{root}>, got {problem}")
    return _mapping(contents[0][root], root)


def _mapping(value: object, place: str) -> dict[str, Any]:
    """The content of an element that holds no text; an empty one is an empty dict."""
    if value is None:
        return {}
    if not isinstance(value, dict):
        raise ProtocolError(f"{place} must hold elements, got {shown(value)}")
    return value


def _known_keys(content: Mapping[str, Any], known: Iterable[str], place: str) -> None:
    for key in content:
        if key not in known:
            raise ProtocolError(f"{place}: {unknown_name('element', key[:60], known)}")


def _task(task: object, place: str) -> dict[str, Any]:
    content = _mapping(task, place)
    _known_keys(content, _ATTRIBUTES, place)
    if "id" not in content:
        raise ProtocolError(f"{place}: id must be set, got {shown(content)}")
    return {name: _ATTRIBUTES[name](content[name], f"{place}: {name}") for name in content}


def _apply(goal: object, place: str) -> dict[str, int]:
    content = _mapping(goal, place)
    _known_keys(content, {"apply"}, place)
    return {"apply": _integer(0, 1)(content.get("apply"), f"{place}: apply")}


def _integer(minimum: int, maximum: int) -> Callable[[object, str], int]:
    def read(value: object, place: str) -> int:
        if isinstance(value, str) and _INTEGER.fullmatch(value):
            number = int(value)
            if minimum <= number <= maximum:
                return number
        raise ProtocolError(
            f"{place} must be a whole number from {minimum} to {maximum}, got {shown(value)}"
        )

    return read


def _quota(value: object, place: str) -> int:
    match = _QUOTA.fullmatch(value) if isinstance(value, str) else None
    quota = int(match[1]) * _QUOTA_UNIT[match[2]] if match else -1
    if not 0 <= quota <= MAX_INT:
        raise ProtocolError(
            f"{place} must be bytes as a whole number, with K, M or G, got {shown(value)}"
        )
    return quota


def _name(value: object, place: str) -> str:
    name = value if isinstance(value, str) else ""
    if problem := name_problem(name):
        raise ProtocolError(f"{place} {problem}")
    return name


_COUNT = _integer(0, MAX_INT)
_TIME_MS = _integer(0, MAX_MS)

_ATTRIBUTES: Mapping[str, Callable[[object, str], Any]] = {
    "id": _COUNT,
    "executiontime": _TIME_MS,
    "criticaltime": _TIME_MS,
    "priority": _integer(0, 128),
    "deadline": _TIME_MS,
    "period": _TIME_MS,
    "offset": _TIME_MS,
    "numberofjobs": _COUNT,
    "quota": _quota,
    "caps": _COUNT,
    "cores": _COUNT,
    "coreoffset": _integer(-MAX_INT, MAX_INT),
    "pkg": _name,
    "config": _mapping,
}
"""How each attribute of a task is read."""
