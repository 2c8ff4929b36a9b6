"""What is kept of the execution of jobs: stretches, preemptions and migrations.

As `taskgen_run.sessions.simso` defines them.
"""

from __future__ import annotations

from typing import Any

from taskgen_run.simulator.compiling import compiled
from taskgen_run.simulator.layout import FULL, NONE


@compiled
def begin_stretch(w: Any, job: int) -> None:
    """A job begins to execute on the processor of its task."""
    record = w.jobs[job]
    cpu = w.tasks[record.task].cpu
    record.stretch_cpu = cpu
    record.since = record.executing_since = w.clock[0].now
    w.cpus[cpu].executing = job


@compiled
def end_stretch(w: Any, job: int) -> None:
    """A job stops to execute, if it does."""
    record = w.jobs[job]
    since, now = record.since, w.clock[0].now
    if since == NONE:
        return
    record.since = NONE
    place = record.stretch_cpu
    cpu = w.cpus[place]
    cpu.executing = NONE
    if now == since:
        return
    record.executed += now - since
    if record.start == NONE:
        record.start = since
    elif record.last_cpu != place:
        record.preemptions += 1
        record.migrations += 1
    elif cpu.occupant != job:
        record.preemptions += 1
    cpu.occupant = job
    record.last_cpu = place
    record.last_stop = now
    if w.clock[0].tracing:
        keep_segment(w, record, job, place, since, now)


@compiled
def keep_segment(w: Any, record: Any, job: int, cpu: int, since: int, now: int) -> None:
    """Keep a stretch of a job, or make the one before longer; `record` knows its last segment."""
    clock = w.clock[0]
    last = record.last_segment
    if last != NONE and w.segments[last].cpu == cpu and w.segments[last].end == since:
        w.segments[last].end = now
        return
    place = clock.segments
    if place >= w.segments.size:
        clock.status = FULL
        return
    segment = w.segments[place]
    segment.job = job
    segment.cpu = cpu
    segment.start = since
    segment.end = now
    record.last_segment = place
    clock.segments = place + 1


@compiled
def note_loss(w: Any, job: int) -> None:
    """Count the preemption of a job that, by now, did not go on again."""
    record, now = w.jobs[job], w.clock[0].now
    stop = record.last_stop
    if stop == NONE or stop >= now:
        return
    cpu = w.cpus[record.last_cpu]
    if cpu.occupant != job:
        record.preemptions += 1
    elif cpu.idle_since != NONE:
        if cpu.idle_since < now:
            record.preemptions += 1
    elif cpu.executing != NONE and w.jobs[cpu.executing].executing_since < now:
        record.preemptions += 1
