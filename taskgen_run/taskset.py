"""Task sets, and the lazy stream of their variants."""

from __future__ import annotations

import itertools
import math
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from decimal import Decimal
from numbers import Integral, Real
from typing import Any

import xmltodict

from taskgen_run.errors import ConfigurationError, unknown_name
from taskgen_run.task import ATTRIBUTES, Attribute, Block, Task
from taskgen_run.values import Path, Random, from_yaml, replace, samples, walk

_XML_KEY = re.compile(r"@?[A-Za-z_][A-Za-z0-9_.-]*|#text")
_NO_XML_TEXT = re.compile(r"[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")

Axis = tuple[int, Path, Any]
"""A task's position, a place in it, and the values or the random value that stand there."""


class TaskSet:
    """An iterable of tasks, whose attributes may be multi-valued.

    A *concrete* task set has single-valued attributes only: `variants()` yields those. Their
    `variant` is their number, from 0. `seed` decides random values. `horizon_ns` is the instant,
    on its session's clock, up to which a concrete task set was observed; None while unknown.
    `verdicts` is what schedulability tests say of a concrete task set, as far as they were made.
    """

    def __init__(self, tasks: Iterable[Task | Block] = (), name: str = "") -> None:
        self.name = name
        self.seed = 0
        self.variant = 0
        self.horizon_ns: int | None = None
        self.verdicts: Mapping[str, bool | None] = {}
        self._tasks = [task if isinstance(task, Task) else Task(task) for task in tasks]

    @classmethod
    def from_config(cls, config: Mapping[str, Any], name: str) -> TaskSet:
        """Build a task set from its yaml mapping ``{tasks: [{period: 5, …}, …]}``.

        Raises ConfigurationError for anything else than a list of mappings.
        """
        for key in config:
            if key != "tasks":
                unknown = unknown_name("key", key, ["tasks"])
                raise ConfigurationError(f"task set {name!r}: {unknown}")
        tasks = config.get("tasks")
        if not isinstance(tasks, list) or not tasks:
            raise ConfigurationError(
                f"task set {name!r}: tasks must be a list with at least one task, got {tasks!r}"
            )
        built = []
        for position, attributes in enumerate(tasks):
            place = f"task {position} of task set {name!r}"
            if not isinstance(attributes, Mapping):
                raise ConfigurationError(
                    f"{place} must be a mapping of attributes, got {attributes!r}"
                )
            built.append(
                Task(
                    {
                        str(key): from_yaml(value, f"{place}: {key}", inside_config=key == "config")
                        for key, value in attributes.items()
                    }
                )
            )
        return cls(built, name)

    def __iter__(self) -> Iterator[Task]:
        return iter(self._tasks)

    def __len__(self) -> int:
        return len(self._tasks)

    def __getitem__(self, position: int) -> Task:
        return self._tasks[position]

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.name!r}: {self._tasks}>"

    def append(self, task: Task) -> None:
        """Add a task at the end."""
        self._tasks.append(task)

    def place(self, position: int) -> str:
        """How error messages call the task at `position`."""
        return f"task {position} of task set {self.name!r}"

    def check(self, declared: Mapping[str, Attribute] | None = None) -> None:
        """Check every value; `declared` are attributes that the session adds to the known ones.

        Raises ConfigurationError, naming task, attribute, constraint and value.
        """
        known = {**ATTRIBUTES, **(declared or {})}
        if not self._tasks:
            raise ConfigurationError(f"task set {self.name!r}: must have at least one task")
        for position, task in enumerate(self._tasks):
            for problem in task.problems(known):
                raise ConfigurationError(f"{self.place(position)}: {problem}")
        for position, path, values in self._walk():
            if flaw := _axis_problem(path, values):
                raise ConfigurationError(f"{self.place(position)}: {_dotted(path)} {flaw}")
        self._check_ids()

    def ids(self) -> list[int]:
        """The `id` of each task: its attribute, else its position."""
        return [task.get("id", position) for position, task in enumerate(self._tasks)]

    def _check_ids(self) -> None:
        seen: dict[Any, int] = {}
        for position, identifier in enumerate(self.ids()):
            if not isinstance(identifier, Integral):
                continue  # multi-valued: its variants are checked
            if seen.setdefault(identifier, position) != position:
                raise ConfigurationError(
                    f"{self.place(position)}: id must be unique in the task set, got {identifier} "
                    f"like task {seen[identifier]}"
                )

    def variant_count(self) -> int | None:
        """How many variants there are; None if that is not known without counting."""
        sizes = [_size(values) for _, _, values in self._axes()]
        known = [size for size in sizes if size is not None]
        return math.prod(known) if len(known) == len(sizes) else None

    def variants(self, start: int = 0) -> Iterator[TaskSet]:
        """Lazily yield the concrete task sets from number `start` on.

        Their order is that of a product in which the last attribute of the last task moves
        fastest. One variant is in memory at a time.
        """
        axes = list(self._axes())
        randoms = [
            (position, path, f"{position}/{_dotted(path)}", random)
            for position, path, random in self._randoms()
        ]
        for number, choice in enumerate(_product([values for *_, values in axes], start), start):
            variant = TaskSet([task.copy() for task in self._tasks], self.name)
            variant.seed, variant.variant = self.seed, number
            for (position, path, _), value in zip(axes, choice, strict=True):
                variant._set(position, path, value)
            for position, path, key, random in randoms:
                variant._set(position, path, random.choose(f"{self.seed}/{number}/{key}"))
            yield variant

    def witnesses(self) -> Iterator[TaskSet]:
        """Yield the first variant, and it with each other text that an attribute may have.

        Together they name every file that a variant names, without going through all variants.
        """
        first = next(self.variants(), None)
        if first is None:
            return
        yield first
        if type(self).variants is not TaskSet.variants:
            return  # its variants need not come from the tasks that are here
        for position, path, values in self._walk():
            for value in samples(values) if len(path) == 1 else ():
                if isinstance(value, str) and value != first[position][str(path[0])]:
                    witness = TaskSet([task.copy() for task in first], self.name)
                    witness._set(position, path, value)
                    yield witness

    def to_xml(self, *, pretty: bool = False) -> str:
        """The task description of the wire protocol: ASCII, with defaults filled in.

        Raises ConfigurationError for a `config` that XML cannot express.
        """
        descriptions = []
        for position, (identifier, task) in enumerate(zip(self.ids(), self._tasks, strict=True)):
            attributes = {"id": identifier, **task.resolved()}
            for problem in _xml_problems(attributes):
                raise ConfigurationError(f"{self.place(position)}: {problem}")
            descriptions.append({name: _whole(value) for name, value in attributes.items()})
        xml: str = xmltodict.unparse(
            {"taskset": {"periodictask": descriptions}}, full_document=False, pretty=pretty
        )
        return xml.encode("ascii", "xmlcharrefreplace").decode()

    def _set(self, position: int, path: Path, value: Any) -> None:
        task, name = self._tasks[position], str(path[0])
        task[name] = replace(task[name], path[1:], value)

    def _axes(self) -> Iterator[Axis]:
        return ((p, path, v) for p, path, v in self._walk() if not isinstance(v, Random))

    def _randoms(self) -> Iterator[Axis]:
        return ((p, path, v) for p, path, v in self._walk() if isinstance(v, Random))

    def _walk(self) -> Iterator[Axis]:
        for position, task in enumerate(self._tasks):
            for path, values in walk(task):
                yield position, path, values


