"""FastSimSession: the contract, its options, batches, and what it says of what it cannot do."""

from __future__ import annotations

import functools
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from taskgen_run.distributor import Distributor
from taskgen_run.errors import ConfigurationError, InfrastructureError
from taskgen_run.hosts import TargetRange
from taskgen_run.interrupts import Interrupted, Interrupts
from taskgen_run.job import OUTCOMES, JobBatch, Outcome
from taskgen_run.monitor import AbstractMonitor
from taskgen_run.sessions import _fastsim_rows, fastsim
from taskgen_run.sessions.contract import SessionContract
from taskgen_run.sessions.fastsim import FastSimSession
from taskgen_run.simulator import columns, compiling, layout, sets
from taskgen_run.task import Task
from taskgen_run.taskset import TaskSet
from taskgen_run.values import Random, Range
from taskgen_run.variants import TaskSets, Variants

MS = 1_000_000


@pytest.fixture(scope="module", autouse=True)
def _compiled() -> None:
    """The simulator is compiled once per machine, and no test is to wait for it."""
    FastSimSession("", 0).run_batch([TaskSet([Task(period=5, executiontime=1)], "first")])


class TestFastSim(SessionContract):
    session = FastSimSession

    def taskset(self) -> TaskSet:
        return TaskSet([Task(period=5, executiontime=1, numberofjobs=3)], "short")


class TestTracedFastSim(TestFastSim):
    options = {"trace": True, "scheduler": "P_EDF", "cpus": 2}  # noqa: RUF012


def simulate(*members: Task, **options: Any) -> list[tuple[Any, ...]]:
    """Task, job, start and end in ms, outcome."""
    jobs = JobBatch(FastSimSession("", 0, **options).run_batch([TaskSet(members, "tested")]))
    return [
        (
            job.task,
            job.job,
            *(None if ns is None else ns / MS for ns in (job.start_ns, job.end_ns)),
            job.outcome,
        )
        for job in jobs
    ]


def test_the_simulator_writes_the_places_of_the_outcomes() -> None:
    places = {"finished": layout.FINISHED, "killed": layout.KILLED}
    places |= {"not_scheduled": layout.SKIPPED, "unfinished": layout.UNFINISHED}
    assert {name: OUTCOMES.to_pylist().index(name) for name in places} == places


def test_skip_next_skips_the_jobs_released_while_one_is_late() -> None:
    rows = simulate(Task(period=4, executiontime=9), on_miss="skip-next", duration_ms=20)
    assert rows == [
        (0, 0, 0, 9, Outcome.FINISHED),
        (0, 1, None, None, Outcome.NOT_SCHEDULED),
        (0, 2, None, None, Outcome.NOT_SCHEDULED),
        (0, 3, 12, None, Outcome.UNFINISHED),
        (0, 4, None, None, Outcome.NOT_SCHEDULED),
    ]


def test_a_job_that_ends_at_its_deadline_skips_nothing() -> None:
    rows = simulate(Task(period=4, executiontime=4), on_miss="skip-next", duration_ms=12)
    assert [row[4] for row in rows] == [Outcome.FINISHED] * 3


@pytest.mark.parametrize(
    ("packing", "expected"),
    [
        ("first-fit", [0, 1, 1, 0]),
        ("best-fit", [1, 1, 1, 0]),
        ("worst-fit", [1, 1, 2, 0]),
    ],
)
@pytest.mark.parametrize("scheduler", ["P_RM", "P_EDF"])
def test_packing_by_decreasing_utilization(
    scheduler: str, packing: str, expected: list[int]
) -> None:
    """The one of 0.7 comes first, then those of 0.4, and that of 0.1 fits on each processor."""
    members = [Task(period=10, executiontime=c) for c in (1, 4, 4, 7)]
    session = FastSimSession("", 0, scheduler=scheduler, cpus=3, packing=packing, trace=True)
    session.run_batch([TaskSet(members, "packed")])
    segments = session.segments()
    assert segments is not None
    found = {(row["task"], row["cpu"]) for row in segments.to_pylist()}
    assert found == set(enumerate(expected))


