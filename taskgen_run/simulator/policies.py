"""SimSo's schedulers: RM, FP (which serves as DM), EDF, and for one processor RM_mono, EDF_mono."""

from __future__ import annotations

from typing import Any

from taskgen_run.simulator.compiling import compiled
from taskgen_run.simulator.layout import (
    EDF,
    EDF_MONO,
    FP,
    NONE,
    RM,
    RM_MONO,
)
from taskgen_run.simulator.notes import ask_to_schedule
from taskgen_run.simulator.ready import (
    append_ready,
    first_ready,
    pop_ready,
    push_ready,
    remove_ready,
)


@compiled
def key_of(w: Any, job: int) -> int:
    """What orders the jobs: the smallest first."""
    scheduler = w.clock[0].scheduler
    if scheduler in (EDF, EDF_MONO):
        return int(w.jobs[job].deadline)
    return int(w.inputs[w.jobs[job].task].key)


@compiled
def is_running(w: Any, job: int) -> bool:
    """Whether its task's processor is given to the job."""
    return bool(w.cpus[w.tasks[w.jobs[job].task].cpu].running == job)


@compiled
def may_be_ready(w: Any, job: int) -> None:
    """EDF looks at tasks, not at a list: a job became the first of its task, or was displaced."""
    if w.clock[0].scheduler == EDF and w.jobs[job].listed == 0 and w.jobs[job].end == NONE:
        push_ready(w, w.jobs[job].deadline, w.jobs[job].task, job)


@compiled
def on_activate(w: Any, job: int) -> None:
    """The scheduler is told that a job is ready."""
    if w.clock[0].scheduler != EDF:
        append_ready(w, key_of(w, job), job)
    ask_to_schedule(w, w.tasks[w.jobs[job].task].cpu)


@compiled
def on_terminated(w: Any, job: int) -> None:
    """The scheduler is told that a job ended."""
    scheduler = w.clock[0].scheduler
    waited = scheduler != EDF and remove_ready(w, job)
    if scheduler != RM or not waited:
        ask_to_schedule(w, w.tasks[w.jobs[job].task].cpu)


@compiled
def schedule(w: Any, own: int) -> None:
    """Decide, and note it at the processor `own` that does so: which job on which processor."""
    clock = w.clock[0]
    scheduler = clock.scheduler
    cpu = w.cpus[own]
    cpu.decided_cpu = NONE
    if scheduler in (RM_MONO, EDF_MONO):
        cpu.decided_job = first_ready(w)
        cpu.decided_cpu = own
        return
    job = _first_waiting(w) if scheduler == EDF else first_ready(w)
    if job == NONE:
        return
    best = _processor(w, own)
    running = w.cpus[best].running
    if running != NONE and (clock.keeping or key_of(w, running) <= key_of(w, job)):
        return
    if scheduler in (RM, FP):
        pop_ready(w)
        if running != NONE:
            append_ready(w, key_of(w, running), running)
    cpu.decided_job = job
    cpu.decided_cpu = best


@compiled
def _first_waiting(w: Any) -> int:
    """The job with the earliest deadline, of the first task, that waits."""
    while True:
        job = first_ready(w)
        if job == NONE:
            return NONE
        record = w.jobs[job]
        if record.end == NONE and w.tasks[record.task].current == job and not is_running(w, job):
            return job
        pop_ready(w)


@compiled
def _processor(w: Any, own: int) -> int:
    """An idle processor, or the one whose job comes last; `own` where that is the same."""
    cpus = w.cpus
    if cpus[own].running == NONE:
        return own
    best, best_key = own, key_of(w, cpus[own].running)
    for other in range(w.clock[0].cpus):
        running = cpus[other].running
        if running == NONE:
            return other
        key = key_of(w, running)
        if key > best_key:
            best, best_key = other, key
    return best
