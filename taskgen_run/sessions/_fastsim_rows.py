"""Fast simulations of many task sets, and their jobs and segments as Arrow record batches."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from taskgen_run.analysis.packing import pack
from taskgen_run.job import JOB_SCHEMA, OUTCOMES, SEGMENT_SCHEMA
from taskgen_run.sessions._fastsim_inputs import SCHEDULERS, Options
from taskgen_run.sessions._simulation import COSTS
from taskgen_run.simulator import layout
from taskgen_run.simulator.batch import Costs, run_batch
from taskgen_run.simulator.columns import fill_columns, mark_valid
from taskgen_run.task import to_ns
from taskgen_run.variants import TaskSets


@dataclass(frozen=True, slots=True)
class Simulated:
    """The results of `tasksets`: their tasks, which of them were `refused`, rows and segments."""

    tasksets: TaskSets
    tasks: NDArray[Any]
    refused: NDArray[np.bool_]
    rows: layout.Rows
    segments: NDArray[Any]

    def waiting(self) -> list[int]:
        """The task sets of which a single job has not ended, though it will run one day."""
        waits = (self.tasks["period"] == 0) & ~np.repeat(self.refused, self.tasksets.sizes)
        released = waits & (self.tasks["count"] > 0)
        waits[released] = self.rows.end[self.tasks["row"][released]] == layout.NONE
        firsts = np.cumsum([0, *self.tasksets.sizes])
        numbers = np.searchsorted(firsts, np.flatnonzero(waits), side="right") - 1
        return list(map(int, np.unique(numbers)))

    def row_bounds(self) -> NDArray[np.int64]:
        """The number of the first job of each task set, and that of all jobs."""
        rows = np.append(self.tasks["row"], len(self.rows.end))
        bounds: NDArray[np.int64] = rows[np.cumsum([0, *self.tasksets.sizes])]
        return bounds

    def segment_bounds(self) -> NDArray[np.int64]:
        """The same of the segments."""
        return np.searchsorted(self.segments["job"], self.row_bounds())

    def jobs(self) -> pa.RecordBatch:
        """Every job, ordered by task set, task and number."""
        count = len(self.rows.end)
        variant, number, release, deadline = (_memory(count, np.int64) for _ in range(4))
        task = _memory(count, np.int32)
        fill_columns(self.tasks, *self._positions(), variant, task, number, release, deadline)
        zeros = _zeros(count)
        hosts: Any = pa.array(zeros)
        outcome: Any = pa.array(self.rows.outcome)
        columns: dict[str, Any] = {
            "taskset": variant,
            "attempt": zeros,
            "host": pa.DictionaryArray.from_arrays(hosts, pa.array([""])),
            "task": task,
            "job": number,
            "release_ns": release,
            "start_ns": _nullable(self.rows.start),
            "end_ns": _nullable(self.rows.end),
            "deadline_ns": _nullable(deadline),
            "outcome": pa.DictionaryArray.from_arrays(outcome, OUTCOMES),
            "preemptions": self.rows.preemptions,
            "migrations": self.rows.migrations,
        }
        return _batch(columns, JOB_SCHEMA)

    def stretches(self) -> pa.RecordBatch:
        """The segments, ordered by task set, task, job and time."""
        taskset, task = self._positions()
        owner = np.searchsorted(self.tasks["row"], self.segments["job"], side="right") - 1
        columns = {
            "taskset": taskset[owner],
            "task": task[owner],
            "job": self.segments["job"] - self.tasks["row"][owner],
            "cpu": self.segments["cpu"].astype(np.int32),
            "start_ns": self.segments["start"].copy(),
            "end_ns": self.segments["end"].copy(),
        }
        return _batch(columns, SEGMENT_SCHEMA)

    def _positions(self) -> tuple[NDArray[np.int64], NDArray[np.int32]]:
        """The variant that each task is of, and its position there."""
        sizes = self.tasksets.sizes
        variants = np.array(self.tasksets.numbers, np.int64)
        firsts = np.cumsum(sizes) - sizes
        positions = np.arange(len(self.tasks)) - np.repeat(firsts, sizes)
        return np.repeat(variants, sizes), positions.astype(np.int32)


def simulate_all(
    tasksets: TaskSets, tasks: NDArray[Any], horizons: Sequence[int], options: Options
) -> Simulated:
    """Simulate checked task sets, with `tasks` in `layout.TASK_INPUT`, up to their horizons."""
    refused = np.zeros(len(tasksets), np.bool_)
    sizes = tasksets.sizes
    firsts = np.cumsum([0, *sizes])
    if options.partitioned:
        gathered, parts = _partitioned(tasks, firsts, horizons, options, refused)
    else:
        gathered = tasks
        parts = np.zeros(len(tasksets), layout.PART)
        parts["first"], parts["last"], parts["cpus"] = firsts[:-1], firsts[1:], options.cpus
        parts["horizon"] = horizons
    rows = _rows(int(tasks["count"].sum()))
    segments = run_batch(
        gathered,
        parts,
        rows,
        scheduler=SCHEDULERS[options.scheduler],
        costs=Costs(*(to_ns(getattr(options, name)) for name in COSTS)),
        by_index=options.tie == "index",
        non_preemptive=not options.preemptive,
        skip_next=options.on_miss == "skip-next",
        trace=options.trace,
    )
    for task in tasks[np.repeat(refused, sizes)] if refused.any() else ():
        place = slice(task["row"], task["row"] + task["count"])
        rows.start[place] = rows.end[place] = layout.NONE
        rows.outcome[place], rows.preemptions[place] = layout.SKIPPED, 0
    return Simulated(tasksets, tasks, refused, rows, segments)


def _partitioned(
    tasks: NDArray[Any],
    firsts: NDArray[np.int64],
    horizons: Sequence[int],
    options: Options,
    refused: NDArray[np.bool_],
) -> tuple[NDArray[Any], NDArray[Any]]:
    """The tasks processor by processor, each of which is a simulation of its own."""
    order: list[int] = []
    parts: list[tuple[int, int, int, int, int]] = []
    loads = list(zip(tasks["wcet"].tolist(), tasks["period"].tolist(), strict=True))
    for number, horizon in enumerate(horizons):
        first, last = int(firsts[number]), int(firsts[number + 1])
        cpus = pack(
            loads[first:last],
            options.cpus,
            options.packing,
            rate_monotonic=options.scheduler == "P_RM",
        )
        if cpus is None:
            refused[number] = True
            continue
        for cpu in sorted(set(cpus)):
            begin = len(order)
            order += [first + place for place, own in enumerate(cpus) if own == cpu]
            parts.append((begin, len(order), 1, cpu, horizon))
    return tasks[order], np.array(parts, layout.PART)


def _rows(count: int) -> layout.Rows:
    """Memory for what is found out about `count` jobs."""
    return layout.Rows(
        start=_memory(count, np.int64),
        end=_memory(count, np.int64),
        outcome=_memory(count, np.int8),
        preemptions=_memory(count, np.int32),
        migrations=_memory(count, np.int32),
    )


def _memory(count: int, kind: type[np.integer[Any]]) -> NDArray[Any]:
    """An array in Arrow's memory.

    Its allocator hands the columns of earlier batches out again, where the system would first map
    and clear every page, which takes longer than a simulation.
    """
    buffer: Any = pa.allocate_buffer(count * np.dtype(kind).itemsize)
    return np.ndarray(count, kind, buffer)


def _zeros(count: int) -> NDArray[np.int32]:
    """Zeros that all batches share, and nobody writes to."""
    return _many_zeros((count - 1).bit_length())[:count]


@functools.cache
def _many_zeros(bits: int) -> NDArray[np.int32]:
    return np.zeros(1 << bits, np.int32)


def _nullable(values: NDArray[np.int64]) -> pa.Array[Any]:
    """Values of which those that are NONE are null."""
    bits = _memory((len(values) + 7) // 8, np.uint8)
    missing = mark_valid(values, bits)
    arrays: list[Any] = [bits, values]
    buffers: Any = [pa.py_buffer(array) for array in arrays]
    return pa.Array.from_buffers(pa.int64(), len(values), buffers, missing)


def _batch(columns: dict[str, Any], schema: pa.Schema) -> pa.RecordBatch:
    arrays = [pa.array(columns[field.name], field.type) for field in schema]
    return pa.RecordBatch.from_arrays(arrays, schema=schema)