def test_a_task_set_that_does_not_fit_is_not_scheduled() -> None:
    members = [Task(period=10, executiontime=6) for _ in range(3)]
    rows = simulate(*members, scheduler="P_EDF", cpus=2, packing="worst-fit")
    assert {row[4] for row in rows} == {Outcome.NOT_SCHEDULED}


def test_a_batch_is_the_task_sets_one_by_one() -> None:
    sets = [
        TaskSet([Task(period=p, executiontime=2), Task(executiontime=e)], "one of many")
        for p, e in ((5, 3), (7, 30), (9, 1))
    ]
    for variant, taskset in enumerate(sets):
        taskset.variant = variant
    session = FastSimSession("", 0, scheduler="EDF")
    together = session.run_batch(sets).to_pylist()
    alone = [row for taskset in sets for row in session.run_batch([taskset]).to_pylist()]
    assert together == alone
    assert {row["taskset"] for row in together} == {0, 1, 2}


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"scheduler": "LLF"}, "session=simso has all schedulers"),
        ({"scheduler": "EDFF"}, "did you mean 'EDF'"),
        ({"cpus": 0}, "session.cpus must be ≥ 1, got 0"),
        ({"on_miss": "stop"}, "session.on_miss"),
        ({"packing": "best-fit"}, "session.packing must be simso"),
        ({"duration_ms": "long"}, "session.duration_ms must be a number"),
        ({"context_save_ms": -1}, "session.context_save_ms must be ≥ 0"),
        ({"duration_ms": 10**9}, "must release at most 10000000 jobs"),
    ],
)
def test_options_are_checked(options: dict[str, Any], message: str) -> None:
    taskset = TaskSet([Task(period=5, executiontime=1)], "checked")
    with pytest.raises(ConfigurationError, match=message):
        FastSimSession.check(taskset, **options)


def test_tasks_are_checked() -> None:
    with pytest.raises(ConfigurationError, match="executiontime must be set"):
        FastSimSession.check(TaskSet([Task(period=5)], "checked"))
    with pytest.raises(ConfigurationError, match="priority must be set"):
        FastSimSession.check(TaskSet([Task(period=5, executiontime=1)], "checked"), scheduler="FP")


def test_only_what_waits_for_a_single_job_is_simulated_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    periodic = [TaskSet([Task(period=p, executiontime=2)], "periodic") for p in (5, 9)]
    over = TaskSet([Task(period=5, executiontime=1), Task(executiontime=3)], "over in time")
    late = TaskSet([Task(period=5, executiontime=4), Task(executiontime=30)], "late")
    later = TaskSet(
        [Task(period=5, executiontime=4), Task(executiontime=2), Task(offset=999, executiontime=9)],
        "later",
    )
    sets = [periodic[0], late, over, later, periodic[1]]
    simulated: list[list[str]] = []
    real = _fastsim_rows.simulate_all

    def counted(tasksets: Sequence[TaskSet], *arguments: Any) -> Any:
        simulated.append([taskset.name for taskset in tasksets])
        return real(TaskSets(tasksets), *arguments)

    monkeypatch.setattr(_fastsim_rows, "simulate_all", counted)
    for variant, taskset in enumerate(sets):
        taskset.variant = variant
    session = FastSimSession("", 0, trace=True)
    jobs = session.run_batch(sets)
    segments = session.segments()
    assert segments is not None
    assert simulated[0] == [taskset.name for taskset in sets]
    assert all("late" in names and "periodic" not in names for names in simulated[1:])
    assert len(simulated) > 2
    horizons = [taskset.horizon_ns for taskset in sets]
    for taskset, horizon_ns in zip(sets, horizons, strict=True):
        assert horizon_ns is not None
        fixed = FastSimSession("", 0, trace=True, duration_ms=horizon_ns / MS)
        alone = fixed.run_batch([taskset]).to_pylist()
        assert [row for row in jobs.to_pylist() if row["taskset"] == taskset.variant] == alone
        traced = fixed.segments()
        assert traced is not None
        rows = [row for row in segments.to_pylist() if row["taskset"] == taskset.variant]
        assert rows == traced.to_pylist()
        singles = [row for row in alone if row["task"] > 0]
        assert all(row["end_ns"] is not None for row in singles)


