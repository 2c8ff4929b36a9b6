"""Tests of taskgen_run.taskset."""

from __future__ import annotations

import itertools
import tracemalloc
from collections.abc import Iterator
from decimal import Decimal
from typing import Any

import pytest
import xmltodict
from hypothesis import given
from hypothesis import strategies as st

from taskgen_run.errors import ConfigurationError
from taskgen_run.task import Attribute, Kind, Task
from taskgen_run.taskset import BlockTaskSet, TaskSet
from taskgen_run.values import Random, Range


class Numbers:
    """A re-iterable of a user's own without a length; endless without a `stop`."""

    def __init__(self, stop: int | None = None) -> None:
        self.stop = stop

    def __iter__(self) -> Iterator[int]:
        return iter(range(self.stop)) if self.stop is not None else itertools.count()


def attributes(taskset: TaskSet) -> list[dict[str, Any]]:
    return [dict(task) for task in taskset]


def message(taskset: TaskSet) -> str:
    with pytest.raises(ConfigurationError) as caught:
        taskset.check()
    return str(caught.value)


def test_is_an_iterable_of_tasks() -> None:
    taskset = TaskSet((Task(period=n) for n in (1, 2)), "mine")
    taskset.append(Task(period=3))
    assert [task["period"] for task in taskset] == [1, 2, 3]
    assert len(taskset) == 3
    assert taskset[2] == Task(period=3)
    assert taskset.name == "mine"
    assert (taskset.seed, taskset.variant, taskset.horizon_ns) == (0, 0, None)
    assert repr(TaskSet([Task(a=1)], "x")) == "<TaskSet 'x': [{'a': 1}]>"


def test_one_variant_without_several_values() -> None:
    taskset = TaskSet([Task(period=5, config={"list": [1, 2]})], "x")
    taskset.seed = 3
    (variant,) = taskset.variants()
    assert attributes(variant) == [{"period": 5, "config": {"list": [1, 2]}}]
    assert (variant.name, variant.seed, variant.variant) == ("x", 3, 0)
    assert taskset.variant_count() == 1


axes = st.lists(st.lists(st.integers(0, 9), min_size=1, max_size=3), min_size=1, max_size=4)


@given(axes, st.data())
def test_variants_are_a_product_whose_last_attribute_moves_fastest(
    values: list[list[int]], data: st.DataObject
) -> None:
    split = data.draw(st.integers(0, len(values)))
    names = [f"a{n}" for n in range(len(values))]
    pairs = list(zip(names, values, strict=True))
    taskset = TaskSet([Task(dict(pairs[:split])), Task(dict(pairs[split:]))])
    product = list(itertools.product(*values))

    variants = list(taskset.variants())
    assert [tuple({**v[0], **v[1]}[name] for name in names) for v in variants] == product
    assert [v.variant for v in variants] == list(range(len(product)))
    assert taskset.variant_count() == len(product)

    start = data.draw(st.integers(0, len(product) + 1))
    rest = list(taskset.variants(start))
    assert [attributes(v) for v in rest] == [attributes(v) for v in variants[start:]]
    assert [v.variant for v in rest] == list(range(start, len(product)))


@given(st.lists(st.integers(1, 3), min_size=1, max_size=3), st.integers(0, 30))
def test_iterables_without_a_length_give_the_same_product(sizes: list[int], start: int) -> None:
    known = TaskSet([Task({f"a{n}": range(size) for n, size in enumerate(sizes)})])
    unknown = TaskSet([Task({f"a{n}": Numbers(size) for n, size in enumerate(sizes)})])
    assert unknown.variant_count() is None
    assert [(v.variant, attributes(v)) for v in unknown.variants(start)] == [
        (v.variant, attributes(v)) for v in known.variants(start)
    ]


def test_values_at_any_depth_of_config() -> None:
    config = {"a": [{"b": (1, 2)}, "x"], "c": Range(8, 9)}
    variants = list(TaskSet([Task(config=config)]).variants())
    assert [v[0]["config"] for v in variants] == [
        {"a": [{"b": b}, "x"], "c": c} for b in (1, 2) for c in (8, 9)
    ]
    assert config["a"] == [{"b": (1, 2)}, "x"]


def test_whole_configs_take_turns() -> None:
    taskset = TaskSet([Task(config=({"arg1": 1}, {"arg1": 2}))])
    taskset.check()
    assert [v[0]["config"]["arg1"] for v in taskset.variants()] == [1, 2]


def test_variants_share_no_tasks() -> None:
    taskset = TaskSet([Task(period=[1, 2], pkg="hey")])
    first, second = taskset.variants()
    first[0]["pkg"] = "pi"
    first.append(Task())
    assert second[0]["pkg"] == taskset[0]["pkg"] == "hey"
    assert len(second) == len(taskset) == 1
    assert next(taskset.variants())[0]["pkg"] == "hey"


