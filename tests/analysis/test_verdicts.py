"""Tests of taskgen_run.analysis.verdicts and .scheduling: which test says what of a task set."""

from __future__ import annotations

import pickle
from typing import Any

import pytest

from taskgen_run.analysis import verdicts
from taskgen_run.analysis.scheduling import Policy, Scheduling
from taskgen_run.analysis.verdicts import TESTS, Analysis, check_names
from taskgen_run.errors import ConfigurationError
from taskgen_run.session import AbstractSession
from taskgen_run.sessions.fastsim import FastSimSession
from taskgen_run.sessions.genode import GenodeSession
from taskgen_run.sessions.simso import SimSoSession
from taskgen_run.sessions.stdio import StdIOSession
from taskgen_run.task import Task
from taskgen_run.taskset import TaskSet

BURNS = [(3, 7), (3, 12), (5, 20)]
"""A. Burns and A. Wellings' example, whose lowest task responds in 20."""


def taskset(*pairs: tuple[float, float], **attributes: Any) -> TaskSet:
    """Tasks (C, T) with deadlines at the periods, and priorities in order."""
    return TaskSet(
        [
            Task(executiontime=execution, period=period, priority=priority, **attributes)
            for priority, (execution, period) in enumerate(pairs)
        ],
        "mine",
    )


def say(tasks: TaskSet, session: type[AbstractSession], **options: Any) -> dict[str, bool | None]:
    """The verdicts of all tests that have one."""
    found = Analysis(tuple(TESTS), session.scheduling(**options))(tasks)
    assert list(found) == list(TESTS)
    return {name: verdict for name, verdict in found.items() if verdict is not None}


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"scheduler": "RM"}, {"response_time": True}),
        ({"scheduler": "FP"}, {"response_time": True}),
        (
            {"scheduler": "EDF"},
            {"edf_utilization": True, "processor_demand": True, "gfb": True},
        ),
        ({"scheduler": "RM", "cpus": 2}, {"bcl": True}),
        ({"scheduler": "EDF", "cpus": 2}, {"gfb": True, "bcl": True}),
        (
            {"scheduler": "P_RM", "cpus": 2},
            {"liu_layland": True, "hyperbolic": True, "response_time": True},
        ),
        ({"scheduler": "P_EDF", "cpus": 2}, {"edf_utilization": True, "processor_demand": True}),
        ({"scheduler": "RM", "schedule_overhead_ms": 0.1}, {}),
        ({"scheduler": "EDF", "context_load_ms": 0.1}, {}),
    ],
)
def test_what_applies_is_a_matter_of_the_scheduler(
    options: dict[str, Any], said: dict[str, bool]
) -> None:
    for session in (FastSimSession, SimSoSession):
        assert say(taskset(*BURNS), session, **options) == said


def test_what_simso_alone_has() -> None:
    assert say(taskset(*BURNS), SimSoSession, scheduler="LLF") == {}
    assert say(taskset(*BURNS), SimSoSession, scheduler="./RM.py") == {}
    assert say(taskset(*BURNS), SimSoSession, etm="acet") == {"response_time": True}
    assert say(taskset(*BURNS), SimSoSession, etm="fixedpenalty") == {}
    overload = taskset((2, 3), (2, 4))
    assert say(overload, SimSoSession) == {"response_time": False}
    assert say(overload, SimSoSession, etm="acet") == {}


def test_what_fastsim_alone_has() -> None:
    light = taskset((1, 7), (1, 12), (5, 20))
    assert say(light, FastSimSession, scheduler="NP_FP") == {"response_time": True}
    assert say(light, FastSimSession, scheduler="NP_EDF") == {"processor_demand": True}
    heavy = taskset((3, 7), (3, 12), (6, 20))
    assert say(heavy, FastSimSession, scheduler="NP_FP") == {}
    assert say(heavy, FastSimSession, scheduler="NP_EDF") == {}
    overload = taskset((4, 7), (6, 12))
    assert say(overload, FastSimSession, scheduler="NP_FP") == {"response_time": False}
    assert say(overload, FastSimSession, scheduler="NP_EDF") == {"processor_demand": False}


