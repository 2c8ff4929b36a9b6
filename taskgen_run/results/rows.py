"""What tasks.parquet says of a task: its attributes as rows of typed columns."""

from __future__ import annotations

import json
from collections.abc import Mapping
from contextlib import suppress
from decimal import Decimal
from numbers import Integral, Real
from typing import Any

import numpy as np
import pyarrow as pa

from taskgen_run.results.schemas import ARGUMENT
from taskgen_run.task import Attribute, Kind, quota_bytes
from taskgen_run.variants import TaskSets


def task_rows(
    tasksets: TaskSets, attributes: Mapping[str, Attribute], columns: pa.Schema
) -> pa.RecordBatch:
    """The tasks of concrete `tasksets`, a row each, in the schema `columns`.

    Null is what is unset, and a value without the column's type, for which the variant failed.
    """
    numbers, sizes = tasksets.numbers, tasksets.sizes
    values: dict[str, list[Any]] = {
        "taskset": np.repeat(np.array(numbers, np.int64), sizes).tolist(),
        "task": [position for size in sizes for position in range(size)],
        **{name: tasksets.attribute(name) for name in attributes},
        "id": tasksets.ids(),
    }
    values[ARGUMENT] = [
        config.get("arg1") if isinstance(config, Mapping) else None for config in values["config"]
    ]
    return pa.RecordBatch.from_arrays(
        [
            _array(
                values[field.name],
                attributes[field.name].kind if field.name in attributes else Kind.INTEGER,
                field.type,
            )
            for field in columns
        ],
        schema=columns,
    )


def _array(values: list[Any], kind: Kind, column: pa.DataType) -> pa.Array[Any]:
    """The values as an Arrow array: at once if they are plain, else one by one."""
    if set(map(type, values)) <= _PLAIN[kind]:
        with suppress(pa.ArrowException, OverflowError, UnicodeError):
            return pa.array(values, column)
    return pa.array([_plain(value, kind) for value in values], column)


_PLAIN: Mapping[Kind, set[type]] = {
    Kind.MS: {float, int, type(None)},
    Kind.NUMBER: {float, int, type(None)},
    Kind.INTEGER: {int, type(None)},
    Kind.BYTES: {int, type(None)},
    Kind.TEXT: {str, type(None)},
    Kind.NAME: {str, type(None)},
    Kind.MAPPING: {type(None)},
}
"""The types whose values Arrow takes as they are, as long as they are in range."""


def _plain(value: Any, kind: Kind) -> Any:
    """A value in the type of its column; null if it has none."""
    match kind:
        case Kind.MS | Kind.NUMBER:
            is_number = isinstance(value, Real | Decimal) and not isinstance(value, bool)
            return float(value) if is_number else None
        case Kind.INTEGER:
            return _whole_number(value)
        case Kind.BYTES:
            try:
                return _whole_number(quota_bytes(value))
            except ValueError:
                return None
        case Kind.TEXT | Kind.NAME:
            return clean_text(value) if isinstance(value, str) else None
        case Kind.MAPPING:
            if not isinstance(value, Mapping):
                return None
            return clean_text(json.dumps(_jsonable(value), sort_keys=True, ensure_ascii=False))


def _whole_number(value: object) -> int | None:
    """The value if it is a whole number of 64 bits."""
    if isinstance(value, bool) or not isinstance(value, Integral) or abs(int(value)) >= 2**63:
        return None
    return int(value)


def clean_text(value: str) -> str:
    """The text without the surrogates that stand for undecodable bytes of a command line."""
    return value.encode(errors="replace").decode()


def _jsonable(value: Any) -> Any:
    """What JSON can say of a value: text for what it has no type for."""
    if value is None or isinstance(value, bool | str):
        return value
    if isinstance(value, Mapping):
        return {str(key): _jsonable(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_jsonable(item) for item in value]
    if isinstance(value, Integral):
        return int(value)
    if isinstance(value, Real | Decimal):
        return float(value)
    return str(value)
