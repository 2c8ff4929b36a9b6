"""Tests of taskgen_run.blocks."""

from __future__ import annotations

import pkgutil
from types import ModuleType
from typing import Any

import pytest

from taskgen_run import blocks
from taskgen_run.blocks import (
    binaries,
    caps,
    cond_42,
    cond_mod,
    criticaltime,
    deadline,
    hey,
    idle,
    linpack,
    namaste,
    numberofjobs,
    offset,
    period,
    pi,
    priority,
    quota,
    tumatmul,
)
from taskgen_run.errors import ConfigurationError
from taskgen_run.task import Task
from taskgen_run.taskset import BlockTaskSet, TaskSet
from taskgen_run.values import Random, Range

ATTRIBUTES = [caps, criticaltime, deadline, numberofjobs, offset, period, priority]
WORKLOADS = [cond_42, cond_mod, linpack, pi, tumatmul]


def name_of(module: ModuleType) -> str:
    return module.__name__.rpartition(".")[2]


def chosen_from(value: Any) -> list[Any]:
    assert isinstance(value, Random)
    return list(value.choices)


def test_exported_names() -> None:
    assert blocks.__all__ == [
        "binaries",
        "caps",
        "cond_42",
        "cond_mod",
        "criticaltime",
        "deadline",
        "hey",
        "idle",
        "linpack",
        "namaste",
        "numberofjobs",
        "offset",
        "period",
        "pi",
        "priority",
        "quota",
        "tumatmul",
    ]
    modules = {module.name for module in pkgutil.iter_modules(blocks.__path__)}
    assert modules - set(blocks.__all__) == {"_families"}
    assert all(isinstance(getattr(blocks, name), ModuleType) for name in blocks.__all__)


@pytest.mark.parametrize("module", ATTRIBUTES, ids=name_of)
def test_blocks_of_an_attribute(module: Any) -> None:
    attribute = name_of(module)
    assert module.Value(5) == {attribute: 5}
    assert module.Variants(1, 5, 2) == {attribute: Range(1, 5, 2)}
    assert module.Variants(1, 5) == {attribute: Range(1, 5)}
    assert chosen_from(module.Random(1, 5, 2)[attribute]) == [1, 3, 5]
    assert chosen_from(module.Random(first=1, last=3)[attribute]) == [1, 2, 3]
    with pytest.raises(ConfigurationError, match="has no numbers"):
        module.Variants(5, 1)


@pytest.mark.parametrize("module", [*ATTRIBUTES, *WORKLOADS, quota], ids=name_of)
def test_functions_are_documented(module: Any) -> None:
    assert all(f.__doc__ for f in (module.Value, module.Variants, module.Random))
    assert name_of(module) in module.__doc__


def test_documentation_tells_the_unit() -> None:
    assert period.Value.__doc__ == "The period: ms, 0 for one single job."


def test_priorities() -> None:
    assert priority.High == {"priority": 0}
    assert priority.Medium == {"priority": 64}
    assert priority.Low == {"priority": 127}
    assert priority.EDF == {"priority": 128}
    thirds = [priority.HighRandom, priority.MediumRandom, priority.LowRandom]
    assert [n for third in thirds for n in chosen_from(third["priority"])] == list(range(128))


def test_quotas() -> None:
    assert quota.Value("1M") == {"quota": "1M"}
    assert quota.Variants("64K", 131072, "32K") == {"quota": Range(65536, 131072, 32768)}
    assert chosen_from(quota.Random(1, 3, 1)["quota"]) == [1, 2, 3]
    with pytest.raises(ConfigurationError, match=r"a bound must be bytes .* got '1X'"):
        quota.Variants("1X", "2M", "1M")


@pytest.mark.parametrize("module", WORKLOADS, ids=name_of)
def test_blocks_of_a_workload_with_an_argument(module: Any) -> None:
    workload = name_of(module)
    value, variants, random = module.Value(7), module.Variants(10**9), module.Random(2, 4)
    assert value["config"] == {"arg1": 7}
    assert variants["config"] == {"arg1": Range(1, 10**9)}
    assert chosen_from(random["config"]["arg1"]) == [2, 3, 4]
    for block in (value, variants, random):
        assert block["pkg"] == workload
        assert isinstance(block["executiontime"], int)
        assert block["executiontime"] >= 1
    TaskSet([Task(value), Task(variants, executiontime=1), Task(random)]).check()


@pytest.mark.parametrize("argument", [-1, 1.5, True, "5", None])
@pytest.mark.parametrize("module", WORKLOADS, ids=name_of)
def test_an_argument_is_a_whole_number(module: Any, argument: Any) -> None:
    for call in (module.Value, module.Variants, lambda n: module.Random(1, n)):
        with pytest.raises(ConfigurationError, match="must be a whole number ≥ 0, got"):
            call(argument)


def test_execution_time_is_that_of_the_largest_argument() -> None:
    assert pi.Value(1)["executiontime"] == 1
    assert pi.Value(100_001)["executiontime"] == 2
    assert pi.Variants(300_000)["executiontime"] == pi.Value(300_000)["executiontime"] == 3
    assert tumatmul.Random(1, 500_000)["executiontime"] == 10
    assert linpack.Value(100)["executiontime"] == 2  # ⅔·10⁶ + 2·10⁴ operations
    assert linpack.Value(200)["executiontime"] == 11


def test_execution_time_of_jobs_that_are_short_or_long() -> None:
    assert cond_42.Value(42)["executiontime"] == cond_mod.Value(4)["executiontime"] == 1
    long = [cond_42.Value(41), cond_42.Variants(42), cond_mod.Value(5), cond_mod.Random(2, 4)]
    assert {block["executiontime"] for block in long} == {100}


def test_idle_never_ends_by_itself() -> None:
    assert "executiontime" not in idle.Endless
    assert idle.Value(20)["criticaltime"] == idle.Value(20)["executiontime"] == 20
    assert idle.Endless["criticaltime"] == 0


def test_greetings() -> None:
    assert hey.HelloWorld["pkg"] == "hey"
    assert namaste.HelloWorld == {**hey.HelloWorld, "pkg": "namaste"}


def test_binaries_name_every_workload_once() -> None:
    names = [block["pkg"] for block in binaries.All]
    assert names == ["hey", "namaste", "pi", "tumatmul", "linpack", "cond_42", "cond_mod", "idle"]
    assert [block["pkg"] for block in binaries.Ending] == names[:-1]
    BlockTaskSet(binaries.All, [period.Value(0), period.Value(5)]).check()


def test_random_blocks_are_drawn_from_the_seed_per_variant() -> None:
    taskset = TaskSet([Task(hey.HelloWorld, priority.Random(1, 127), period.Variants(1, 50))])
    first, again = ([v[0]["priority"] for v in taskset.variants()] for _ in range(2))
    taskset.seed = 1
    other = [v[0]["priority"] for v in taskset.variants()]
    assert first == again != other
    assert len(set(first)) > 10
