"""Bounds on the utilization, below which preemptive scheduling on one processor is safe.

A task needs the share C / min(D, T) of the processor: with deadlines at the periods, or beyond
them, that is its utilization, with shorter ones its density. The bounds are known for deadlines at
the periods, and hold for densities, as a task with a shorter deadline is no worse than one whose
period is as short as that.

The bounds for fixed priorities want rate-monotonic ones; in terms of the above: the shorter
min(D, T), the higher the priority. That makes them hold under DM with D ≤ T as well, but not under
RM when deadlines are in another order than periods. Tasks below all deadlines do not matter. A
task whose jobs have an end counts like one without, and a single job like one that comes again
after its deadline.

All sums and products are exact. What a bound does not accept may be schedulable all the same.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence

from taskgen_run.analysis.response_time import priorities
from taskgen_run.analysis.sporadic import SporadicTask, fullness, total

_SCALE = 2**128


def liu_layland(tasks: Sequence[SporadicTask]) -> bool:
    """Whether n tasks with rate-monotonic priorities have a utilization ≤ n (2^(1/n) - 1).

    C. Liu and J. Layland, "Scheduling algorithms for multiprogramming in a hard-real-time
    environment", 1973, theorem 5. It is decided as (1 + U/n)^n ≤ 2, with U rounded up to a multiple
    of 2^-128: never in favour of the tasks. Raises ConfigurationError for a task without priority.
    """
    shares = _rate_monotonic_shares(tasks)
    if not shares:
        return shares is not None
    used = total(shares)
    whole = len(shares) * _SCALE
    rounded = -(-used.numerator * _SCALE // used.denominator)
    power: int = (whole + rounded) ** len(shares)
    bound: int = 2 * whole ** len(shares)
    return power <= bound


def hyperbolic(tasks: Sequence[SporadicTask]) -> bool:
    """Whether tasks with rate-monotonic priorities have a product of (U + 1) that is ≤ 2.

    It accepts all that `liu_layland` accepts, and more. E. Bini, G. C. Buttazzo and G. M. Buttazzo,
    "Rate monotonic analysis: the hyperbolic bound", 2003. Raises ConfigurationError for a task
    without priority.
    """
    shares = _rate_monotonic_shares(tasks)
    if shares is None:
        return False
    product = math.prod(execution + window for execution, window in shares)
    return product <= 2 * math.prod(window for _, window in shares)


def edf(tasks: Sequence[SporadicTask]) -> bool:
    """Whether tasks under EDF have a utilization ≤ 1, or a density if deadlines are shorter.

    With deadlines at the periods or beyond them, of tasks without end, that is necessary, too.
    C. Liu and J. Layland, 1973, theorem 7. Tasks without deadline come last and do not matter.
    """
    due = [task for task in tasks if task.deadline_ns is not None]
    return total((task.execution_ns, task.window_ns or 1) for task in due) <= 1


def is_overloaded(tasks: Sequence[SporadicTask]) -> bool:
    """Whether tasks with deadlines need more than one processor for ever.

    Then a deadline is missed on one processor, under any policy and with any offsets.
    """
    return fullness(task for task in tasks if task.deadline_ns is not None) > 0


def _rate_monotonic_shares(tasks: Sequence[SporadicTask]) -> list[tuple[int, int]] | None:
    """Execution time and min(D, T) of the tasks that matter.

    None if the priorities are not in the order of the latter.
    """
    given = priorities(tasks)
    due = [own for task, own in zip(tasks, given, strict=True) if task.deadline_ns is not None]
    ordered = []
    for task, own in zip(tasks, given, strict=True):
        if own <= max(due, default=own - 1):
            if task.window_ns is None:
                return None
            ordered.append((own, task.window_ns, task.execution_ns))
    ordered.sort()
    for (above, shorter, _), (below, longer, _) in itertools.pairwise(ordered):
        if shorter > longer or (above == below and shorter < longer):
            return None
    return [(execution, window) for _, window, execution in ordered]