def test_random_values_depend_on_seed_variant_task_and_attribute_only() -> None:
    random = Random(Range(1, 10**6))
    tasks = [Task(period=[1, 2], priority=random, config={"a": random}), Task(priority=random)]

    def drawn(seed: int, start: int = 0) -> list[int]:
        taskset = TaskSet(tasks)
        taskset.seed = seed
        return [
            number
            for v in taskset.variants(start)
            for number in (v[0]["priority"], v[0]["config"]["a"], v[1]["priority"])
        ]

    assert drawn(0) == drawn(0)
    assert drawn(0, start=1) == drawn(0)[3:]
    assert len({*drawn(0), *drawn(1)}) == 12
    # sha256("0/1/0/config.a") begins with fda570a39d59801a: 0.9908056… of 2**64.
    assert drawn(0)[4] == 990806


def test_a_billion_variants_start_at_once_in_constant_memory() -> None:
    taskset = TaskSet(
        [Task(period=Range(1, 1000), offset=Range(1, 1000), config={"a": Range(1, 1000)})]
    )
    assert taskset.variant_count() == 10**9
    tracemalloc.start()
    try:
        taskset.check()
        for variant in itertools.islice(taskset.variants(), 1000):
            variant.check()
        (last,) = taskset.variants(10**9 - 1)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert attributes(last) == [{"period": 1000, "offset": 1000, "config": {"a": 1000}}]
    assert last.variant == 10**9 - 1
    assert peak < 200_000


def test_more_variants_than_a_machine_word_counts() -> None:
    taskset = TaskSet([Task(period=Range(1, 10**9)) for _ in range(3)])
    assert taskset.variant_count() == 10**27
    assert next(taskset.variants(10**27 - 1))[2]["period"] == 10**9


def test_an_endless_iterable_has_endlessly_many_variants() -> None:
    taskset = TaskSet([Task(priority=[1, 2], period=Numbers())])
    taskset.check()
    assert taskset.variant_count() is None
    periods = [v[0]["period"] for v in itertools.islice(taskset.variants(5), 3)]
    assert periods == [5, 6, 7]


@pytest.mark.parametrize(
    ("task", "problem"),
    [
        (Task(period=-5), "period must be ≥ 0 ms, got -5"),
        (Task(preiod=5), "unknown attribute 'preiod'; did you mean 'period'?"),
        (Task(period={1, 2}), "period must have an order, got a set; use a list"),
        (Task(config={"a": {"b": {1}}}), "config.a.b must have an order, got a set; use a list"),
        (Task(period=[]), "period must have at least one value, got []"),
        (Task(config={"a": ()}), "config.a must have at least one value, got ()"),
        (
            Task(config={"a": ({"b": (1, 2)}, 3)}),
            "config.a must not have multi-valued or random values inside its values, "
            "got {'b': (1, 2)}",
        ),
        (
            Task(config={"a": Random([Range(1, 2)])}),
            "config.a must not have multi-valued or random values inside its values, "
            "got Range(1, 2, 1)",
        ),
        (Task(id=0), "id must be unique in the task set, got 0 like task 0"),
    ],
)
def test_check_names_task_attribute_constraint_and_value(task: Task, problem: str) -> None:
    assert message(TaskSet([Task(), task], "x")) == f"task 1 of task set 'x': {problem}"


def test_check_refuses_one_shot_iterators() -> None:
    problem = message(TaskSet([Task(period=(n for n in (1, 2)))], "x"))
    assert problem.startswith("task 0 of task set 'x': period must be iterable more than once, got")
    assert problem.endswith("use a list, a range or a class with __iter__")
    assert "config.a must be iterable more than once" in message(
        TaskSet([Task(config={"a": map(int, "12")})], "x")
    )


def test_check_of_an_empty_task_set() -> None:
    assert message(TaskSet([], "x")) == "task set 'x': must have at least one task"


def test_check_knows_what_a_session_declares() -> None:
    taskset = TaskSet([Task(abort=5)], "x")
    taskset.check({"abort": Attribute(Kind.INTEGER, 0, 5)})
    with pytest.raises(ConfigurationError, match="abort must be ≤ 4, got 5"):
        taskset.check({"abort": Attribute(Kind.INTEGER, 0, 4)})
    assert "unknown attribute 'abort'" in message(taskset)


def test_ids() -> None:
    taskset = TaskSet([Task(), Task(id=7), Task()], "x")
    taskset.check()
    assert taskset.ids() == [0, 7, 2]
    several = TaskSet([Task(id=[1, 2]), Task(id=2)], "x")
    several.check()
    first, second = several.variants()
    first.check()
    assert message(second) == (
        "task 1 of task set 'x': id must be unique in the task set, got 2 like task 0"
    )