class BlockTaskSet(TaskSet):
    """One task for each combination of alternative blocks.

    ``BlockTaskSet(hey.HelloWorld, [period.Value(0), period.Value(5)])`` has two tasks. An
    argument is a block or a list of blocks that take turns; the last list moves fastest.
    """

    def __init__(self, *alternatives: Block | Sequence[Block], name: str = "") -> None:
        lists = [item if isinstance(item, Sequence) else [item] for item in alternatives]
        super().__init__((Task(*blocks) for blocks in itertools.product(*lists)), name)


def _dotted(path: Path) -> str:
    return ".".join(map(str, path))


def _axis_problem(path: Path, values: Any) -> str | None:
    """What is wrong with `values`, or a random value, beyond each value for itself."""
    if isinstance(values, set | frozenset):
        return "must have an order, got a set; use a list"
    if not isinstance(values, Random) and iter(values) is values:
        return (
            f"must be iterable more than once, got {values!r}; use a list, a range or a class "
            "with __iter__"
        )
    if _size(values) == 0:
        return f"must have at least one value, got {values!r}"
    for value in samples(values) if path[0] == "config" else ():
        if any(walk({"config": value})):
            return f"must not have multi-valued or random values inside its values, got {value!r}"
    return None


def _whole(value: Any) -> Any:
    """A number without a fraction as an int: targets read whole numbers only."""
    return int(value) if isinstance(value, float | Decimal) and value == int(value) else value


def _xml_problems(value: Any, path: str = "") -> Iterator[str]:
    """Yield what cannot be written as XML by the convention of xmltodict."""
    if isinstance(value, Mapping):
        for key, item in value.items():
            place = f"{path}.{key}" if path else str(key)
            if not isinstance(key, str) or not _XML_KEY.fullmatch(key):
                yield f"{place} must be an XML name of ASCII letters and digits, got {key!r}"
            elif key.startswith(("@", "#")) and isinstance(item, Mapping | list | tuple):
                yield f"{place} must be a single value, got {item!r}"
            else:
                yield from _xml_problems(item, place)
    elif isinstance(value, list):
        for index, item in enumerate(value):
            if isinstance(item, list):
                yield f"{path}[{index}] must not be a list inside a list, got {item!r}"
            else:
                yield from _xml_problems(item, f"{path}[{index}]")
    elif value is not None and not isinstance(value, str | Real | Decimal):
        yield f"{path} must be text, a number, a list or a mapping, got {value!r}"
    elif isinstance(value, str) and _NO_XML_TEXT.search(value):
        yield f"{path} must be text without control characters, got {value!r}"


def _size(values: Any) -> int | None:
    """The number of values, where they can be indexed too."""
    return len(values) if hasattr(values, "__len__") and hasattr(values, "__getitem__") else None


def _product(axes: list[Any], start: int) -> Iterator[tuple[Any, ...]]:
    """The product of re-iterable `axes` from combination `start` on, holding one at a time."""
    sizes = [_size(values) for values in axes]
    known = [size for size in sizes if size is not None]
    if len(known) < len(sizes):
        return itertools.islice(_nested(axes), start, None)
    return (_digits(axes, known, number) for number in range(start, math.prod(known)))


def _digits(axes: list[Any], sizes: list[int], number: int) -> tuple[Any, ...]:
    chosen = []
    for values, size in zip(reversed(axes), reversed(sizes), strict=True):
        number, digit = divmod(number, size)
        chosen.append(values[digit])
    return tuple(reversed(chosen))


def _nested(axes: list[Any]) -> Iterator[tuple[Any, ...]]:
    if not axes:
        yield ()
        return
    for value in axes[0]:
        for rest in _nested(axes[1:]):
            yield (value, *rest)
