from __future__ import annotations

import json
import logging
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from taskgen_run import compose, results, sweep
from taskgen_run.errors import BugError, ConfigurationError
from taskgen_run.experiment import Experiment
from taskgen_run.interrupts import Interrupted
from taskgen_run.job import Job, JobBatch, Outcome
from taskgen_run.monitor import AbstractMonitor
from taskgen_run.sessions.genode import GenodeSession
from taskgen_run.sessions.simso import SimSoSession
from taskgen_run.sessions.stdio import StdIOSession
from taskgen_run.task import Task
from taskgen_run.taskset import TaskSet
from taskgen_run.values import Random, Range

TASK = Task(period=10, executiontime=2)


@pytest.fixture(autouse=True)
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def _experiment(**changed: Any) -> Experiment:
    given: dict[str, Any] = {"taskset": TaskSet([TASK], "mine"), "session": SimSoSession}
    return Experiment(**{**given, **changed})


def _status(directory: Path) -> dict[str, Any]:
    content: dict[str, Any] = json.loads((directory / "experiment.json").read_text())
    return content


def test_an_experiment_from_objects_runs_and_is_read_back() -> None:
    report = _experiment(options={"duration_ms": 50}).run()
    assert report.directory.parent == Path("outputs")
    assert report.directory.name.startswith("SimSoSession-mine-")
    assert (report.status, report.failed) == ("finished", 0)
    jobs = results.read(report.directory)
    assert jobs["release_ns"].to_pylist() == [n * 10_000_000 for n in range(5)]


def test_an_experiment_from_overrides_is_that_of_the_command_line() -> None:
    experiment = compose(["session=simso", "taskset=hey0", "seed=7"])
    assert (experiment.session, experiment.seed) == (SimSoSession, 7)
    assert experiment.labels["session"] == "simso"
    report = experiment.run()
    assert report.directory.name == experiment.name
    assert (report.directory / ".hydra" / "overrides.yaml").read_text().splitlines() == [
        "- session=simso",
        "- taskset=hey0",
        "- seed=7",
    ]


def test_a_sweep_from_python() -> None:
    experiments = sweep(["session=simso", "taskset=hey0,hey3", "session.scheduler=RM,EDF"])
    assert len({experiment.fingerprint for experiment in experiments}) == 4
    for experiment in experiments:
        experiment.run(Path("sweep") / experiment.name)
    table = results.read("sweep", "tasksets")
    assert set(table["session.scheduler"].to_pylist()) == {"RM", "EDF"}


def test_compose_is_for_one_experiment() -> None:
    with pytest.raises(ConfigurationError, match=r"use sweep\(\) for several"):
        compose(["hydra.mode=MULTIRUN", "seed=1,2"])


def test_what_decides_the_results_decides_the_fingerprint() -> None:
    scheduler = Path("mine.py")
    scheduler.write_text("from simso.schedulers.RM import RM\nclass mine(RM):\n    pass\n")
    variants = [
        _experiment(),
        _experiment(seed=1),
        _experiment(targets="10.0.0.1"),
        _experiment(options={"scheduler": "EDF"}),
        _experiment(options={"scheduler": str(scheduler)}),
        _experiment(taskset=TaskSet([TASK, TASK], "mine")),
        _experiment(taskset=TaskSet([Task(TASK, priority=Range(1, 2))], "mine")),
        _experiment(taskset=TaskSet([Task(TASK, priority=Random(Range(1, 2)))], "mine")),
        _experiment(session=StdIOSession),
    ]
    prints = [experiment.fingerprint for experiment in variants]
    scheduler.write_text("from simso.schedulers.RM import RM\nclass mine(RM):\n    x = 1\n")
    prints.append(_experiment(options={"scheduler": str(scheduler)}).fingerprint)
    assert len(set(prints)) == len(prints)


