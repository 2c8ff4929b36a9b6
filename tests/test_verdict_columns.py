"""The verdicts of schedulability tests in the results of an experiment."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import taskgen_run.computing
from taskgen_run import compose, results
from taskgen_run.analysis import verdicts
from taskgen_run.errors import BugError, ConfigurationError, TargetError
from taskgen_run.experiment import Experiment
from taskgen_run.job import Job, Outcome
from taskgen_run.monitor import AbstractMonitor
from taskgen_run.results import ResultWriter
from taskgen_run.results.schemas import docs, schema
from taskgen_run.sessions.fastsim import FastSimSession
from taskgen_run.sessions.genode import GenodeSession
from taskgen_run.sessions.simso import SimSoSession
from taskgen_run.sessions.stdio import StdIOSession
from taskgen_run.task import Task
from taskgen_run.taskset import TaskSet
from taskgen_run.values import Range

NAMES = ["response_time", "liu_layland", "gfb"]

TASKS = [Task(period=10, executiontime=Range(1, 6)), Task(period=15, executiontime=7)]
"""Under RM within the bound, then schedulable all the same with (3, 10), and then too much."""

EXPECTED: dict[str, list[bool | None]] = {
    "response_time": [True, True, True, True, False, False],
    "liu_layland": [True, True, True, None, None, None],
    "gfb": [None] * 6,
}


@pytest.fixture(autouse=True)
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def experiment(session: Any = SimSoSession, **changed: Any) -> Experiment:
    given = {"taskset": TaskSet(TASKS, "mine"), "session": session, "analysis": NAMES}
    return Experiment(**{**given, **changed})


def columns(directory: Path | str, names: list[str] = NAMES, **how: bool) -> dict[str, list[Any]]:
    table = results.read(directory, "tasksets", **how)
    return {name: table[name].to_pylist() for name in names}


@pytest.mark.parametrize("session", [SimSoSession, FastSimSession])
def test_every_variant_has_its_verdicts(session: Any) -> None:
    report = experiment(session).run()
    assert columns(report.directory) == EXPECTED
    missed = results.read(report.directory, "tasksets")["deadline_misses"].to_pylist()
    assert [count == 0 for count in missed] == EXPECTED["response_time"]


def test_the_columns_are_the_last_ones_in_the_order_asked_for() -> None:
    report = experiment().run()
    found = pq.read_schema(report.directory / "tasksets.parquet")
    assert found.names == [*schema("tasksets").names, *NAMES]
    assert {found.field(name).type for name in NAMES} == {pa.bool_()}
    assert all(found.field(name).nullable for name in NAMES)
    assert list(docs("tasksets", tests=NAMES)) == found.names
    assert found.equals(schema("tasksets", tests=NAMES), check_metadata=True)


def test_without_analysis_there_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(*arguments: Any) -> None:
        raise AssertionError

    monkeypatch.setattr(verdicts, "_verdict", fails)
    report = experiment(analysis=[]).run()
    assert pq.read_schema(report.directory / "tasksets.parquet").names == schema("tasksets").names


def test_descriptions_are_analysed_where_nothing_is_scheduled() -> None:
    tasks = [Task(TASKS[0], priority=1), Task(TASKS[1], priority=2)]
    report = experiment(StdIOSession, taskset=TaskSet(tasks, "mine")).run()
    assert columns(report.directory) == EXPECTED


@pytest.mark.parametrize("session", [SimSoSession, FastSimSession])
def test_the_number_of_processes_changes_nothing(
    session: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(taskgen_run.computing, "ALONE_SECONDS", 0.0)
    files = []
    for workers in (1, 2):
        report = experiment(session, workers=workers).run(f"with-{workers}")
        files.append((report.directory / "tasksets.parquet").read_bytes())
        assert columns(report.directory) == EXPECTED
    assert files[0] == files[1]


class Stopping(AbstractMonitor):
    """Ends the experiment when its third variant begins."""

    def on_start(self, taskset: TaskSet, host: str, attempt: int) -> None:
        if taskset.variant == 2:
            raise ConfigurationError("enough")


def test_an_experiment_that_goes_on_has_all_verdicts() -> None:
    with pytest.raises(ConfigurationError, match="enough"):
        experiment(monitors=[Stopping]).run("here")
    begun = {name: values[:2] for name, values in EXPECTED.items()}
    assert columns("here", partial=True) == begun
    experiment().run("here")
    experiment().run("straight")
    assert columns("here") == EXPECTED
    for name in ("jobs", "tasks", "tasksets"):
        path = f"{name}.parquet"
        assert Path("here", path).read_bytes() == Path("straight", path).read_bytes()


def test_more_variants_may_be_taken_later() -> None:
    experiment(max_variants=2).run("here")
    experiment().run("here")
    assert columns("here") == EXPECTED


def test_other_tests_make_another_experiment() -> None:
    plain, asked = experiment(analysis=[]), experiment()
    assert (
        len({plain.fingerprint, asked.fingerprint, experiment(analysis=["bcl"]).fingerprint}) == 3
    )
    plain.run("here")
    with pytest.raises(ConfigurationError, match="holds another experiment"):
        asked.run("here")


def test_configurations_of_before_are_the_same_experiments() -> None:
    """What asks for no analysis has the fingerprint that it had when there was none."""
    assert experiment(analysis=[]).fingerprint == experiment(analysis=()).fingerprint
    composed = compose(["session=simso", "taskset=example"])
    assert composed.config is not None
    without = {key: value for key, value in composed.config.items() if key != "analysis"}
    assert composed.fingerprint == compose(["session=simso", "taskset=example"]).fingerprint
    again = Experiment(
        taskset=composed.taskset, session=composed.session, options=composed.options, config=without
    )
    assert again.fingerprint == composed.fingerprint


def test_a_directory_whose_columns_differ_is_not_continued(tmp_path: Path) -> None:
    facts = {"fingerprint": "f" * 64, "version": "1", "seed": 0}
    ResultWriter.open(tmp_path / "here", facts).close()
    with pytest.raises(ConfigurationError, match=r"its tasksets have the columns .*rerun=true"):
        ResultWriter.open(tmp_path / "here", facts, tests=NAMES)


def test_a_sweep_with_and_without_is_read_as_one_table() -> None:
    experiment(analysis=[]).run("sweep/0")
    experiment().run("sweep/1")
    assert columns("sweep", ["response_time"]) == {
        "response_time": [*[None] * 6, *EXPECTED["response_time"]]
    }


def test_a_variant_that_is_invalid_has_no_verdict() -> None:
    tasks = TaskSet([Task(period=Range(10, 11), executiontime=3, offset=Late())], "mine")
    report = experiment(taskset=tasks, session=FastSimSession).run()
    assert report.failed == 2
    assert columns(report.directory)["response_time"] == [True, None, True, None]


class Late:
    """Values of which the second is none: it is found when its variant comes."""

    def __iter__(self) -> Iterator[Any]:
        yield 0
        yield -1


class Trying(StdIOSession):
    """A real target whose first attempt at each variant fails."""

    computes = False

    def start(self, taskset: TaskSet, *params: Any) -> None:
        self.jobs = [Job(0, 0, release_ns=0, end_ns=1, outcome=Outcome.FINISHED)]
        mark = Path(f"tried-{taskset.variant}")
        if not mark.exists():
            mark.touch()
            raise TargetError("not now")

    def run(self, taskset: TaskSet) -> list[Job]:
        jobs, self.jobs = self.jobs, []
        return jobs


def test_each_variant_is_analysed_once_whatever_its_attempts(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    analysed: list[int] = []
    genuine = verdicts._verdict

    def counting(criterion: Any, taskset: TaskSet, *more: Any) -> bool | None:
        analysed.append(taskset.variant)
        return genuine(criterion, taskset, *more)

    monkeypatch.setattr(verdicts, "_verdict", counting)
    tasks = TaskSet([Task(task, priority=n) for n, task in enumerate(TASKS)], "mine")
    report = experiment(
        Trying, taskset=tasks, max_variants=2, bounds={"restarts": 9}, analysis=["response_time"]
    ).run()
    table = results.read(report.directory, "tasksets")
    assert table["attempts"].to_pylist() == [2, 2]
    assert table["response_time"].to_pylist() == [True, True]
    assert sorted(analysed) == [0, 1]


@pytest.mark.parametrize("session", [SimSoSession, StdIOSession, GenodeSession])
def test_an_unknown_test_is_said_before_anything_runs(session: Any) -> None:
    with pytest.raises(ConfigurationError, match="analysis: unknown test 'rta'; known are: bcl, "):
        experiment(session, analysis=["rta"])


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("analysis=[gbf]", "analysis: unknown test 'gbf'; did you mean 'gfb'[?]; known are: bcl"),
        ("analysis=gfb", "analysis must be a list, got 'gfb'"),
        ("analysis=[gfb,gfb]", "analysis must name each test once, got gfb again"),
    ],
)
def test_mistakes_of_a_command_line(override: str, message: str) -> None:
    with pytest.raises(ConfigurationError, match=message):
        compose(["session=simso", "taskset=example", override])


class Unscheduled(StdIOSession):
    @classmethod
    def scheduling(cls, **options: Any) -> None:
        raise ValueError("no idea")


def test_a_session_that_cannot_say_how_it_schedules_is_to_blame() -> None:
    with pytest.raises(BugError, match="session Unscheduled failed in scheduling: ValueError: no "):
        experiment(Unscheduled)
