"""Blocks of the workload `pi`, which sums terms of the Leibniz series."""

from __future__ import annotations

from taskgen_run.blocks._families import workload_blocks

TERMS_PER_MS = 100_000
"""A cautious estimate of how fast terms are summed; `make -C workloads calibrate` measures it."""

Value, Variants, Random = workload_blocks(
    {"pkg": "pi", "criticaltime": 0, "quota": "1M", "caps": 235},
    "the number of terms",
    lambda first, last: last / TERMS_PER_MS,
)
