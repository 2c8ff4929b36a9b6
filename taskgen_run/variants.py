"""Many concrete task sets at once, looked at by columns rather than one by one."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import cached_property
from itertools import chain, islice, repeat, takewhile
from typing import Any, overload

from taskgen_run.errors import BugError, TaskgenError, one_line, place_of
from taskgen_run.task import ATTRIBUTES, Attribute, Task
from taskgen_run.taskset import Place, TaskSet
from taskgen_run.values import are_all_sampled, is_compact, walk

AHEAD = 64
"""How many variants are drawn together at least, where that costs little memory."""

Verdicts = Mapping[str, bool | None]
"""What schedulability tests say of a task set, by their names."""


class TaskSets(Sequence[TaskSet]):
    """Concrete task sets, whose attributes and horizons can be had as columns."""

    def __init__(self, tasksets: Sequence[TaskSet]) -> None:
        self._tasksets = tasksets

    def __getstate__(self) -> dict[str, Any]:
        """Without the objects, as far as they are ours: those take most of the time to send."""
        if any(type(t) is not TaskSet or set(map(type, t)) - {Task} for t in self._tasksets):
            return {"_tasksets": self._tasksets}
        return {
            "rows": [
                (t.name, t.seed, t.variant, t.horizon_ns, t.verdicts, [dict(task) for task in t])
                for t in self._tasksets
            ]
        }

    def __setstate__(self, state: dict[str, Any]) -> None:
        rows = state.pop("rows", None)
        self.__dict__.update(state)
        if rows is not None:
            self._tasksets = [_rebuilt(*row) for row in rows]

    def __len__(self) -> int:
        return len(self._tasksets)

    @overload
    def __getitem__(self, index: int) -> TaskSet: ...
    @overload
    def __getitem__(self, index: slice) -> TaskSets: ...
    def __getitem__(self, index: int | slice) -> TaskSet | TaskSets:
        if isinstance(index, slice):
            chosen = range(*index.indices(len(self)))
            return self if len(chosen) == len(self) else self.only(chosen)
        return self._at(index)

    def _at(self, position: int) -> TaskSet:
        return self._tasksets[position]

    def only(self, positions: Sequence[int]) -> TaskSets:
        """Those at these positions."""
        return TaskSets([self._tasksets[position] for position in positions])

    @property
    def numbers(self) -> Sequence[int]:
        """The number of each variant."""
        return [taskset.variant for taskset in self._tasksets]

    @property
    def sizes(self) -> Sequence[int]:
        """How many tasks each has."""
        return [len(taskset) for taskset in self._tasksets]

    def attribute(self, name: str) -> list[Any]:
        """The attribute `name` of each task of each task set; None where it is not set."""
        return [task.get(name) for taskset in self._tasksets for task in taskset]

    def ids(self) -> list[Any]:
        """The `id` of each task of each task set: its attribute, else its position."""
        return [identifier for taskset in self._tasksets for identifier in taskset.ids()]

    @property
    def horizons_ns(self) -> Sequence[int | None]:
        """The `horizon_ns` of each; they can be set together."""
        return [taskset.horizon_ns for taskset in self._tasksets]

    @horizons_ns.setter
    def horizons_ns(self, horizons: Sequence[int | None]) -> None:
        for taskset, horizon in zip(self._tasksets, horizons, strict=True):
            taskset.horizon_ns = horizon

    @property
    def verdicts(self) -> Sequence[Verdicts]:
        """The `verdicts` of each; they can be set together."""
        return [taskset.verdicts for taskset in self._tasksets]

    @verdicts.setter
    def verdicts(self, verdicts: Sequence[Verdicts]) -> None:
        for taskset, of_it in zip(self._tasksets, verdicts, strict=True):
            taskset.verdicts = of_it

    def problems(self, declared: Mapping[str, Attribute]) -> dict[int, TaskgenError]:
        """What `TaskSet.check` says of those that it refuses, by their positions."""
        return {} if self._are_plain({**ATTRIBUTES, **declared}) else self._one_by_one(declared)

    def _are_plain(self, known: Mapping[str, Attribute]) -> bool:
        """Whether all are valid, as can be told of attributes that depend on no others."""
        tasks = list(chain.from_iterable(self._tasksets))
        names = set(chain.from_iterable(tasks))
        if 0 in self.sizes or not names <= known.keys() - {"id", "config", "numberofjobs"}:
            return False
        if any(type(taskset).check is not TaskSet.check for taskset in self._tasksets):
            return False
        columns = ((name, [task[name] for task in tasks if name in task]) for name in names)
        return not any(any(map(known[n].problem, _distinct(column))) for n, column in columns)

    def _one_by_one(self, declared: Mapping[str, Attribute]) -> dict[int, TaskgenError]:
        found: dict[int, TaskgenError] = {}
        for position, taskset in enumerate(self):
            try:
                taskset.check(declared)
            except TaskgenError as error:
                found[position] = error
        return found


def _rebuilt(
    name: str,
    seed: int,
    variant: int,
    horizon_ns: int | None,
    verdicts: Verdicts,
    members: list[dict[str, Any]],
) -> TaskSet:
    taskset = TaskSet(map(Task, members), name)
    taskset.seed, taskset.variant = seed, variant
    taskset.horizon_ns, taskset.verdicts = horizon_ns, verdicts
    return taskset


def columnar(tasksets: Sequence[TaskSet]) -> TaskSets:
    """These task sets, as ones that can be looked at by columns."""
    return tasksets if isinstance(tasksets, TaskSets) else TaskSets(tasksets)


class Variants(TaskSets):
    """Variants of one task set: what moves in them as columns, drawn when it is first asked for.

    A task set is made when it is looked at, and then kept. Cheap to send to another process.
    """

    def __init__(
        self,
        source: TaskSet,
        numbers: Sequence[int],
        checked: Mapping[str, Attribute] | None = None,
    ) -> None:
        """The variants with these `numbers` of `source`, which makes them as `TaskSet` does.

        `checked` are the attributes declared when `source` was checked, None if it was not.
        """
        self._source = source
        self._checked = checked
        self._numbers = numbers
        self._horizons: Sequence[int | None] = [None] * len(numbers)
        self._verdicts: Sequence[Verdicts] = [{}] * len(numbers)
        self._made: dict[int, TaskSet] = {}

    def __getstate__(self) -> dict[str, Any]:
        learned = {"_horizons": self.horizons_ns, "_verdicts": self.verdicts}
        return {**self.__dict__, **learned, "_made": {}}

    def __len__(self) -> int:
        return len(self._numbers)

    def _at(self, position: int) -> TaskSet:
        position = range(len(self))[position]
        if position not in self._made:
            settings = {place: values[position] for place, values in self._settings.items()}
            made = self._source.variant_with(self._numbers[position], settings)
            made.horizon_ns, made.verdicts = self._horizons[position], self._verdicts[position]
            self._made[position] = made
        return self._made[position]

    def only(self, positions: Sequence[int]) -> TaskSets:
        numbers = [self._numbers[position] for position in positions]
        chosen = Variants(self._source, numbers, self._checked)
        horizons, verdicts = self.horizons_ns, self.verdicts
        chosen._horizons = [horizons[position] for position in positions]
        chosen._verdicts = [verdicts[position] for position in positions]
        if "_settings" in self.__dict__:
            chosen._settings = {
                place: [values[position] for position in positions]
                for place, values in self._settings.items()
            }
        chosen._made = {
            new: self._made[old] for new, old in enumerate(positions) if old in self._made
        }
        return chosen

    @property
    def numbers(self) -> Sequence[int]:
        return self._numbers

    @property
    def sizes(self) -> Sequence[int]:
        return [len(self._source)] * len(self)

    @cached_property
    def _settings(self) -> dict[Place, list[Any]]:
        return self._source.settings(self._numbers)

    def attribute(self, name: str) -> list[Any]:
        if any(path[0] == name and len(path) > 1 for _, path in self._settings):
            return [task.get(name) for taskset in self for task in taskset]
        return self._by_task(
            self._settings.get((position, (name,))) or repeat(task.get(name), len(self))
            for position, task in enumerate(self._source)
        )

    def ids(self) -> list[Any]:
        return self._by_task(
            self._settings.get((position, ("id",))) or repeat(task.get("id", position), len(self))
            for position, task in enumerate(self._source)
        )

    def _by_task(self, columns: Iterator[Any]) -> list[Any]:
        return list(chain.from_iterable(zip(*columns, strict=True)))

    @property
    def horizons_ns(self) -> Sequence[int | None]:
        horizons = list(self._horizons)
        for position, taskset in self._made.items():
            horizons[position] = taskset.horizon_ns
        return horizons

    @horizons_ns.setter
    def horizons_ns(self, horizons: Sequence[int | None]) -> None:
        self._horizons = horizons
        for position, taskset in self._made.items():
            taskset.horizon_ns = horizons[position]

    @property
    def verdicts(self) -> Sequence[Verdicts]:
        verdicts = list(self._verdicts)
        for position, taskset in self._made.items():
            verdicts[position] = taskset.verdicts
        return verdicts

    @verdicts.setter
    def verdicts(self, verdicts: Sequence[Verdicts]) -> None:
        self._verdicts = verdicts
        for position, taskset in self._made.items():
            taskset.verdicts = verdicts[position]

    def problems(self, declared: Mapping[str, Attribute]) -> dict[int, TaskgenError]:
        """The same: one by one only if the first, or any of the values that move, is refused."""
        if len(self) == 0 or self._are_valid({**ATTRIBUTES, **declared}, declared):
            return {}
        return self._one_by_one(declared)

    def _are_valid(self, known: Mapping[str, Attribute], declared: Mapping[str, Attribute]) -> bool:
        """Whether all are, as far as that can be told without looking at each one."""
        if TaskSets([self[0]]).problems(declared):
            return False
        for (position, path), values in self._settings.items():
            if path[0] == "id" or path == ("config",):
                return False  # what is valid depends on other tasks, or on what is inside
            if len(path) > 1:
                if not set(map(type, values)) <= {int, float, str}:
                    return False
            elif not self._was_checked(position, str(path[0]), declared) and any(
                map(known[str(path[0])].problem, _distinct(values))
            ):
                return False
            if "numberofjobs" in self._source[position] and self._may_be_single(position):
                return False
        return True

    def _was_checked(self, position: int, name: str, declared: Mapping[str, Attribute]) -> bool:
        return self._checked == declared and are_all_sampled(self._source[position][name])

    def _may_be_single(self, position: int) -> bool:
        """Whether a task has the period 0 in one of them."""
        fixed = [self._source[position].get("period", 0)]
        return 0 in self._settings.get((position, ("period",)), fixed)


class Stream(Iterator[TaskSet]):
    """Task sets that come one by one, or many at once; what was taken last can be put back.

    `position` counts those that were taken of the `TaskSets` it was made of.
    """

    def __init__(self, tasksets: Iterable[TaskSet]) -> None:
        self._ahead, self._coming = TaskSets([]), iter(tasksets)
        if isinstance(tasksets, TaskSets):
            self._ahead, self._coming = tasksets, iter(())
        self.position = 0

    def __next__(self) -> TaskSet:
        for taskset in self.take(1):
            return taskset
        raise StopIteration

    def take(self, count: int) -> TaskSets:
        """The next ones: at least one, unless it is the end, and at most `count`."""
        if self.position == len(self._ahead) and (more := self._more(count)):
            self._ahead, self.position = more, 0
        begin = self.position
        self.position = min(begin + count, len(self._ahead))
        return self._ahead[begin : self.position]

    def put_back(self, count: int) -> None:
        """Let the last `count` of those that `take` returned come again."""
        self.position -= count

    def _more(self, count: int) -> TaskSets:
        return TaskSets(list(islice(self._coming, count)))


class VariantStream(Stream):
    """The variants of `taskset` with these `numbers`, which rise: by columns, if that is possible.

    Those that cannot be had by columns are made one by one, when they are asked for.
    """

    def __init__(
        self,
        taskset: TaskSet,
        numbers: Iterator[int],
        checked: Mapping[str, Attribute] | None = None,
    ) -> None:
        """`checked` are the attributes declared when `taskset` was checked, None if it was not."""
        super().__init__(_numbered(taskset, numbers))
        self._checked = checked
        self._numbers = numbers
        self._source: TaskSet | None = None
        if _can_be_columns(taskset):
            count = taskset.variant_count() or 0
            self._numbers = takewhile(lambda number: number < count, numbers)
            self._source = TaskSet([task.copy() for task in taskset], taskset.name)
            self._source.seed = taskset.seed

    def _more(self, count: int) -> TaskSets:
        if self._source is None:
            return super()._more(count)
        numbers = list(islice(self._numbers, max(count, AHEAD)))
        return Variants(self._source, numbers, self._checked)


def _numbered(taskset: TaskSet, numbers: Iterator[int]) -> Iterator[TaskSet]:
    wanted = next(numbers, None)
    if wanted is None:
        return
    for variant in _made(taskset, wanted):
        while wanted < variant.variant:
            wanted = next(numbers, None)
            if wanted is None:
                return
        if variant.variant == wanted:
            yield variant


def _made(taskset: TaskSet, first: int) -> Iterator[TaskSet]:
    """Raises BugError for whatever the `variants` of a user's own class raise."""
    try:
        yield from taskset.variants(first)
    except TaskgenError:
        raise
    except Exception as error:  # a task set is a plug-in: whatever it raises
        raise BugError(
            f"task set {taskset.name!r}: making its variants failed: {type(error).__name__}: "
            f"{one_line(error)}{place_of(error)}"
        ) from error


def _can_be_columns(taskset: TaskSet) -> bool:
    """Whether any variant can be made from its number alone, in any process."""
    moving = (values for task in taskset for _, values in walk(task))
    return type(taskset).variants is TaskSet.variants and all(map(is_compact, moving))


def _distinct(values: Sequence[Any]) -> Sequence[Any]:
    """Each value once; 1, 1.0 and True are not the same."""
    try:
        return [value for value, _ in dict.fromkeys(zip(values, map(type, values), strict=True))]
    except TypeError:  # not hashable
        return values
