"""What network sessions refuse before anything is sent."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from genode_targets import binaries, single

from taskgen_run.errors import ConfigurationError
from taskgen_run.experiment import Experiment
from taskgen_run.sessions.genode import GenodeSession
from taskgen_run.task import Task
from taskgen_run.taskset import TaskSet


def _refused(taskset: TaskSet, directory: Path, **options: Any) -> str:
    options.setdefault("binaries", binaries(directory / "bin"))
    with pytest.raises(ConfigurationError) as caught:
        GenodeSession.check(taskset, **options)
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize(
    "name", ["connect_timeout", "reply_timeout", "event_timeout", "upload_timeout"]
)
@pytest.mark.parametrize("value", [0, -1, float("inf"), float("nan")])
def test_time_outs(name: str, value: float, tmp_path: Path) -> None:
    message = _refused(single(), tmp_path, **{name: value})
    assert message == f"session.{name} must be > 0 s, got {value}"


def test_clear_timeout(tmp_path: Path) -> None:
    message = _refused(single(), tmp_path, clear_timeout=-1)
    assert message == "session.clear_timeout must be ≥ 0 s, got -1"
    GenodeSession.check(single(), binaries=str(tmp_path / "bin"), clear_timeout=0)


@pytest.mark.parametrize("value", [0, -5, float("inf")])
def test_duration(value: float, tmp_path: Path) -> None:
    message = _refused(single(), tmp_path, duration_ms=value)
    assert message == f"session.duration_ms must be > 0 ms, or null for none, got {value}"


@pytest.mark.parametrize("name", ["executiontime", "criticaltime", "deadline", "period", "offset"])
def test_times_are_whole_ms(name: str, tmp_path: Path) -> None:
    message = _refused(single(**{name: 2.5}), tmp_path)
    assert message == (
        f"task 0 of task set 'mine': {name} must be whole ms on a real target, got 2.5; round it, "
        "or simulate"
    )
    GenodeSession.check(single(**{name: 2.0}), binaries=str(tmp_path / "bin"))


def test_a_task_needs_a_binary(tmp_path: Path) -> None:
    message = _refused(TaskSet([Task(executiontime=1)], "mine"), tmp_path)
    assert message == (
        "task 0 of task set 'mine': pkg must be set to say which binary it runs; add `pkg:` to the "
        "task"
    )


def test_a_binary_that_is_missing(tmp_path: Path) -> None:
    message = _refused(single(pkg="hi"), tmp_path)
    assert message == (
        f"task 0 of task set 'mine': pkg must name a file in '{tmp_path}/bin', got 'hi'; build it "
        "(`make -C workloads` builds ours), or name its directory in session.binaries"
    )
    assert "in no directory, got" in _refused(single(), tmp_path, binaries=[])
    assert "'a' or 'b'" in _refused(single(), tmp_path, binaries=["a", "b"])


def test_a_directory_is_no_binary(tmp_path: Path) -> None:
    (tmp_path / "bin" / "folder").mkdir(parents=True)
    assert "must name a file" in _refused(single(pkg="folder"), tmp_path)


@pytest.mark.parametrize("name", ["", ".", "..", "../hey", "/bin/ls", "a" * 16, "é", "a\0b", 7])
def test_names_of_binaries(name: object, tmp_path: Path) -> None:
    message = _refused(single(pkg=name), tmp_path)
    assert "pkg must be a file name of at most 15 ASCII characters, got" in message


def test_a_link_out_of_the_directory(tmp_path: Path) -> None:
    directory = Path(binaries(tmp_path / "bin"))
    (tmp_path / "secret").write_bytes(b"")
    (directory / "outside").symlink_to(tmp_path / "secret")
    (directory / "inside").symlink_to(directory / "hey")
    message = _refused(single(pkg="outside"), tmp_path)
    assert f"must lie in '{directory}', and 'outside' leads to '{tmp_path}/secret'" in message
    GenodeSession.check(single(pkg="inside"), binaries=str(directory))


def test_a_config_that_xml_cannot_express(tmp_path: Path) -> None:
    message = _refused(single(config={"a b": 1}), tmp_path)
    assert "config.a b must be an XML name" in message


def test_an_experiment_is_checked_before_it_runs(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="pkg must name a file in"):
        Experiment(single(), GenodeSession, options={"binaries": str(tmp_path)})
    directory = binaries(tmp_path / "bin")
    experiments = [Experiment(single(), GenodeSession, options={"binaries": directory})]
    (Path(directory) / "hey").write_bytes(b"another executable")
    experiments += [Experiment(single(), GenodeSession, options={"binaries": directory})]
    # Cached, so that only now both are asked: the second has the same content as the first.
    assert experiments[0].fingerprint == experiments[1].fingerprint
    (Path(directory) / "hey").write_bytes(b"yet another executable")
    third = Experiment(single(), GenodeSession, options={"binaries": directory})
    assert third.fingerprint != experiments[0].fingerprint
