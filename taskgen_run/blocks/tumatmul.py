"""Blocks of the workload `tumatmul`, which finds the primes up to a number with a sieve."""

from __future__ import annotations

from taskgen_run.blocks._families import workload_blocks

NUMBERS_PER_MS = 50_000
"""A cautious estimate of how fast the sieve proceeds; `make -C workloads calibrate` measures it."""

Value, Variants, Random = workload_blocks(
    {"pkg": "tumatmul", "criticaltime": 0, "quota": "4M", "caps": 235},
    "the largest number that may be a prime",
    lambda first, last: last / NUMBERS_PER_MS,
)
