"""The workloads as lists of alternatives for `BlockTaskSet`, one block each.

``BlockTaskSet(binaries.Ending, period.Value(100))`` has one task for each workload that ends.
"""

from __future__ import annotations

from typing import Any

from taskgen_run.blocks import (
    cond_42,
    cond_mod,
    hey,
    idle,
    linpack,
    namaste,
    pi,
    tumatmul,
)

Greetings: list[dict[str, Any]] = [hey.HelloWorld, namaste.HelloWorld]
"""Those that print a greeting and end."""

Computing: list[dict[str, Any]] = [
    pi.Value(100_000),
    tumatmul.Value(50_000),
    linpack.Value(100),
]
"""Those that compute for some ms, the more the larger their argument."""

Conditional: list[dict[str, Any]] = [cond_42.Value(42), cond_mod.Value(2)]
"""Those whose argument decides about a short or a long job; here with that of a short one."""

Ending: list[dict[str, Any]] = [*Greetings, *Computing, *Conditional]
"""Those that end by themselves."""

All: list[dict[str, Any]] = [*Ending, idle.Endless]
"""All of them; `idle` never ends."""
