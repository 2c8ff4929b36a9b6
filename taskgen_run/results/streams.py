"""Streams of record batches: joined, cut to size and filtered."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

import pyarrow as pa

from taskgen_run.results.intervals import Intervals


def joined(batches: Sequence[pa.RecordBatch], columns: pa.Schema) -> pa.RecordBatch:
    """All rows of `batches`, which have the schema `columns`, in one."""
    filled = [batch for batch in batches if batch.num_rows]
    if not filled:
        return pa.RecordBatch.from_pylist([], schema=columns)
    if len(filled) == 1:
        return filled[0]
    return pa.Table.from_batches(filled).combine_chunks().to_batches()[0]


def cut(batches: Iterable[pa.RecordBatch], rows: int) -> Iterator[pa.RecordBatch]:
    """The same rows in batches of exactly `rows` rows; only the last one may have fewer."""
    waiting: list[pa.RecordBatch] = []
    missing = rows
    for batch in batches:
        start = 0
        while batch.num_rows - start >= missing:
            waiting.append(batch.slice(start, missing))
            yield joined(waiting, batch.schema)
            start += missing
            waiting, missing = [], rows
        if start < batch.num_rows:
            waiting.append(batch.slice(start))
            missing -= batch.num_rows - start
    if waiting:
        yield joined(waiting, waiting[0].schema)


def of_variants(
    batches: Iterable[pa.RecordBatch], *variants: Intervals
) -> Iterator[pa.RecordBatch]:
    """The rows whose `taskset` is in one of the sets `variants`."""
    for batch in batches:
        numbers = batch.column("taskset").to_numpy()
        chosen = variants[0].mask(numbers)
        for more in variants[1:]:
            chosen |= more.mask(numbers)
        yield batch if chosen.all() else batch.filter(pa.array(chosen))


def as_schema(batch: pa.RecordBatch, columns: pa.Schema) -> pa.RecordBatch:
    """The batch with its columns cast to the types of `columns`, as text becomes a dictionary."""
    if batch.schema.equals(columns, check_metadata=True):
        return batch
    return pa.RecordBatch.from_arrays(
        [batch.column(field.name).cast(field.type) for field in columns], schema=columns
    )
