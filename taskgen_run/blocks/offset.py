"""Blocks of `offset`, the delay of the first release."""

from __future__ import annotations

from taskgen_run.blocks._families import attribute_blocks

Value, Variants, Random = attribute_blocks("offset", "ms")
