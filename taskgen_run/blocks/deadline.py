"""Blocks of `deadline`, relative to the release; being late does not kill a job."""

from __future__ import annotations

from taskgen_run.blocks._families import attribute_blocks

Value, Variants, Random = attribute_blocks("deadline", "ms, 0 for none")
