"""SimSo's execution time models, without what is wrong or random in them.

Importing this module imports SimSo.
"""

from __future__ import annotations

from typing import Any

from taskgen_run.sessions._simso_parts import Job
from taskgen_run.sessions.execution_time import drawn_execution_time_ns

# isort: split
# Only now: importing SimSo warns, which the module above keeps quiet.
from simso.core.etm.ACET import ACET
from simso.core.etm.CacheModel import CacheModel
from simso.core.etm.FixedPenalty import FixedPenalty
from simso.core.etm.WCET import WCET


class _Drawn(ACET):  # type: ignore[misc]  # SimSo ships no types
    """ACET whose draws depend on nothing but the job."""

    seed = variant = 0

    def on_activate(self, job: Job) -> None:
        self.executed[job] = 0
        task = job.task
        self.et[job] = drawn_execution_time_ns(
            (self.seed, self.variant, task.identifier, job.number),
            mean_ns=task.acet,
            deviation_ns=task.et_stddev,
            worst_ns=round(task.wcet * self.sim.cycles_per_ms),
        )


class _Penalized(FixedPenalty):  # type: ignore[misc]
    """FixedPenalty in which a preempted job does not seem to go on executing."""

    def on_preempted(self, job: Job) -> None:
        self.update_executed(job)


class _InOrder(dict[Job, None]):
    """A set that iterates in the order of insertion: sums of floats depend on it."""

    def add(self, job: Job) -> None:
        self[job] = None

    def remove(self, job: Job) -> None:
        del self[job]


class _Cached(CacheModel):  # type: ignore[misc]
    """CacheModel that can abort a job which does not run, or never did."""

    def init(self) -> None:
        super().init()
        self._running_jobs = _InOrder()

    def on_abort(self, job: Job) -> None:
        if job in self._running_jobs:
            self._stop_job(job)


def execution_time_model(name: str, seed: int, variant: int) -> type[Any]:
    """The class of the model `name`; the random one draws for `variant` of a task set."""
    if name == "acet":
        return type("ACET", (_Drawn,), {"seed": seed, "variant": variant})
    models: dict[str, type[Any]] = {"wcet": WCET, "fixedpenalty": _Penalized, "cache": _Cached}
    return models[name]
