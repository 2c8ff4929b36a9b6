"""Blocks of `numberofjobs`, which a task releases."""

from __future__ import annotations

from taskgen_run.blocks._families import attribute_blocks

Value, Variants, Random = attribute_blocks("numberofjobs", "a number of jobs, 0 for without end")
