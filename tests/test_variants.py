from __future__ import annotations

import itertools
import pickle
import re
from collections.abc import Iterator, Mapping
from typing import Any

import pytest

from taskgen_run.errors import BugError, ConfigurationError
from taskgen_run.task import Attribute, Kind, Task
from taskgen_run.taskset import TaskSet
from taskgen_run.values import Random, Range
from taskgen_run.variants import Stream, TaskSets, Variants, VariantStream, columnar


def moving() -> TaskSet:
    """Every way to move: values, ranges, random values, and inside `config`."""
    taskset = TaskSet(
        [
            Task(period=(5, 10.5), executiontime=Range(0.1, 0.5, 0.1), priority=3),
            Task(period=Random(Range(5, 50)), executiontime=1, deadline=Random((4, 2.5))),
            Task(period=20, config={"arg1": Range(1, 3), "list": [1, 2], "x": Random(Range(0, 9))}),
        ],
        "moving",
    )
    taskset.seed = 7
    return taskset


def state(taskset: TaskSet) -> tuple[Any, ...]:
    return (taskset.name, taskset.seed, taskset.variant, taskset.horizon_ns, list(taskset))


def test_variants_by_columns_are_those_that_are_made_one_by_one() -> None:
    taskset = moving()
    one_by_one = list(taskset.variants())
    assert len(one_by_one) == 2 * 5 * 3
    by_columns = VariantStream(taskset, iter(range(100))).take(100)
    assert isinstance(by_columns, Variants)
    assert [state(variant) for variant in by_columns] == [state(v) for v in one_by_one]
    chosen = Variants(taskset, [29, 3, 4])
    assert [state(variant) for variant in chosen] == [state(one_by_one[n]) for n in (29, 3, 4)]
    types = [type(value) for task in chosen[0] for value in task.values()]
    assert types == [type(value) for task in one_by_one[29] for value in task.values()]


def test_columns_are_what_the_task_sets_have() -> None:
    taskset = moving()
    by_columns, made = Variants(taskset, range(30)), TaskSets(list(taskset.variants()))
    for name in ("period", "executiontime", "deadline", "config", "priority", "quota"):
        assert by_columns.attribute(name) == made.attribute(name), name
    assert by_columns.ids() == made.ids() == [0, 1, 2] * 30
    assert list(by_columns.numbers) == made.numbers
    assert by_columns.sizes == made.sizes == [3] * 30


def test_horizons_are_the_same_by_column_and_on_the_task_sets() -> None:
    for tasksets in (Variants(moving(), range(4)), columnar(list(moving().variants())[:4])):
        tasksets[1].horizon_ns = 5
        assert tasksets.horizons_ns == [None, 5, None, None]
        tasksets.horizons_ns = [1, 2, 3, 4]
        assert [tasksets[n].horizon_ns for n in range(4)] == [1, 2, 3, 4]
        assert tasksets[1:3].horizons_ns == [2, 3]
        assert [t.variant for t in tasksets.only([3, 0])] == [3, 0]


def test_verdicts_are_the_same_by_column_and_on_the_task_sets() -> None:
    for tasksets in (Variants(moving(), range(3)), columnar(list(moving().variants())[:3])):
        tasksets[1].verdicts = {"rm": True}
        assert tasksets.verdicts == [{}, {"rm": True}, {}]
        there = pickle.loads(pickle.dumps(tasksets))
        assert there.verdicts == tasksets[:].verdicts == tasksets.verdicts
        assert there[1].verdicts == {"rm": True}
        tasksets.verdicts = [{"rm": False}, {"rm": None}, {}]
        assert [tasksets[n].verdicts for n in range(3)] == tasksets.verdicts
        assert tasksets[1:].verdicts == [{"rm": None}, {}]


def test_variants_travel_with_their_horizons() -> None:
    variants = Variants(moving(), range(4))
    variants[2].horizon_ns = 9
    there = pickle.loads(pickle.dumps(variants))
    assert [state(variant) for variant in there] == [state(variant) for variant in variants]
    assert there.horizons_ns == [None, None, 9, None]


class Own(TaskSet):
    """A task set of a user's own, which knows more."""

    def __init__(self, more: int) -> None:
        super().__init__([Task(period=more)], "own")
        self.more = more


def test_task_sets_travel_as_they_are() -> None:
    made = list(moving().variants())[:4]
    made[2].horizon_ns = 9
    there = pickle.loads(pickle.dumps(TaskSets(made)))
    assert [state(taskset) for taskset in there] == [state(taskset) for taskset in made]
    assert {type(task) for taskset in there for task in taskset} == {Task}
    mixed = pickle.loads(pickle.dumps(TaskSets([*made, Own(5)])))
    assert [state(taskset) for taskset in mixed][:4] == [state(taskset) for taskset in made]
    assert (type(mixed[4]), mixed[4].more) == (Own, 5)


