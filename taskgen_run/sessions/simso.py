"""Simulation with SimSo, for its many schedulers and for schedulers of a user's own.

What each column means is defined here, for every simulator. A *stretch* is a longest interval of
positive length in which a job executes on one processor. Stretches are cut at the horizon: what
is done there, or to be killed there, ends there, and nothing begins there.

==============  ==================================================================================
release_ns      offset + k × period, of every job released in [0, horizon)
start_ns        beginning of the first stretch; with an execution time of 0, the end
end_ns          when its work was done, or when it was killed; at the horizon at the latest
deadline_ns     release + relative deadline; null for none
outcome         `finished`, `killed` (with work left at its deadline, on_miss=abort, or
                `criticaltime` after its release), `unfinished`
                (neither by the horizon), `not_scheduled` (no processors were found for the tasks)
preemptions     how often a stretch ended before the job (and the horizon) did, and then its
                processor was idle or executed another job before the job's next stretch, end or
                horizon, or the next stretch is elsewhere. A time in which the processor has only
                the kernel's overhead (decision, activation, termination, timer, context save and
                load) is none.
migrations      how many stretches are on another processor than the one before
==============  ==================================================================================
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from taskgen_run.analysis.packing import SIMSO
from taskgen_run.analysis.scheduling import Scheduling
from taskgen_run.errors import BugError, ConfigurationError, TaskgenError, one_line, place_of
from taskgen_run.session import AbstractSession
from taskgen_run.sessions._simso_inputs import (
    TASK_ATTRIBUTES,
    Options,
    check_options,
    check_tasks,
    platform,
    sim_tasks,
)
from taskgen_run.sessions._simso_limits import check_limits
from taskgen_run.sessions._simulation import Horizons, report_refusal, scheduling_of
from taskgen_run.taskset import TaskSet

if TYPE_CHECKING:
    import pyarrow as pa

    from taskgen_run.job import Job
    from taskgen_run.sessions._simso_model import System
    from taskgen_run.sessions._simso_schedulers import SchedulerChoice

# SimSo, and every module that imports it, is imported where it is used: the command line loads
# this module to show and check options, also when another session runs.

SLICE_SECONDS = 0.1
"""For how long one call of `run` simulates."""


class SimSoSession(AbstractSession):
    """Simulates task sets with SimSo. The options are explained in `conf/session/simso.yaml`."""

    computes = True
    task_attributes = TASK_ATTRIBUTES

    def __init__(
        self,
        host: str,
        port: int,
        *,
        scheduler: str = "RM",
        cpus: int = 1,
        duration_ms: float | str = "auto",
        duration_cap_ms: float = 100_000,
        on_miss: str = "continue",
        etm: str = "wcet",
        schedule_overhead_ms: float = 0,
        activate_overhead_ms: float = 0,
        terminate_overhead_ms: float = 0,
        context_save_ms: float = 0,
        context_load_ms: float = 0,
        preemption_penalty_ms: float = 0,
        migration_penalty_ms: float = 0,
        memory_access_ns: float = 100,
        caches: list[Any] | None = None,
        trace: bool = False,
    ) -> None:
        self._options = Options(
            scheduler=scheduler,
            cpus=cpus,
            duration_ms=duration_ms,
            duration_cap_ms=duration_cap_ms,
            on_miss=on_miss,
            etm=etm,
            schedule_overhead_ms=schedule_overhead_ms,
            activate_overhead_ms=activate_overhead_ms,
            terminate_overhead_ms=terminate_overhead_ms,
            context_save_ms=context_save_ms,
            context_load_ms=context_load_ms,
            preemption_penalty_ms=preemption_penalty_ms,
            migration_penalty_ms=migration_penalty_ms,
            memory_access_ns=memory_access_ns,
            caches=caches or [],
            trace=trace,
        )
        self._system: System | None = None
        self._horizon_ns = 0
        self._segments: pa.RecordBatch | None = None
        self._horizons = Horizons(self._options)

    @classmethod
    def check(cls, taskset: TaskSet, **options: Any) -> None:
        """Check the values of the options, and that the task set has what they need.

        Raises ConfigurationError.
        """
        session = cls("", 0, **options)
        scheduler = session._checked_scheduler(taskset)
        scheduler.load()
        sim_tasks(taskset, session._options, scheduler.name, session._horizons.first(taskset))

    @classmethod
    def scheduling(cls, **options: Any) -> Scheduling | None:
        """As the scheduler says it, unless the kernel, a preemption or a cache costs something."""
        checked = cls("", 0, **options)._options
        if checked.etm not in ("wcet", "acet"):
            return None
        return scheduling_of(checked, SIMSO, full=checked.etm == "wcet")

    @classmethod
    def files(cls, taskset: TaskSet, **options: Any) -> Iterable[Path]:
        """The file of the scheduler, if it is a user's own, and those of the stack profiles."""
        session = cls("", 0, **options)
        scheduler = session._checked_scheduler(taskset)
        if scheduler.file is not None:
            yield scheduler.file
        if session._options.etm == "cache":
            yield from sorted({Path(task["stack_file"]) for task in taskset})

    def _checked_scheduler(self, taskset: TaskSet) -> SchedulerChoice:
        from taskgen_run.sessions._simso_schedulers import choose

        check_options(self._options)
        scheduler = choose(self._options.scheduler)
        check_tasks(taskset, self._options, scheduler.name)
        check_limits(taskset, scheduler.name, self._options.cpus)
        return scheduler

    def start(self, taskset: TaskSet, *params: Any) -> None:
        """Prepare the simulation of one concrete task set. Raises ConfigurationError."""
        self._scheduler = self._checked_scheduler(taskset)
        self._segments = None
        self._horizons.tell_if_cut(taskset)
        self._build(taskset, self._horizons.first(taskset))

    def _build(self, taskset: TaskSet, horizon_ns: int) -> None:
        from taskgen_run.sessions._simso_etm import execution_time_model
        from taskgen_run.sessions._simso_model import System

        options, scheduler = self._options, self._scheduler
        taskset.horizon_ns = horizon_ns
        with self._blaming_scheduler(taskset):
            self._system = System(
                sim_tasks(taskset, options, scheduler.name, horizon_ns),
                platform(options),
                horizon_ns,
                scheduler=scheduler.load(),
                etm=execution_time_model(options.etm, taskset.seed, taskset.variant),
                ms_scale=scheduler.ms_scale,
                trace=options.trace,
            )

    def run(self, taskset: TaskSet) -> list[Job]:
        """Simulate for a moment; every job, final, once the horizon is reached.

        Raises BugError if the scheduler fails.
        """
        # Imported here like SimSo: PyArrow is slow to import, too.
        from taskgen_run.sessions._simso_rows import jobs_not_scheduled, jobs_of, segments_of

        system = self._system
        if system is None:
            return []
        with self._blaming_scheduler(taskset):
            refused = not system.begun and not self._scheduler.accepts(system)
            done = refused or system.advance(SLICE_SECONDS)
        if not done or (not refused and self._goes_on(taskset, system)):
            return []
        self._system = None
        if self._options.trace:
            self._segments = segments_of(None if refused else system, taskset.variant)
        if refused:
            report_refusal(taskset, self._scheduler.name)
            return jobs_not_scheduled(taskset, system.horizon)
        return jobs_of(system, taskset)

    def _goes_on(self, taskset: TaskSet, system: System) -> bool:
        """Start again with a longer horizon if a single job has not run to its end."""
        if not self._horizons.are_automatic:
            return False
        singles = (s for s, t in zip(system.task_list, taskset, strict=True) if not t.period_ns)
        if all(single.jobs and not single.jobs[0].is_active() for single in singles):
            return False
        longer = self._horizons.longer(taskset, system.horizon)
        if longer is None:
            return False
        self._build(taskset, longer)
        return True

    @contextmanager
    def _blaming_scheduler(self, taskset: TaskSet) -> Iterator[None]:
        """Turn whatever a scheduler raises into an error that names it."""
        try:
            yield
        except TaskgenError:
            self._system = None
            raise
        except Exception as error:
            self._system = None
            what = f"{type(error).__name__}: {one_line(error)}{place_of(error)}"
            single = [position for position, task in enumerate(taskset) if not task.period_ns]
            if single and isinstance(error, ArithmeticError | ValueError):
                raise ConfigurationError(
                    f"scheduler {self._scheduler.name} cannot run single jobs, whose period is "
                    f"infinite, got {what}; give {taskset.place(single[0])} a period"
                ) from error
            raise BugError(
                f"scheduler {self._scheduler.name} raised {what}, with variant {taskset.variant} "
                f"of task set {taskset.name!r}; correct the scheduler or choose another"
            ) from error

    def segments(self) -> pa.RecordBatch | None:
        """The stretches of the jobs last returned, ordered by task, job and time; None if untraced.

        Those of one job that meet on one processor are one.
        """
        return self._segments

    def is_running(self, taskset: TaskSet) -> bool:
        """Whether the horizon is still to be reached."""
        return self._system is not None

    def stop(self) -> None:
        """Give the simulation up; its jobs are not reported."""
        self._system = None

    def close(self) -> None:
        """Release the memory of a simulation."""
        self._system = None