@pytest.mark.parametrize(
    "overrides", [["monitor=stdout"], ["outputs=x"], ["rerun=true"], ["max_variants=5"]]
)
def test_what_does_not_decide_the_results_does_not(overrides: list[str]) -> None:
    assert compose(overrides).fingerprint == compose([]).fingerprint


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"targets": "nowhere"}, "targets: 'nowhere'"),
        ({"options": {"cpu": 1}}, "unknown key 'session.cpu'; did you mean 'session.cpus'?"),
        ({"options": {"cpus": 0}}, "session.cpus must be ≥ 1, got 0"),
        ({"taskset": TaskSet([], "none")}, "task set 'none': must have at least one task"),
        ({"taskset": TaskSet([Task(period=5)], "x")}, "executiontime must be set"),
        ({"admission": {"goal": {}}}, "admission must be none with SimSoSession"),
    ],
)
def test_what_can_be_known_before_is_said_before(changed: Any, message: str) -> None:
    with pytest.raises(ConfigurationError) as raised:
        _experiment(**changed)
    assert message in str(raised.value)
    assert list(Path.cwd().iterdir()) == []


def test_a_target_that_makes_no_task_set_is_explained() -> None:
    Path("conf/taskset").mkdir(parents=True)
    Path("conf/taskset/wrong.yaml").write_text("_target_: builtins.dict\n")
    with pytest.raises(ConfigurationError, match=r"taskset\._target_ must make a TaskSet, got"):
        compose(["taskset=wrong"], config_dir="conf")


def test_an_error_inside_a_task_set_of_ones_own_is_explained() -> None:
    Path("conf/taskset").mkdir(parents=True)
    Path("conf/taskset/wrong.yaml").write_text("_target_: builtins.int\nx: y\n")
    with pytest.raises(
        ConfigurationError, match=r"taskset\._target_: cannot build 'builtins\.int'"
    ):
        compose(["taskset=wrong"], config_dir="conf")


@pytest.mark.parametrize(
    ("yaml", "message"),
    [
        ("x: 5\n", "monitor.x must be a mapping with _target_, got 5"),
        ("_target_: builtins.int\n", "monitor._target_ must name a subclass of AbstractMonitor"),
        ("_target_: taskgen_run.monitors.StdOutMonitor\nx: 1\n", "unknown key 'monitor.x'"),
    ],
)
def test_a_wrong_monitor_is_explained(yaml: str, message: str) -> None:
    Path("conf/monitor").mkdir(parents=True)
    Path("conf/monitor/wrong.yaml").write_text(yaml)
    with pytest.raises(ConfigurationError) as raised:
        compose(["monitor=wrong"], config_dir="conf")
    assert message in str(raised.value)


def test_several_monitors_have_names() -> None:
    Path("conf/monitor").mkdir(parents=True)
    one = "{_target_: taskgen_run.monitors.StdOutMonitor}"
    Path("conf/monitor/two.yaml").write_text(f"a: {one}\nb: {one}\n")
    assert len(compose(["monitor=two"], config_dir="conf").monitors) == 2


class Broken(AbstractMonitor):
    """Breaks at the third variant."""

    def on_jobs(self, jobs: JobBatch) -> None:
        if next(iter(jobs)).taskset == 2:
            raise ValueError("no more")


def test_an_error_of_a_monitor_loses_no_results() -> None:
    taskset = TaskSet([Task(TASK, priority=Range(1, 5))], "mine")
    with pytest.raises(BugError, match="monitor Broken failed in on_jobs: ValueError: no more"):
        _experiment(taskset=taskset, monitors=[Broken]).run("here")
    assert _status(Path("here"))["status"] == "stopped"
    assert "no more" in _status(Path("here"))["error"]
    kept = results.read("here", "tasksets", partial=True)
    assert kept["taskset"].to_pylist() == [0, 1]
    assert _experiment(taskset=taskset).run("here").status == "finished"
    assert results.read("here", "tasksets")["taskset"].to_pylist() == [0, 1, 2, 3, 4]


class Flaky(StdIOSession):
    """Refuses the second variant as long as a file is there."""

    def start(self, taskset: TaskSet, *params: Any) -> None:
        if taskset.variant == 1 and Path("flaky").exists():
            raise ConnectionResetError("reset by peer")


def test_variants_that_failed_are_run_again_and_only_they() -> None:
    taskset = TaskSet([Task(TASK, priority=Range(1, 3))], "mine")
    Path("flaky").touch()
    report = _experiment(taskset=taskset, session=Flaky).run("here")
    assert (report.status, report.failed) == ("failed", 1)
    assert results.read("here", "tasksets")["outcome"].to_pylist() == [
        "finished",
        "failed",
        "finished",
    ]
    Path("flaky").unlink()
    started: list[int] = []

    class Recorder(AbstractMonitor):
        def on_start(self, taskset: TaskSet, host: str, attempt: int) -> None:
            started.append(taskset.variant)

    report = _experiment(taskset=taskset, session=Flaky, monitors=[Recorder]).run("here")
    assert (report.status, started) == ("finished", [1])


