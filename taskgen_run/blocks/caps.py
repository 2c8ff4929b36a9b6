"""Blocks of `caps`, the Genode capabilities of a job."""

from __future__ import annotations

from taskgen_run.blocks._families import attribute_blocks

Value, Variants, Random = attribute_blocks("caps", "a number of capabilities")
