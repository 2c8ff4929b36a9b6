"""Simulation with the compiled simulator: the rows of `session=simso`, many times faster.

What each column means, `taskgen_run.sessions.simso` defines.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from taskgen_run.analysis.scheduling import Scheduling
from taskgen_run.session import AbstractSession
from taskgen_run.sessions._fastsim_inputs import (
    Options,
    check_options,
    check_tasks,
    task_table,
)
from taskgen_run.sessions._simulation import Horizons, report_refusal, scheduling_of
from taskgen_run.taskset import TaskSet

if TYPE_CHECKING:
    import pyarrow as pa

    from taskgen_run.job import Job
    from taskgen_run.sessions._fastsim_rows import Simulated

# Numba, and every module that imports it, is imported where it is used: the command line loads
# this module to show and check options, also when another session runs.

logger = logging.getLogger(__name__)


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
        self._horizons = Horizons(self._options)

    @classmethod
    def check(cls, taskset: TaskSet, **options: Any) -> None:
        """Check the values of the options, and that the task set has what they need.

        Raises ConfigurationError.
        """
        session = cls("", 0, **options)
        check_options(session._options)
        task_table([taskset], [session._checked_horizon_ns(taskset)], session._options)

    @classmethod
    def scheduling(cls, **options: Any) -> Scheduling | None:
        """As the scheduler says it, unless the kernel costs something."""
        checked = cls("", 0, **options)._options
        return scheduling_of(checked, checked.packing)

    def start(self, taskset: TaskSet, *params: Any) -> None:
        """Prepare the simulation of one concrete task set. Raises ConfigurationError."""
        check_options(self._options)
        taskset.horizon_ns = self._checked_horizon_ns(taskset)
        task_table([taskset], [taskset.horizon_ns], self._options)
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

    def run_batch(self, tasksets: Sequence[TaskSet]) -> pa.RecordBatch:
        """Simulate concrete task sets; every job, final. Raises ConfigurationError."""
        from taskgen_run.sessions._fastsim_rows import simulate_all
        from taskgen_run.simulator.compiling import is_compiled

        if not is_compiled():
            logger.info("compiling the simulator, once on this machine: about a minute")
        check_options(self._options)
        for taskset in tasksets:
            taskset.horizon_ns = self._checked_horizon_ns(taskset)
            self._horizons.tell_if_cut(taskset)
        if self._horizons.are_automatic:
            self._wait_for_single_jobs(tasksets)
        simulated = simulate_all(tasksets, _horizons(tasksets), self._options)
        self._report_refused(simulated)
        self._segments = simulated.stretches() if self._options.trace else None
        return simulated.jobs()

    def segments(self) -> pa.RecordBatch | None:
        """The stretches of the jobs last returned, ordered by task, job and time; None if untraced.

        Those of one job that meet on one processor are one.
        """
        return self._segments

    def _checked_horizon_ns(self, taskset: TaskSet) -> int:
        check_tasks(taskset, self._options)
        return self._horizons.first(taskset)

    def _wait_for_single_jobs(self, tasksets: Sequence[TaskSet]) -> None:
        """Make the horizons longer until every single job has run to its end."""
        from taskgen_run.sessions._fastsim_rows import simulate_all

        open_ = [t for t in tasksets if any(not task.period_ns for task in t)]
        while open_:
            simulated = simulate_all(open_, _horizons(open_), self._options)
            waiting = []
            for number, taskset in enumerate(open_):
                if simulated.single_jobs_ended(number):
                    continue
                longer = self._horizons.longer(taskset, taskset.horizon_ns or 0)
                if longer is not None:
                    taskset.horizon_ns = longer
                    waiting.append(taskset)
            open_ = waiting

    def _report_refused(self, simulated: Simulated) -> None:
        for taskset, refused in zip(simulated.tasksets, simulated.refused, strict=True):
            if refused:
                report_refusal(taskset, self._options.scheduler)

    def is_running(self, taskset: TaskSet) -> bool:
        """Whether the simulation is still to be done."""
        return self._started is not None

    def stop(self) -> None:
        """Give the simulation up; its jobs are not reported."""
        self._started = None

    def close(self) -> None:
        """Nothing is held."""
        self._started = None


def _horizons(tasksets: Sequence[TaskSet]) -> list[int]:
    return [taskset.horizon_ns or 0 for taskset in tasksets]