@pytest.mark.parametrize("session", [StdIOSession, GenodeSession])
def test_sessions_without_a_scheduler_have_their_descriptions_analysed(
    session: type[AbstractSession],
) -> None:
    said = {"response_time": True, "edf_utilization": True, "processor_demand": True}
    assert say(taskset(*BURNS), session) == said
    by_deadline = taskset(*BURNS)
    by_deadline[1]["priority"] = 128
    assert say(by_deadline, session) == {"edf_utilization": True, "processor_demand": True}
    del by_deadline[1]["priority"]
    assert say(by_deadline, session) == {"edf_utilization": True, "processor_demand": True}
    light = taskset((1, 7), (1, 12), (1, 20))
    assert say(light, session) == {"liu_layland": True, "hyperbolic": True, **said}
    # Nobody knows of real targets whether they keep to the offsets.
    apart = TaskSet(
        [
            Task(period=2, executiontime=1, deadline=1, priority=0),
            Task(period=2, executiontime=1, deadline=1, priority=1, offset=1),
        ]
    )
    assert say(apart, session) == {}
    assert say(apart, FastSimSession, scheduler="FP") == {"response_time": True}


def test_no_session_has_128_stand_for_edf_unless_it_does_not_say_how_it_schedules() -> None:
    tasks = taskset((1, 7), (3, 12))
    tasks[0]["priority"] = 128
    assert say(tasks, FastSimSession, scheduler="FP")["response_time"] is True


def test_each_processor_is_tested_for_itself() -> None:
    """P_EDF puts 0.7 and 0.3 together, first-fit decreasing; P_RM the first and the last."""
    tasks = taskset((7, 10), (6, 10), (2, 10), (3, 10))
    exact = {"edf_utilization": True, "processor_demand": True}
    assert say(tasks, FastSimSession, scheduler="P_EDF", cpus=2) == exact
    assert say(tasks, FastSimSession, scheduler="P_RM", cpus=2)["response_time"] is True
    tasks = taskset((7, 10), (6, 10), (2, 10), (6, 10))
    refuted = {"edf_utilization": False, "processor_demand": False}
    assert say(tasks, FastSimSession, scheduler="P_EDF", cpus=2) == refuted
    assert say(tasks, FastSimSession, scheduler="P_RM", cpus=2) == {"response_time": False}
    for task in tasks:
        task["deadline"] = 0
    assert say(tasks, FastSimSession, scheduler="P_EDF", cpus=2) == {}


def test_jobs_that_may_be_killed_do_not_refute() -> None:
    tasks = taskset((5, 7), (5, 12))
    assert say(tasks, FastSimSession) == {"response_time": False}
    tasks[0]["criticaltime"] = 7
    assert say(tasks, FastSimSession) == {"response_time": False}
    tasks[0]["criticaltime"] = 6
    assert say(tasks, FastSimSession) == {}


def test_jobs_that_need_no_time_do_not_refute() -> None:
    tasks = taskset((1, 2), (1, 2), (0, 2))
    assert say(tasks, FastSimSession, scheduler="FP") == {}
    assert say(tasks, FastSimSession, scheduler="EDF") == {}
    assert say(taskset((1, 2), (0.5, 2), (0, 2)), FastSimSession)["response_time"] is True


def test_an_overload_refutes_with_any_offsets_ties_and_deadlines() -> None:
    tasks = taskset((3, 5), (3, 5), deadline=10**6)
    tasks[1].update(offset=3.3333, priority=0)
    assert say(tasks, FastSimSession, scheduler="RM") == {"response_time": False}
    assert say(tasks, FastSimSession, scheduler="FP") == {"response_time": False}
    edf = say(tasks, FastSimSession, scheduler="EDF")
    assert edf == {"edf_utilization": False, "processor_demand": False}
    tasks[0]["deadline"] = 0
    assert say(tasks, FastSimSession, scheduler="RM") == {}


