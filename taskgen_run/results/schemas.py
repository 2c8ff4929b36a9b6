"""The tables of a result directory: every column, its type and its meaning.

``docs(table)`` gives a table's documentation as text. Each Parquet file carries the number of
`FORMAT` and its table's name in its key-value metadata, and nothing else of its own: no clock,
path or name of a machine.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import pyarrow as pa

from taskgen_run.analysis.verdicts import TESTS
from taskgen_run.errors import ConfigurationError
from taskgen_run.job import JOB_SCHEMA, SEGMENT_SCHEMA
from taskgen_run.task import ATTRIBUTES, Attribute, Kind

FORMAT = 1
"""The version of the tables; it grows when a column changes its meaning or goes away."""

FORMAT_KEY = b"taskgen_run.format"
TABLE_KEY = b"taskgen_run.table"

TABLES = ("jobs", "segments", "tasks", "tasksets")
"""All tables, in the order in which a variant's rows are written down."""

HOSTS = "hosts"
"""The table of the hosts that have failed; there is none if no host has."""

REQUIRED = ("jobs", "tasks", "tasksets")
"""The tables that every complete experiment has; segments are there if it was traced."""

KEYS: Mapping[str, tuple[str, ...]] = {
    "jobs": ("taskset", "attempt", "task", "job"),
    "segments": ("taskset", "task", "job", "start_ns"),
    "tasks": ("taskset", "task"),
    "tasksets": ("taskset",),
    HOSTS: ("host",),
}
"""The columns by which the rows of each table are ordered."""

VARIANT_OUTCOMES = pa.array(["finished", "failed", "stopped"])
"""The dictionary of the `outcome` column of tasksets.parquet.

A variant that was stopped is run again before its experiment counts as finished.
"""

ARGUMENT = "config_arg1"
"""The column with the argument of a task's workload, `config.arg1`, as a number."""

_KIND_TYPES: Mapping[Kind, pa.DataType] = {
    Kind.MS: pa.float64(),
    Kind.INTEGER: pa.int64(),
    Kind.NUMBER: pa.float64(),
    Kind.BYTES: pa.int64(),
    Kind.TEXT: pa.string(),
    Kind.NAME: pa.string(),
    Kind.MAPPING: pa.string(),
}

_KIND_UNITS = {
    Kind.MS: "ms",
    Kind.BYTES: "bytes",
    Kind.MAPPING: "JSON text with sorted keys",
}

_TASKSET = "number of the variant, from 0"
_TASK = "position of the task in its task set, from 0"
_JOB = "number of the release of its task, from 0"

_DOCS: Mapping[str, Mapping[str, str]] = {
    "jobs": {
        "taskset": _TASKSET,
        "attempt": "number of the attempt at the variant, from 0; the last one counts",
        "host": "address of the target as written",
        "task": _TASK,
        "job": _JOB,
        "release_ns": "instant of the release; null where it is not known",
        "start_ns": "instant of the first execution; null if there was none",
        "end_ns": "instant of the end or of the kill; null if there was none",
        "deadline_ns": "absolute deadline; null for none, or where the release is not known",
        "outcome": "how the job ended: finished, killed, stopped, error, not_scheduled, "
        "out_of_quota or unfinished",
        "preemptions": "how often the job lost its processor before its end; null if unobserved",
        "migrations": "how often the job went on on another processor; null if unobserved",
        "missed": "whether the deadline was missed; null where that is not known",
    },
    "segments": {
        "taskset": _TASKSET,
        "task": _TASK,
        "job": _JOB,
        "cpu": "number of the processor, from 0",
        "start_ns": "instant from which the job executed",
        "end_ns": "instant until which it executed",
    },
    "tasksets": {
        "taskset": _TASKSET,
        "host": "address of the target of the last attempt",
        "outcome": "finished or failed",
        "attempts": "how often the variant was tried",
        "error": "why it failed, on one line; null if it did not",
        "tasks": "number of its tasks",
        "jobs": "number of jobs of the last attempt",
        "deadline_misses": "number of jobs of the last attempt that missed their deadline",
        "unknown_misses": "number of jobs of the last attempt of which that is not known",
        "unfinished_jobs": "number of jobs of the last attempt that had not ended with it",
        "horizon_ns": "instant up to which the variant was observed; null where it is not known",
    },
    HOSTS: {
        "host": "address of a target that has failed",
        "failures": "how often its session has failed, or its machine did not come back",
        "restarts": "how often its machine was killed and booted again",
        "put_aside": "whether it was asked no more, as it had failed too often",
        "error": "why it failed last, on one line",
    },
}

