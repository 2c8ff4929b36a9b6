"""Simulation with the compiled simulator: the rows of `session=simso`, many times faster.

What each column means, `taskgen_run.sessions.simso` defines.
"""

from __future__ import annotations

import functools
import threading
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np

from taskgen_run.analysis.scheduling import Scheduling
from taskgen_run.errors import InfrastructureError, TaskgenError
from taskgen_run.session import AbstractSession
from taskgen_run.sessions._fastsim_inputs import Inputs, Options, Prepared, check_options
from taskgen_run.sessions._simulation import Horizons, report_refusal, scheduling_of
from taskgen_run.task import Task
from taskgen_run.taskset import TaskSet

if TYPE_CHECKING:
    import pyarrow as pa

    from taskgen_run.job import Job
    from taskgen_run.sessions._fastsim_results import Results

# Numba, and every module that imports it, is imported where it is used: the command line loads
# this module to show and check options, also when another session runs.

SEGMENTS_PER_JOB = 2
"""How many stretches of execution a job has, about."""

MOST_ROWS_AGAIN = 2**20
"""Rows of all task sets that wait for single jobs: how many they will be is not known before."""

Result = TypeVar("Result")


class FastSimSession(AbstractSession):
    """Simulates task sets, compiled. The options are explained in `conf/session/fastsim.yaml`."""

    computes = True

    def __init__(
        self,
        host: str,
        port: int,
        *,
        scheduler: str = "RM",
        cpus: int = 1,
        packing: str = "simso",
        tie: str = "simso",
        duration_ms: float | str = "auto",
        duration_cap_ms: float = 100_000,
        on_miss: str = "continue",
        schedule_overhead_ms: float = 0,
        activate_overhead_ms: float = 0,
        terminate_overhead_ms: float = 0,
        context_save_ms: float = 0,
        context_load_ms: float = 0,
        trace: bool = False,
    ) -> None:
        self._options = Options(
            scheduler=scheduler,
            cpus=cpus,
            packing=packing,
            tie=tie,
            duration_ms=duration_ms,
            duration_cap_ms=duration_cap_ms,
            on_miss=on_miss,
            schedule_overhead_ms=schedule_overhead_ms,
            activate_overhead_ms=activate_overhead_ms,
            terminate_overhead_ms=terminate_overhead_ms,
            context_save_ms=context_save_ms,
            context_load_ms=context_load_ms,
            trace=trace,
        )
        self._started: TaskSet | None = None
        self._segments: pa.RecordBatch | None = None
        self._prepared: Prepared | None = None
        self._horizons = Horizons(self._options)

    @classmethod
    def check(cls, taskset: TaskSet, **options: Any) -> None:
        """Check the values of the options, and that the task set has what they need.

        Raises ConfigurationError.
        """
        session = cls("", 0, **options)
        check_options(session._options)
        session._prepare([taskset]).require_valid()

    @classmethod
    def scheduling(cls, **options: Any) -> Scheduling | None:
        """As the scheduler says it, unless the kernel costs something."""
        checked = cls("", 0, **options)._options
        return scheduling_of(checked, checked.packing)

    def start(self, taskset: TaskSet, *params: Any) -> None:
        """Prepare the simulation of one concrete task set. Raises ConfigurationError."""
        check_options(self._options)
        prepared = self._prepare([taskset])
        prepared.require_valid()
        (taskset.horizon_ns,) = prepared.horizons
        self._segments = None
        self._started = taskset

    def run(self, taskset: TaskSet) -> list[Job]:
        """Simulate; every job, final. Raises ConfigurationError."""
        if self._started is None:
            return []
        from taskgen_run.job import JobBatch

        self._started = None
        jobs = list(JobBatch(self.run_batch([taskset])))
        for task in taskset:
            task.jobs = []
        for job in jobs:
            job.taskset = 0
            taskset[job.task].jobs.append(job)
        return jobs

    def estimate_rows(self, tasksets: Sequence[TaskSet]) -> list[int | TaskgenError]:
        """The jobs of each, and with `trace` their segments, as far as that is known beforehand."""
        check_options(self._options)
        self._prepared = prepared = self._prepare(tasksets)
        rows = enumerate(self._rows(prepared))
        return [prepared.errors.get(number) or count for number, count in rows]

    def _rows(self, prepared: Prepared) -> list[int]:
        jobs = prepared.inputs.per_taskset(prepared.tasks["count"])
        return [(1 + SEGMENTS_PER_JOB * self._options.trace) * count for count in jobs.tolist()]

    def run_batch(self, tasksets: Sequence[TaskSet]) -> pa.RecordBatch:
        """Simulate concrete task sets; every job, final.

        Raises ConfigurationError, and InfrastructureError when waiting for single jobs takes so
        long that the rows are too many for one batch.
        """
        check_options(self._options)
        prepared, self._prepared = self._prepared, None
        if prepared is None or prepared.inputs.tasksets is not tasksets:
            prepared = self._prepare(tasksets)
        prepared.require_valid()
        if self._horizons.are_automatic:
            self._horizons.tell_which_are_cut(prepared.inputs.tasksets, prepared.naturals)
        results = _apart(functools.partial(self._simulate_compiled, prepared))
        self._segments = results.segments if self._options.trace else None
        return results.jobs

    def _prepare(self, tasksets: Sequence[TaskSet], horizons: Sequence[int] = ()) -> Prepared:
        inputs = Inputs(tasksets, self._options)
        naturals = inputs.natural_horizons_ns() if self._horizons.are_automatic else []
        if not horizons and self._horizons.are_automatic:
            horizons = [self._horizons.shortened(natural) for natural in naturals]
        elif not horizons:
            horizons = [self._horizons.given] * len(tasksets)
        return Prepared(inputs, naturals, horizons, inputs.table(horizons))

    def _simulate_compiled(self, prepared: Prepared) -> Results:
        _compile()
        return self._simulate(prepared)

    def _simulate(self, prepared: Prepared) -> Results:
        """Simulate, with longer horizons until every single job has run to its end."""
        from taskgen_run.sessions._fastsim_results import Results
        from taskgen_run.sessions._fastsim_rows import simulate_all

        tasksets, horizons = prepared.inputs.tasksets, list(prepared.horizons)
        simulated = simulate_all(tasksets, prepared.tasks, horizons, self._options)
        for position in np.flatnonzero(simulated.refused).tolist():
            report_refusal(tasksets[position], self._options.scheduler)
        tasksets.horizons_ns = horizons
        results = Results.of(simulated, traced=self._options.trace)
        longer: dict[int, int] = {}
        for position in simulated.waiting() if self._horizons.are_automatic else ():
            horizon = self._horizons.longer(tasksets[position], horizons[position])
            if horizon is not None:
                longer[position] = horizon
        if not longer:
            return results
        again = self._prepare(tasksets.only(list(longer)), list(longer.values()))
        again.require_valid()
        if len(longer) > 1 and (rows := sum(self._rows(again))) > MOST_ROWS_AGAIN:
            raise InfrastructureError(
                f"{len(longer)} task sets must have at most {MOST_ROWS_AGAIN} rows together while "
                f"they wait for single jobs, got {rows}; simulate fewer at once"
            )
        merged = results.replaced(list(longer), self._simulate(again))
        for position, horizon in zip(longer, again.inputs.tasksets.horizons_ns, strict=True):
            horizons[position] = horizon or 0
        tasksets.horizons_ns = horizons
        return merged

    def segments(self) -> pa.RecordBatch | None:
        """The stretches of the jobs last returned, ordered by task, job and time; None if untraced.

        Those of one job that meet on one processor are one.
        """
        return self._segments

    def is_running(self, taskset: TaskSet) -> bool:
        """Whether the simulation is still to be done."""
        return self._started is not None

    def stop(self) -> None:
        """Give the simulation up; its jobs are not reported."""
        self._started = None

    def close(self) -> None:
        """Nothing is held."""
        self._started = None


@functools.cache
def _compile() -> None:
    """Have the simulator compiled, by the simulation of a task set that uses all of it."""
    from taskgen_run.simulator.compiling import compile_once

    session = FastSimSession("", 0, cpus=2, duration_ms=1, trace=True)
    small = TaskSet([Task(period=1, executiontime=1)])
    compile_once(lambda: session._simulate(session._prepare([small])))


def _apart(call: Callable[[], Result]) -> Result:
    """What `call` returns, or raises, in a thread of its own.

    A simulation does not look at signals, and may take long. The thread that waits for it does, and
    at the end of the process nobody waits for this one.
    """
    results: list[Result] = []
    errors: list[BaseException] = []

    def run() -> None:
        try:
            results.append(call())
        except BaseException as error:
            errors.append(error)

    thread = threading.Thread(target=run, name="taskgen_run simulation", daemon=True)
    thread.start()
    thread.join()
    if errors:
        raise errors[0]
    return results[0]
