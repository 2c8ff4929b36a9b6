"""An external merge sort of record batches: any number of rows in a bounded amount of memory.

Rows are sorted by whole-number keys in chunks, each chunk becomes a *run* on the disk, and runs
are merged a few at a time (Knuth, The Art of Computer Programming 3, section 5.4). A step of the
merge takes from every run all rows up to the smallest of the last keys in memory, so no row is
looked at in Python.
"""

from __future__ import annotations

import shutil
from bisect import bisect_right
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from pyarrow import ipc

from taskgen_run.results.streams import cut, joined

CHUNK_ROWS = 2**16
"""Rows that are sorted in memory."""

RUN_ROWS = 2**12
"""Rows of each run that a merge holds in memory."""

FAN_IN = 16
"""Runs that are merged at the same time."""

_OPTIONS = ipc.IpcWriteOptions(compression="lz4")

Key = tuple[int, ...]


def in_order(
    source: Callable[[], Iterable[pa.RecordBatch]], keys: Sequence[str], folder: Path
) -> Iterator[pa.RecordBatch]:
    """Yield the rows of `source()` ordered by the columns `keys`, which are whole numbers.

    `source` is called twice. Rows that are in order already are passed on as they come;
    otherwise runs go into the directory `folder`, which is made and removed again. Raises
    OSError when the disk is full.
    """
    if _is_in_order(source(), keys):
        yield from source()
        return
    folder.mkdir()
    try:
        chunks = ([ordered(chunk, keys)] for chunk in cut(source(), CHUNK_ROWS))
        runs = [_write(chunk, folder / f"0-{index}") for index, chunk in enumerate(chunks)]
        level = 0
        while len(runs) > FAN_IN:
            level += 1
            groups = [runs[start : start + FAN_IN] for start in range(0, len(runs), FAN_IN)]
            runs = [
                _write(_merged(group, keys), folder / f"{level}-{index}")
                for index, group in enumerate(groups)
            ]
        yield from _merged(runs, keys)
    finally:
        shutil.rmtree(folder)


def _is_in_order(batches: Iterable[pa.RecordBatch], keys: Sequence[str]) -> bool:
    last: Key | None = None
    for batch in batches:
        if batch.num_rows == 0:
            continue
        if last is not None and last > _key(batch, keys, 0):
            return False
        if not _rises(batch, keys):
            return False
        last = _key(batch, keys, -1)
    return True


def _rises(batch: pa.RecordBatch, keys: Sequence[str]) -> bool:
    """Whether no row of the batch is smaller than the one before it."""
    undecided = np.ones(max(batch.num_rows - 1, 0), np.bool_)
    for name in keys:
        column = batch.column(name).to_numpy()
        before, after = column[:-1], column[1:]
        if (undecided & (after < before)).any():
            return False
        undecided &= after == before
    return True


def _key(batch: pa.RecordBatch, keys: Sequence[str], row: int) -> Key:
    return tuple(batch.column(name)[row].as_py() for name in keys)


def ordered(batch: pa.RecordBatch, keys: Sequence[str]) -> pa.RecordBatch:
    """The rows of one batch ordered by the columns `keys`."""
    if _rises(batch, keys):
        return batch
    return batch.take(pc.sort_indices(batch, [(name, "ascending") for name in keys]))


def _write(batches: Iterable[pa.RecordBatch], run: Path) -> Path:
    """Write a run, whose rows are in order."""
    with pa.OSFile(str(run), "wb") as file:
        writer = None
        for batch in cut(batches, RUN_ROWS):
            if writer is None:
                writer = ipc.new_stream(file, batch.schema, options=_OPTIONS)
            writer.write_batch(batch)
        if writer is not None:
            writer.close()
    return run


def _read(run: Path) -> Iterator[pa.RecordBatch]:
    """The rows of a run, which is removed when all have been read."""
    with pa.OSFile(str(run), "rb") as file:
        yield from ipc.open_stream(file)
    run.unlink()


def _merged(runs: Iterable[Path], keys: Sequence[str]) -> Iterator[pa.RecordBatch]:
    readers = [_read(run) for run in runs]
    heads = [(next(reader), reader) for reader in readers]
    while heads:
        limit = min(_key(head, keys, -1) for head, _ in heads)
        taken, left = [], []
        for head, reader in heads:
            rows = bisect_right(range(head.num_rows), limit, key=partial(_key, head, keys))
            taken.append(head.slice(0, rows))
            rest = head.slice(rows) if rows < head.num_rows else next(reader, None)
            if rest is not None:
                left.append((rest, reader))
        yield ordered(joined(taken, taken[0].schema), keys)
        heads = left
