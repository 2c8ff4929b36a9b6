"""Targets that hang, close, send garbage or lie, at each step."""

from __future__ import annotations

import socket
import struct
import subprocess
import sys
import time
from pathlib import Path

import pytest
from genode_targets import (
    QUICK,
    binaries,
    event,
    finish,
    good,
    one_job,
    periodic,
    push,
    run,
    session_on,
    single,
    started,
)

from taskgen_run.errors import TargetError
from taskgen_run.job import Outcome
from taskgen_run.sessions.genode import GenodeSession
from taskgen_run.task import Task
from taskgen_run.taskloader.fake import (
    Close,
    Expect,
    FakeTarget,
    Hang,
    KnowNoLive,
    Pause,
    Send,
    Step,
)
from taskgen_run.taskloader.protocol import (
    Binary,
    Clear,
    GetLive,
    GoSend,
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
    encode,
)
from taskgen_run.taskset import TaskSet

GOAL = {"goal": {"fairness": {"apply": 1}}, "query_interval": 1000}

_SENT: list[Step] = [Expect(Clear), Expect(Optimize), Expect(SendDescs)]
_UPLOADED: list[Step] = [
    Expect(SendBinaries),
    Send(GoSend()),
    Expect(Binary),
    Send(GoSend()),
    Expect(Binary),
]

UNTIL: dict[str, list[Step]] = {
    "CLEAR": _SENT[:1],
    "OPTIMIZE": _SENT[:2],
    "SEND_DESCS": _SENT,
    "SEND_BINARIES": [*_SENT, *_UPLOADED[:1]],
    "the first binary": [*_SENT, *_UPLOADED[:3]],
    "START": [*_SENT, *_UPLOADED, Expect(Start)],
    "an event": [*_SENT, *_UPLOADED, Expect(Start), push(event("START", 0, 1))],
}
"""The steps of a good target, up to the one after which it is a bad one."""


def _two() -> TaskSet:
    return TaskSet([Task(pkg="hey"), Task(pkg="pi")], "mine")


def _fails(target: FakeTarget, directory: Path, seconds: float = 3.0) -> str:
    """Run a task set, which must fail within `seconds`; the message."""
    folder = binaries(directory / "two", hey=b"1" * 2000, pi=b"2" * 2000)
    with session_on(target, directory, binaries=folder) as session:
        before = time.monotonic()
        with pytest.raises(TargetError) as caught:
            run(session, _two(), GOAL)
        assert time.monotonic() - before < seconds
        before = time.monotonic()
        session.close()
        assert time.monotonic() - before < 0.5
    message = str(caught.value)
    assert message.startswith(f"target {target.host}, port {target.port}: ")
    assert "\n" not in message
    return message


@pytest.mark.parametrize("step", UNTIL)
def test_a_target_that_hangs(step: str, tmp_path: Path) -> None:
    with FakeTarget([*UNTIL[step], Hang()]) as target:
        message = _fails(target, tmp_path)
    frozen = "frozen: it has not answered GET_LIVE for 0.3 s (session.reply_timeout)"
    expected = {
        "CLEAR": "waited 0.5 s in vain for it to answer GET_LIVE",
        "the first binary": "waited 1.0 s in vain for it to ask for binary 'pi' (GO_SEND)",
        "START": frozen,
        "an event": frozen,
    }
    assert expected.get(step, "for it to ask for binary 'hey' (GO_SEND)") in message


@pytest.mark.parametrize("reset", [False, True])
@pytest.mark.parametrize("step", UNTIL)
def test_a_target_that_closes_is_noticed_at_once(step: str, reset: bool, tmp_path: Path) -> None:
    with FakeTarget([*UNTIL[step], Close(reset=reset)]) as target:
        message = _fails(target, tmp_path, seconds=0.25)
    assert "it closed the connection" in message or "the connection is lost" in message


