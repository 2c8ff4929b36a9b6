"""Peak memory of writing the results of 10³ and of 10⁶ variants, each in a process of its own.

``python benchmarks/memory.py`` prints both peaks and their difference; other numbers of variants
can be given. The session does nothing: what is measured is the stream of variants and the result
writer, from the journal to the Parquet files.
"""

from __future__ import annotations

import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from taskgen_run.job import JobBatch
from taskgen_run.results import ResultWriter
from taskgen_run.task import Task
from taskgen_run.taskset import TaskSet
from taskgen_run.values import Range

MIB = 2**20
HOST = "127.0.0.1"


def process(count: int, directory: Path) -> None:
    """Write the results of `count` variants of one task, without jobs."""
    taskset = TaskSet([Task(period=10, executiontime=1, config={"arg1": Range(1, count)})])
    facts = {"fingerprint": "benchmark", "version": "benchmark", "seed": 0}
    nothing = JobBatch.from_jobs([], taskset=0, attempt=0, host=HOST)
    writer = ResultWriter.open(directory, facts)
    for variant in taskset.variants():
        writer.on_start(variant, HOST, 0)
        writer.on_jobs(nothing)
        writer.on_finish(variant, HOST, 0)
    writer.finish("finished")
    writer.close()


def peak(count: int) -> int:
    """Peak resident memory, in bytes, of a new process that processes `count` variants."""
    ended = subprocess.run(
        [sys.executable, __file__, "--child", str(count)],
        check=True,
        stdout=subprocess.PIPE,
        text=True,
    )
    return int(ended.stdout)


def main() -> None:
    """Print the peak of each number of variants."""
    if sys.argv[1:2] == ["--child"]:
        with tempfile.TemporaryDirectory() as directory:
            process(int(sys.argv[2]), Path(directory, "results"))
        print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024)
        return
    peaks = []
    for count in [int(argument) for argument in sys.argv[1:]] or [10**3, 10**6]:
        begin = time.perf_counter()
        peaks.append(peak(count))
        seconds = time.perf_counter() - begin
        print(f"{count:>9} variants: {peaks[-1] / MIB:6.1f} MiB, {seconds:6.1f} s", flush=True)
    print(f"difference: {(peaks[-1] - peaks[0]) / MIB:.1f} MiB")


if __name__ == "__main__":
    main()