def test_ties_that_matter_do_not_refute() -> None:
    tasks = TaskSet([Task(period=6, executiontime=2, deadline=3)] * 2)
    assert say(tasks, FastSimSession) == {}
    tasks = TaskSet([Task(period=6, executiontime=4, deadline=3)] * 2)
    assert say(tasks, FastSimSession) == {"response_time": False}


@pytest.mark.parametrize("name", TESTS)
def test_a_task_without_execution_time_has_no_verdict(name: str) -> None:
    tasks = TaskSet([Task(period=5, executiontime=1), Task(period=5)])
    for policy in (None, *Policy):
        assert Analysis((name,), Scheduling(policy=policy))(tasks) == {name: None}


def test_single_jobs_and_no_deadlines() -> None:
    tasks = TaskSet([Task(executiontime=3), Task(executiontime=3, deadline=5)])
    assert say(tasks, FastSimSession, scheduler="EDF") == {
        "edf_utilization": True, "processor_demand": True, "gfb": True, "bcl": True,
    }  # fmt: skip
    assert say(tasks, FastSimSession, scheduler="RM") == {}  # both have the lowest priority
    assert say(tasks, FastSimSession, scheduler="DM")["response_time"] is True
    assert say(TaskSet([Task(executiontime=9)]), FastSimSession)["liu_layland"] is True


def test_the_largest_times_there_are() -> None:
    longest = 10**12
    tasks = taskset((longest / 4, longest), (0.000001, longest - 1), (longest / 4, longest - 2))
    said = say(tasks, FastSimSession, scheduler="RM")
    assert said == dict.fromkeys(("liu_layland", "hyperbolic", "response_time", "bcl"), True)
    said = say(tasks, FastSimSession, scheduler="EDF", cpus=4)
    assert said == {"gfb": True, "bcl": True}


def test_what_takes_too_long_is_left_undecided(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(verdicts, "MOST_EVALUATIONS", 10_000)
    tasks = taskset((500, 1000), (333.333331, 999.999993), (0.000001, 0.000006), deadline=10**9)
    assert say(tasks, FastSimSession, scheduler="FP") == {}
    tasks = taskset((0.010007, 0.020014), (0.010009, 0.020018))
    tasks[0]["deadline"] = 0.020013
    assert "processor_demand" not in say(tasks, FastSimSession, scheduler="EDF")
    tasks[0]["offset"] = 0.5  # then it would be to simulate that takes too long
    tasks[0]["deadline"] = 0.010007
    assert "processor_demand" not in say(tasks, FastSimSession, scheduler="EDF")
    assert say(taskset(*BURNS), FastSimSession) == {"response_time": True}


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (
            ["gfb", "nothing"],
            "analysis: unknown test 'nothing'; known are: bcl, edf_utilization, gfb, hyperbolic, "
            "liu_layland, processor_demand, response_time",
        ),
        (["response"], "analysis: unknown test 'response'; did you mean 'response_time'?; known"),
        ([["gfb"]], "analysis: unknown test ['gfb']; did you mean 'gfb'?; known are"),
        (["gfb", "bcl", "gfb"], "analysis must name each test once, got gfb again"),
    ],
)
def test_names_are_checked(names: list[Any], message: str) -> None:
    with pytest.raises(ConfigurationError) as raised:
        check_names(names)
    assert str(raised.value).startswith(message)
    check_names(list(TESTS))


def test_it_can_be_sent_to_another_process() -> None:
    analysis = Analysis(("response_time",), FastSimSession.scheduling(scheduler="P_RM", cpus=2))
    assert pickle.loads(pickle.dumps(analysis)) == analysis
