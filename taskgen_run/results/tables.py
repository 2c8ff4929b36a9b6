"""Parquet files of tables: written always the same, and read back in pieces."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from taskgen_run.errors import ConfigurationError, one_line
from taskgen_run.job import OUTCOMES
from taskgen_run.results.schemas import FORMAT, HOSTS, VARIANT_OUTCOMES, format_of, plain
from taskgen_run.results.streams import as_schema, cut

ROW_GROUP_ROWS: Mapping[str, int] = {
    "jobs": 2**16,
    "segments": 2**16,
    "tasks": 2**13,  # wide rows, and one per task: what is written at a time is what memory costs
    "tasksets": 2**13,
    HOSTS: 2**13,
}
"""Rows of each row group of a table but the last; they depend on nothing else."""

_GROWING = ("job", "release_ns", "start_ns", "end_ns", "deadline_ns", "horizon_ns")
"""Columns of whole numbers that grow from row to row: their differences take less room and time
than a dictionary of all values. Most values of the other columns come again and again."""

READ_ROWS = 2**14
"""Rows that are read at a time."""

_OUTCOMES: Mapping[str, pa.Array[Any]] = {"jobs": OUTCOMES, "tasksets": VARIANT_OUTCOMES}


def write(path: Path, table: str, columns: pa.Schema, rows: Iterable[pa.RecordBatch]) -> None:
    """Write the Parquet file of `table` with zstd.

    Its bytes depend on the rows and their order, not on how they are batched. Raises OSError.
    """
    import pyarrow.parquet as pq

    growing = [name for name in columns.names if name in _GROWING]
    encodings: dict[str, Any] = {
        "use_dictionary": [name for name in columns.names if name not in growing],
        "column_encoding": dict.fromkeys(growing, "DELTA_BINARY_PACKED") or None,
    }
    with pq.ParquetWriter(path, columns, compression="zstd", **encodings) as writer:
        for batch in cut(rows, ROW_GROUP_ROWS[table]):
            writer.write_batch(encoded(batch, table, columns), row_group_size=batch.num_rows)
            pa.default_memory_pool().release_unused()  # it would keep some row groups' worth


def read(path: Path) -> Iterator[pa.RecordBatch]:
    """The rows of a Parquet file, with text instead of dictionaries, a few at a time.

    Raises ConfigurationError for a file that is not one of this version's results.
    """
    import pyarrow.parquet as pq

    with _reading(path), pq.ParquetFile(path) as file:
        _check_format(path, file.schema_arrow)
        columns = plain(file.schema_arrow)
        for batch in file.iter_batches(READ_ROWS):
            yield as_schema(batch, columns)


def read_whole(path: Path) -> pa.Table:
    """A Parquet file as one table; raises as `read`."""
    import pyarrow.parquet as pq

    with _reading(path), pq.ParquetFile(path) as file:
        _check_format(path, file.schema_arrow)
        return file.read()


def read_schema(path: Path) -> pa.Schema:
    """The schema of a Parquet file; raises as `read`."""
    import pyarrow.parquet as pq

    with _reading(path), pq.ParquetFile(path) as file:
        _check_format(path, file.schema_arrow)
        return file.schema_arrow


def encoded(batch: pa.RecordBatch, table: str, columns: pa.Schema) -> pa.RecordBatch:
    """A batch of text in the schema `columns`, whose dictionaries depend on the rows only."""
    arrays = []
    for field in columns:
        array = batch.column(field.name)
        if field.name == "outcome":
            values = _OUTCOMES[table]
            indices = pc.index_in(array, values).cast(field.type.index_type)
            array = pa.DictionaryArray.from_arrays(indices, values)
        elif pa.types.is_dictionary(field.type):
            array = array.dictionary_encode().cast(field.type)
        arrays.append(array)
    return pa.RecordBatch.from_arrays(arrays, schema=columns)


def _check_format(path: Path, columns: pa.Schema) -> None:
    found = format_of(columns)
    if found is None:
        raise ConfigurationError(f"{path}: was not written by taskgen_run; give its directory")
    if found != FORMAT:
        raise ConfigurationError(
            f"{path}: format must be {FORMAT}, got {found}; read it with the version of "
            "taskgen_run that wrote it, or run the experiment again with rerun=true"
        )


@contextmanager
def _reading(path: Path) -> Iterator[None]:
    try:
        yield
    except (pa.ArrowException, OSError) as error:
        raise ConfigurationError(f"{path}: cannot be read: {one_line(error)}") from error
