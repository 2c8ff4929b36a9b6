"""One processor whose kernel costs nothing: what the event list comes to there, without the list.

At an instant the ends, releases and kills take place in the order in which they were posted: a
release when the one before it took place, a kill when its job was released, an end when its job
was last given the processor, which is after both. Then the jobs that became first of their task
are ready in that order, and there is one decision. A test compares every result with `loop`.
"""

from __future__ import annotations

from typing import Any

from taskgen_run.simulator.compiling import called, compiled
from taskgen_run.simulator.heap import sift_down, sift_up
from taskgen_run.simulator.layout import (
    DONE,
    EDF,
    EDF_MONO,
    FINISHED,
    FULL,
    KILLED,
    NEVER,
    NONE,
    RM_MONO,
    SKIPPED,
    TASK_BITS,
    TASK_MASK,
    UNFINISHED,
)
from taskgen_run.simulator.line import first_place, leave_line, line_up
from taskgen_run.simulator.releases import begin_releases, next_release, next_task, post_release
from taskgen_run.simulator.stretches import keep_segment


@called
def simulate_one(w: Any, rows: Any) -> None:
    """Run what `w` is prepared for, and write its rows; the status is DONE, or FULL.

    A job is ready when it becomes the first of its task; `asked` tells until which the scheduler
    knows them.
    """
    clock = w.clock[0]
    horizon = clock.horizon
    _begin(w)
    running = NONE
    end_time, end_seq, asked = NEVER, 0, 0
    while clock.status == DONE:
        release = next_release(w)
        kill = w.timers[0].first if clock.timers > 0 else NEVER
        now = min(end_time, release, kill)
        if now >= horizon:
            break
        clock.now = now
        woken = False
        if end_time < release and end_time < kill:
            _finish(w, rows, running)
            running = NONE
            if clock.ready == 0:
                end_time = NEVER
                continue
            woken = True
        elif release < end_time and release < kill:
            while next_release(w) == now:
                _release(w, rows, False)
        else:
            running, woken = _take_in_turn(w, rows, running, end_time == now, end_seq)
        if clock.starting > 0:
            _start_timers(w)
        if woken or clock.ready_seq != asked:
            before = running
            running = _decide(w, running)
            asked = clock.ready_seq
            clock.seq += 1
            end_seq = clock.seq
            if running == NONE:
                end_time = NEVER
            elif running != before:  # without work, it is the only one to end next, and now
                w.heads[running].since = now
                end_time = now + w.heads[running].left
    if clock.status == DONE:
        _close(w, rows, running, end_time)


@compiled
def _begin(w: Any) -> None:
    clock = w.clock[0]
    clock.now = clock.seq = clock.status = 0
    clock.starting = clock.timers = 0
    clock.ready = clock.ready_seq = clock.segments = 0
    for task in range(clock.tasks):
        head = w.heads[task]
        head.number = NONE
        head.created = 0
    begin_releases(w)


@compiled
def _take_in_turn(
    w: Any, rows: Any, running: int, ends_now: bool, end_seq: int
) -> tuple[int, bool]:
    """Ends, releases and kills of one instant, in the order in which they were posted.

    What runs afterwards, and whether the processor has become free.
    """
    clock = w.clock[0]
    now = clock.now
    woken = False
    while True:
        released = next_release(w) == now
        release_seq = w.heads[next_task(w)].posted if released else NEVER
        killed = clock.timers > 0 and w.timers[0].first == now
        kill_seq = w.timers[0].second if killed else NEVER
        first = min(release_seq, kill_seq)
        if running != NONE and ends_now and end_seq < first:
            _finish(w, rows, running)
            running = NONE
            woken = True
        elif first == NEVER:
            return running, woken
        elif release_seq < kill_seq:
            _release(w, rows, ends_now and running == next_task(w))
        else:
            job = w.timers[0].third
            _drop_timer(w)
            task, number = job & TASK_MASK, job >> TASK_BITS
            if w.heads[task].number == number and not (ends_now and running == task):
                _kill(w, rows, task, running == task)
                if running == task:
                    running = NONE
                woken = True


@compiled
def _release(w: Any, rows: Any, ends_now: bool) -> None:
    """Release the next job, and post the release after it."""
    task = next_task(w)
    head, given, clock = w.heads[task], w.inputs[task], w.clock[0]
    number = head.created
    skipped = False
    if clock.skipping:
        skipped = _is_late(w, rows, task, ends_now)
        rows.outcome[given.row + number] = SKIPPED if skipped else UNFINISHED
    head.created = number + 1
    if skipped:
        rows.start[given.row + number] = rows.end[given.row + number] = NONE
        rows.preemptions[given.row + number] = 0
    else:
        if head.number == NONE:
            _become_first(w, task, number)
        if given.kill_after != NONE:
            w.starting[clock.starting] = number << TASK_BITS | task
            clock.starting += 1
    more = number + 1 < given.count
    post_release(w, task, clock.now + given.period if more else NEVER)


@compiled
def _is_late(w: Any, rows: Any, task: int, ends_now: bool) -> bool:
    """Whether a job that was released before has missed its deadline, and does not end now."""
    head, given = w.heads[task], w.inputs[task]
    first = head.number
    if first != NONE and ends_now:
        first = _following(w, rows, task)
    release = given.offset + first * given.period
    return bool(first != NONE and release + given.deadline <= w.clock[0].now)


