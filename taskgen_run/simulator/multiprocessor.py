"""Several processors under a global scheduler, whose kernel costs nothing, without the event list.

At most instants one job ends, or one becomes the first of its task. Then SimSo's processors have
no occasion to overtake each other: the one that is told decides once, goes on with its job, if it
still has one, and the one that gets another job begins it after that. Where more takes place,
`cascade` follows what each processor does. An end was posted when its job went on last, a release
when the one before it took place; what was posted first comes first.

It holds where every job has work and none is killed: a job that a scheduler has chosen is then
there when the choice is carried out. A test compares every result with `loop`.
"""

from __future__ import annotations

from typing import Any

from taskgen_run.simulator.cascade import post_end, post_job, run_cascade
from taskgen_run.simulator.compiling import called, compiled
from taskgen_run.simulator.layout import (
    DONE,
    FINISHED,
    NEVER,
    NONE,
    UNFINISHED,
    WAITING,
)
from taskgen_run.simulator.releases import begin_releases, next_release, next_task, post_release
from taskgen_run.simulator.seats import (
    announce,
    assign,
    become_first,
    choose_seat,
    finish,
    go_on,
    stop,
    take_first,
    write_row,
)


@called
def simulate_many(w: Any, rows: Any) -> None:
    """Run what `w` is prepared for, and write its rows; the status is DONE, or FULL.

    The jobs that become the first of their task are in `fifo`, with the processors whose jobs end.
    """
    clock = w.clock[0]
    horizon = clock.horizon
    _begin(w)
    while clock.status == DONE:
        release = next_release(w)
        end, own, alone = _next_end(w)
        now = min(release, end)
        if now >= horizon:
            break
        clock.now = now
        clock.fifo_head = clock.fifo_tail = 0
        if release < end:
            while next_release(w) == now:
                _release(w)
            if clock.fifo_tail == 1:
                clock.fifo_tail = 0
                _start_alone(w, w.fifo[0].code)
        elif end < release and alone:
            following = finish(w, rows, own)
            if following == NONE:
                if clock.ready > 0:
                    task = take_first(w, own)
                    assign(w, own, task)
                    w.seats[own].job = task
                    go_on(w, own, task)
                else:
                    w.seats[own].job = NONE
            else:
                post_job(w, following)
                post_end(w, own, following)
        else:
            _take_in_turn(w, rows)
        if clock.fifo_tail > 0:
            run_cascade(w)
    if clock.status == DONE:
        _close(w, rows)


@compiled
def _begin(w: Any) -> None:
    clock = w.clock[0]
    clock.now = clock.seq = clock.status = 0
    clock.ready = clock.ready_seq = clock.segments = 0
    for own in range(clock.cpus):
        seat = w.seats[own]
        seat.stage = WAITING
        seat.running = seat.job = NONE
        seat.notes = seat.taken = seat.calls = seat.told = 0
        seat.touched = 0
        seat.waits = 1
        w.ends[own] = NEVER
    for task in range(clock.tasks):
        head = w.heads[task]
        head.number = NONE
        head.created = 0
        head.cpu = 0
    begin_releases(w)


@compiled
def _next_end(w: Any) -> tuple[int, int, bool]:
    """The first end that is to come, on which processor, and whether it is the only one then."""
    end, own, alone = NEVER, 0, True
    for other in range(w.clock[0].cpus):
        time = w.ends[other]
        if time < end:
            end, own, alone = time, other, True
        elif time == end:
            alone = False
    return end, own, alone


@compiled
def _release(w: Any) -> None:
    """Release the next job, and post the release after it."""
    task = next_task(w)
    head, given = w.heads[task], w.inputs[task]
    number = head.created
    head.created = number + 1
    if head.number == NONE:
        become_first(w, task, number)
        post_job(w, task)
    more = number + 1 < given.count
    post_release(w, task, w.clock[0].now + given.period if more else NEVER)


@compiled
def _start_alone(w: Any, task: int) -> None:
    """Only this job becomes the first of its task, and nothing else takes place."""
    clock = w.clock[0]
    own = w.heads[task].cpu
    announce(w, task)
    target = choose_seat(w, own)
    seat = w.seats[own]
    if target != own and seat.running != NONE:
        clock.seq += 1
        seat.end_seq = clock.seq
    if target != NONE:
        displaced = w.seats[target].running
        if displaced != NONE:
            stop(w, displaced)
        first = take_first(w, target)
        assign(w, target, first)
        w.seats[target].job = first
        go_on(w, target, first)


@compiled
def _take_in_turn(w: Any, rows: Any) -> None:
    """Ends and releases of one instant, in the order in which they were posted."""
    now = w.clock[0].now
    while True:
        own, first = NONE, NEVER
        for other in range(w.clock[0].cpus):
            if w.ends[other] == now and w.seats[other].end_seq < first:
                own, first = other, w.seats[other].end_seq
        if next_release(w) == now and w.heads[next_task(w)].posted < first:
            _release(w)
        elif own != NONE:
            task = w.seats[own].running
            following = finish(w, rows, own)
            if following != NONE:
                post_job(w, following)
            post_end(w, own, task)
        else:
            break


@compiled
def _close(w: Any, rows: Any) -> None:
    """Write the rows of the jobs that have not ended by the horizon."""
    clock = w.clock[0]
    clock.now = horizon = clock.horizon
    for task in range(clock.tasks):
        head = w.heads[task]
        if head.number == NONE:
            continue
        ended = False
        own = head.cpu
        if w.seats[own].running == task:
            ended = w.ends[own] == horizon
            stop(w, task)
        elif head.last_stop != NONE:
            head.preemptions += 1
        write_row(w, rows, task, horizon if ended else NONE, FINISHED if ended else UNFINISHED)
        head.start = NONE
        head.preemptions = head.migrations = 0
        while head.number + 1 < head.created:
            head.number += 1
            write_row(w, rows, task, NONE, UNFINISHED)
