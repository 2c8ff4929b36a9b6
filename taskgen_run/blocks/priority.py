"""Blocks of `priority`: 0 is the highest, 127 the lowest, and 128 means EDF on the deadline."""

from __future__ import annotations

from taskgen_run.blocks._families import attribute_blocks
from taskgen_run.task import PRIORITY_EDF

Value, Variants, Random = attribute_blocks("priority", "0 high … 127 low, 128 EDF")

High = Value(0)
"""The highest priority."""

Medium = Value(64)
"""The middle of the fixed priorities."""

Low = Value(127)
"""The lowest fixed priority."""

EDF = Value(PRIORITY_EDF)
"""Scheduled by EDF on the deadline."""

HighRandom = Random(0, 42)
"""A priority in the highest third, drawn per variant."""

MediumRandom = Random(43, 85)
"""A priority in the middle third, drawn per variant."""

LowRandom = Random(86, 127)
"""A priority in the lowest third, drawn per variant."""