def test_a_finished_experiment_is_not_run_again(caplog: pytest.LogCaptureFixture) -> None:
    experiment = _experiment()
    first = experiment.run()
    with caplog.at_level(logging.INFO):
        assert experiment.run() == first
    assert f"finished already, not run again (rerun=true does): {first.directory}" in caplog.text
    assert experiment.run(rerun=True) == first


def test_a_task_set_that_ends_without_a_known_number_of_variants_is_finished() -> None:
    class Squares:
        def __iter__(self) -> Any:
            return (n * n for n in range(1, 4))

    experiment = _experiment(taskset=TaskSet([Task(TASK, period=Squares())], "mine"))
    assert experiment.variant_count is None
    report = experiment.run()
    assert results.read(report.directory, "tasksets").num_rows == 3
    assert experiment.is_finished(report.directory)
    limited = _experiment(taskset=experiment.taskset, max_variants=2)
    assert limited.is_finished(report.directory)


def test_endlessly_many_variants_are_limited() -> None:
    class Endless:
        def __iter__(self) -> Any:
            number = 0
            while True:
                number += 1
                yield number

    taskset = TaskSet([Task(executiontime=1, period=Endless())], "mine")
    experiment = _experiment(taskset=taskset, max_variants=3, options={"duration_ms": 5})
    report = experiment.run()
    tasks = results.read(report.directory, "tasks")
    assert tasks["period"].to_pylist() == [1.0, 2.0, 3.0]


@pytest.mark.parametrize("make", [lambda: _experiment(), lambda: compose(["session=simso"])])
def test_its_log_is_kept_with_its_results(make: Callable[[], Experiment]) -> None:
    report = make().run()
    assert (report.directory / "experiment.log").exists()


def test_one_task_set_may_serve_several_experiments() -> None:
    taskset = TaskSet([Task(period=20, executiontime=Random(Range(1, 10)))], "shared")
    first, second = (_experiment(taskset=taskset, seed=seed) for seed in (1, 2))
    drawn = [
        results.read(experiment.run().directory, "tasks")["executiontime"].to_pylist()
        for experiment in (first, second, _experiment(taskset=taskset, seed=1))
    ]
    assert drawn[0] == drawn[2] != drawn[1]


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"seed": -1}, "seed must be ≥ 0, got -1"),
        ({"seed": 1.5}, "seed must be a whole number, got 1.5"),
        ({"max_variants": 0}, "max_variants must be ≥ 1 or null, got 0"),
        ({"port": 0}, "port must be between 1 and 65535, got 0"),
        ({"workers": 0}, "workers must be ≥ 1 or null, got 0"),
        ({"bounds": {"attempts": 0}}, "attempts must be ≥ 1, got 0"),
    ],
)
def test_python_is_held_to_the_same_bounds(changed: Any, message: str) -> None:
    with pytest.raises(ConfigurationError) as raised:
        _experiment(**changed)
    assert str(raised.value) == message


def test_the_code_of_own_classes_decides_the_fingerprint() -> None:
    Path("conf/taskset").mkdir(parents=True)
    Path("conf/taskset/own.yaml").write_text("_target_: own_code.Own\n")
    code = (
        "from taskgen_run.taskset import TaskSet\n"
        "class Own(TaskSet):\n"
        "    def __init__(self):\n"
        "        super().__init__([{'period': 10, 'executiontime': EXECUTION}])\n"
    )
    prints = set()
    for execution in ("1", "2"):
        Path("own_code.py").write_text(code.replace("EXECUTION", execution))
        script = (
            "import sys; sys.path.insert(0, '.')\n"
            "import taskgen_run\n"
            "print(taskgen_run.compose(['taskset=own'], config_dir='conf').fingerprint)\n"
        )
        done = subprocess.run(
            [sys.executable, "-B", "-c", script], capture_output=True, text=True, timeout=60
        )
        assert done.returncode == 0, done.stderr
        prints.add(done.stdout)
    assert len(prints) == 2


