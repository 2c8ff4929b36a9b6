"""Blocks of `criticaltime`, after which a job is killed."""

from __future__ import annotations

from taskgen_run.blocks._families import attribute_blocks

Value, Variants, Random = attribute_blocks("criticaltime", "ms, 0 for never")