@pytest.mark.parametrize(
    ("config", "problem"),
    [
        ({}, "task set 'x': tasks must be a list with at least one task, got None"),
        ({"tasks": []}, "task set 'x': tasks must be a list with at least one task, got []"),
        ({"tasks": {"a": 1}}, "task set 'x': tasks must be a list with at least one task, got"),
        ({"task": []}, "task set 'x': unknown key 'task'; did you mean 'tasks'?"),
        ({"tasks": [5]}, "task 0 of task set 'x' must be a mapping of attributes, got 5"),
        (
            {"tasks": [{}, {"period": {"rnage": [1, 2]}}]},
            "task 1 of task set 'x': period: unknown form of value 'rnage'; did you mean 'range'?",
        ),
    ],
)
def test_from_config_errors(config: dict[str, Any], problem: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        TaskSet.from_config(config, "x")
    assert str(caught.value).startswith(problem)


def test_from_config() -> None:
    taskset = TaskSet.from_config(
        {
            "tasks": [
                {"period": [5, 10], "config": {"list": [1, 2], "arg1": {"values": [3, 4]}}},
                {"priority": {"range": [1, 3]}},
            ]
        },
        "x",
    )
    assert taskset.name == "x"
    assert attributes(taskset) == [
        {"period": (5, 10), "config": {"list": [1, 2], "arg1": (3, 4)}},
        {"priority": Range(1, 3)},
    ]
    assert taskset.variant_count() == 12


def test_xml_is_that_of_the_protocol() -> None:
    taskset = TaskSet(
        [
            Task(
                id=0,
                executiontime=3,
                criticaltime=0,
                priority=10,
                deadline=0,
                period=0,
                offset=0,
                numberofjobs=1,
                quota="1M",
                caps=235,
                cores=2,
                coreoffset=1,
                pkg="hey",
                config={"arg1": 13},
            ),
            Task(period=5.0, pkg="pi"),
        ]
    )
    example = """<taskset>
      <periodictask>
        <id>0</id><executiontime>3</executiontime><criticaltime>0</criticaltime>
        <priority>10</priority><deadline>0</deadline><period>0</period><offset>0</offset>
        <numberofjobs>1</numberofjobs><quota>1M</quota><caps>235</caps>
        <cores>2</cores><coreoffset>1</coreoffset>
        <pkg>hey</pkg><config><arg1>13</arg1></config>
      </periodictask>
      <periodictask>
        <id>1</id><deadline>5</deadline><numberofjobs>0</numberofjobs>
        <period>5</period><pkg>pi</pkg>
      </periodictask>
    </taskset>"""
    xml = taskset.to_xml()
    assert xml.startswith("<taskset><periodictask><id>0</id>")
    assert xmltodict.parse(xml) == xmltodict.parse(example)
    assert xmltodict.parse(taskset.to_xml(pretty=True)) == xmltodict.parse(example)


@pytest.mark.parametrize("period", [5, 5.0, Decimal("5.0"), Decimal(5)])
def test_xml_has_whole_numbers_where_they_are(period: object) -> None:
    assert "<period>5</period>" in TaskSet([Task(period=period)]).to_xml()


def test_xml_of_config_follows_xmltodict_in_ascii() -> None:
    config = {"@v": 1, "a": ["x", {"@b": 2, "#text": "é€"}], "t": True, "n": None}
    xml = TaskSet([Task(config=config)]).to_xml()
    assert xml.isascii()
    assert '<config v="1"><a>x</a><a b="2">&#233;&#8364;</a><t>true</t><n></n></config>' in xml


@pytest.mark.parametrize(
    ("config", "problem"),
    [
        ({"a b": 1}, "config.a b must be an XML name of ASCII letters and digits, got 'a b'"),
        ({"a": {"1": 1}}, "config.a.1 must be an XML name"),
        ({1: 1}, "config.1 must be an XML name"),
        ({"": 1}, "config. must be an XML name"),
        ({"é": 1}, "config.é must be an XML name"),
        ({"a>": 1}, "config.a> must be an XML name"),
        ({"a": [{"#cdata": 1}]}, "config.a[0].#cdata must be an XML name"),
        ({"@a": [1]}, "config.@a must be a single value, got [1]"),
        ({"#text": {}}, "config.#text must be a single value, got {}"),
        ({"a": [[1]]}, "config.a[0] must not be a list inside a list, got [1]"),
        ({"a": "x\0"}, "config.a must be text without control characters, got 'x\\x00'"),
        ({"a": ["\ud800"]}, "config.a[0] must be text without control characters"),
        ({"a": object}, "config.a must be text, a number, a list or a mapping, got <class"),
        ({"a": (1, 2)}, "config.a must be text, a number, a list or a mapping, got (1, 2)"),
    ],
)
def test_xml_of_what_cannot_be_xml(config: Any, problem: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        TaskSet([Task(), Task(config=config)], "x").to_xml()
    assert str(caught.value).startswith(f"task 1 of task set 'x': {problem}")


def test_block_task_set_is_a_product_of_blocks() -> None:
    def block() -> dict[str, Any]:
        return {"period": 5}

    taskset = BlockTaskSet(
        {"pkg": "hey"}, [{"period": 0}, block], [{"priority": 1}, {"priority": 2}], name="x"
    )
    assert taskset.name == "x"
    assert attributes(taskset) == [
        {"pkg": "hey", "period": period, "priority": priority}
        for period in (0, 5)
        for priority in (1, 2)
    ]


def test_block_task_set_without_alternatives_has_no_tasks() -> None:
    assert message(BlockTaskSet({"pkg": "hey"}, [], name="x")) == (
        "task set 'x': must have at least one task"
    )
