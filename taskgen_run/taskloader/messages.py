"""The messages of the wire protocol, and the limits on what a peer may send."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from enum import StrEnum
from typing import Any, NamedTuple

from taskgen_run.errors import ConfigurationError, TargetError

NAME_BYTES = 16
"""The size of a binary's name on the wire: at most 15 characters, then NULs."""

MAX_XML_BYTES = 2**27
"""No limit on XML may be larger: read as a size, the first four characters of a text are."""


class ProtocolError(TargetError):
    """Raised when a peer sends what the protocol does not allow. Its connection is of no use."""


@dataclass(frozen=True, slots=True)
class Limits:
    """What a peer may send at most; more is a ProtocolError before any of it is stored.

    A decoder holds one message and what it was fed beyond that. Decoding XML takes up to 64 times
    the memory of the XML, for the moment.

    Raises ConfigurationError for a limit below 1, and for `xml_bytes` above `MAX_XML_BYTES`.
    """

    xml_bytes: int = 2**20  # of one profile, live answer, task set or goal
    binary_bytes: int = 2**26  # of one binary
    binaries: int = 256  # of one upload
    tasks: int = 1024  # of one task set
    depth: int = 32  # of XML elements inside each other

    def __post_init__(self) -> None:
        for limit in fields(self):
            value = getattr(self, limit.name)
            if value < 1:
                raise ConfigurationError(f"limit {limit.name} must be ≥ 1, got {value}")
        if self.xml_bytes > MAX_XML_BYTES:
            raise ConfigurationError(
                f"limit xml_bytes must be ≤ {MAX_XML_BYTES}, got {self.xml_bytes}"
            )


class EventType(StrEnum):
    """What a target reports of a task. The first targets know START and EXIT only."""

    START = "START"
    EXIT = "EXIT"
    EXIT_CRITICAL = "EXIT_CRITICAL"
    EXIT_EXTERNAL = "EXIT_EXTERNAL"
    EXIT_ERROR = "EXIT_ERROR"
    EXIT_PERIOD = "EXIT_PERIOD"
    OUT_OF_QUOTA = "OUT_OF_QUOTA"
    NOT_SCHEDULED = "NOT_SCHEDULED"
    JOBS_DONE = "JOBS_DONE"
    EXTERNAL = "EXTERNAL"


class Event(NamedTuple):
    """One event of a profile, its times on the target's own clock.

    `release_ns` is that of the job which the event is about, where the target tells it: the
    attribute `arrival-time`, under the name that live answers have for it. Genode sends none.
    """

    type: EventType
    task_id: int  # -1: not about a task
    time_ns: int
    release_ns: int | None = None


class LiveTask(NamedTuple):
    """One task of a live answer: its other attributes as text, under the names of the protocol.

    The protocol gives them no units, and which of them a target sends is up to it.
    """

    id: int
    attributes: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class SendDescs:
    """Add the tasks of a task set. `xml` is what `TaskSet.to_xml` returns.

    `tasks` is filled in by `TargetDecoder`: one dict of attributes per task, times in whole ms,
    `quota` in bytes, `config` a nested dict of text.
    """

    xml: str
    tasks: tuple[dict[str, Any], ...] = field(default=(), compare=False)


@dataclass(frozen=True, slots=True)
class Clear:
    """Stop and forget all tasks; received binaries are kept."""


@dataclass(frozen=True, slots=True)
class SendBinaries:
    """`count` binaries follow, each after a GoSend of the target."""

    count: int


@dataclass(frozen=True, slots=True)
class Binary:
    """One executable of an upload.

    `remaining` is filled in by `TargetDecoder`: how many binaries of the upload come after it.
    """

    name: str
    data: bytes = field(repr=False)
    remaining: int = field(default=0, compare=False)


@dataclass(frozen=True, slots=True)
class Start:
    """Start the queued tasks."""


@dataclass(frozen=True, slots=True)
class Stop:
    """Stop all tasks; running jobs end as EXIT_EXTERNAL."""


@dataclass(frozen=True, slots=True)
class Optimize:
    """Set the goal of the admission control.

    ``{"goal": {"fairness": {"apply": 1}, "utilization": {"apply": 0}}, "query_interval": 1000}``,
    the interval in ms.
    """

    goal: Mapping[str, Any]

    @property
    def applied(self) -> str | None:
        """The name of the goal that applies; None if none does."""
        goals = self.goal.get("goal", {})
        return next((name for name, goal in goals.items() if goal["apply"]), None)


@dataclass(frozen=True, slots=True)
class GetLive:
    """Ask for live data; answered by Live."""


@dataclass(frozen=True, slots=True)
class GetProfile:
    """Historical: ask for a profile. Newer targets ignore it."""


@dataclass(frozen=True, slots=True)
class GoSend:
    """The target takes the next binary."""


@dataclass(frozen=True, slots=True)
class Profile:
    """A profile push: events in the order in which they were sent."""

    events: tuple[Event, ...]


@dataclass(frozen=True, slots=True)
class Live:
    """The answer to GetLive."""

    tasks: tuple[LiveTask, ...]


Command = SendDescs | Clear | SendBinaries | Binary | Start | Stop | Optimize | GetLive | GetProfile
"""What a client sends."""

Report = GoSend | Profile | Live
"""What a target sends."""


def name_problem(name: str) -> str | None:
    """What is wrong with the name of a binary, as 'must be …, got …'; None if nothing is."""
    if (
        0 < len(name) < NAME_BYTES
        and name.isascii()
        and name.isprintable()
        and "/" not in name
        and name not in (".", "..")
    ):
        return None
    return f"must be a file name of 1 to {NAME_BYTES - 1} ASCII characters, got {shown(name)}"


def shown(value: object) -> str:
    """`value` as errors show it: what comes from the wire may be long."""
    text = repr(value[:60] if isinstance(value, str | bytes) else value)
    return text if len(text) <= 80 else f"{text[:77]}…"
