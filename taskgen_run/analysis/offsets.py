"""Whether periodic tasks with given offsets keep their deadlines: one processor, exact.

With offsets there may be no instant at which all tasks release a job, and what the analyses of that
worst case do not accept may be schedulable. So the schedule is followed until it repeats. Once all
tasks have released their first job, and those that have a last one that, releases repeat with the
hyperperiod; when what is left to be done is the same at two instants a hyperperiod apart, all that
follows is (J. Leung and M. Merrill, "A note on preemptive scheduling of periodic, real-time tasks",
1980; for fixed priorities J. Leung and J. Whitehead, "On the complexity of fixed-priority
scheduling of periodic, real-time tasks", 1982). In general nothing shorter will do: this takes long
for long hyperperiods, and is given up before it begins if it would take too long.

The verdict is on releases exactly at the offsets and the periods, unlike those of the other
analyses. Jobs that need less time do not make it worse.
"""

from __future__ import annotations

import heapq
import math
from collections import deque
from collections.abc import Sequence

from taskgen_run.analysis.response_time import priorities
from taskgen_run.analysis.sporadic import Effort, SporadicTask, fullness

Placed = tuple[SporadicTask, int]
"""A task and its offset in ns."""

_RELEASE = 8
"""What a release costs, in looks at a task."""


def is_schedulable_by_edf(tasks: Sequence[Placed], effort: Effort | None = None) -> bool:
    """Whether no job misses its deadline under EDF, whatever the order of equal deadlines.

    Tasks without deadline come last. Raises ConfigurationError when it takes too long.
    """
    due = [(task, offset) for task, offset in tasks if task.deadline_ns is not None]
    if fullness(task for task, _ in due) > 0:
        return False
    return _Schedule(due, [0] * len(due), effort or Effort(), by_deadline=True).keeps_deadlines()


def is_schedulable(
    tasks: Sequence[Placed], effort: Effort | None = None, *, ties_lost: bool = True
) -> bool:
    """Whether no job misses its deadline under fixed priorities.

    `ties_lost` is as for `response_time.is_schedulable`. Each task is looked at for itself, with
    those that come before it. Raises ConfigurationError for a task without priority, and when it
    takes too long.
    """
    effort = effort or Effort()
    given = priorities([task for task, _ in tasks])
    for position, (task, offset) in enumerate(tasks):
        if task.deadline_ns is None:
            continue
        last = given[position] if ties_lost else given[position] - 1
        level = [
            other for index, other in enumerate(tasks) if index != position and given[index] <= last
        ]
        if task.most_jobs is None and fullness([task, *(member for member, _ in level)]) > 0:
            return False
        ranks = [0] * len(level) + [1]
        schedule = _Schedule([*level, (task, offset)], ranks, effort, by_deadline=False)
        if not schedule.keeps_deadlines():
            return False
    return True


class _Schedule:
    """A schedule of tasks by rank, and in a rank by deadline or by release.

    Without `by_deadline` only the deadlines of the last task are looked at.
    """

    def __init__(
        self, tasks: Sequence[Placed], ranks: Sequence[int], effort: Effort, *, by_deadline: bool
    ) -> None:
        self._tasks = tasks
        self._ranks = ranks
        self._by_deadline = by_deadline
        self._effort = effort
        self._hyperperiod_ns = math.lcm(*(t.period_ns for t, _ in tasks if t.most_jobs is None))
        self._settled_ns = 1 + max((o + task.last_release_ns for task, o in tasks), default=0)
        self._ready: list[tuple[int, int, float, int]] = []  # rank, order, deadline, work left
        self._waiting: deque[float] = deque()  # deadlines of the last task, without `by_deadline`
        looked_at = [task.most_jobs for task, _ in (tasks if by_deadline else tasks[-1:])]
        self._open = sum(math.inf if jobs is None else jobs for jobs in looked_at)

    def keeps_deadlines(self) -> bool:
        """Follow the schedule until it repeats or ends, or a deadline is missed."""
        until_ns = self._settled_ns + 2 * self._hyperperiod_ns
        releases = sum(task.releases(max(until_ns - offset, 0)) for task, offset in self._tasks)
        self._effort.require(_RELEASE * releases)
        coming = [(offset, n, 0) for n, (_, offset) in enumerate(self._tasks)]
        heapq.heapify(coming)
        now_ns = 0
        repeat_ns = self._settled_ns
        seen: list[tuple[int, ...]] | None = None
        while coming and self._open:
            next_ns = min(coming[0][0], repeat_ns)
            if not self._executes(now_ns, next_ns):
                return False
            now_ns = next_ns
            if now_ns == repeat_ns:
                self._effort.spend(len(self._ready))
                left = self._left(now_ns)
                if left == seen:
                    return True
                seen = left
                repeat_ns += self._hyperperiod_ns
            while coming and coming[0][0] == now_ns:
                self._release(coming)
        return not self._open or self._executes(now_ns, math.inf)

    def _release(self, coming: list[tuple[int, int, int]]) -> None:
        """Make the next job ready, and have the one after it come."""
        self._effort.spend(_RELEASE)
        now_ns, position, number = coming[0]
        task, _ = self._tasks[position]
        counts = self._by_deadline or position == len(self._tasks) - 1
        due_ns = now_ns + task.deadline_ns if counts and task.deadline_ns else math.inf
        order = int(due_ns) if self._by_deadline else now_ns
        if counts and not self._by_deadline:
            self._waiting.append(due_ns)
        heapq.heappush(self._ready, (self._ranks[position], order, due_ns, task.execution_ns))
        if task.most_jobs is None or number + 1 < task.most_jobs:
            heapq.heapreplace(coming, (now_ns + task.period_ns, position, number + 1))
        else:
            heapq.heappop(coming)

    def _executes(self, now_ns: float, until_ns: float) -> bool:
        """Execute ready jobs up to an instant; whether all that are due by then are done."""
        ready = self._ready
        while ready and now_ns < until_ns:
            rank, order, due_ns, left_ns = ready[0]
            spent_ns = min(left_ns, until_ns - now_ns)
            now_ns += spent_ns
            if now_ns > due_ns:
                return False
            if spent_ns == left_ns:
                heapq.heappop(ready)
                if due_ns < math.inf:
                    self._open -= 1
                    if self._waiting:
                        self._waiting.popleft()
            else:
                heapq.heapreplace(ready, (rank, order, due_ns, left_ns - int(spent_ns)))
        # The last task may wait for ever, while those before it execute. Its first job is the first
        # one due; by deadline, the job that executes is that.
        return not self._waiting or until_ns < self._waiting[0]

    def _left(self, now_ns: int) -> list[tuple[int, ...]]:
        """What is left to be done, the same for schedules that go on in the same way."""
        return sorted((rank, order - now_ns, left) for rank, order, _, left in self._ready)
