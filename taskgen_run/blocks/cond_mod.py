"""Blocks of the workload `cond_mod`, which is short or long as its argument says."""

from __future__ import annotations

from taskgen_run.blocks._families import workload_blocks

LONG_MS = 100
"""A cautious estimate of how long it counts; `make -C workloads calibrate` measures it."""

Value, Variants, Random = workload_blocks(
    {"pkg": "cond_mod", "criticaltime": 0, "quota": "1M", "caps": 235},
    "even for a short job",
    lambda first, last: 1 if first == last and last % 2 == 0 else LONG_MS,
)
