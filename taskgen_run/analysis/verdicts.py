"""What schedulability tests say of a concrete task set: the columns that `analysis` asks for.

A verdict is true when the test proves that no job misses its deadline, false when it proves that
one does, however long it may take to come to that, and None when it cannot tell or does not apply.
Which tests apply is a matter of how the session schedules (`Scheduling`); of a session that does
not say it, such as those for real targets, the descriptions of the tasks are analysed: on one
processor, under the policy that the test is made for.

True is true for any offsets, and when jobs need less time, are killed, or come later than the
period; only what `response_time` and `processor_demand` do not accept in the worst case may still
be proven for the very offsets of the task set, if a simulation has those. So that false is a proof
as well, it takes the releases to be as described, ties of priorities that do not matter, and load
that is there in any case: jobs that may be killed before their deadline, and those that need no
time, are left out of it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

from taskgen_run.analysis import (
    multiprocessor,
    nonpreemptive,
    offsets,
    processor_demand,
    response_time,
    utilization,
)
from taskgen_run.analysis.offsets import Placed
from taskgen_run.analysis.scheduling import (
    DESCRIBED,
    Case,
    Policy,
    Scheduling,
    cases,
    is_testable,
)
from taskgen_run.analysis.sporadic import Effort, EffortError, SporadicTask
from taskgen_run.errors import ConfigurationError, unknown_name

if TYPE_CHECKING:
    from taskgen_run.taskset import TaskSet

MOST_EVALUATIONS = 1_000_000
"""How often a test looks at a task of a task set before it is left undecided: a quarter second."""


_Test = Callable[[Case, Effort], bool]


@dataclass(frozen=True, slots=True, kw_only=True)
class Criterion:
    """A test: what it looks at, and what accepts and what refutes tasks under each policy.

    `assumed` is the policy for sessions that do not say theirs; None if it needs to know.
    """

    text: str
    accepts: Mapping[Policy, _Test]
    refutes: Mapping[Policy, _Test]
    assumed: Policy | None
    is_global: bool = False


_FIXED = (Policy.RM, Policy.DM, Policy.FP)


def _simple(test: Callable[[Sequence[SporadicTask]], bool]) -> _Test:
    return lambda case, effort: test(case.tasks)


def _on_all(test: Callable[[Sequence[SporadicTask], int, Effort], bool]) -> _Test:
    return lambda case, effort: test(case.tasks, case.cpus, effort)


def _bounded(test: Callable[[Sequence[SporadicTask], Effort], bool]) -> _Test:
    return lambda case, effort: test(case.tasks, effort)


def _accepts(
    test: Callable[[Sequence[SporadicTask], Effort], bool],
    with_offsets: Callable[[Sequence[Placed], Effort], bool],
) -> _Test:
    """The test of the worst case; if that is not to be had, that of the schedule there is."""
    return lambda case, effort: (
        test(case.tasks, effort)
        or (case.punctual and not case.synchronous and with_offsets(case.worst, effort))
    )


def _is_overloaded(case: Case, effort: Effort) -> bool:
    return case.certain is not None and utilization.is_overloaded([t for t, _ in case.certain])


def _refutes(
    test: Callable[[Sequence[SporadicTask], Effort], bool],
    with_offsets: Callable[[Sequence[Placed], Effort], bool],
) -> _Test:
    def refutes(case: Case, effort: Effort) -> bool:
        if case.certain is None:
            return False
        if _is_overloaded(case, effort):
            return True
        if case.synchronous:
            return not test([task for task, _ in case.certain], effort)
        return case.punctual and not with_offsets(case.certain, effort)

    return refutes


TESTS: Mapping[str, Criterion] = {
    "liu_layland": Criterion(
        text="utilization ≤ n (2^(1/n) - 1), for RM and DM on one processor",
        accepts=dict.fromkeys(_FIXED, _simple(utilization.liu_layland)),
        refutes={},
        assumed=Policy.RM,
    ),
    "hyperbolic": Criterion(
        text="product of (utilization + 1) ≤ 2, for RM and DM on one processor",
        accepts=dict.fromkeys(_FIXED, _simple(utilization.hyperbolic)),
        refutes={},
        assumed=Policy.RM,
    ),
    "edf_utilization": Criterion(
        text="utilization or density ≤ 1, for EDF on one processor",
        accepts={Policy.EDF: _simple(utilization.edf)},
        refutes={Policy.EDF: _is_overloaded},
        assumed=Policy.EDF,
    ),
    "response_time": Criterion(
        text="worst-case response times, for fixed priorities on one processor",
        accepts={
            **dict.fromkeys(_FIXED, _accepts(response_time.is_schedulable, offsets.is_schedulable)),
            Policy.NP_FP: _bounded(nonpreemptive.is_schedulable),
        },
        refutes={
            **dict.fromkeys(
                _FIXED,
                _refutes(
                    partial(response_time.is_schedulable, ties_lost=False),
                    partial(offsets.is_schedulable, ties_lost=False),
                ),
            ),
            Policy.NP_FP: _is_overloaded,
        },
        assumed=Policy.FP,
    ),
    "processor_demand": Criterion(
        text="processor demand (QPA), for EDF on one processor",
        accepts={
            Policy.EDF: _accepts(processor_demand.is_schedulable, offsets.is_schedulable_by_edf),
            Policy.NP_EDF: _bounded(nonpreemptive.is_schedulable_by_edf),
        },
        refutes={
            Policy.EDF: _refutes(processor_demand.is_schedulable, offsets.is_schedulable_by_edf),
            Policy.NP_EDF: _is_overloaded,
        },
        assumed=Policy.EDF,
    ),
    "gfb": Criterion(
        text="density bound of Goossens, Funk and Baruah, for global EDF",
        accepts={Policy.EDF: lambda case, effort: multiprocessor.gfb(case.tasks, case.cpus)},
        refutes={},
        assumed=None,
        is_global=True,
    ),
    "bcl": Criterion(
        text="interference test of Bertogna, Cirinei and Lipari, for global EDF and priorities",
        accepts={
            Policy.EDF: _on_all(multiprocessor.bcl_edf),
            **dict.fromkeys(_FIXED, _on_all(multiprocessor.bcl_fixed_priority)),
        },
        refutes={},
        assumed=None,
        is_global=True,
    ),
}
"""The tests by name. Partitioned scheduling is tested processor by processor."""


def check_names(names: Sequence[object]) -> None:
    """Raise ConfigurationError unless each of `names` is that of a test, and there once."""
    for position, name in enumerate(names):
        if not isinstance(name, str) or name not in TESTS:
            known = ", ".join(sorted(TESTS))
            problem = unknown_name("test", name, TESTS)
            hint = "" if "known are" in problem else f"; known are: {known}"
            raise ConfigurationError(f"analysis: {problem}{hint}")
        if name in names[:position]:
            raise ConfigurationError(f"analysis must name each test once, got {name} again")


@dataclass(frozen=True, slots=True)
class Analysis:
    """The tests of an experiment, by `names`; with no `scheduling`, none of them applies."""

    names: tuple[str, ...] = ()
    scheduling: Scheduling | None = DESCRIBED

    def __call__(self, taskset: TaskSet) -> dict[str, bool | None]:
        """The verdict of each test on a checked concrete task set."""
        if self.scheduling is None:
            return dict.fromkeys(self.names)
        known: dict[Policy, list[Case] | None] = {}
        return {name: _verdict(TESTS[name], taskset, self.scheduling, known) for name in self.names}


def _verdict(
    criterion: Criterion,
    taskset: TaskSet,
    scheduling: Scheduling,
    known: dict[Policy, list[Case] | None],
) -> bool | None:
    policy = scheduling.policy or criterion.assumed
    if policy is None or policy not in criterion.accepts:
        return None
    is_global = scheduling.packing is None
    if not (is_global if criterion.is_global else scheduling.cpus == 1 or not is_global):
        return None
    if not is_testable(taskset, scheduling, policy):
        return None
    if policy not in known:
        known[policy] = cases(taskset, scheduling, policy)
    parts = known[policy]
    if parts is None:
        return False if criterion.refutes and any(task.deadline_ns for task in taskset) else None
    effort = Effort(MOST_EVALUATIONS)
    try:
        if all(criterion.accepts[policy](case, effort) for case in parts):
            return True
        refutes = criterion.refutes.get(policy)
        return False if refutes and any(refutes(case, effort) for case in parts) else None
    except EffortError:
        return None
