"""Blocks of the workload `linpack`, which solves a dense system of linear equations."""

from __future__ import annotations

from taskgen_run.blocks._families import workload_blocks

OPERATIONS_PER_MS = 500_000
"""A cautious estimate of floating-point speed; `make -C workloads calibrate` measures it."""

Value, Variants, Random = workload_blocks(
    {"pkg": "linpack", "criticaltime": 0, "quota": "4M", "caps": 235},
    "the order of the system",
    lambda first, last: (2 * last**3 / 3 + 2 * last**2) / OPERATIONS_PER_MS,
)
