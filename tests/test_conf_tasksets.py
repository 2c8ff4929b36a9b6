"""Tests of conf/taskset/*.yaml and conf/admission/*.yaml, as Hydra composes them."""

from __future__ import annotations

import math
import sys
from collections.abc import Iterator
from itertools import islice, product
from pathlib import Path
from typing import Any

import pytest
import xmltodict
import yaml
from hydra import compose, initialize_config_dir
from hydra.utils import instantiate
from omegaconf import OmegaConf

from taskgen_run.taskset import BlockTaskSet, TaskSet
from taskgen_run.values import Random, Range

CONF = Path(__file__).parents[1] / "conf"

TASKS_AND_VARIANTS = {
    "blocks": (14, 1),
    "example": (3, 1),
    "hey0": (1, 1),
    "hey1": (1, 1),
    "hey2": (1, 1),
    "hey3": (2, 1),
    "hey4": (4, 1),
    "hey5": (1, 1),
    "hey6": (1, 127),
    "hey7": (2, 127**2),
    "hey8": (10, 1),
    "hey9": (10, 1),
    "variants": (2, 72),
}


@pytest.fixture(params=["mapping", "object"], ids=["plain", "DictConfig"])
def as_object(request: pytest.FixtureRequest) -> bool:
    """Whether Hydra instantiates a DictConfig or the plain mapping it stands for."""
    return bool(request.param == "object")


def load(name: str, seed: int = 0, *, as_object: bool = False, directory: Path = CONF) -> TaskSet:
    with initialize_config_dir(str(directory), version_base="1.3"):
        config = compose(f"taskset/{name}").taskset
    node = config if as_object else OmegaConf.to_container(config, resolve=True)
    if "_target_" in config:
        taskset = instantiate(node, _convert_="all")
        taskset.name = name
    else:
        plain: Any = OmegaConf.to_container(config, resolve=True)
        taskset = TaskSet.from_config(plain, name)
    assert isinstance(taskset, TaskSet)
    taskset.seed = seed
    return taskset


def leaves(value: Any) -> Iterator[Any]:
    yield value
    if isinstance(value, dict):
        for item in value.values():
            yield from leaves(item)
    elif isinstance(value, list | tuple):
        for item in value:
            yield from leaves(item)


def test_every_task_set_is_tested() -> None:
    assert {path.stem for path in (CONF / "taskset").iterdir()} == set(TASKS_AND_VARIANTS)


@pytest.mark.parametrize("name", TASKS_AND_VARIANTS)
def test_task_set(name: str, as_object: bool) -> None:
    taskset = load(name, as_object=as_object)
    assert (len(taskset), taskset.variant_count()) == TASKS_AND_VARIANTS[name]
    taskset.check()
    known = {dict, list, tuple, str, int, float, Range, Random}
    assert {type(leaf) for task in taskset for leaf in leaves(dict(task))} <= known
    for variant in islice(taskset.variants(), 200):
        variant.check()
        assert variant.ids() == list(range(len(taskset)))
        variant.to_xml()


@pytest.mark.parametrize("name", TASKS_AND_VARIANTS)
def test_task_set_is_quick_to_simulate(name: str) -> None:
    for variant in islice(load(name).variants(), 200):
        periods = [task["period"] for task in variant if task.get("period")]
        assert all(isinstance(task["executiontime"], int) for task in variant)
        assert sum(t["executiontime"] / t["period"] for t in variant if t.get("period")) <= 1
        assert math.lcm(*periods) <= 420


@pytest.mark.parametrize("path", sorted(CONF.glob("taskset/*")) + sorted(CONF.glob("admission/*")))
def test_first_line_is_the_description_that_help_shows(path: Path) -> None:
    first, *_ = path.read_text().splitlines()
    assert first.startswith("# ")
    assert first.endswith(".")
    assert len(first) - 2 <= 70


def test_hey1_and_hey2_are_hey0() -> None:
    (task,) = load("hey0")
    assert list(load("hey1")) == list(load("hey2")) == [task]
    assert isinstance(load("hey2"), BlockTaskSet)
    assert task["priority"] == 10


