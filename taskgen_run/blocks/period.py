"""Blocks of `period`, the time between two releases."""

from __future__ import annotations

from taskgen_run.blocks._families import attribute_blocks

Value, Variants, Random = attribute_blocks("period", "ms, 0 for one single job")
