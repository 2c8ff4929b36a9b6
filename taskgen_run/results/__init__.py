'''Results: the files of an experiment, written while it runs and read back afterwards.

In the directory of an experiment lie ``jobs.parquet``, ``tasks.parquet``, ``tasksets.parquet``,
with ``trace=true`` ``segments.parquet``, when targets have failed ``hosts.parquet``, and
``experiment.json``. `taskgen_run.results.schemas`
documents every column. Rows are in the order of `taskset`, (`attempt`,) `task` and `job`, which
count from 0; times are int64 ns. A job that missed its deadline has `missed`; only the last
`attempt` at a variant counts.

One experiment, or all of a sweep with what tells them apart, in one Arrow table::

    from taskgen_run import results

    # Experiments of a directory: columns experiment, session, taskset_name, … come first.
    jobs = results.read("outputs/sweep")
    tasks = results.read("outputs/sweep/0", "tasks")
    print(results.summary("outputs/sweep/0"))  # jobs, worst response time, misses per task

A sweep ends with the path of its index, such as ``outputs/sweep-1a2b3c4d.json``, which `read`
takes, too: then experiments of other sweeps in the same directory are left out.

The same with DuckDB, which reads the files where they lie::

    import duckdb

    misses = duckdb.sql("""
        SELECT filename, task, count(*) AS jobs, max(end_ns - release_ns) AS worst_response_ns,
               count(*) FILTER (missed) AS deadline_misses
        FROM read_parquet('outputs/sweep/*/jobs.parquet', filename=true)
        GROUP BY ALL ORDER BY ALL
    """)
    print(misses)

with Polars::

    import polars as pl

    misses = (
        pl.scan_parquet("outputs/sweep/*/jobs.parquet", include_file_paths="filename")
        .group_by("filename", "task")
        .agg(
            pl.len().alias("jobs"),
            (pl.col("end_ns") - pl.col("release_ns")).max().alias("worst_response_ns"),
            pl.col("missed").sum().alias("deadline_misses"),
        )
        .sort("filename", "task")
        .collect()
    )
    print(misses)

and with pandas::

    import pandas as pd

    jobs = pd.read_parquet("outputs/sweep/0/jobs.parquet")
    tasks = pd.read_parquet("outputs/sweep/0/tasks.parquet")
    jobs["response_ns"] = jobs["end_ns"] - jobs["release_ns"]
    both = jobs.merge(tasks, on=["taskset", "task"])
    print(both.groupby("period").agg({"response_ns": "max", "missed": "sum"}))
'''

from taskgen_run.results.directory import Kind, State, state
from taskgen_run.results.index import write_index
from taskgen_run.results.intervals import Intervals
from taskgen_run.results.reader import read, summary, totals
from taskgen_run.results.writer import ResultWriter

__all__ = [
    "Intervals",
    "Kind",
    "ResultWriter",
    "State",
    "read",
    "state",
    "summary",
    "totals",
    "write_index",
]
