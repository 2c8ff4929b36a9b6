"""What waits for a processor: SimSo's queue of events at each."""

from __future__ import annotations

from typing import Any

from taskgen_run.simulator.compiling import compiled
from taskgen_run.simulator.layout import FULL, NONE, NOTE_BITS, NOTE_MASK, PREEMPT, RESCHED


@compiled
def leave_note(w: Any, cpu: int, kind: int, job: int) -> None:
    """Put a note into the queue of a processor."""
    record, size = w.cpus[cpu], w.notes.shape[1]
    w.notes[cpu, record.tail & (size - 1)] = job << NOTE_BITS | kind
    record.tail += 1
    if record.tail - record.head >= size:
        w.clock[0].status = FULL
    if kind != RESCHED:
        record.notes += 1
    w.clock[0].dirty = 1


@compiled
def ask_to_schedule(w: Any, cpu: int) -> None:
    """Have the scheduler called on a processor."""
    leave_note(w, cpu, RESCHED, NONE)


@compiled
def take_note(w: Any, cpu: int) -> int:
    """The first note of a processor that has one."""
    record = w.cpus[cpu]
    note = w.notes[cpu, record.head & (w.notes.shape[1] - 1)]
    record.head += 1
    kind = note & NOTE_MASK
    if kind != RESCHED:
        record.notes -= 1
        if kind == PREEMPT:
            record.preempts -= 1
    return int(note)


@compiled
def note_preemption(w: Any, cpu: int) -> None:
    """Leave the one PREEMPT that a processor may have, at the end of its queue."""
    record, mask = w.cpus[cpu], w.notes.shape[1] - 1
    if record.preempts > 0:
        kept = record.head
        for place in range(record.head, record.tail):
            note = w.notes[cpu, place & mask]
            if note & NOTE_MASK != PREEMPT:
                w.notes[cpu, kept & mask] = note
                kept += 1
        record.notes -= record.tail - kept
        record.tail = kept
        record.preempts = 0
    record.preempts += 1
    leave_note(w, cpu, PREEMPT, NONE)
