"""The command line as users call it: real processes, real directories."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from taskgen_run import results

Run = Callable[..., subprocess.CompletedProcess[str]]
TABLES = ("jobs.parquet", "tasks.parquet", "tasksets.parquet")


def _command(*arguments: str) -> list[str]:
    return [sys.executable, "-m", "taskgen_run", *arguments]


@pytest.fixture
def run(tmp_path: Path) -> Run:
    def call(*arguments: str, code: int = 0) -> subprocess.CompletedProcess[str]:
        done = subprocess.run(
            _command(*arguments), cwd=tmp_path, capture_output=True, text=True, timeout=100
        )
        assert done.returncode == code, done.stdout + done.stderr
        assert "Traceback" not in done.stderr
        return done

    return call


def _experiments(root: Path) -> list[Path]:
    return sorted(path.parent for path in root.glob("**/experiment.json"))


def _started(cwd: Path, *arguments: str) -> subprocess.Popen[str]:
    """A process that has begun its experiment."""
    process = subprocess.Popen(_command(*arguments), cwd=cwd, stderr=subprocess.PIPE, text=True)
    deadline = time.monotonic() + 60
    while not _experiments(cwd):
        assert process.poll() is None, process.communicate()[1]
        assert time.monotonic() < deadline
        time.sleep(0.01)
    return process


def _bytes(directory: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(directory.glob("*.parquet"))}


def test_the_main_job(run: Run, tmp_path: Path) -> None:
    done = run("session=simso", "taskset=example")
    (directory,) = _experiments(tmp_path / "outputs")
    assert directory.name.startswith("simso-example-")
    assert f"results in outputs/{directory.name}" in done.stdout
    rows = [line.split("│")[1:-1] for line in done.stdout.splitlines() if line.startswith("│")]
    assert [[cell.strip() for cell in row][2:] for row in rows] == [
        ["3 ms", "0"],
        ["6 ms", "0"],
        ["20 ms", "0"],
    ]
    names = {path.name for path in directory.iterdir()}
    assert {*TABLES, "experiment.json", ".hydra"} <= names
    facts = json.loads((directory / "experiment.json").read_text())
    assert facts["status"] == "finished"
    assert facts["labels"]["session"] == "simso"
    assert {path.name for path in (directory / ".hydra").iterdir()} == {
        "config.yaml",
        "hydra.yaml",
        "overrides.yaml",
    }


def test_a_sweep(run: Run, tmp_path: Path) -> None:
    done = run("-m", "session=simso,stdio", "taskset=hey0,hey4", "targets=172.25.1.1,172.25.2.0/30")
    directories = _experiments(tmp_path / "outputs")
    assert len(directories) == 8
    assert "all 8 experiments are finished" in done.stderr
    run("session=stdio", "taskset=hey3")  # of no sweep, in the same directory
    (index,) = (tmp_path / "outputs").glob("sweep-*.json")
    assert f"results of the sweep in outputs/{index.name}" in done.stdout
    table = results.read(index, "tasksets")
    assert set(table["experiment"].to_pylist()) == {path.name for path in directories}
    assert set(table["taskset_name"].to_pylist()) == {"hey0", "hey4"}
    assert set(table["host"].to_pylist()) == {"172.25.1.1", "172.25.2.1"}


def test_a_finished_experiment_is_not_run_again(run: Run, tmp_path: Path) -> None:
    run("session=simso", "taskset=hey4")
    (directory,) = _experiments(tmp_path)
    before = {path: path.stat().st_mtime_ns for path in directory.rglob("*")}
    done = run("session=simso", "taskset=hey4")
    assert "finished already" in done.stderr
    assert directory.name in done.stdout
    assert {path: path.stat().st_mtime_ns for path in directory.rglob("*")} == before


def test_rerun_runs_it_again_to_the_same_bytes(run: Run, tmp_path: Path) -> None:
    run("session=simso", "taskset=hey7", "max_variants=20")
    (directory,) = _experiments(tmp_path)
    first, stamp = _bytes(directory), (directory / "jobs.parquet").stat().st_mtime_ns
    assert set(first) == set(TABLES)
    run("session=simso", "taskset=hey7", "max_variants=20", "rerun=true")
    assert _bytes(directory) == first
    assert (directory / "jobs.parquet").stat().st_mtime_ns > stamp


def test_max_variants_raised_later_extends_to_the_same_bytes(run: Run, tmp_path: Path) -> None:
    run("session=simso", "taskset=hey6", "max_variants=10", "outputs=a")
    run("session=simso", "taskset=hey6", "max_variants=25", "outputs=a")
    run("session=simso", "taskset=hey6", "max_variants=25", "outputs=b")
    (a,), (b,) = _experiments(tmp_path / "a"), _experiments(tmp_path / "b")
    assert a.name == b.name
    assert _bytes(a) == _bytes(b)


@pytest.mark.parametrize("when", [0.3, 0.8, 1.5])
def test_a_killed_run_is_continued_to_the_same_bytes(run: Run, tmp_path: Path, when: float) -> None:
    arguments = ("session=simso", "taskset=hey7", "max_variants=1500")
    process = _started(tmp_path, *arguments, "outputs=killed")
    time.sleep(when)
    process.send_signal(signal.SIGKILL)
    process.communicate(timeout=60)
    assert process.returncode == -signal.SIGKILL, "it was over before it could be killed"
    (directory,) = _experiments(tmp_path / "killed")
    assert not list(directory.glob("*.parquet"))
    kept = results.read(directory, "tasksets", partial=True).num_rows
    assert kept > 0
    run(*arguments, "outputs=killed")
    run(*arguments, "outputs=whole")
    (whole,) = _experiments(tmp_path / "whole")
    assert _bytes(directory) == _bytes(whole)


@pytest.mark.parametrize(("signum", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_stops_cleanly_and_says_how_to_continue(
    run: Run, tmp_path: Path, signum: int, code: int
) -> None:
    process = _started(tmp_path, "session=simso", "taskset=hey7", "max_variants=2000")
    time.sleep(0.5)
    process.send_signal(signum)
    _, said = process.communicate(timeout=60)
    assert process.returncode == code, said
    assert "the same command continues it" in said
    assert "Traceback" not in said
    (directory,) = _experiments(tmp_path)
    assert json.loads((directory / "experiment.json").read_text())["status"] == "stopped"
    assert results.read(directory, "tasksets", partial=True).num_rows > 0


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["session=simsoo"], "unknown session 'simsoo'; did you mean 'simso'?"),
        (["session.schedular=EDF", "session=simso"], "did you mean 'session.scheduler'?"),
        (["session=simso", "session.cpus=0"], "session.cpus must be ≥ 1, got 0"),
        (["session=simso", "session.cpus=two"], "session.cpus must be a whole number, got 'two'"),
        (
            ["taskset=example", "taskset.tasks.0.period=-5"],
            "task 0 of task set 'example': period must be ≥ 0 ms, got -5",
        ),
        (["taskset.tasks.0.period=5"], "(+taskset.tasks.0.period=… adds it)"),
        (["targets=172.25.1.256"], "targets: '172.25.1.256' is no IP address"),
        (["session=simso", "admission=fairness"], "admission must be none with SimSoSession"),
        (["-m", "taskset=hey0,hey44"], "unknown taskset 'hey44'; did you mean 'hey4'?"),
        (["-m", "seed=1,x"], "seed must be a whole number, got 'x'"),
        (["--config-dir", "nowhere"], "--config-dir must be an existing directory"),
    ],
)
def test_a_mistake_is_one_line_exit_code_2_and_nothing_left_behind(
    run: Run, tmp_path: Path, arguments: list[str], message: str
) -> None:
    done = run(*arguments, code=2)
    (line,) = done.stderr.splitlines()
    assert line.startswith("error: ")
    assert message in line
    assert done.stdout == ""
    assert list(tmp_path.iterdir()) == []


def test_a_plan_runs_nothing(run: Run, tmp_path: Path) -> None:
    run("session=simso", "taskset=hey6", "max_variants=3")
    before = sorted(tmp_path.rglob("*"))
    done = run("-m", "session=simso", "taskset=hey6,hey7", "plan=true", "targets=10.0.0.0/29")
    rows = [
        [cell.strip() for cell in line.split("│")[1:-1]]
        for line in done.stdout.splitlines()
        if line.startswith("│")
    ]
    assert [row[:4] for row in rows] == [
        ["session=simso taskset=hey6 targets=10.0.0.0/29", "10.0.0.0/29 (6)", "127", "0"],
        ["session=simso taskset=hey7 targets=10.0.0.0/29", "10.0.0.0/29 (6)", "16129", "0"],
    ]
    done = run("session=simso", "taskset=hey6", "plan=true")
    assert "│ 127      │ 3 " in done.stdout
    assert sorted(tmp_path.rglob("*")) == before


def test_a_sweep_goes_on_after_a_failure_and_lists_it(run: Run, tmp_path: Path) -> None:
    (tmp_path / "broken.py").write_text(
        "from taskgen_run.sessions.stdio import StdIOSession\n"
        "class Broken(StdIOSession):\n"
        "    def start(self, taskset, *params):\n"
        "        raise ConnectionResetError('reset by peer')\n"
    )
    (tmp_path / "own" / "session").mkdir(parents=True)
    (tmp_path / "own" / "session" / "broken.yaml").write_text("_target_: broken.Broken\n")
    done = run("--config-dir", "own", "-m", "session=broken,stdio", "taskset=hey0", code=1)
    assert "1 of 2 experiments failed:" in done.stderr
    statuses = {
        path.name.split("-")[0]: json.loads((path / "experiment.json").read_text())["status"]
        for path in _experiments(tmp_path)
    }
    assert statuses == {"broken": "failed", "stdio": "finished"}
    table = results.read(tmp_path / "outputs", "tasksets").to_pylist()
    assert {row["error"] for row in table} == {None, "reset by peer"}


def test_a_directory_of_another_experiment_is_never_overwritten(run: Run, tmp_path: Path) -> None:
    run("session=simso", "taskset=hey0", "hydra.run.dir=here")
    before = {path: path.read_bytes() for path in (tmp_path / "here").rglob("*") if path.is_file()}
    done = run("session=simso", "taskset=hey4", "hydra.run.dir=here", code=2)
    assert "here" in done.stderr
    run("session=simso", "taskset=hey4", "hydra.run.dir=here", "rerun=true", code=2)
    after = {path: path.read_bytes() for path in (tmp_path / "here").rglob("*") if path.is_file()}
    assert after == before


def test_a_place_where_nothing_can_be_written_is_explained(run: Run, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    done = run("session=stdio", "taskset=hey0", "outputs=file/below", code=1)
    assert "cannot make the directory 'file/below'" in done.stderr
    assert "outputs=DIRECTORY" in done.stderr


def test_help_shows_groups_choices_and_settings_and_imports_little(
    run: Run, tmp_path: Path
) -> None:
    done = run("--help")
    for line in (
        "session=…",
        "taskset=…",
        "  simso ",
        "  hey9 ",
        "  seed=0 ",
        "  max_variants=null ",
    ):
        assert line in done.stdout
    script = (
        "import sys\n"
        "sys.argv = ['taskgen_run', '--help']\n"
        "from taskgen_run.__main__ import main\n"
        "try:\n    main()\nexcept SystemExit:\n    pass\n"
        "print(sorted(m for m in ('simso', 'SimPy', 'pyarrow', 'numpy') if m in sys.modules))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True, timeout=60
    )
    assert done.stdout.splitlines()[-1] == "[]"


def test_help_shows_configurations_of_a_users_own(run: Run, tmp_path: Path) -> None:
    (tmp_path / "own" / "taskset").mkdir(parents=True)
    (tmp_path / "own" / "taskset" / "mine.yaml").write_text("# My own.\ntasks: [{period: 5}]\n")
    assert "mine          My own." in run("--config-dir", "own", "--help").stdout


def test_own_task_sets_monitors_and_schedulers(run: Run, tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text(
        "from taskgen_run.monitor import AbstractMonitor\n"
        "from taskgen_run.task import Task\n"
        "from taskgen_run.taskset import TaskSet\n"
        "class Mine(TaskSet):\n"
        "    def __init__(self, size):\n"
        "        tasks = [Task(period=10, executiontime=1) for _ in range(size)]\n"
        "        super().__init__(tasks)\n"
        "class Shout(AbstractMonitor):\n"
        "    def on_finish(self, taskset, host, attempt):\n"
        "        print('DONE', taskset.variant)\n"
    )
    (tmp_path / "conf" / "taskset").mkdir(parents=True)
    (tmp_path / "conf" / "monitor").mkdir()
    (tmp_path / "conf" / "taskset" / "mine.yaml").write_text("_target_: mine.Mine\nsize: 3\n")
    (tmp_path / "conf" / "monitor" / "shout.yaml").write_text("_target_: mine.Shout\n")
    done = run("--config-dir", "conf", "session=simso", "taskset=mine", "monitor=shout")
    assert "DONE 0" in done.stdout
    (directory,) = _experiments(tmp_path)
    assert results.read(directory, "tasks").num_rows == 3


def test_two_runs_of_one_experiment_do_not_mix(run: Run, tmp_path: Path) -> None:
    arguments = ("session=simso", "taskset=hey7", "max_variants=1500")
    process = _started(tmp_path, *arguments)
    try:
        done = run(*arguments, code=1)
        assert "another process" in done.stderr
    finally:
        process.kill()
        process.communicate(timeout=60)


def test_parquet_files_hold_no_clock_path_or_name_of_the_machine(run: Run, tmp_path: Path) -> None:
    run("session=simso", "taskset=hey4", "session.trace=true")
    (directory,) = _experiments(tmp_path)
    for path in directory.glob("*.parquet"):
        content = path.read_bytes()
        assert str(tmp_path).encode() not in content
        assert os.uname().nodename.encode() not in content
    assert pq.read_table(directory / "segments.parquet").num_rows > 0


def test_a_reader_that_goes_away_ends_the_run_and_loses_nothing(run: Run, tmp_path: Path) -> None:
    arguments = ("session=simso", "taskset=hey7", "max_variants=500")
    process = subprocess.Popen(
        _command(*arguments, "monitor=stdout"),
        cwd=tmp_path,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    assert process.stderr is not None
    assert process.stdout.readline().startswith("127.0.0.1  variant 0 ")
    process.stdout.close()
    with process:
        said = process.stderr.read()
    assert process.returncode == 1
    assert "standard output is closed" in said
    assert "Traceback" not in said
    assert "Exception ignored" not in said
    run(*arguments)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["session=null"], "the configuration cannot be composed: "),
        (["-m", "taskset=hey0,null"], "the configuration cannot be composed: "),
        (["-m", "hydra.sweep.subdir=x", "seed=1,2"], "a directory of its own, got 'outputs/x'"),
        (["session=simso", "session.cpus=1000000"], "session.cpus must be ≤ 1024, got 1000000"),
        (
            ["session=simso", "taskset=example", "taskset.tasks.0.period=0.000001"],
            "must release at most 10000000 jobs",
        ),
        (["session=stdio", "+taskset.tasks.0.config={a b: 1}"], "must be an XML name"),
    ],
)
def test_more_mistakes_are_one_line_and_leave_nothing_behind(
    run: Run, tmp_path: Path, arguments: list[str], message: str
) -> None:
    done = run(*arguments, code=2)
    (line,) = done.stderr.splitlines()
    assert message in line
    assert list(tmp_path.iterdir()) == []


@pytest.mark.skipif(os.geteuid() != 0, reason="only root has rights to drop")
@pytest.mark.parametrize("sweep", [[], ["-m"]])
def test_an_unwritable_directory_is_explained(tmp_path: Path, sweep: list[str]) -> None:
    (tmp_path / "closed").mkdir(mode=0o555)
    rights = "-dac_override,-dac_read_search,-fowner"
    done = subprocess.run(
        [
            *("setpriv", f"--bounding-set={rights}", f"--inh-caps={rights}"),
            *_command(*sweep, "session=stdio", "taskset=hey0", "outputs=closed"),
        ],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=100,
    )
    assert done.returncode == 1
    assert "Traceback" not in done.stderr
    assert "cannot be written: Permission denied" in done.stderr.splitlines()[-1]


def test_a_terminal_that_does_not_know_all_characters_is_served(tmp_path: Path) -> None:
    done = subprocess.run(
        _command("--help"),
        cwd=tmp_path,
        env={**os.environ, "PYTHONIOENCODING": "ascii"},
        capture_output=True,
        text=True,
        timeout=100,
    )
    assert done.returncode == 0, done.stderr


def test_a_sweep_goes_on_when_nobody_reads_its_output(run: Run, tmp_path: Path) -> None:
    command = " ".join(_command("-m", "session=simso", "taskset=hey0,hey3,hey4"))
    subprocess.run(["bash", "-c", f"{command} | head -1"], cwd=tmp_path, check=True, timeout=100)
    assert len(_experiments(tmp_path)) == 3


def test_the_version_is_ours(run: Run) -> None:
    assert run("--version").stdout.startswith("taskgen_run ")


def test_a_sweep_says_which_experiment_is_which(run: Run) -> None:
    done = run("-m", "session=simso", "taskset=example", "session.scheduler=RM,EDF")
    assert "2 of 2: session=simso taskset=example session.scheduler=EDF" in done.stderr
    assert "session.scheduler=RM  │ 232  │ 0 " in done.stdout