@pytest.mark.parametrize("said", [Profile(()), Profile((event("EXTERNAL", -1, 3),))])
def test_a_target_that_says_nothing_to_the_matter(said: Report, tmp_path: Path) -> None:
    script = [*UNTIL["START"], KnowNoLive(), *[Send(said), Pause(0.05)] * 40]
    with FakeTarget(script) as target:
        assert "frozen: it has not answered GET_LIVE" in _fails(target, tmp_path, seconds=1.2)


def test_a_target_that_has_lost_its_tasks(tmp_path: Path) -> None:
    script = [*UNTIL["START"], KnowNoLive(), Expect(GetLive), Send(Live(())), Hang()]
    with FakeTarget(script) as target:
        lost = "it must have the tasks that it was sent, and lists none"
        assert lost in _fails(target, tmp_path)


def test_what_listens_speaks_something_else(tmp_path: Path) -> None:
    with (
        FakeTarget([Send(b"HTTP/1.1 400 Bad Request\r\n\r\n"), Hang()]) as target,
        pytest.raises(TargetError, match="must speak the taskloader protocol; check the port"),
    ):
        GenodeSession(target.host, target.port, **QUICK)


def test_a_target_that_accepts_and_is_not_there(tmp_path: Path) -> None:
    """A paused guest behind QEMU's user networking."""
    with FakeTarget([Hang()]) as target:
        assert GenodeSession.is_available(target.host, target.port, 1.0)
        with pytest.raises(TimeoutError, match=r"waited 0\.3 s in vain for it to answer GET_LIVE"):
            GenodeSession(target.host, target.port, **QUICK)


def test_a_target_that_refuses_a_second_client(tmp_path: Path) -> None:
    with (
        FakeTarget([Close()]) as target,
        pytest.raises(ConnectionError, match=r"closed|lost"),
    ):
        GenodeSession(target.host, target.port, **QUICK)


def test_nobody_listens() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    with pytest.raises(ConnectionError, match=f"target 127.0.0.1, port {port}: no connection: "):
        GenodeSession("127.0.0.1", port, **QUICK)
    assert not GenodeSession.is_available("127.0.0.1", port, 1.0)


def test_a_silent_target_without_get_live_is_given_up(tmp_path: Path) -> None:
    with (
        FakeTarget([KnowNoLive(), *started(), Hang()]) as target,
        session_on(target, tmp_path, get_live=False) as session,
        pytest.raises(TargetError, match=r"no event for 0.3 s \(session.event_timeout\); if jobs"),
    ):
        run(session, single())


def test_a_target_that_freezes_when_it_is_stopped(tmp_path: Path) -> None:
    with (
        FakeTarget([*started(), push(event("START", 0, 1)), Hang()]) as target,
        session_on(target, tmp_path, duration_ms=100, event_timeout=30) as session,
    ):
        session.start(taskset := periodic())
        with pytest.raises(TargetError, match="frozen"):
            finish(session, taskset)
        assert taskset.horizon_ns == 1_000_000


def test_a_target_that_freezes_between_two_answers(tmp_path: Path) -> None:
    """The first answer is to a question from before STOP."""
    script = [
        *started(),
        push(event("START", 0, 1)),
        KnowNoLive(),
        *(Expect(GetLive), Expect(Stop), Expect(GetLive)),
        *(Send(Live((LiveTask(0, {}),))), Hang()),
    ]
    with (
        FakeTarget(script) as target,
        session_on(target, tmp_path, event_timeout=0.1, reply_timeout=1) as session,
    ):
        session.start(taskset := periodic())
        for _ in range(4):
            session.run(taskset)
        session.stop()
        with pytest.raises(TargetError, match="frozen: it has not answered GET_LIVE after STOP"):
            finish(session, taskset)


