"""SimSo's model with exact times, which runs in slices and never past its horizon.

One SimSo cycle is one ns everywhere. Importing this module imports SimSo.
"""

from __future__ import annotations

import math
import time
from collections.abc import Iterable
from heapq import heappop
from typing import Any

from taskgen_run.sessions._simso_inputs import Platform, SimTask
from taskgen_run.sessions._simso_parts import SILENCE, Processor, Task
from taskgen_run.sessions._simulation import VERY_LATE_NS

# isort: split
# Only now: importing SimSo warns, which the module above keeps quiet.
from SimPy.Simulation import Simulation
from simso.core import Model
from simso.core.Caches import Cache
from simso.core.CSDP import CSDP
from simso.core.Processor import ProcInfo
from simso.core.Scheduler import SchedulerInfo
from simso.core.Task import TaskInfo

STEPS_PER_LOOK = 256
"""How many events pass between two looks at the clock."""

MS = 10**6
"""Cycles, which are ns, in a ms."""


class StuckError(Exception):
    """Raised when a scheduler keeps the simulation busy without letting its time pass."""


def exact_ms(ns: int) -> int | float:
    """`ns` in ms, as a number that SimSo's ``int(ms * 10**6)`` turns into exactly `ns` again."""
    if ns % MS == 0:
        return ns // MS
    ms = ns / MS
    while int(ms * MS) < ns and ns < 2 * VERY_LATE_NS:
        ms = math.nextafter(ms, math.inf)
    return ms


class System(Model):  # type: ignore[misc]
    """One simulation of tasks on a platform, until the instant `horizon`, in ns.

    `ms_scale` tells whether the scheduler's ms are ms; otherwise they are ns, which is exact for
    schedulers that only compare and add times.
    """

    def __init__(
        self,
        tasks: Iterable[SimTask],
        platform: Platform,
        horizon: int,
        *,
        scheduler: type,
        etm: type,
        ms_scale: bool = False,
        trace: bool = False,
    ) -> None:
        Simulation.__init__(self)
        self._cycles_per_ms = MS if ms_scale else 1
        self._logger = SILENCE
        self._duration = self.horizon = horizon
        self._callback = self.results = None
        self.trace_stretches = trace
        self._still = 0
        self.begun = False
        self.penalty_preemption = platform.preemption_penalty
        self.penalty_migration = platform.migration_penalty
        self.scheduler = scheduler(
            self,
            SchedulerInfo(
                overhead=platform.schedule_overhead,
                overhead_activate=platform.activate_overhead,
                overhead_terminate=platform.terminate_overhead,
            ),
        )
        self.scheduler.monitor = SILENCE
        self._etm = etm(self, platform.cpus)
        self._task_list = [Task(self, self._info(task), task.kill_after) for task in tasks]
        self._processors = self._build_processors(platform)
        self._etm.init()
        self.scheduler.task_list = self._task_list
        self.scheduler.processors = self._processors

    def _info(self, task: SimTask) -> Any:
        unit = exact_ms if self._cycles_per_ms == MS else int
        info = TaskInfo(
            name=f"T{task.position:05}",  # some schedulers break ties by name
            identifier=task.position,
            task_type="Sporadic",
            abort_on_miss=False,
            period=unit(task.period) if task.period else math.inf,
            activation_date=unit(task.releases.start),
            n_instr=task.n_instr,
            mix=task.mix,
            stack_file=("", ""),
            wcet=unit(task.wcet),
            acet=task.acet,
            et_stddev=task.et_stddev,
            deadline=unit(VERY_LATE_NS if task.deadline is None else task.deadline),
            base_cpi=task.base_cpi,
            followed_by=None,
            list_activation_dates=map(unit, task.releases),
            preemption_cost=task.preemption_cost,
            data=task.data,
        )
        info._csdp = CSDP(task.stack)
        return info

    def _build_processors(self, platform: Platform) -> list[Processor]:
        caches = [
            Cache(f"cache {index}", index, cache.size, 1, cache.access)
            for index, cache in enumerate(platform.caches)
        ]
        for cache in caches:
            cache.init()
        processors = []
        for cpu in range(platform.cpus):
            info = ProcInfo(cpu, f"CPU {cpu}", platform.context_save, platform.context_load)
            info.penalty = platform.memory_access
            info.caches = [caches[i] for i, c in enumerate(platform.caches) if cpu in c.cpus]
            for cache in reversed(info.caches):
                cache.penalty, info.penalty = info.penalty - cache.access_time, cache.access_time
            processors.append(Processor(self, info))
        return processors

    def reactivate(
        self, obj: Any, at: Any = "undefined", delay: Any = "undefined", prior: bool = False
    ) -> None:
        """As in SimPy, which makes a process object each time to do it."""
        if at != "undefined" or delay != "undefined":
            super().reactivate(obj, at, delay, prior)
        elif not obj._terminated:
            self._unpost(obj)
            self._post(obj, self._t, prior)

    def begin(self) -> None:
        """Let the scheduler set itself up, and post the first events."""
        self.begun = True
        self.initialize()
        self.scheduler.init()
        for cpu in self._processors:
            self.activate(cpu, cpu.run())
        for task in self._task_list:
            self.activate(task, task.execute())

    def advance(self, seconds: float) -> bool:
        """Simulate for about `seconds` of real time; whether the horizon is reached then.

        Raises StuckError, and whatever the scheduler raises.
        """
        until, patience = time.monotonic() + seconds, self._patience()
        events, step, horizon = self._timestamps, self.step, self.horizon
        seen = self._t
        while True:
            for _ in range(STEPS_PER_LOOK):
                # A cancelled event must not lead step() to the next one, past the horizon.
                while events and events[0][3]:
                    heappop(events)
                if not events or events[0][0] >= horizon:
                    self._end()
                    return True
                step()
            if self._t == seen:
                self._still += STEPS_PER_LOOK
                if self._still > patience:
                    raise StuckError(f"simulated time does not pass after {self._t} ns")
            else:
                seen, self._still = self._t, 0
            if time.monotonic() > until:
                return False

    def _patience(self) -> int:
        return 100_000 + 1_000 * (len(self._task_list) + len(self._processors))

    def _end(self) -> None:
        """Stop the clock at the horizon, without another decision of the scheduler.

        Schedulers expect the release that an endless task would have there.
        """
        self._t = self.horizon
        for task in self._task_list:
            for job in task.unfinished_jobs():
                job.close()
