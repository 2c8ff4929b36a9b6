"""The journal of a running experiment: what a killed run leaves behind for the next one.

A Parquet file without its end is unreadable, an Arrow IPC stream is not. So a running experiment
writes one such stream per table into the directory ``journal-<n>``, and only when it is done the
Parquet files. A *commit* is one record batch at the end of every stream, those of the variants
last. What a kill tears off is at most the last commit: those that are whole in all streams count.

A stream cannot be continued once its file was closed. A run that resumes copies what counts into
``journal-<n+1>.tmp``, renames it and goes on there; at any time one whole generation exists.
"""

from __future__ import annotations

import io
import os
import shutil
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from itertools import zip_longest
from pathlib import Path

import pyarrow as pa
from pyarrow import ipc

from taskgen_run.errors import InfrastructureError, one_line
from taskgen_run.results import files
from taskgen_run.results.schemas import TABLES, plain
from taskgen_run.results.streams import cut, joined

BATCH_ROWS = 2**15
"""More rows than this go into more than one batch, so that reading needs little memory."""

_OPTIONS = ipc.IpcWriteOptions(compression="lz4")


class Journal:
    """The newest generation of a journal, open for more commits.

    All methods raise InfrastructureError when the disk is full or the directory has gone; the
    journal then ends with its last whole commit, and nothing can be added to it any more.
    """

    def __init__(
        self,
        directory: Path,
        schemas: Mapping[str, pa.Schema],
        recovered: Mapping[str, Iterable[pa.RecordBatch]] | None = None,
    ) -> None:
        """Begin a new generation with the `recovered` rows and remove the earlier ones."""
        earlier = files.journals(directory)
        self.path = files.journal(directory, earlier[-1] + 1 if earlier else 0)
        self.commits = 0
        building = files.temporary(self.path)
        self._streams: list[_Stream] = []
        try:
            with files.disk(building):
                building.mkdir()
                for table in TABLES:
                    self._streams.append(_Stream(_stream(building, table), plain(schemas[table])))
                # A stream begins with its schema, which is written with the first batch.
                self._append([None] * len(TABLES))
                sources = (recovered or {}).get
                for batches in zip_longest(*(cut(sources(t, ()), BATCH_ROWS) for t in TABLES)):
                    self._append(batches)
                for stream in self._streams:
                    stream.sync()
                files.sync(building)
                building.rename(self.path)
                files.sync(directory)
                for number in earlier:
                    shutil.rmtree(files.journal(directory, number))
        except BaseException:
            self.close()
            raise

    def commit(self, rows: Mapping[str, pa.RecordBatch]) -> None:
        """Add rows of every table; they count, all or none, once this returns."""
        variants = TABLES[-1]
        parts = [list(cut([rows[table]], BATCH_ROWS)) for table in TABLES if table != variants]
        with files.disk(self.path):
            # What takes several batches counts with the last one, the one with the variants.
            for index in range(max(map(len, parts)) - 1, 0, -1):
                self._append([*(_from_end(batches, index) for batches in parts), None])
            self._append([*(_from_end(batches, 0) for batches in parts), rows[variants]])

    def _append(self, batches: Sequence[pa.RecordBatch | None]) -> None:
        for stream, batch in zip(self._streams, batches, strict=True):
            stream.append(batch)
        self.commits += 1

    def close(self) -> None:
        """Close the files; safe to call twice."""
        for stream in self._streams:
            stream.close()


def _from_end(batches: Sequence[pa.RecordBatch], index: int) -> pa.RecordBatch | None:
    return batches[-1 - index] if index < len(batches) else None


class _Stream:
    """One Arrow IPC stream, which grows by whole batches."""

    def __init__(self, path: Path, columns: pa.Schema) -> None:
        self._empty = joined([], columns)
        self._path = path
        self._pending = io.BytesIO()
        self._writer = ipc.new_stream(self._pending, columns, options=_OPTIONS)
        self._file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL)

    def append(self, batch: pa.RecordBatch | None) -> None:
        self._writer.write_batch(self._empty if batch is None else batch)
        if os.fstat(self._file).st_nlink == 0:
            raise FileNotFoundError(None, "it was removed meanwhile", str(self._path.parent))
        with self._pending.getbuffer() as data:
            written = 0
            while written < len(data):
                written += os.write(self._file, data[written:])
        self._pending.seek(0)
        self._pending.truncate()

    def sync(self) -> None:
        os.fsync(self._file)

    def close(self) -> None:
        if self._file >= 0:
            os.close(self._file)
            self._file = -1


def commits(path: Path) -> int:
    """How many commits of the journal in `path` are whole in all of its streams.

    Raises InfrastructureError for a journal that is damaged otherwise than by a kill.
    """
    return min(_count(_stream(path, table)) for table in TABLES)


def read(path: Path, table: str, count: int) -> Iterator[pa.RecordBatch]:
    """The rows of `table` in the first `count` commits of the journal in `path`."""
    stream = _stream(path, table)
    with _reading(stream), pa.OSFile(str(stream), "rb") as file:
        reader = ipc.open_stream(file)
        for _ in range(count):
            yield reader.read_next_batch()


def columns(path: Path, table: str) -> pa.Schema:
    """The schema of `table` in the journal in `path`."""
    stream = _stream(path, table)
    with _reading(stream), pa.OSFile(str(stream), "rb") as file:
        return ipc.open_stream(file).schema


def _stream(path: Path, table: str) -> Path:
    return path / f"{table}.arrows"


def _count(stream: Path) -> int:
    count = -1  # the first message is the schema
    with _reading(stream), pa.memory_map(str(stream)) as file:
        messages = ipc.MessageReader.open_stream(file)
        with suppress(StopIteration):
            while True:
                try:
                    messages.read_next_message()
                except (pa.ArrowException, OSError):
                    # A message that the end of the file cuts off is torn, any other is damaged.
                    if file.tell() < file.size() or count < 0:
                        raise
                    break
                count += 1
    return count


@contextmanager
def _reading(stream: Path) -> Iterator[None]:
    """Turn what PyArrow raises for a damaged stream into an error for people."""
    try:
        yield
    except (pa.ArrowException, OSError) as error:
        raise InfrastructureError(
            f"{stream}: the journal is damaged and cannot be continued: {one_line(error)}; "
            "restore it, or start anew with rerun=true"
        ) from error
