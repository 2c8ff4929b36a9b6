"""SimSo's schedulers, and users' own."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from simso_runs import MS, bare_simso, simulate, tasks

from taskgen_run.errors import BugError, ConfigurationError
from taskgen_run.job import Outcome
from taskgen_run.sessions._simso_schedulers import MS_SCALE, builtin_names
from taskgen_run.task import Task

# Utilization 29/30, of each task ≤ 1/2.
SHARES = [(3, 10), (4, 15), (12, 30)]

BARE = [name for name in builtin_names() if name not in ("DM", "Fixed_PEDF", "SCHED_DEADLINE")]
"""Those that bare SimSo can run with plain tasks. Its Fixed_PEDF never works."""


def members() -> list[Task]:
    return [
        Task(
            executiontime=c,
            period=t,
            priority=number,
            config={
                "cpu": 0,
                "cbs_period": t,
                "cbs_deadline": t,
                "cbs_maximum_runtime": c,
            },
        )
        for number, (c, t) in enumerate(SHARES)
    ]


@pytest.mark.parametrize("scheduler", builtin_names())
@pytest.mark.parametrize("cpus", [1, 2])
@pytest.mark.parametrize("on_miss", ["continue", "abort"])
def test_every_scheduler_runs_in_silence(
    scheduler: str, cpus: int, on_miss: str, capfd: pytest.CaptureFixture[str]
) -> None:
    _, jobs, stretches = simulate(
        members(), scheduler=scheduler, cpus=cpus, on_miss=on_miss, trace=True
    )
    assert capfd.readouterr() == ("", "")
    assert len(jobs) == 2 * (3 + 2 + 1)
    assert {job.outcome for job in jobs.values()} == {Outcome.FINISHED}
    exact = scheduler not in ("CC_EDF", "Static_EDF")  # those change the speed of the processor
    for row, job in jobs.items():
        executed = sum(end - start for _, start, end in stretches[row])
        assert not exact or executed == SHARES[job.task][0] * MS


@pytest.mark.parametrize("scheduler", BARE)
@pytest.mark.parametrize("cpus", [1, 2])
def test_jobs_end_when_simso_says(scheduler: str, cpus: int) -> None:
    cycles = MS if scheduler in MS_SCALE else 1
    theirs = bare_simso(members(), scheduler, cpus, 60, cycles)
    _, jobs, _ = simulate(members(), scheduler=scheduler, cpus=cpus)
    assert {row: job.end_ns for row, job in jobs.items()} == {row: theirs[row] for row in jobs}


@pytest.mark.parametrize(
    "scheduler", ["RM", "FP", "EDF", "EDZL", "MLLF", "G_FL", "EDF2", "LLF", "PD2"]
)
def test_overloaded_jobs_end_when_simso_says(scheduler: str) -> None:
    overload = [Task(executiontime=c, period=t, priority=c) for c, t in ((4, 6), (5, 8), (6, 9))]
    cycles = MS if scheduler in MS_SCALE else 1
    theirs = bare_simso(overload, scheduler, 1, 100, cycles)
    _, jobs, _ = simulate(overload, scheduler=scheduler, duration_ms=100)
    ends = {row: job.end_ns for row, job in jobs.items()}
    assert ends == {row: theirs[row] for row in jobs}


@pytest.mark.parametrize("scheduler", ["EDHS", "PD2", "RUN", "EKG"])
def test_a_variant_does_not_depend_on_those_before(scheduler: str) -> None:
    heavy = tasks((6, 10), (6, 10), (6, 10))
    alone = simulate(heavy, scheduler=scheduler, cpus=2)[1:]
    simulate(tasks((7, 10), (8, 10), (4, 10)), scheduler=scheduler, cpus=2)
    assert simulate(heavy, scheduler=scheduler, cpus=2)[1:] == alone


def test_simso_does_not_gather_its_declared_schedulers() -> None:
    import simso.schedulers

    before = len(simso.schedulers.get_loaded_schedulers())
    for _ in range(3):
        simulate(tasks((1, 5)), scheduler="RM")
    assert len(simso.schedulers.get_loaded_schedulers()) == before


@pytest.mark.parametrize(
    "path", ["simso.schedulers.EDF", "simso.schedulers.EDF.EDF", "simso.schedulers.EDF_mono"]
)
def test_the_class_path_of_a_scheduler_of_simso(path: str) -> None:
    _, jobs, _ = simulate(tasks((2, 5), (4, 7)), scheduler=path)
    assert all(job.end_ns <= job.deadline_ns for job in jobs.values())  # type: ignore[operator]


OWN = '''
from __future__ import annotations
from dataclasses import dataclass
from simso.core import Scheduler, Timer
from simso.schedulers import scheduler
import limits_of_{name}

calls = []

@dataclass
class Note:
    text: str

@scheduler("{name}")
class {name}(Scheduler):
    """Runs the task with the largest `config.weight`, and looks again every ms."""
    def init(self):
        self.ready = []
        calls.append(1)
        print(Note("runs"), len(calls), self.sim.cycles_per_ms, limits_of_{name}.LIMIT)
        self.timer = Timer(self.sim, {name}.look, (self,), 1, one_shot=False,
                           cpu=self.processors[0])
        self.timer.start()
    def look(self):
        self.sim.logger.log("looks")
        self.processors[0].resched()
    def on_activate(self, job):
        self.ready.append(job)
    def on_terminated(self, job):
        self.ready.remove(job)
    def schedule(self, cpu):
        return max(self.ready, key=lambda job: job.data["weight"], default=None), cpu
'''


def own_file(directory: Path, name: str) -> Path:
    file = directory / f"{name}.py"
    file.write_text(OWN.format(name=name))
    (directory / f"limits_of_{name}.py").write_text("LIMIT = 3\n")
    return file


def weighted() -> list[Task]:
    return [
        Task(period=8.2, executiontime=1.2, config={"weight": 1}),
        Task(period=16.4, executiontime=2, config={"weight": 2}),
    ]


def test_a_file_of_the_users_own(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = own_file(tmp_path, "Weighty")
    for _ in range(2):
        _, jobs, _ = simulate(weighted(), scheduler=str(file), duration_ms=16.4)
        # It looks at 1 for the first time; a job that ends at 3 gives way when it looks again.
        assert [(job.start_ns, job.end_ns) for job in jobs.values()] == [
            (3 * MS, 4_200_000),
            (9 * MS, 10_200_000),
            (1 * MS, 3 * MS),
        ]
    # Its ms are ms, its prints go through, and its module is fresh each time.
    assert capsys.readouterr().out == 2 * "Note(text='runs') 1 1000000 3\n"


def test_a_class_of_the_users_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    own_file(tmp_path, "Ponderous")
    monkeypatch.syspath_prepend(tmp_path)
    for _ in range(2):
        _, jobs, _ = simulate(weighted(), scheduler="Ponderous.Ponderous", duration_ms=16)
        assert jobs[1, 0].end_ns == 3 * MS
    assert capsys.readouterr().out == 2 * "Note(text='runs') 1 1000000 3\n"


def test_the_task_set_keeps_what_a_scheduler_writes_into_its_data() -> None:
    task = Task(period=5, executiontime=1, config={"note": ["kept"]})
    simulate([task], scheduler="EDCL")
    assert task == {"period": 5, "executiontime": 1, "config": {"note": ["kept"]}}


@pytest.mark.parametrize(
    ("source", "message"),
    [
        (None, "does not exist"),
        ("x = 1", "must have one subclass of simso.core.Scheduler"),
        ("from simso.core import Scheduler", "must have one subclass"),
        ("def broken(:", "cannot load .*SyntaxError"),
        ("import no_such_module", "cannot load .*no_such_module"),
        (
            "from simso.core import Scheduler\nclass A(Scheduler): pass\nclass B(Scheduler): pass",
            "got A, B",
        ),
    ],
)
def test_a_file_that_is_no_scheduler(tmp_path: Path, source: str | None, message: str) -> None:
    file = tmp_path / "mine.py"
    if source is not None:
        file.write_text(source)
    with pytest.raises(ConfigurationError, match=message):
        simulate(tasks((1, 5)), scheduler=str(file))


@pytest.mark.parametrize(
    ("path", "message"),
    [
        ("no.such.thing", "cannot load 'no.such.thing'"),
        ("pathlib.Path", "must name a subclass of simso.core.Scheduler"),
        ("RMM", "did you mean 'RM'"),
        ("RUNServer", "unknown scheduler"),
        ("simso.schedulers.Nothing", "unknown scheduler 'Nothing'"),
    ],
)
def test_a_name_that_is_no_scheduler(path: str, message: str) -> None:
    with pytest.raises(ConfigurationError, match=message):
        simulate(tasks((1, 5)), scheduler=path)


def failing(directory: Path, line: str) -> str:
    file = directory / "Failing.py"
    file.write_text(
        "from simso.core import Scheduler\n"
        "class Failing(Scheduler):\n"
        "    def on_activate(self, job):\n"
        f"        {line}\n"
    )
    return str(file)


def test_a_scheduler_that_raises_is_a_bug(tmp_path: Path) -> None:
    with pytest.raises(BugError, match=r"Failing\.py raised ZeroDivisionError: .*'tested'"):
        simulate(tasks((1, 5)), scheduler=failing(tmp_path, "1 / 0"))


def test_a_scheduler_that_cannot_compute_with_single_jobs(tmp_path: Path) -> None:
    scheduler = failing(tmp_path, "int(job.period)")
    with pytest.raises(ConfigurationError, match=r"single jobs.*task 1 of task set 'tested'"):
        simulate([*tasks((1, 5)), Task(executiontime=1)], scheduler=scheduler)


def test_edhs_without_a_processor_to_split_a_task_over() -> None:
    _, jobs, _ = simulate(tasks((5, 5), (6, 6), (1, 7)), scheduler="EDHS", cpus=2, duration_ms=20)
    assert {job.outcome for job in jobs.values()} == {Outcome.NOT_SCHEDULED}


def test_a_users_own_packing_fails_like_simsos(tmp_path: Path) -> None:
    file = tmp_path / "Picky.py"
    file.write_text(
        "from simso.core.Scheduler import SchedulerInfo\n"
        "from simso.utils import PartitionedScheduler\n"
        "class Picky(PartitionedScheduler):\n"
        "    def init(self):\n"
        "        PartitionedScheduler.init(\n"
        "            self, SchedulerInfo('simso.schedulers.EDF_mono'), lambda s: False)\n"
    )
    _, jobs, _ = simulate(tasks((1, 5)), scheduler=str(file))
    assert {job.outcome for job in jobs.values()} == {Outcome.NOT_SCHEDULED}


LIMITED: list[tuple[str, dict[str, Any], str]] = [
    *[(s, {"period": 0}, "period must be > 0") for s in ("BF", "EDHS", "EKG", "RUN", "WC_RUN")],
    *[
        (s, {"offset": 3}, "offset must be the same for all tasks")
        for s in ("BF", "DP_WRAP", "EDF2", "NVNLF", "U_EDF", "WC_RUN", "WC_U_EDF")
    ],
    ("LRE_TL", {"offset": 3}, "offset must be 0"),
    *[(s, {"numberofjobs": 2}, "numberofjobs must be 0") for s in ("BF", "DP_WRAP")],
    *[(s, {"deadline": 9}, "deadline must be ≥ the period") for s in ("BF", "DP_WRAP", "LRE_TL")],
    ("EPDF", {"deadline": 20}, "deadline must be ≤ the period"),
    *[
        (s, {"executiontime": 0}, "executiontime must be > 0")
        for s in ("BF", "DP_WRAP", "EPDF", "ER_PD2", "PD2")
    ],
    ("PriD", {"executiontime": 15}, "executiontime must be < the period"),
    ("BF", {"period": 8.2}, "period must be a whole number of ms"),
    *[
        (s, {"executiontime": 14}, "utilization must be ≤ session.cpus")
        for s in ("BF", "DP_WRAP", "EPDF", "LRE_TL")
    ],
]


@pytest.mark.parametrize(("scheduler", "change", "message"), LIMITED)
def test_what_a_scheduler_was_not_written_for(
    scheduler: str, change: dict[str, Any], message: str
) -> None:
    limited = members()
    limited[1].update(change)
    with pytest.raises(ConfigurationError, match=message) as caught:
        simulate(limited, scheduler=scheduler)
    assert scheduler in str(caught.value)