class Loaded(TaskSet):
    """Of a load that its tasks do not tell."""

    def __init__(self, load: object) -> None:
        super().__init__([Task(period=10, executiontime=1)], "loaded")
        self.load = load


def test_the_attributes_of_own_classes_decide_the_fingerprint() -> None:
    def name(load: object) -> str:
        return Experiment(Loaded(load), StdIOSession).name

    assert name(0.3) == name(0.3)
    assert len({name(0.3), name(1.5), name([1.5]), name({"a": 2})}) == 4
    with pytest.raises(ConfigurationError, match="a set has no lasting form"):
        name({1, 2})


def test_the_code_of_a_scheduler_decides_the_fingerprint_by_any_name(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.syspath_prepend(str(Path.cwd()))
    code = "from simso.schedulers.RM import RM\nclass by_path(RM):\n    x = 1\n"
    Path("by_path.py").write_text(code)
    first = _experiment(options={"scheduler": "by_path.by_path"}).fingerprint
    Path("by_path.py").write_text(code.replace("1", "2"))
    assert _experiment(options={"scheduler": "by_path.by_path"}).fingerprint != first


def test_every_binary_that_any_variant_names_decides_the_fingerprint() -> None:
    Path("bin").mkdir()
    for name in ("hey", "pi"):
        Path("bin", name).write_text("1")

    def experiment(names: Any) -> Experiment:
        taskset = TaskSet([Task(pkg=names, executiontime=1)], "mine")
        return _experiment(
            taskset=taskset, session=GenodeSession, options={"binaries": "bin"}, targets="127.9.0.1"
        )

    for names in (("hey", "pi"), Random(("hey", "pi"))):
        prints = [experiment(names).fingerprint]
        for name in ("hey", "pi"):
            Path("bin", name).write_text(str(Path("bin", name).read_text()) + "2")
            prints.append(experiment(names).fingerprint)
        assert len(set(prints)) == 3
    with pytest.raises(ConfigurationError, match="got 'gone'; build it "):
        _ = experiment(("hey", "gone")).fingerprint


def test_the_forms_of_yaml_work_inside_blocks() -> None:
    Path("conf/taskset").mkdir(parents=True)
    Path("conf/taskset/blocks3.yaml").write_text(
        "_target_: taskgen_run.taskset.BlockTaskSet\n"
        "_args_: [{period: 5, executiontime: 1}, {priority: {range: [1, 3]}}]\n"
    )
    assert compose(["taskset=blocks3"], config_dir="conf").variant_count == 3


class Exiting(StdIOSession):
    def start(self, taskset: TaskSet, *params: Any) -> None:
        raise SystemExit(0)


class Repeating(StdIOSession):
    def run(self, taskset: TaskSet) -> list[Job]:
        job = Job(0, 0, release_ns=0, outcome=Outcome.FINISHED)
        return [job, job]


class Wrong(StdIOSession):
    def run(self, taskset: TaskSet) -> Any:
        return [1, 2]


@pytest.mark.parametrize(
    ("session", "message"),
    [
        (Exiting, "the session must raise an error, not end the process"),
        (Repeating, "the session changed a job that had ended"),
        (Wrong, "the session failed while running: AttributeError"),
    ],
)
def test_a_session_that_breaks_its_contract_fails_its_variant(
    session: type[StdIOSession], message: str
) -> None:
    report = _experiment(session=session).run()
    assert report.status == "failed"
    (error,) = results.read(report.directory, "tasksets")["error"].to_pylist()
    assert message in str(error)


def test_a_check_that_fails_is_a_bug_of_the_session() -> None:
    class Checking(StdIOSession):
        @classmethod
        def check(cls, taskset: TaskSet, **options: Any) -> None:
            raise KeyError("x")

    with pytest.raises(BugError, match="session Checking failed in check: KeyError"):
        _experiment(session=Checking)


def test_a_signal_while_files_are_written_is_not_forgotten(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    finish = results.ResultWriter.finish

    def interrupted(writer: results.ResultWriter, status: str, error: str | None = None) -> None:
        assert status == "finished", "what is finished must stay so"
        os.kill(os.getpid(), signal.SIGINT)
        finish(writer, status, error)

    monkeypatch.setattr(results.ResultWriter, "finish", interrupted)
    with pytest.raises(Interrupted):
        _experiment().run("here")
    assert _status(Path("here"))["status"] == "finished"