CROOKED: list[tuple[str, list[Task]]] = [
    ("a value", [Task(period=(5, -1, "x"), executiontime=1)]),
    ("a type", [Task(period=(1, True, 1.0))]),
    ("a fraction of a ns", [Task(period=Range(1, 2, 0.0000005))]),
    ("a random value", [Task(period=5, executiontime=Random((1, -3)), priority=Range(1, 9))]),
    ("ids", [Task(period=5, id=(1, 2)), Task(period=5, id=(2, 3))]),
    ("a period of 0", [Task(period=(0, 5), numberofjobs=2)]),
    ("several jobs", [Task(period=0, numberofjobs=(1, 2))]),
    ("what does not move", [Task(period=(5, 6), preiod=5)]),
    ("a list as a value", [Task(period=([1, 2], 5))]),
    ("values in values", [Task(period=5, config={"arg1": ((1, 2), 3)})]),
    ("nothing as a value", [Task(period=5, executiontime=(1, None))]),
    ("a name of a user's own", [Task(period=5, mine=(1, 2))]),
    ("no tasks", []),
    ("mappings", [Task(period=5, config=({"arg1": 1}, {"arg1": 2}, 5))]),
]


@pytest.mark.parametrize("members", [m for _, m in CROOKED], ids=[name for name, _ in CROOKED])
def test_problems_are_those_of_each_task_set(members: list[Task]) -> None:
    taskset = TaskSet(members, "crooked")
    numbers = list(itertools.islice(range(taskset.variant_count() or 0), 40))
    found = Variants(taskset, numbers).problems({})
    made = [next(taskset.variants(n)) for n in numbers]
    expected = {}
    for number, variant in enumerate(made):
        try:
            variant.check()
        except ConfigurationError as error:
            expected[number] = str(error)
    assert {n: str(error) for n, error in found.items()} == expected
    assert {n: str(e) for n, e in TaskSets(made).problems({}).items()} == expected


def test_a_check_of_a_users_own_is_asked() -> None:
    class Strict(TaskSet):
        def check(self, declared: Mapping[str, Attribute] | None = None) -> None:
            raise ConfigurationError("never")

    assert list(TaskSets([Strict([Task(period=5)])]).problems({})) == [0]


def test_valid_variants_have_no_problems_and_are_not_made_for_that() -> None:
    taskset = TaskSet(
        [Task(period=Range(1, 50), mine=Range(1, 3), numberofjobs=2, config={"arg1": (1, 2)})], "ok"
    )
    declared = {"mine": Attribute(Kind.INTEGER)}
    variants = Variants(taskset, range(300))
    assert variants.problems(declared) == {}
    assert len(variants._made) == 1
    assert "unknown attribute 'mine'" in str(variants.problems({})[299])


def test_what_was_checked_is_not_checked_again_for_the_same_session_only() -> None:
    taskset = TaskSet([Task(period=5, mine=Range(1, 3))], "ok")
    declared = {"mine": Attribute(Kind.INTEGER)}
    stream = VariantStream(taskset, iter(range(3)), checked=declared)
    variants = stream.take(3)
    assert variants.problems(declared) == {}
    strict = {"mine": Attribute(Kind.INTEGER, 2)}
    assert list(variants.problems(strict)) == [0]


def test_a_stream_gives_one_or_many_and_takes_them_back() -> None:
    for stream in (Stream(moving().variants()), VariantStream(moving(), iter(range(30)))):
        assert next(stream).variant == 0
        assert [t.variant for t in stream.take(3)] == [1, 2, 3]
        taken = stream.take(5)
        stream.put_back(len(taken) - 1)
        rest = [t.variant for t in stream]
        assert rest == list(range(taken[0].variant + 1, 30))
        assert not stream.take(1)


def test_a_stream_has_the_numbers_it_was_asked_for() -> None:
    numbers = [2, 3, 7, 29, 1000]
    assert [t.variant for t in VariantStream(moving(), iter(numbers))] == numbers[:-1]

    class Gaps(TaskSet):
        def variants(self, start: int = 0) -> Iterator[TaskSet]:
            for number in range(start, 12, 1 if start % 2 else 2):
                taskset = TaskSet([Task(period=number + 1)], self.name)
                taskset.variant = number
                yield taskset

    assert [t.variant for t in VariantStream(Gaps(), iter(numbers))] == [2]
    assert [t.variant for t in VariantStream(Gaps(), itertools.count())] == [0, 2, 4, 6, 8, 10]


def test_variants_without_columns_are_made_when_they_are_asked_for() -> None:
    made = []

    class Endless:
        def __iter__(self) -> Iterator[int]:
            for number in itertools.count(1):
                made.append(number)
                yield number

    stream = VariantStream(TaskSet([Task(period=Endless())]), itertools.count())
    assert [next(stream)[0]["period"] for _ in range(3)] == [1, 2, 3]
    assert made == [1, 2, 3]
    with pytest.raises(ConfigurationError):
        raise stream.take(2).problems({"period": Attribute(Kind.TEXT)})[1]


class Breaking(TaskSet):
    """Makes a few variants, and fails."""

    def variants(self, start: int = 0) -> Iterator[TaskSet]:
        for number in range(start, 5):
            if number == 3:
                raise ValueError("no more of them")
            variant = TaskSet([task.copy() for task in self], self.name)
            variant.variant = number
            yield variant


def test_what_a_class_of_a_users_own_raises_is_told_with_its_place() -> None:
    stream = VariantStream(Breaking([Task(period=5)], "mine"), iter(range(5)))
    made = []
    with pytest.raises(BugError) as caught:
        made += [variant.variant for variant in stream]
    assert re.fullmatch(
        r"task set 'mine': making its variants failed: ValueError: no more of them "
        r"\(test_variants\.py:\d+\)",
        str(caught.value),
    )