_TASKSETS = pa.schema(
    [
        pa.field("taskset", pa.int64(), nullable=False),
        pa.field("host", pa.dictionary(pa.int32(), pa.string()), nullable=False),
        pa.field("outcome", pa.dictionary(pa.int8(), pa.string()), nullable=False),
        pa.field("attempts", pa.int32(), nullable=False),
        pa.field("error", pa.string()),
        pa.field("tasks", pa.int32(), nullable=False),
        pa.field("jobs", pa.int64(), nullable=False),
        pa.field("deadline_misses", pa.int64(), nullable=False),
        pa.field("unknown_misses", pa.int64(), nullable=False),
        pa.field("unfinished_jobs", pa.int64(), nullable=False),
        pa.field("horizon_ns", pa.int64()),
    ]
)


_HOST_FIELDS: list[pa.Field[Any]] = [
    pa.field("host", pa.string(), nullable=False),
    pa.field("failures", pa.int64(), nullable=False),
    pa.field("restarts", pa.int64(), nullable=False),
    pa.field("put_aside", pa.bool_(), nullable=False),
    pa.field("error", pa.string(), nullable=False),
]


def attributes(declared: Mapping[str, Attribute]) -> dict[str, Attribute]:
    """The attributes that have a column in tasks.parquet, those that a session declares last."""
    return {**ATTRIBUTES, **declared}


def schema(
    table: str, declared: Mapping[str, Attribute] | None = None, tests: Iterable[str] = ()
) -> pa.Schema:
    """The schema of a table's Parquet file.

    `declared` are the session's own attributes, `tests` the schedulability tests whose verdicts are
    asked for. Raises ConfigurationError for a declared attribute with the name of another column.
    """
    columns = {
        "jobs": lambda: JOB_SCHEMA.append(pa.field("missed", pa.bool_())),
        "segments": lambda: SEGMENT_SCHEMA,
        "tasks": lambda: _tasks(declared or {}),
        "tasksets": lambda: pa.schema([*_TASKSETS, *(pa.field(t, pa.bool_()) for t in tests)]),
        HOSTS: lambda: pa.schema(_HOST_FIELDS),
    }[table]()
    return columns.with_metadata({FORMAT_KEY: str(FORMAT).encode(), TABLE_KEY: table.encode()})


def _tasks(declared: Mapping[str, Attribute]) -> pa.Schema:
    taken = {"taskset", "task", ARGUMENT} & set(declared)
    if taken:
        raise ConfigurationError(
            f"attribute {min(taken)!r} has the name of a column of tasks.parquet; "
            "declare it under another name"
        )
    fields: list[pa.Field[Any]] = [
        pa.field("taskset", pa.int64(), nullable=False),
        pa.field("task", pa.int32(), nullable=False),
    ]
    for name, attribute in attributes(declared).items():
        if name == "config":
            fields.append(pa.field(ARGUMENT, pa.int64()))
        fields.append(pa.field(name, _KIND_TYPES[attribute.kind]))
    return pa.schema(fields)


def verdicts_in(columns: pa.Schema) -> list[str]:
    """The schedulability tests with a column among those of tasksets.parquet."""
    return [name for name in columns.names if name not in _TASKSETS.names]


def docs(
    table: str, declared: Mapping[str, Attribute] | None = None, tests: Iterable[str] = ()
) -> dict[str, str]:
    """What each column of `table` means, in the order of its columns."""
    if table == "tasksets":
        proven = "true: no deadline can be missed; false: one will be; null: not known by this test"
        verdicts = {name: f"{TESTS[name].text}; {proven}" for name in tests}
        return {**_DOCS[table], **verdicts}
    if table != "tasks":
        return dict(_DOCS[table])
    meanings = {"taskset": _TASKSET, "task": _TASK}
    for name, attribute in attributes(declared or {}).items():
        if name == "config":
            meanings[ARGUMENT] = "config.arg1; null if it is no whole number"
        unit = _KIND_UNITS.get(attribute.kind)
        meanings[name] = f"the task's attribute{f' in {unit}' if unit else ''}; null if unset"
    meanings["id"] = "the task's attribute; its position if unset"
    return meanings


def plain(columns: pa.Schema) -> pa.Schema:
    """The schema with text instead of dictionaries, in which rows are journaled and sorted."""
    for index, field in enumerate(columns):
        if pa.types.is_dictionary(field.type):
            columns = columns.set(index, field.with_type(field.type.value_type))
    return columns


def format_of(columns: Any) -> int | None:
    """The format that a file's schema says it has; None if it is no table of ours."""
    number = (columns.metadata or {}).get(FORMAT_KEY, b"")
    return int(number) if number.isdigit() else None
