"""What SimSoSession refuses before anything runs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from omegaconf import OmegaConf
from simso_runs import tasks

from taskgen_run.config import validate_keywords
from taskgen_run.errors import ConfigurationError
from taskgen_run.sessions.simso import SimSoSession
from taskgen_run.task import Task
from taskgen_run.taskset import TaskSet

CONF = Path(__file__).parents[2] / "conf" / "session" / "simso.yaml"


def check(members: list[Task], **options: Any) -> None:
    SimSoSession.check(TaskSet(members, "checked"), **options)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"cpus": 0}, r"session\.cpus must be ≥ 1, got 0"),
        (
            {"duration_ms": "long"},
            r"session\.duration_ms must be a number of ms or auto, got 'long'",
        ),
        ({"duration_ms": 0}, r"session\.duration_ms must be > 0 ms .*, got 0"),
        ({"duration_ms": -1}, r"session\.duration_ms must be ≥ 0 ms, got -1"),
        ({"duration_ms": 1e10}, r"session\.duration_ms must be .*≤ 4503599627 ms"),
        ({"duration_ms": float("nan")}, r"session\.duration_ms must be a number of ms"),
        ({"duration_ms": 0.0000001}, r"session\.duration_ms must be a whole number of ns"),
        ({"duration_cap_ms": 0}, r"session\.duration_cap_ms must be > 0 ms"),
        ({"on_miss": "abrot"}, r"session\.on_miss: unknown value 'abrot'; did you mean 'abort'"),
        ({"etm": "acett"}, r"session\.etm: unknown value 'acett'; did you mean 'acet'"),
        ({"schedule_overhead_ms": -1}, r"session\.schedule_overhead_ms must be ≥ 0 ms, got -1"),
        ({"activate_overhead_ms": -1}, r"session\.activate_overhead_ms must be ≥ 0 ms"),
        ({"terminate_overhead_ms": -1}, r"session\.terminate_overhead_ms must be ≥ 0 ms"),
        ({"context_save_ms": -1}, r"session\.context_save_ms must be ≥ 0 ms"),
        ({"context_load_ms": -1}, r"session\.context_load_ms must be ≥ 0 ms"),
        ({"preemption_penalty_ms": -1}, r"session\.preemption_penalty_ms must be ≥ 0 ms"),
        ({"migration_penalty_ms": -1}, r"session\.migration_penalty_ms must be ≥ 0 ms"),
        ({"memory_access_ns": -1}, r"session\.memory_access_ns must be ≥ 0, got -1"),
        (
            {"caches": [3]},
            r"session\.caches\[0\] must be a mapping of size, access_ns, cpus, got 3",
        ),
        (
            {"caches": [{"siez": 3}]},
            r"session\.caches\[0\]: unknown key 'siez'; did you mean 'size'",
        ),
        ({"caches": [{"access_ns": 3}]}, r"session\.caches\[0\]\.size must be a number, got None"),
        (
            {"caches": [{"size": 3, "access_ns": -3}]},
            r"session\.caches\[0\]\.access_ns must be ≥ 0",
        ),
        (
            {"caches": [{"size": 3, "access_ns": 3, "cpus": [1]}]},
            r"session\.caches\[0\]\.cpus must be a list of processors, from 0 to 0, got \[1\]",
        ),
        (
            {
                "cpus": 2,
                "caches": [
                    {"size": 3, "access_ns": 3},
                    {"size": 9, "access_ns": 9, "cpus": [0]},
                ],
            },
            r"session\.caches\[0\] must have the same cache behind it",
        ),
        ({"scheduler": "RMM"}, r"session\.scheduler: unknown scheduler 'RMM'; did you mean 'RM'"),
        ({"scheduler": "./none.py"}, r"session\.scheduler: .*'none.py', which does not exist"),
        ({"scheduler": "FP"}, r"task 0 of .*: priority must be set for session\.scheduler=FP"),
        (
            {"scheduler": "Fixed_PEDF"},
            r"task 0 of .*: config\.cpu must be a whole number, got None",
        ),
        (
            {"scheduler": "SCHED_DEADLINE"},
            r"task 0 of .*: config\.cbs_period must be a number of ms",
        ),
        ({"etm": "acet"}, r"task 0 of .*: acet must be set for session\.etm=acet"),
        ({"etm": "cache"}, r"task 0 of .*: n_instr must be set for session\.etm=cache"),
    ],
)
def test_a_bad_option(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigurationError, match=message) as caught:
        check(tasks((1, 5)), **options)
    assert "\n" not in str(caught.value)


def test_a_simulation_needs_execution_times() -> None:
    with pytest.raises(
        ConfigurationError, match="task 1 of task set 'checked': executiontime must"
    ):
        check([*tasks((1, 5)), Task(period=3)])


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (None, "No such file"),
        ("", "it is empty"),
        ("1 0.5\nhalf\n", "line 2 is no distance and share: 'half'"),
    ],
)
def test_a_bad_stack_file(tmp_path: Path, text: str | None, message: str) -> None:
    file = tmp_path / "stack.txt"
    if text is not None:
        file.write_text(text)
    task = Task(period=5, executiontime=1, n_instr=10, mix=1, stack_file=str(file))
    with pytest.raises(ConfigurationError, match=f"stack_file must be .*{message}"):
        check([task], etm="cache")


@pytest.mark.parametrize("name", ["mix", "base_cpi"])
def test_a_cache_model_needs_memory_accesses_and_cycles(tmp_path: Path, name: str) -> None:
    task = Task(period=5, executiontime=1, n_instr=10, mix=1, stack_file=str(tmp_path))
    task[name] = 0
    with pytest.raises(ConfigurationError, match=f"{name} must be > 0"):
        check([task], etm="cache")


def test_a_later_variant_is_checked_when_it_starts() -> None:
    session = SimSoSession("127.0.0.1", 0, scheduler="PriD")
    with pytest.raises(ConfigurationError, match="executiontime must be < the period"):
        session.start(TaskSet(tasks((5, 5)), "later"))


def test_the_files_that_decide_the_results(tmp_path: Path) -> None:
    scheduler, profile = tmp_path / "Mine.py", tmp_path / "stack.txt"
    scheduler.write_text("from simso.core import Scheduler\nclass Mine(Scheduler): pass\n")
    profile.write_text("1 1\n")
    task = Task(period=5, executiontime=1, n_instr=10, mix=1, stack_file=str(profile))
    taskset = TaskSet([task, task], "filed")
    assert list(SimSoSession.files(taskset)) == []
    options: dict[str, Any] = {"scheduler": str(scheduler), "etm": "cache"}
    assert list(SimSoSession.files(taskset, **options)) == [scheduler, profile]


def test_the_yaml_holds_every_option_with_its_default() -> None:
    yaml = OmegaConf.to_container(OmegaConf.load(CONF))
    assert isinstance(yaml, dict)
    assert yaml.pop("_target_") == "taskgen_run.sessions.simso.SimSoSession"
    options = {str(name): value for name, value in yaml.items()}
    assert validate_keywords(options, SimSoSession, "session", positional=2) == options
    defaults = {**(SimSoSession.__init__.__kwdefaults__ or {}), "caches": []}
    assert options == defaults
    check(tasks((1, 5)), **options)