def test_a_target_that_takes_nothing(tmp_path: Path) -> None:
    folder = binaries(tmp_path / "big", hey=b"x" * (32 << 20))
    script = [*_SENT[:1], *_SENT[2:], Expect(SendBinaries), Send(GoSend()), Hang()]
    with (
        FakeTarget(script) as target,
        session_on(target, tmp_path, binaries=folder) as session,
        pytest.raises(TargetError, match=r"it does not take what is sent to it \(Binary\)"),
    ):
        run(session, single())


@pytest.mark.parametrize("reset", [False, True])
def test_a_target_that_closes_during_a_big_binary(reset: bool, tmp_path: Path) -> None:
    folder = binaries(tmp_path / "big", hey=b"x" * (32 << 20))
    script = [*_SENT[:1], *_SENT[2:], Expect(SendBinaries), Send(GoSend()), Close(reset=reset)]
    with (
        FakeTarget(script) as target,
        session_on(target, tmp_path, binaries=folder, upload_timeout=30) as session,
    ):
        before = time.monotonic()
        with pytest.raises(TargetError, match=r"closed|lost"):
            run(session, single())
        assert time.monotonic() - before < 10


def test_trickling_bytes_are_no_sign_of_life(tmp_path: Path) -> None:
    profile = encode(Profile((event("START", 0, 1),)))
    script = [*started(), Send(profile, piece=1, pause=0.1)]
    with (
        FakeTarget(script) as target,
        session_on(target, tmp_path) as session,
        pytest.raises(TargetError, match="frozen"),
    ):
        run(session, single())


_XML = b"<profile><events>%s</events></profile>"
GARBAGE = {
    "text": b"HTTP/1.1 400 Bad Request\r\n\r\n",
    "a size of 4 GiB": b"\xff\xff\xff\xff",
    "a size of 0": bytes(4),
    "no XML": struct.pack("<I", 8) + b"garbage!",
    "XML cut off": struct.pack("<I", 20) + b"<profile><events><ev",
    "a size that is too small": struct.pack("<I", 10) + encode(Profile(one_job()))[4:],
    "another root": struct.pack("<I", 7) + b"<other>",
    "an unknown event": struct.pack("<I", 77)
    + (_XML % b'<event type="NONE" task-id="0" time-stamp="1"/>').ljust(77),
    "a document type": struct.pack("<I", 30) + b"<!DOCTYPE x [<!ENTITY a 'b'>]>",
}


@pytest.mark.parametrize("garbage", GARBAGE)
def test_garbage_fails_the_session_after_what_was_whole(garbage: str, tmp_path: Path) -> None:
    script = [*started(), Send(encode(Profile(one_job())) + GARBAGE[garbage]), Hang()]
    with FakeTarget(script) as target, session_on(target, tmp_path) as session:
        session.start(taskset := periodic(5))
        (job,) = session.run(taskset)
        assert job.outcome is Outcome.FINISHED
        assert session.is_running(taskset)
        with pytest.raises(ProtocolError, match=f"^target {target.host}, port {target.port}: "):
            session.run(taskset)
        with pytest.raises(TargetError):
            session.start(single())


@pytest.mark.parametrize("until", range(4))
def test_garbage_before_the_start(until: int, tmp_path: Path) -> None:
    steps: list[Step] = [Expect(Clear), Expect(SendDescs), Expect(SendBinaries), Expect(Start)]
    if until == 3:
        steps[3:3] = [Send(GoSend()), Expect(Binary)]
    script = [*steps[: until + 3 if until == 3 else until], Send(GARBAGE["text"]), Hang()]
    with FakeTarget(script) as target, pytest.raises(TargetError):  # noqa: SIM117
        with session_on(target, tmp_path) as session:
            run(session, single())


