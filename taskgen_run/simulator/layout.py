"""How the simulator's state lies in memory. Times are int64 ns; -1 stands for none."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

NONE = -1

# How a scheduler orders and hands out the processors, after SimSo's classes.
RM, FP, EDF, RM_MONO, EDF_MONO = range(5)

# What an event of the event list resumes; its number is `id * KINDS + kind`.
KINDS = 8
JOB, CPU, TASK, TIMER_START, TIMER_END = range(5)

# What waits for a processor, `job * NOTES + note`.
NOTES = 4
RESCHED, ACTIVATE, TERMINATE, PREEMPT = range(4)

# Where a processor's loop stands.
BEGINNING, CONTEXT, LOADING, WAITING, SAVING, DECIDING, DECIDED, HANDLED = range(8)

# Where a job stands.
NEW, PASSIVE, HOLDING, OVER = range(4)

# Why a simulation ended.
DONE, FULL, FOREIGN = range(3)

# How a job ended.
FINISHED, KILLED, UNFINISHED, SKIPPED = range(4)

INFINITY = np.int64(2**62)
"""The key of what comes last."""

CLOCK = np.dtype(
    [
        (name, np.int64)
        for name in (
            "now",
            "horizon",
            "seq",
            "status",
            "scheduler",
            "cpus",
            "tasks",
            "locked",
            "dirty",
            "events",
            "fifo_head",
            "fifo_tail",
            "waiting",
            "ready",
            "ready_live",
            "ready_seq",
            "segments",
            "tracing",
            "skipping",
            "schedule_overhead",
            "activate_overhead",
            "terminate_overhead",
            "context_save",
            "context_load",
        )
    ]
)
"""The one record of what a simulation is at. `events`, `waiting`, `ready` and `segments` count the
entries of the arrays of that name; `ready_live` leaves out what was removed from the middle."""

TASK_INPUT = np.dtype(
    [
        (name, np.int64)
        for name in ("offset", "period", "count", "deadline", "kill_after", "wcet", "key", "row")
    ]
)
"""A task: `count` releases, from `offset` on every `period`. `deadline` is relative, as schedulers
read it; `key` orders static priorities, the smallest first. `row` is where its jobs' results go."""

PART = np.dtype([(name, np.int64) for name in ("first", "last", "cpus", "cpu", "horizon")])
"""A simulation: tasks from `first` to before `last`, on `cpus` processors numbered from `cpu`."""

TASK_STATE = np.dtype(
    [(name, np.int64) for name in ("base", "created", "begun", "current", "cpu", "next_release")]
)
"""Its job *n* is row `base + n`; `current` is the first that has not ended."""

JOB_STATE = np.dtype(
    [
        (name, np.int64)
        for name in (
            "release",
            "deadline",
            "executed",
            "wcet",
            "since",
            "executing_since",
            "start",
            "end",
            "last_stop",
            "next_time",
            "seq",
        )
    ]
    + [
        (name, np.int32)
        for name in (
            "task",
            "preemptions",
            "migrations",
            "last_segment",
            "stretch_cpu",
            "last_cpu",
            "listed",
            "unlisted",
        )
    ]
    + [
        (name, np.int8)
        for name in (
            "stage",
            "interrupted",
            "context_ok",
            "announced",
            "aborted",
            "skipped",
            "pad0",
            "pad1",
        )
    ]
)
"""`since` is when the job was last given the processor; `executed` is the time before that. It is
`listed` so many times as ready, and `unlisted` entries of it are to be passed over."""

CPU_STATE = np.dtype(
    [
        (name, np.int64)
        for name in (
            "stage",
            "job",
            "running",
            "occupant",
            "executing",
            "idle_since",
            "decided_job",
            "decided_cpu",
            "head",
            "tail",
            "notes",
            "preempts",
        )
    ]
)
"""`notes` counts what waits that is no RESCHED, `preempts` the PREEMPTs."""

EVENT = np.dtype([("time", np.int64), ("seq", np.int64), ("code", np.int64)])
POSTED = np.dtype([("code", np.int64), ("seq", np.int64)])
READY = np.dtype([("key", np.int64), ("seq", np.int64), ("job", np.int64)])
SEGMENT = np.dtype([("job", np.int64), ("cpu", np.int64), ("start", np.int64), ("end", np.int64)])


class Rows(NamedTuple):
    """What is found out about each job: one array for each column."""

    start: Any
    end: Any
    outcome: Any
    preemptions: Any
    migrations: Any


class Machine(NamedTuple):
    """All memory of one simulation, sized once; it is used again for the next one."""

    clock: Any
    inputs: Any
    tasks: Any
    jobs: Any
    cpus: Any
    events: Any
    fifo: Any
    ready: Any
    notes: Any
    waiting: Any
    segments: Any
