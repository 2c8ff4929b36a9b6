"""Memory does not grow with the number of variants."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import experiments

PROGRAM = """
import resource, sys
from pathlib import Path
sys.path.insert(0, sys.argv[1])
from experiments import FACTS, jobs, taskset
from taskgen_run.job import JobBatch
from taskgen_run.results import ResultWriter, sorting, tables

# Buffers of the same small size for few and many variants, so that only growth is seen.
tables.ROW_GROUP_ROWS = dict.fromkeys(tables.ROW_GROUP_ROWS, 4096)
tables.READ_ROWS = sorting.CHUNK_ROWS = 4096
sorting.RUN_ROWS = 256
count = int(sys.argv[3])
nothing = JobBatch.from_jobs([], taskset=0, attempt=0, host="h")
writer = ResultWriter.open(Path(sys.argv[2]), FACTS)
waiting = []
for variant in taskset(count).variants():
    waiting.append(variant)
    if len(waiting) == 8:  # out of order, as of eight hosts
        for late in waiting[::-1]:
            writer.on_start(late, "h", 0)
            writer.on_jobs(nothing)
            writer.on_finish(late, "h", 0)
        waiting = []
writer.finish("finished")
writer.close()
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024)
"""


def peak(directory: Path, count: int) -> int:
    """Peak resident memory in MiB of a process that writes `count` variants."""
    tests = Path(experiments.__file__).parent
    command = [sys.executable, "-c", PROGRAM, str(tests), str(directory), str(count)]
    return int(subprocess.run(command, check=True, capture_output=True, text=True).stdout)


def test_a_hundred_thousand_variants_take_no_more_than_a_few_thousand(tmp_path: Path) -> None:
    few = peak(tmp_path / "few", 8_000)
    many = peak(tmp_path / "many", 104_000)
    assert many < few + 24
    assert not (tmp_path / "many" / "sorting.tmp").exists()
