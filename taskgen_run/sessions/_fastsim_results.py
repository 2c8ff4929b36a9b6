"""The results of simulations that were made in several goes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from taskgen_run.sessions._fastsim_rows import Simulated


@dataclass(frozen=True, slots=True)
class Results:
    """Jobs, and segments if they were traced, of task sets; and where those of each one begin."""

    jobs: pa.RecordBatch
    job_bounds: NDArray[np.int64]
    segments: pa.RecordBatch | None
    segment_bounds: NDArray[np.int64]

    @classmethod
    def of(cls, simulated: Simulated, *, traced: bool) -> Results:
        """What came of one go."""
        return cls(
            simulated.jobs(),
            simulated.row_bounds(),
            simulated.stretches() if traced else None,
            simulated.segment_bounds(),
        )

    def replaced(self, positions: Sequence[int], others: Results) -> Results:
        """The same, with the results of the task sets at `positions` from `others`, in turn."""
        theirs = others.jobs, others.job_bounds
        jobs, job_bounds = _replaced((self.jobs, self.job_bounds), positions, theirs)
        if self.segments is None or others.segments is None:
            return Results(jobs, job_bounds, None, self.segment_bounds)
        theirs = others.segments, others.segment_bounds
        segments, bounds = _replaced((self.segments, self.segment_bounds), positions, theirs)
        return Results(jobs, job_bounds, segments, bounds)


Cut = tuple[pa.RecordBatch, NDArray[np.int64]]
"""Rows, and the bounds between which those of each task set lie."""


def _replaced(ours: Cut, positions: Sequence[int], theirs: Cut) -> Cut:
    rows, bounds = ours
    counts = np.diff(bounds)
    counts[positions] = np.diff(theirs[1])
    parts, done = [], 0
    for number, position in enumerate(positions):
        parts.append(rows.slice(bounds[done], bounds[position] - bounds[done]))
        first, last = theirs[1][number : number + 2]
        parts.append(theirs[0].slice(first, last - first))
        done = position + 1
    parts.append(rows.slice(bounds[done], bounds[-1] - bounds[done]))
    together = pa.Table.from_batches(parts).combine_chunks()
    batches = together.to_batches() or [rows.slice(0, 0)]
    return batches[0], np.concatenate([[0], np.cumsum(counts)])