def test_hey3_has_periods_0_and_5() -> None:
    assert [task["period"] for task in load("hey3")] == [0, 5]


def test_hey6_has_every_priority() -> None:
    assert [v[0]["priority"] for v in load("hey6").variants()] == list(range(1, 128))


def test_hey7_has_every_pair_of_priorities() -> None:
    variants = list(load("hey7").variants())
    pairs = [(v[0]["priority"], v[1]["priority"]) for v in variants]
    assert pairs == list(product(range(1, 128), repeat=2))
    assert {task["period"] for v in variants for task in v} == {5, 6, 7, 8, 9, 10}


def test_hey8_is_static() -> None:
    taskset = load("hey8")
    assert len({task["pkg"] for task in taskset}) == 7
    assert next(taskset.variants())[9] == taskset[9]


# Each is first + ⌊choices × the first 8 bytes of sha256("seed/variant/task/attribute") ∕ 2⁶⁴⌋.
# For hey5: sha256("0/0/0/priority") = 5e1049d9c60e67fa…, and 1 + ⌊127 × 0.36743⌋ = 47.
@pytest.mark.parametrize(
    ("seed", "name", "attribute", "expected"),
    [
        (0, "hey5", "priority", [[47]]),
        (7, "hey5", "priority", [[41]]),
        (0, "hey7", "period", [[8, 5], [9, 10], [6, 10]]),
        (7, "hey7", "period", [[9, 9], [7, 10], [9, 9]]),
        (0, "hey9", "priority", [[47, 43, 93, 93, 85, 81, 43, 41, 70, 66]]),
        (7, "hey9", "priority", [[41, 122, 104, 79, 8, 118, 108, 121, 44, 19]]),
    ],
)
def test_random_values(
    seed: int, name: str, attribute: str, expected: list[list[int]], as_object: bool
) -> None:
    variants = islice(load(name, seed, as_object=as_object).variants(), 3)
    assert [[task[attribute] for task in variant] for variant in variants] == expected


def test_example_is_the_textbook_s() -> None:
    pairs = [(task["executiontime"], task["period"]) for task in load("example")]
    assert pairs == [(3, 7), (3, 12), (5, 20)]


def test_variants_shows_every_form() -> None:
    first, second = next(load("variants").variants())
    assert first["period"] == 10
    assert second["config"].keys() == {"arg1", "rounds", "start", "names"}
    assert second["config"]["names"] == ["first", "second"]
    types = {type(leaf) for task in load("variants") for leaf in leaves(dict(task))}
    assert {tuple, Range, Random, list} <= types


def test_a_class_of_a_user_s_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "my_tasksets.py").write_text(
        "from taskgen_run.blocks import hey, period\n"
        "from taskgen_run.taskset import BlockTaskSet\n"
        "class MyTaskSet(BlockTaskSet):\n"
        "    def __init__(self, size):\n"
        "        super().__init__(hey.HelloWorld, [period.Value(n + 1) for n in range(size)])\n"
    )
    (tmp_path / "taskset").mkdir()
    (tmp_path / "taskset" / "mine.yaml").write_text("_target_: my_tasksets.MyTaskSet\nsize: 10\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    taskset = load("mine", directory=tmp_path)
    sys.modules.pop("my_tasksets")
    taskset.check()
    assert [task["period"] for task in taskset] == list(range(1, 11))


def admission(name: str) -> Any:
    return yaml.safe_load((CONF / "admission" / f"{name}.yaml").read_text())


def test_admission_goals_are_those_of_the_protocol() -> None:
    assert {path.stem for path in (CONF / "admission").iterdir()} == {
        "none",
        "fairness",
        "utilization",
    }
    assert admission("none") == {}
    example = """<optimize>
      <goal><fairness><apply>1</apply></fairness><utilization><apply>0</apply></utilization></goal>
      <query_interval>1000</query_interval>
    </optimize>"""
    written = xmltodict.unparse({"optimize": admission("fairness")}, full_document=False)
    assert xmltodict.parse(written) == xmltodict.parse(example)
    assert admission("utilization") == {
        "goal": {"fairness": {"apply": 0}, "utilization": {"apply": 1}},
        "query_interval": 1000,
    }
