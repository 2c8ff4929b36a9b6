"""The end of an experiment: from its journal to its Parquet files."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from itertools import chain
from pathlib import Path

import pyarrow as pa

from taskgen_run.results import files, tables
from taskgen_run.results.directory import Contents
from taskgen_run.results.schemas import HOSTS, KEYS, REQUIRED, TABLES
from taskgen_run.results.sorting import in_order


def publish(
    source: Contents, schemas: Mapping[str, pa.Schema], failed_hosts: pa.RecordBatch
) -> None:
    """Write the Parquet files of all variants that have ended; all appear at the same time.

    A table of segments or of failed hosts is left out where there are none. Raises OSError; then no
    file has appeared.
    """
    directory = source.directory
    whole: list[Path] = []
    absent: list[Path] = []
    try:
        for table in (*TABLES, HOSTS):
            path = files.parquet(directory, table)
            rows = iter([failed_hosts]) if table == HOSTS else _ordered(source, table)
            if table not in REQUIRED:
                first = next((batch for batch in rows if batch.num_rows), None)
                if first is None:
                    absent.append(path)
                    continue
                rows = chain([first], rows)
            whole.append(path)
            tables.write(files.temporary(path), table, schemas[table], rows)
            files.sync(files.temporary(path))
    except BaseException:
        for path in whole:
            files.temporary(path).unlink(missing_ok=True)
        raise
    for path in whole:
        files.temporary(path).replace(path)
    for path in absent:
        path.unlink(missing_ok=True)
    files.sync(directory)


def _ordered(source: Contents, table: str) -> Iterator[pa.RecordBatch]:
    def rows() -> Iterator[pa.RecordBatch]:
        batches = source.rows(table, source.finished, source.failed)
        return (batch for batch in batches if batch.num_rows)

    return in_order(rows, KEYS[table], source.directory / files.SORTING)
