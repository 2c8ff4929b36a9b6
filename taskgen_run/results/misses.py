"""Which jobs missed their deadline."""

from __future__ import annotations

from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from taskgen_run.job import Outcome

_REFUSED = pa.array([Outcome.NOT_SCHEDULED.value, Outcome.OUT_OF_QUOTA.value])


def missed(jobs: pa.RecordBatch, horizon_ns: pa.Array[Any]) -> pa.Array[Any]:
    """Whether each job missed its deadline; null where that is not known.

    `jobs` has the columns of `job.JOB_SCHEMA`; `horizon_ns` is, row by row, the instant up to
    which the job's task set was observed. A job misses its deadline when it finishes after it;
    when it ends otherwise (a kill, an error, …) and had not finished by it; when it has no end and
    the deadline is not after the horizon; and when it is refused (not scheduled, no memory). A job
    without a deadline misses none; where the release is unknown, so is the deadline.
    """
    deadline, end = jobs["deadline_ns"], jobs["end_ns"]
    late = pc.if_else(
        pc.equal(jobs["outcome"], pa.scalar(Outcome.FINISHED.value)),
        pc.greater(end, deadline),
        pc.greater_equal(end, deadline),
    )
    refused = pc.and_(pc.is_in(jobs["outcome"], _REFUSED), pc.is_valid(deadline))
    overdue = pc.or_kleene(refused, pc.less_equal(deadline, horizon_ns))
    known = pc.if_else(pc.is_valid(end), late, overdue)
    without = pc.and_(pc.is_null(deadline), pc.is_valid(jobs["release_ns"]))
    decided: pa.Array[Any] = pc.if_else(without, pa.scalar(False), known)
    return decided