@compiled
def _following(w: Any, rows: Any, task: int) -> int:
    """The job that follows the first one, if it was released."""
    head, given = w.heads[task], w.inputs[task]
    number = head.number + 1
    while (
        w.clock[0].skipping
        and number < head.created
        and rows.outcome[given.row + number] == SKIPPED
    ):
        number += 1
    return int(number) if number < head.created else NONE


@compiled
def _become_first(w: Any, task: int, number: int) -> None:
    head, given = w.heads[task], w.inputs[task]
    head.number = number
    head.left = given.wcet
    head.since = head.start = head.last_stop = head.last_segment = NONE
    head.preemptions = 0
    head.key = given.key
    if w.clock[0].scheduler in (EDF, EDF_MONO):
        head.key = given.offset + number * given.period + given.deadline
    _make_ready(w, task)


@compiled
def _start_timers(w: Any) -> None:
    clock = w.clock[0]
    for place in range(clock.starting):
        job = w.starting[place]
        clock.seq += 1
        if clock.timers >= w.timers.size:
            clock.status = FULL
            return
        end = clock.now + w.inputs[job & TASK_MASK].kill_after
        sift_up(w.timers, clock.timers, end, clock.seq, job)
        clock.timers += 1
    clock.starting = 0


@compiled
def _drop_timer(w: Any) -> None:
    clock = w.clock[0]
    clock.timers -= 1
    last = w.timers[clock.timers]
    sift_down(w.timers, clock.timers, last.first, last.second, last.third)


@compiled
def _decide(w: Any, running: int) -> int:
    """Give the processor to the first of the ready jobs, or leave it; the task of its job."""
    clock = w.clock[0]
    scheduler = clock.scheduler
    while clock.ready > 0:
        first = w.ready[first_place(w)]
        task, number = first.third & TASK_MASK, first.third >> TASK_BITS
        if w.heads[task].number != number:  # it was killed
            leave_line(w)
            continue
        if running != NONE and (clock.keeping or first.first >= w.heads[running].key):
            return running
        leave_line(w)
        if running != NONE:
            _stop(w, running)
            if scheduler in (RM_MONO, EDF_MONO):
                before = w.heads[running]
                line_up(w, before.key, before.seq, before.number << TASK_BITS | running)
            else:
                _make_ready(w, running)
        return int(task)
    return running


@compiled
def _make_ready(w: Any, task: int) -> None:
    """Add the first job of a task to the ready ones: behind its equals, or under EDF by task."""
    clock, head = w.clock[0], w.heads[task]
    clock.ready_seq += 1
    head.seq = task if clock.scheduler == EDF or clock.by_index else clock.ready_seq
    line_up(w, head.key, head.seq, (head.number << TASK_BITS) | task)


@compiled
def _stop(w: Any, task: int) -> None:
    """Take the processor from the job that has it."""
    head, now = w.heads[task], w.clock[0].now
    since = head.since
    if now == since:
        return
    head.left -= now - since
    if head.start == NONE:
        head.start = since
    elif head.last_stop < since:
        head.preemptions += 1
    head.last_stop = now
    if w.clock[0].tracing:
        keep_segment(w, head, w.inputs[task].row + head.number, 0, since, now)


@compiled
def _finish(w: Any, rows: Any, task: int) -> None:
    head, now = w.heads[task], w.clock[0].now
    _stop(w, task)
    if head.start == NONE:
        head.start = now
    _end(w, rows, task, FINISHED)


@compiled
def _kill(w: Any, rows: Any, task: int, runs: bool) -> None:
    if runs:
        _stop(w, task)
    _note_loss(w, task)
    _end(w, rows, task, KILLED)


@compiled
def _note_loss(w: Any, task: int) -> None:
    """Count the preemption of a job that, by now, did not go on again."""
    head = w.heads[task]
    if head.last_stop != NONE and head.last_stop < w.clock[0].now:
        head.preemptions += 1


@compiled
def _end(w: Any, rows: Any, task: int, outcome: int) -> None:
    """Write the row of a job that ends, and let the next one of its task be the first."""
    _write_row(w, rows, task, w.clock[0].now, outcome)
    following = _following(w, rows, task)
    if following != NONE:
        _become_first(w, task, following)
    else:
        w.heads[task].number = NONE


@compiled
def _write_row(w: Any, rows: Any, task: int, end: int, outcome: int) -> None:
    head = w.heads[task]
    row = w.inputs[task].row + head.number
    rows.start[row] = head.start
    rows.end[row] = end
    rows.preemptions[row] = head.preemptions
    rows.outcome[row] = outcome


@compiled
def _close(w: Any, rows: Any, running: int, end_time: int) -> None:
    """Write the rows of the jobs that have not ended by the horizon."""
    clock = w.clock[0]
    clock.now = horizon = clock.horizon
    for task in range(clock.tasks):
        head, given = w.heads[task], w.inputs[task]
        while head.number != NONE:
            end, outcome = NONE, UNFINISHED
            release = given.offset + head.number * given.period
            if given.kill_after != NONE and release + given.kill_after == horizon:
                end, outcome = horizon, KILLED
            if running == task and head.since != NONE:
                _stop(w, task)
                if end_time == horizon:
                    end, outcome = horizon, FINISHED
            else:
                _note_loss(w, task)
            _write_row(w, rows, task, end, outcome)
            head.number = _following(w, rows, task)
            head.since = head.start = head.last_stop = NONE
            head.preemptions = 0
