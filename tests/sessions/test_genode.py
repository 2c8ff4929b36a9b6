"""GenodeSession against a scripted target on real sockets."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from genode_targets import (
    MS,
    QUICK,
    binaries,
    event,
    finish,
    good,
    loopback,
    one_job,
    periodic,
    push,
    run,
    session_on,
    single,
    started,
)

from taskgen_run.errors import ConfigurationError, TargetError
from taskgen_run.job import Outcome
from taskgen_run.sessions.contract import SessionContract
from taskgen_run.sessions.genode import GenodeSession
from taskgen_run.task import Task
from taskgen_run.taskloader.fake import (
    Expect,
    FakeTarget,
    Hang,
    KnowNoLive,
    Pause,
    Send,
    Serve,
    Upload,
)
from taskgen_run.taskloader.protocol import (
    Binary,
    Clear,
    Command,
    GetLive,
    Live,
    LiveTask,
    Optimize,
    Profile,
    Report,
    SendBinaries,
    SendDescs,
    Start,
    Stop,
    encode,
)
from taskgen_run.taskset import TaskSet

GOAL = {"goal": {"fairness": {"apply": 1}, "utilization": {"apply": 0}}, "query_interval": 1000}


class TestContract(SessionContract):
    session = GenodeSession
    dead_host = "127.9.0.1"
    step_seconds = 0.5

    @pytest.fixture(autouse=True)
    def _target(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
        options = {**QUICK, "binaries": binaries(tmp_path / "bin")}
        monkeypatch.setattr(type(self), "options", options)
        with FakeTarget(good(*one_job(0), *one_job(10), *one_job(20)), loopback()) as target:
            monkeypatch.setattr(type(self), "host", target.host)
            monkeypatch.setattr(type(self), "port", target.port)
            yield

    def taskset(self) -> TaskSet:
        return periodic(3)


def test_the_order_of_calls(tmp_path: Path) -> None:
    script = [
        Expect(Clear),
        Expect(Optimize),
        Expect(SendDescs),
        Upload(),
        Expect(Start),
        push(*one_job()),
        Expect(Clear),
    ]
    with FakeTarget(script) as target, session_on(target, tmp_path) as session:
        taskset = single(config={"arg1": 13})
        (job,) = run(session, taskset, GOAL)
        session.close()
    assert (job.start_ns, job.end_ns, job.outcome) == (10 * MS, 10_500_000, Outcome.FINISHED)
    assert (job.release_ns, job.deadline_ns, job.preemptions, job.migrations) == (None,) * 4
    assert taskset.horizon_ns == 10_500_000
    sent = [command for command in target.received if not isinstance(command, GetLive)]
    assert sent == [
        Clear(),
        Optimize(GOAL),
        SendDescs(taskset.to_xml()),
        SendBinaries(1),
        Binary("hey", b"an executable"),
        Start(),
        Clear(),
    ]


def test_binaries_of_some_mb_are_sent_once_per_connection(tmp_path: Path) -> None:
    contents = {name: os.urandom(size) for name, size in [("hey", 3 << 20), ("pi", 5 << 20)]}
    directory = binaries(tmp_path / "bin", **contents, namaste=b"")
    tasks = [Task(pkg=name) for name in ("hey", "pi", "hey", "namaste")]
    events = [e for n in range(4) for e in (event("START", n, 1), event("EXIT", n, 2))]
    with FakeTarget(good(*events)) as target:
        for _ in range(2):
            with session_on(target, tmp_path, binaries=directory, upload_timeout=10) as session:
                for _ in range(2):
                    assert len(run(session, TaskSet([t.copy() for t in tasks]))) == 4
    sent = [command for command in target.received if isinstance(command, Binary)]
    assert [binary.name for binary in sent] == ["hey", "pi", "namaste"] * 2
    assert all(binary.data == contents.get(binary.name, b"") for binary in sent)


def test_a_second_task_set_sends_only_the_binaries_that_are_new(tmp_path: Path) -> None:
    directory = binaries(tmp_path / "bin", hey=b"1", pi=b"2")
    with (
        FakeTarget(good(*one_job())) as target,
        session_on(target, tmp_path, binaries=directory) as session,
    ):
        for pkg in ("hey", "pi", "hey"):
            run(session, single(pkg=pkg))
    sent = [command.name for command in target.received if isinstance(command, Binary)]
    assert sent == ["hey", "pi"]


def test_the_first_directory_with_the_binary_counts(tmp_path: Path) -> None:
    first, second = binaries(tmp_path / "1", hey=b"1"), binaries(tmp_path / "2", hey=b"2", pi=b"2")
    with (
        FakeTarget(good(*one_job())) as target,
        session_on(target, tmp_path, binaries=[first, second]) as session,
    ):
        run(session, single(pkg="pi"))
        run(session, single(pkg="hey"))
    assert [c.data for c in target.received if isinstance(c, Binary)] == [b"2", b"1"]
    options = {"binaries": [first, second]}
    files = GenodeSession.files(single(pkg="pi"), **options)
    assert list(files) == [tmp_path / "2" / "pi"]


@pytest.mark.parametrize(
    ("end", "outcome"),
    [
        ("EXIT", "finished"),
        ("EXIT_CRITICAL", "killed"),
        ("EXIT_PERIOD", "killed"),
        ("EXIT_EXTERNAL", "stopped"),
        ("EXIT_ERROR", "error"),
        ("OUT_OF_QUOTA", "out_of_quota"),
    ],
)
def test_outcomes_by_type_of_event(
    end: str, outcome: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    script = good(event("START", 0, 1), event(end, 0, 3))
    with FakeTarget(script) as target, session_on(target, tmp_path) as session:
        (job,) = run(session, single())
    assert (job.start_ns, job.end_ns, job.outcome) == (MS, 3 * MS, outcome)
    told = [message for message in caplog.messages if "ended with an error" in message]
    assert len(told) == (outcome == "error")
    assert all("task 0 ('hey') has ended" in message for message in told)


@pytest.mark.parametrize("end", ["NOT_SCHEDULED", "OUT_OF_QUOTA"])
def test_jobs_that_end_without_having_started(end: str, tmp_path: Path) -> None:
    script = good(event(end, 0, 3), *one_job())
    with FakeTarget(script) as target, session_on(target, tmp_path) as session:
        first, second = run(session, periodic(2))
    assert (first.job, first.start_ns, first.end_ns) == (0, None, None)
    assert first.outcome == end.lower()
    assert (second.job, second.outcome) == (1, "finished")


def test_releases_are_those_that_the_first_events_of_jobs_tell(tmp_path: Path) -> None:
    events = [
        event("START", 0, 11)._replace(release_ns=10 * MS),
        event("EXIT_PERIOD", 0, 20.5),
        event("START", 0, 21)._replace(release_ns=20 * MS),
        event("EXIT", 0, 22),
        event("NOT_SCHEDULED", 0, 30)._replace(release_ns=30 * MS),
        event("OUT_OF_QUOTA", 0, 41)._replace(release_ns=40 * MS),
    ]
    with FakeTarget(good(*events)) as target, session_on(target, tmp_path) as session:
        jobs = run(session, periodic(4, deadline=7))
    assert [job.release_ns for job in jobs] == [10 * MS, 20 * MS, 30 * MS, 40 * MS]
    assert [job.deadline_ns for job in jobs] == [17 * MS, 27 * MS, 37 * MS, 47 * MS]


def test_a_job_is_not_released_after_it_has_started(tmp_path: Path) -> None:
    late = event("START", 0, 11)._replace(release_ns=12 * MS)
    with (
        FakeTarget([*started(), push(late), Hang()]) as target,
        session_on(target, tmp_path) as session,
        pytest.raises(TargetError, match="it is released later, at 12000000 ns"),
    ):
        run(session, periodic(2))


def test_releases_are_known_where_an_event_tells_them(tmp_path: Path) -> None:
    events = [
        event("START", 0, 11),
        event("EXIT_PERIOD", 0, 20),
        event("START", 0, 21),
        event("EXIT", 0, 22),
        event("NOT_SCHEDULED", 0, 30),
        *(event("START", 0, 41), event("EXIT", 0, 42)),
    ]
    with FakeTarget(good(*events)) as target, session_on(target, tmp_path) as session:
        jobs = run(session, periodic(4, deadline=7))
    assert [job.release_ns for job in jobs] == [10 * MS, 20 * MS, 30 * MS, None]
    assert [job.deadline_ns for job in jobs] == [17 * MS, 27 * MS, 37 * MS, None]


def test_jobs_that_overrun_one_after_the_other_have_all_missed_their_deadlines(
    tmp_path: Path,
) -> None:
    kills = [10.2, 20.1, 30.4, 40.1]  # later than the releases by what a kill takes
    events = [
        one
        for number, kill in enumerate(kills)
        for one in (event("START", 0, 10 * number + 1), event("EXIT_PERIOD", 0, kill))
    ]
    with FakeTarget(good(*events)) as target, session_on(target, tmp_path) as session:
        jobs = run(session, periodic(4))
    assert [job.release_ns for job in jobs] == [ms * MS // 10 for ms in (2, 101, 201, 301)]
    for job in jobs:
        assert job.deadline_ns is not None
        assert job.end_ns is not None
        assert job.end_ns >= job.deadline_ns, "a job that was killed then has missed it"


def test_a_release_that_contradicts_the_start_is_not_believed(tmp_path: Path) -> None:
    events = [event("START", 0, 9), event("EXIT_PERIOD", 0, 20), event("NOT_SCHEDULED", 0, 20)]
    with FakeTarget(good(*events)) as target, session_on(target, tmp_path) as session:
        jobs = run(session, periodic(2))
    assert [job.release_ns for job in jobs] == [None, 20 * MS]


def test_the_id_of_a_task_is_that_of_its_events(tmp_path: Path) -> None:
    taskset = TaskSet([Task(pkg="hey", id=7), Task(pkg="hey", id=3)], "mine")
    events = [
        event("START", 3, 1),
        event("EXTERNAL", -1, 1),
        event("START", 7, 2),
        event("EXIT", 3, 4),
        event("EXIT", 7, 3),  # processors report side by side
    ]
    with FakeTarget(good(*events)) as target, session_on(target, tmp_path) as session:
        first, second = run(session, taskset)
    assert (first.start_ns, first.end_ns) == (2 * MS, 3 * MS)
    assert (second.start_ns, second.end_ns) == (1 * MS, 4 * MS)
    assert [len(task.jobs) for task in taskset] == [1, 1]
    assert taskset.horizon_ns == 4 * MS


def test_jobs_done_ends_a_task_before_its_numberofjobs(tmp_path: Path) -> None:
    script = good(*one_job(), event("JOBS_DONE", 0, 20))
    with FakeTarget(script) as target, session_on(target, tmp_path) as session:
        assert len(run(session, periodic(100))) == 1


def test_jobs_done_waits_for_the_job_that_runs(tmp_path: Path) -> None:
    script = good(event("START", 0, 1), event("JOBS_DONE", 0, 1), event("EXIT", 0, 5))
    with FakeTarget(script) as target, session_on(target, tmp_path) as session:
        (job,) = run(session, periodic())
    assert job.outcome == "finished"


def test_the_first_targets_know_start_and_exit_only(tmp_path: Path) -> None:
    script = [KnowNoLive(), *good(*one_job(0), *one_job(10))]
    with FakeTarget(script) as target, session_on(target, tmp_path, get_live=False) as session:
        before = time.monotonic()
        assert len(run(session, periodic(2))) == 2
        assert time.monotonic() - before >= QUICK["clear_timeout"]
        assert len(run(session, periodic(2))) == 2
    assert target.count(GetLive) == 0
    assert target.count(Clear) == 3


def test_tasks_without_end_are_done_when_each_has_run_and_nothing_runs(tmp_path: Path) -> None:
    taskset = TaskSet([Task(pkg="hey", period=10), Task(pkg="hey", period=20)], "mine")
    script = [
        *started(),
        push(*one_job(), event("START", 0, 20), event("START", 1, 20), event("EXIT", 0, 21)),
        push(event("EXIT", 1, 22)),
        Expect(Stop),
        Expect(Clear),
    ]
    with FakeTarget(script) as target, session_on(target, tmp_path) as session:
        jobs = run(session, taskset)
        session.close()
    assert [(job.task, job.job, job.outcome) for job in jobs] == [
        (0, 0, "finished"),
        (0, 1, "finished"),
        (1, 0, "finished"),
    ]


def _stopping(*after_stop: Any) -> list[Any]:
    return [*started(), push(*one_job(), event("START", 0, 20)), Expect(Stop), *after_stop]


def test_duration_ms_stops_the_task_set(tmp_path: Path) -> None:
    script = [*_stopping(push(event("EXIT_EXTERNAL", 0, 25))), Expect(Clear)]
    taskset = periodic()
    with (
        FakeTarget(script) as target,
        session_on(target, tmp_path, duration_ms=300) as session,
    ):
        before = time.monotonic()
        jobs = run(session, taskset)
        assert 0.3 <= time.monotonic() - before < 0.8
        session.close()
    assert [job.outcome for job in jobs] == ["finished", "stopped"]
    assert taskset.horizon_ns == 25 * MS


def test_a_job_whose_end_no_event_tells_stays_open(tmp_path: Path) -> None:
    script = [*_stopping(), Expect(Clear)]
    taskset = periodic()
    with (
        FakeTarget(script) as target,
        session_on(target, tmp_path, duration_ms=100) as session,
    ):
        jobs = run(session, taskset)
    assert [job.outcome for job in jobs] == ["finished", None]
    assert taskset.horizon_ns == 20 * MS


def test_it_does_not_wait_for_the_duration_when_all_jobs_are_done(tmp_path: Path) -> None:
    with (
        FakeTarget(good(*one_job())) as target,
        session_on(target, tmp_path, duration_ms=60_000) as session,
    ):
        assert len(run(session, periodic(1))) == 1
    assert target.count(Stop) == 0


def test_stop_returns_how_running_jobs_end(tmp_path: Path) -> None:
    script = [*_stopping(push(event("EXIT_EXTERNAL", 0, 25))), Expect(Clear)]
    taskset = periodic(5)
    with FakeTarget(script) as target, session_on(target, tmp_path) as session:
        session.start(taskset)
        while len(taskset[0].jobs) < 2:
            session.run(taskset)
        session.stop()
        session.stop()
        finish(session, taskset)
        assert [job.outcome for job in taskset[0].jobs] == ["finished", "stopped"]


def test_what_happened_before_the_stop_is_waited_for(tmp_path: Path) -> None:
    """Of two answers to GET_LIVE, the first may have been sent before STOP was received."""
    script = [
        *started(),
        push(*one_job()),
        KnowNoLive(),
        *(Expect(GetLive), Expect(Stop), Expect(GetLive)),
        *(Send(Live(())), Pause(0.2), push(*one_job(10)), Send(Live(()))),
        Expect(Clear),
    ]
    with (
        FakeTarget(script) as target,
        session_on(target, tmp_path, event_timeout=0.1, reply_timeout=5) as session,
    ):
        session.start(taskset := periodic(5))
        for _ in range(4):
            session.run(taskset)
        session.stop()
        finish(session, taskset)
    assert [job.outcome for job in taskset[0].jobs] == ["finished", "finished"]


def test_events_of_the_task_set_before_are_not_taken(tmp_path: Path) -> None:
    script = [
        *_stopping(),
        Expect(Clear),
        push(event("EXIT_EXTERNAL", 0, 25)),
        Expect(SendDescs),
        Expect(Start),
        push(event("START", 0, 40), event("EXIT", 0, 41)),
    ]
    with (
        FakeTarget(script) as target,
        session_on(target, tmp_path, duration_ms=100) as session,
    ):
        run(session, periodic())
        (job,) = run(session, single())
    assert (job.start_ns, job.outcome) == (40 * MS, "finished")


def test_it_goes_on_once_live_data_lists_no_task(tmp_path: Path) -> None:
    answers = [(LiveTask(0, {"state": "2"}),), (LiveTask(0, {"state": "3"}),), ()]
    lives = [step for tasks in answers for step in (Expect(GetLive), Send(Live(tasks)))]
    script = [
        KnowNoLive(),
        *(Expect(GetLive), Send(Live(()))),
        *(Expect(Clear), *lives),
        *(Expect(SendDescs), Upload(), Expect(Start), push(*one_job())),
    ]
    with (
        FakeTarget(script) as target,
        session_on(target, tmp_path, clear_timeout=20) as session,
    ):
        before = time.monotonic()
        run(session, single())
        assert time.monotonic() - before < 2


def test_it_goes_on_after_clear_timeout_whatever_live_data_lists(tmp_path: Path) -> None:
    def answer(command: Command) -> list[Report]:
        if isinstance(command, GetLive):
            return [Live((LiveTask(0, {}),))]
        return [Profile(one_job())] if isinstance(command, Start) else []

    script = [KnowNoLive(), Serve(answer)]
    with FakeTarget(script) as target, session_on(target, tmp_path) as session:
        assert len(run(session, single())) == 1


def test_several_profiles_in_pieces_of_any_size(tmp_path: Path) -> None:
    events = tuple(event(kind, 0, ms) for ms in range(1, 40, 2) for kind in ("START", "EXIT"))
    script = [
        *started(),
        Send(Profile(events[:1]), piece=1, pause=0.002),
        *(Send(Profile(events[n : n + 7]), piece=n + 1) for n in range(1, 40, 7)),
    ]
    with FakeTarget(script) as target, session_on(target, tmp_path, event_timeout=5) as session:
        assert len(run(session, periodic(20))) == 20


def test_run_is_bounded_while_nothing_comes(tmp_path: Path) -> None:
    with (
        FakeTarget([*started(), Expect(Clear)]) as target,
        session_on(target, tmp_path) as session,
    ):
        session.start(taskset := single())
        for _ in range(12):  # over more than one GET_LIVE: a long job is not frozen
            before = time.monotonic()
            assert session.run(taskset) == []
            assert time.monotonic() - before < 0.3
        assert session.is_running(taskset)
        session.close()
    assert target.count(GetLive) >= 4


def test_many_events_come_in_batches(tmp_path: Path) -> None:
    count = 30_000
    events = [event(kind, 0, ms) for ms in range(1, 1 + count) for kind in ("START", "EXIT")]
    pushes = [push(*events[n : n + 10_000]) for n in range(0, 2 * count, 10_000)]
    with FakeTarget([*started(), *pushes]) as target, session_on(target, tmp_path) as session:
        session.start(taskset := periodic(count))
        sizes = []
        while session.is_running(taskset):
            sizes.append(len(session.run(taskset)))
    assert len(taskset[0].jobs) == count
    assert max(sizes) < 25_000


def test_what_cannot_be_run_is_refused_before_anything_is_sent(tmp_path: Path) -> None:
    with FakeTarget(good(*one_job())) as target, session_on(target, tmp_path) as session:
        for taskset, params in [
            (single(pkg="missing"), ()),
            (periodic(1, offset=0.5), ()),
            (single(config={"a b": 1}), ()),
            (single(), ({"goal": {"fairness": {"apply": 1}, "utilization": {"apply": 1}}},)),
            (single(), (GOAL, GOAL)),
            (single(), ({"goal": [1]},)),
            (single(), ({"a b": 1},)),
        ]:
            with pytest.raises(ConfigurationError):
                session.start(taskset, *params)
            assert not session.is_running(taskset)
        assert target.count(Clear) == 0
        assert len(run(session, single())) == 1


def test_a_closed_session_is_of_no_use(tmp_path: Path) -> None:
    with FakeTarget(good(*one_job())) as target, session_on(target, tmp_path) as session:
        session.close()
        with pytest.raises(TargetError, match="the session is closed"):
            session.start(single())
        session.stop()


@pytest.mark.parametrize("host", ["::1", "127.0.0.1"])
def test_both_versions_of_ip(host: str, tmp_path: Path) -> None:
    with FakeTarget(good(*one_job()), host) as target:
        assert GenodeSession.is_available(host, target.port, 1.0)
        with session_on(target, tmp_path) as session:
            assert len(run(session, single())) == 1


def test_what_comes_in_one_piece_with_the_last_event_is_of_no_interest(tmp_path: Path) -> None:
    pushes = b"".join(encode(Profile(events)) for events in (one_job(0), one_job(10)))
    script = [*started(), Send(pushes), Serve(lambda _: [])]
    with FakeTarget(script) as target, session_on(target, tmp_path) as session:
        jobs = run(session, single())
    assert [job.outcome for job in jobs] == [Outcome.FINISHED]


def test_many_pushes_in_one_piece_are_all_taken(tmp_path: Path) -> None:
    events = [moment for number in range(500) for moment in one_job(10 * number)]
    pushes = b"".join(encode(Profile((moment,))) for moment in events)
    script = [*started(), Send(pushes), Serve(lambda _: [])]
    with FakeTarget(script) as target, session_on(target, tmp_path) as session:
        jobs = run(session, periodic(500))
    assert [job.job for job in jobs] == list(range(500))
    assert {job.outcome for job in jobs} == {Outcome.FINISHED}