def test_the_rows_of_each_are_known_beforehand() -> None:
    sets = [TaskSet([Task(period=p, executiontime=1)], "many") for p in (1, 5, 0.000001)]
    sets.insert(1, TaskSet([Task(period=5)], "crooked"))
    session = FastSimSession("", 0, duration_ms=1000)
    rows = session.estimate_rows(sets)
    assert (rows[0], rows[2]) == (1000, 200)
    assert "executiontime must be set" in str(rows[1])
    assert "must release at most 10000000 jobs" in str(rows[3])
    assert [session.run_batch([sets[n]]).num_rows for n in (0, 2)] == [1000, 200]
    traced = FastSimSession("", 0, duration_ms=1000, trace=True).estimate_rows(sets)
    assert isinstance(traced[0], int)
    assert traced[0] > 1000


def test_what_grows_too_large_while_it_waits_is_simulated_in_smaller_batches(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Their natural horizon is 2 ms; their single jobs never run, so they grow to 200 ms."""
    monkeypatch.setattr(fastsim, "MOST_ROWS_AGAIN", 500)
    sizes: list[int] = []

    class Counted(FastSimSession):
        def run_batch(self, tasksets: Sequence[TaskSet]) -> pa.RecordBatch:
            jobs = super().run_batch(tasksets)
            sizes.append(len(tasksets))
            return jobs

    class Finished(AbstractMonitor):
        def on_finish(self, taskset: TaskSet, host: str, attempt: int) -> None:
            finished.append((taskset.variant, taskset.horizon_ns))

    finished: list[tuple[int, int | None]] = []
    waiting = TaskSet([Task(period=1, executiontime=1), Task(executiontime=Range(1, 9))], "waiting")
    connect = functools.partial(Counted, port=0, duration_cap_ms=200)
    with Interrupts() as interrupts:
        distributor = Distributor(connect, TargetRange("127.0.0.1"), Finished(), interrupts)
        distributor.run(Variants(waiting, range(9)))
    assert finished == [(number, 200 * MS) for number in range(9)]
    assert sum(sizes) == 9
    assert max(sizes) == 2


def test_a_batch_is_the_same_by_columns() -> None:
    moving = TaskSet(
        [
            Task(period=Random(Range(4, 9)), executiontime=Range(0.5, 2, 0.5), deadline=(0, 3.25)),
            Task(period=7, executiontime=Random((1, 2)), criticaltime=(0, 5), offset=(0, 2.5)),
            Task(period=6, executiontime=1, numberofjobs=(0, 3), priority=4),
        ],
        "moving",
    )
    numbers = range(moving.variant_count() or 0)
    given: list[dict[str, Any]] = [{}, {"on_miss": "abort"}, {"scheduler": "DM"}]
    for options in given:
        session = FastSimSession("", 0, **options)
        variants = Variants(moving, numbers)
        session.estimate_rows(variants)
        made = [next(moving.variants(number)) for number in numbers]
        assert session.run_batch(variants).equals(session.run_batch(made))
        assert variants.horizons_ns == [taskset.horizon_ns for taskset in made]


def test_each_function_is_compiled_once_whatever_is_asked_of_it() -> None:
    members = [Task(period=5, executiontime=1, priority=1), Task(executiontime=2, priority=2)]
    alone: list[dict[str, Any]] = [{"tie": "index"}, {"on_miss": "skip-next"}]
    alone += [{"scheduler": name} for name in ("DM", "FP", "NP_FP", "NP_EDF")]
    many: list[dict[str, Any]] = [{"trace": True}, {"context_save_ms": 0.1}, {"on_miss": "abort"}]
    many += [{"scheduler": name} for name in ("RM", "EDF", "P_RM", "P_EDF")]
    for options in [*alone, *({"cpus": 3, **options} for options in many)]:
        FastSimSession("", 0, **options).run_batch([TaskSet(members, "all")] * 2)
    kept: list[Any] = [
        *(sets.run_parts, sets.sort_segments),
        *(columns.fill_columns, columns.mark_valid),
    ]
    for function in kept:
        assert len(function.signatures) == 1, function


def test_however_many_jobs_are_asked_for_they_are_too_many() -> None:
    """Their number is beyond that of whole numbers of 64 bits."""
    taskset = TaskSet([Task(period=0.000001, executiontime=0)] * 4096, "endless")
    session = FastSimSession("", 0, duration_ms=2**52 / 10**6)
    with pytest.raises(ConfigurationError, match="must release at most 10000000 jobs"):
        session.run_batch([taskset])
    (error,) = session.estimate_rows([taskset])
    assert isinstance(error, ConfigurationError)


def test_old_code_is_removed_and_code_that_is_used_is_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    directories = [tmp_path / f"{number:016x}" for number in range(4)]
    for directory in directories:
        directory.mkdir()
        (directory / "compiled").touch()
    long_ago = time.time() - 100 * 86400
    for directory in (directories[0], directories[1]):
        os.utime(directory / "compiled", (long_ago, long_ago))
    monkeypatch.setattr(compiling, "cache_directory", lambda: directories[0])
    uses: list[Path] = []

    def use() -> None:
        uses.append(directories[0])
        (directories[0] / "code.nbi").write_text("code")

    compiling.compile_once(use)
    assert [directory.exists() for directory in directories] == [True, False, True, True]
    os.utime(directories[0] / "compiled", (long_ago, long_ago))
    compiling.compile_once(use)
    assert (directories[0] / "compiled").stat().st_mtime > long_ago + 86400
    assert len(uses) == 1
    (directories[0] / "code.nbi").write_text("damage")
    compiling.compile_once(use)
    compiling.compile_once(use)
    assert len(uses) == 2


def test_a_full_disk_for_what_is_compiled_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(compiling, "cache_directory", lambda: tmp_path)

    def use() -> None:
        raise OSError(28, "No space left on device")

    with pytest.raises(InfrastructureError, match=r"cannot be kept: .*; make room, or set NUMBA_"):
        compiling.compile_once(use)


def test_a_signal_is_taken_while_a_simulation_goes_on() -> None:
    """Compiled code in the main thread would hold it up."""
    may_end = threading.Event()
    threads: list[threading.Thread] = []

    def simulate_long() -> None:
        threads.append(threading.current_thread())
        may_end.wait(60)

    threading.Timer(0.5, os.kill, (os.getpid(), signal.SIGINT)).start()
    with Interrupts() as interrupts, pytest.raises(Interrupted), interrupts.allowed():
        fastsim._apart(simulate_long)
    (thread,) = threads
    assert thread is not threading.main_thread()
    assert thread.daemon, "nobody waits for it at the end"
    may_end.set()
    thread.join()


def test_what_a_simulation_raises_is_raised() -> None:
    def fail() -> None:
        raise KeyError("x")

    with pytest.raises(KeyError, match="x"):
        fastsim._apart(fail)


UNWRITABLE = """
import logging, os, sys
from pathlib import Path
logging.basicConfig(format="%(message)s")
from taskgen_run.simulator.compiling import cache_directory
directory = cache_directory()
(directory / "file").touch()
assert os.environ["NUMBA_CACHE_DIR"] == str(directory.parent)
print(directory)
"""


def test_where_nothing_can_be_kept_it_is_kept_for_the_run(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    done = subprocess.run(
        [sys.executable, "-c", UNWRITABLE],
        env={**os.environ, "NUMBA_CACHE_DIR": str(tmp_path / "file" / "cache")},
        capture_output=True,
        text=True,
        check=True,
    )
    assert "cache: cannot be written: Not a directory" in done.stderr
    assert "set NUMBA_CACHE_DIR" in done.stderr
    assert not Path(done.stdout.strip()).parent.exists()


def test_numba_is_imported_only_to_simulate() -> None:
    code = (
        "import sys; from taskgen_run.sessions.fastsim import FastSimSession as S;"
        "from taskgen_run.taskset import TaskSet; from taskgen_run.task import Task;"
        "S.check(TaskSet([Task(period=5, executiontime=1)], 'checked'));"
        "sys.exit('numba' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
