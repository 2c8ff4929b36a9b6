"""Building blocks of tasks, one module per family.

::

    from taskgen_run.blocks import hey, period, priority

    Task(hey.HelloWorld, period.Value(10), priority.Variants(1, 127))

Blocks of a workload name an executable with what it needs: ``hey.HelloWorld``, ``pi.Value(1000)``.
Blocks of an attribute hold that one attribute: ``Value`` one number, ``Variants`` each number of a
range in turn, ``Random`` one number of a range, drawn for each variant from the seed of the task
set. `binaries` lists the workloads.
"""

from __future__ import annotations

from taskgen_run.blocks import (
    binaries,
    caps,
    cond_42,
    cond_mod,
    criticaltime,
    deadline,
    hey,
    idle,
    linpack,
    namaste,
    numberofjobs,
    offset,
    period,
    pi,
    priority,
    quota,
    tumatmul,
)

__all__ = [
    "binaries",
    "caps",
    "cond_42",
    "cond_mod",
    "criticaltime",
    "deadline",
    "hey",
    "idle",
    "linpack",
    "namaste",
    "numberofjobs",
    "offset",
    "period",
    "pi",
    "priority",
    "quota",
    "tumatmul",
]