LIES = {
    "START of task 0 (id 0) at 2000000 ns cannot be: its job 0 has not ended": [
        event("START", 0, 1),
        event("START", 0, 2),
    ],
    "EXIT of task 0 (id 0) at 1000000 ns cannot be: no job of it is running": [
        event("EXIT", 0, 1),
    ],
    "EXIT of task 0 (id 0) at 1000000 ns cannot be: time went back from 2000000 ns": [
        event("START", 0, 2),
        event("EXIT", 0, 1),
    ],
    "START of task 0 (id 0) at 3000000 ns cannot be: time went back from 4000000 ns": [
        *(event("START", 0, 2), event("EXIT", 0, 4)),
        event("START", 0, 3),
    ],
    "a task-id must be that of a task of the task set, got 7 with START": [event("START", 7, 1)],
    "a task-id must be that of a task of the task set, got -1 with EXIT": [event("EXIT", -1, 1)],
    "START of task 0 (id 0) at 12000000 ns cannot be: its 2 jobs are done": [
        *(*one_job(0), *one_job(1)),
        event("START", 0, 12),
    ],
    "NOT_SCHEDULED of task 0 (id 0) at 12000000 ns cannot be: its 1 jobs are done": [
        *(*one_job(0), event("JOBS_DONE", 0, 11)),
        event("NOT_SCHEDULED", 0, 12),
    ],
}


@pytest.mark.parametrize("lie", LIES)
def test_a_target_that_lies(lie: str, tmp_path: Path) -> None:
    taskset = TaskSet([*periodic(2), Task(pkg="hey", id=1)], "mine")
    with (
        FakeTarget([*started(), push(*LIES[lie]), Hang()]) as target,
        session_on(target, tmp_path) as session,
    ):
        session.start(taskset)
        with pytest.raises(TargetError) as caught:
            finish(session, taskset)
    assert str(caught.value) == f"target {target.host}, port {target.port}: {lie}"


def test_answers_that_nobody_asked_for_are_let_pass(tmp_path: Path) -> None:
    live = b'<live><task-descriptions><task id="0"/></task-descriptions></live>\0'
    script = [
        *started(),
        Send(struct.pack("<I", len(live)) + live),
        Pause(0.05),
        push(event("EXTERNAL", 5, 1), *one_job()),
        Expect(Clear),
    ]
    with FakeTarget(script) as target, session_on(target, tmp_path) as session:
        assert len(run(session, single())) == 1


def test_out_of_quota_may_come_after_start(tmp_path: Path) -> None:
    script = good(event("START", 0, 1), event("OUT_OF_QUOTA", 0, 2))
    with FakeTarget(script) as target, session_on(target, tmp_path) as session:
        (job,) = run(session, single())
    assert job.outcome is Outcome.OUT_OF_QUOTA


def test_an_interrupted_upload_sends_no_further_command(tmp_path: Path) -> None:
    """What is sent in part only cannot be followed by anything: the target would take it for it."""
    folder = binaries(tmp_path / "big", hey=b"x" * (32 << 20))
    script = [*_SENT[:1], *_SENT[2:], Expect(SendBinaries), Send(GoSend()), Hang()]
    code = (
        "import signal, sys, pyarrow\n"
        "from taskgen_run.sessions.genode import GenodeSession\n"
        "from taskgen_run.task import Task\n"
        "from taskgen_run.taskset import TaskSet\n"
        "def on_alarm(*_): raise KeyboardInterrupt\n"
        "signal.signal(signal.SIGALRM, on_alarm)\n"
        "session = GenodeSession(sys.argv[1], int(sys.argv[2]), binaries=sys.argv[3])\n"
        "signal.setitimer(signal.ITIMER_REAL, 0.5)\n"
        "try:\n"
        "    session.start(TaskSet([Task(pkg='hey')]))\n"
        "except KeyboardInterrupt:\n"
        "    session.stop(); session.close(); print('interrupted')\n"
    )
    with FakeTarget(script) as target:
        arguments = [target.host, str(target.port), folder]
        done = subprocess.run(
            [sys.executable, "-c", code, *arguments], capture_output=True, text=True, timeout=20
        )
    assert (done.stdout, done.stderr) == ("interrupted\n", "")
