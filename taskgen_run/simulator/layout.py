"""How the simulator's state lies in memory. Times are int64 ns; -1 stands for none."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

NONE = -1

# How a scheduler orders and hands out the processors, after SimSo's classes.
RM, FP, EDF, RM_MONO, EDF_MONO = range(5)

# What an event of the event list resumes; its number is `id << 3 | kind`.
KIND_BITS, KIND_MASK = 3, 7
JOB, CPU, TASK, TIMER_START, TIMER_END = range(5)

# What waits for a processor, `job << 2 | note`.
NOTE_BITS, NOTE_MASK = 2, 3
RESCHED, ACTIVATE, TERMINATE, PREEMPT = range(4)

# Where a processor's loop stands.
BEGINNING, CONTEXT, LOADING, WAITING, SAVING, DECIDING, DECIDED, HANDLED = range(8)

# What a processor of a direct simulation has instead of a job whose end it is to handle.
ENDED = -2

# Where a job stands.
NEW, PASSIVE, HOLDING, OVER = range(4)

# Why a simulation ended.
DONE, FULL, FOREIGN = range(3)

# How a job ended: the places in the dictionary of the results.
FINISHED, KILLED, SKIPPED, UNFINISHED = 0, 1, 4, 6

TASK_BITS, TASK_MASK = 32, 2**32 - 1
"""A job of a task, where one number names both: `job << 32 | task`."""

INFINITY = 2**62
"""The key of what comes last."""

NEVER = 2**54
"""An instant after all others of a direct simulation."""

FEW, FEW_BITS, FEW_MASK = 128, 7, 127
"""So many tasks are few. Where they are, one number names an instant and a task."""

NO_DEADLINE = 2**52
"""The relative deadline of a job without one: later than the end of any simulation."""

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
            "noted",
            "events",
            "fifo_head",
            "fifo_tail",
            "waiting",
            "ready",
            "ready_seq",
            "starting",
            "timers",
            "segments",
            "tracing",
            "skipping",
            "by_index",
            "keeping",
            "schedule_overhead",
            "activate_overhead",
            "terminate_overhead",
            "context_save",
            "context_load",
        )
    ],
    align=True,
)
"""The one record of what a simulation is at.

`events`, `waiting`, `ready`, `starting`, `timers` and `segments` count the entries of the arrays
of that name. `skipping`: jobs released while one is late are; `by_index`: of equals
the first task goes first; `keeping`: a job keeps its processor to its end.
"""

TASK_INPUT = np.dtype(
    [
        (name, np.int64)
        for name in ("offset", "period", "count", "deadline", "kill_after", "wcet", "key", "row")
    ]
)
"""A task: `count` releases, from `offset` on every `period`. `deadline` is relative, as schedulers
read it; `key` orders static priorities, the smallest first. `row` is where its jobs' results go."""

PART = np.dtype(
    [(name, np.int64) for name in ("first", "last", "cpus", "cpu", "horizon")], align=True
)
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
        )
    ],
    align=True,
)
"""`since` is when the job was last given the processor; `executed` is the time before that. It is
`listed` so many times as ready, and `unlisted` entries of it are to be passed over."""

HEAD = np.dtype(
    [
        (name, np.int64)
        for name in (
            "number",
            "created",
            "posted",
            "left",
            "since",
            "start",
            "last_stop",
            "preemptions",
            "last_segment",
            "key",
            "seq",
            "migrations",
            "cpu",
            "last_cpu",
            "going",
        )
    ],
    align=True,
)
"""A task in a direct simulation, and the first of its jobs that has not ended, job
`number`: it has `left` to execute, and what orders it among the ready ones is `key` and `seq`.
`posted` counts the next release among what is posted. `cpu` is the processor that the task had
last, `last_cpu` the one where the job last executed; `going` is the number of what was posted for
the job to go on."""

SEAT = np.dtype(
    [
        (name, np.int64)
        for name in (
            "stage",
            "running",
            "job",
            "key",
            "end_seq",
            "notes",
            "taken",
            "calls",
            "told",
            "touched",
            "waits",
            "target",
            "chosen",
        )
    ],
    align=True,
)
"""A processor in a direct simulation. As the scheduler has it, `running` with `key` is its task; as
itself has it, `job`. `notes` of which some are `taken`, `calls` of the scheduler, and whether it is
`told` of a decision, are what it has to do; it is `touched` once it has done anything."""

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
    ],
    align=True,
)
"""`notes` counts what waits that is no RESCHED, `preempts` the PREEMPTs."""

ENTRY = np.dtype([(name, np.int64) for name in ("first", "second", "third")], align=True)
"""Of a heap: time, order of posting and what it is of an event; key, order and job of a ready one.
"""

POSTED = np.dtype([(name, np.int64) for name in ("code", "seq")], align=True)
SEGMENT = np.dtype([(name, np.int64) for name in ("job", "cpu", "start", "end")], align=True)


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
    heads: Any
    jobs: Any
    cpus: Any
    events: Any
    fifo: Any
    ready: Any
    notes: Any
    waiting: Any
    starting: Any
    timers: Any
    soon: Any
    times: Any
    turns: Any
    seats: Any
    ends: Any
    segments: Any
