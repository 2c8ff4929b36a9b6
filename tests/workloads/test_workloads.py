"""Tests of the workloads: they are built, and run as targets run them."""

from __future__ import annotations

import math
import re
import shutil
import signal
import struct
import subprocess
import sys
import time
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from taskgen_run.blocks import binaries
from taskgen_run.task import quota_bytes

SOURCES = Path(__file__).parents[2] / "workloads"
NAMES = [block["pkg"] for block in binaries.All]
WITH_ARGUMENT = ["pi", "tumatmul", "linpack", "cond_42", "cond_mod"]
MOST = {
    "pi": 10**15,
    "tumatmul": 10**12,
    "linpack": 10_000,
    "cond_42": 2**63 - 1,
    "cond_mod": 2**63 - 1,
}
ARM_COMPILER = "arm-linux-gnueabihf-gcc"

pytestmark = pytest.mark.skipif(
    not (shutil.which("gcc") and shutil.which("make")),
    reason="the workloads need gcc and make, which are not installed",
)


def make(directory: Path, *arguments: str) -> Path:
    command = ["make", "-C", str(SOURCES), f"BUILD={directory}", "CFLAGS=-Werror", *arguments]
    done = subprocess.run(command, capture_output=True, text=True, timeout=100)
    assert done.returncode == 0, done.stderr
    return directory


@pytest.fixture(scope="session")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make(tmp_path_factory.mktemp("workloads") / "build")


def run(binary: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([binary, *arguments], capture_output=True, text=True, timeout=100)


def output(binary: Path, *arguments: int) -> str:
    done = run(binary, *map(str, arguments))
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout


def elf(binary: Path) -> tuple[int, bool]:
    """The machine that a little-endian ELF file is for, and whether it is statically linked."""
    content = binary.read_bytes()
    is_64_bit = content[4] == 2
    (machine,) = struct.unpack_from("<H", content, 18)
    (table,) = struct.unpack_from("<Q" if is_64_bit else "<I", content, 32 if is_64_bit else 28)
    size, count = struct.unpack_from("<HH", content, 54 if is_64_bit else 42)
    kinds = [struct.unpack_from("<I", content, table + i * size)[0] for i in range(count)]
    assert content[:4] == b"\x7fELF"
    return machine, 3 not in kinds  # 3: names the dynamic linker


def test_every_workload_is_built_and_nothing_else(built: Path) -> None:
    assert sorted(path.name for path in built.iterdir()) == sorted(NAMES)
    assert all(elf(path)[1] for path in built.iterdir())


def test_the_same_bytes_are_built_again(built: Path, tmp_path: Path) -> None:
    again = make(tmp_path / "elsewhere" / "deeper")
    for name in NAMES:
        assert (again / name).read_bytes() == (built / name).read_bytes(), name


@pytest.mark.skipif(not shutil.which(ARM_COMPILER), reason=f"{ARM_COMPILER} is not installed")
def test_they_are_built_for_another_machine(built: Path, tmp_path: Path) -> None:
    arm = make(tmp_path / "arm", f"CC={ARM_COMPILER}")
    assert {elf(arm / name) for name in NAMES} == {(40, True)}
    emulator = shutil.which("qemu-arm")
    if emulator is None:
        return
    for name, argument in [("pi", 12_345), ("tumatmul", 70_000), ("linpack", 64), ("cond_42", 42)]:
        there = run(Path(emulator), str(arm / name), str(argument))
        assert there.stdout == output(built / name, argument)


@pytest.mark.parametrize("name", ["hey", "namaste"])
def test_a_greeting_is_printed_whatever_the_arguments(built: Path, name: str) -> None:
    assert output(built / name) == output(built / name, 13) == f"{name}\n"


def test_idle_sleeps_until_it_is_killed(built: Path) -> None:
    with subprocess.Popen([built / "idle", "13"]) as process:
        time.sleep(0.3)
        assert process.poll() is None
        fields = Path(f"/proc/{process.pid}/stat").read_text().rpartition(")")[2].split()
        process.terminate()
        assert process.wait(10) == -signal.SIGTERM
    user_ticks, system_ticks = int(fields[11]), int(fields[12])
    assert fields[0] == "S"
    assert user_ticks + system_ticks <= 5


@pytest.mark.parametrize("terms", [0, 1, 2, 1000, 100_000])
def test_pi_is_the_partial_sum_of_leibniz(built: Path, terms: int) -> None:
    exact = 4 * math.fsum((-1) ** k / (2 * k + 1) for k in range(terms))
    assert float(output(built / "pi", terms)) == pytest.approx(exact, abs=1e-12)


def test_pi_converges_to_pi(built: Path) -> None:
    errors = [abs(float(output(built / "pi", 10**k)) - math.pi) for k in range(1, 8)]
    assert all(0 < later < earlier for earlier, later in pairwise(errors))
    assert errors[-1] < 2e-7


def primes_up_to(most: int) -> int:
    return sum(all(n % d for d in range(2, math.isqrt(n) + 1)) for n in range(2, most + 1))


@pytest.mark.parametrize("most", [*range(31), 255, 256, 257, 288, 289, 33_022, 33_023, 33_024])
def test_tumatmul_counts_primes(built: Path, most: int) -> None:
    assert output(built / "tumatmul", most) == f"{primes_up_to(most)} primes up to {most}\n"


@pytest.mark.parametrize(
    ("exponent", "count"),
    [(4, 1229), (5, 9592), (6, 78_498), (7, 664_579), (8, 5_761_455)],
)
def test_tumatmul_counts_many_primes(built: Path, exponent: int, count: int) -> None:
    """The counts are those of OEIS A006880."""
    assert output(built / "tumatmul", 10**exponent).startswith(f"{count} primes")


@pytest.mark.parametrize("order", [0, 1, 2, 3, 10, 64, 100, 256, 512])
def test_linpack_finds_the_solution(built: Path, order: int) -> None:
    printed = output(built / "linpack", order)
    match = re.fullmatch(r"order (\d+): normalized residual ([\d.]+), largest x (.+)\n", printed)
    assert match is not None, printed
    assert int(match[1]) == order
    assert float(match[2]) < 16
    assert float(match[3]) == pytest.approx(min(order, 1), abs=1e-9)


@pytest.mark.parametrize(
    ("name", "short", "long"),
    [("cond_42", [42], [0, 41, 43, 4242]), ("cond_mod", [0, 2, 2**63 - 2], [1, 41, 2**63 - 1])],
)
def test_conditional_jobs_are_short_or_long(
    built: Path, name: str, short: list[int], long: list[int]
) -> None:
    assert {output(built / name, argument) for argument in short} <= {"42\n", "even\n"}
    assert {output(built / name, argument) for argument in long} == {"counted to 50000000\n"}


@pytest.mark.parametrize("name", WITH_ARGUMENT)
@pytest.mark.parametrize(
    "argument",
    [None, "", " ", "x", "-5", "-0", "+5", " 5", "5 ", "5x", "1.5", "1e3", "0x10", "5\n", "٥"],
)
def test_an_argument_that_is_no_whole_number_is_refused(
    built: Path, name: str, argument: str | None
) -> None:
    done = run(built / name, *([] if argument is None else [argument]))
    shown = "nothing" if argument is None else f"'{argument}'"
    assert done.returncode == 2
    assert done.stdout == ""
    assert done.stderr.endswith(
        f"{name}: arg1 must be a whole number from 0 to {MOST[name]}, got {shown}; "
        "give it as the first argument\n"
    )


@pytest.mark.parametrize("name", WITH_ARGUMENT)
def test_an_argument_that_is_too_large_is_refused(built: Path, name: str) -> None:
    for argument in (MOST[name] + 1, 2**64 - 5, 2**64, 10**40):
        done = run(built / name, str(argument))
        assert done.returncode == 2
        assert f"to {MOST[name]}, got '{argument}'" in done.stderr


def test_a_system_that_does_not_fit_the_memory_is_an_error(built: Path) -> None:
    command = f"ulimit -v 65536; exec {built / 'linpack'} 10000"
    done = subprocess.run(["sh", "-c", command], capture_output=True, text=True, timeout=100)
    assert done.returncode == 1
    assert done.stderr == ("linpack: no memory for a system of order 10000; take a smaller arg1\n")


@pytest.mark.parametrize("block", binaries.Ending, ids=NAMES[:-1])
def test_the_quota_of_its_block_is_enough(built: Path, block: dict[str, Any]) -> None:
    argument = block["config"].get("arg1", "")
    kibibytes = quota_bytes(block["quota"]) // 1024
    command = f"ulimit -v {kibibytes}; exec {built / block['pkg']} {argument}"
    done = subprocess.run(["sh", "-c", command], capture_output=True, text=True, timeout=100)
    assert (done.returncode, done.stderr) == (0, "")


def calibrate(*arguments: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(SOURCES / "calibrate.py"), *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=100)


def test_calibration_tells_the_time_of_each_argument(built: Path) -> None:
    done = calibrate(built, "--runs", 3)
    assert (done.returncode, done.stderr) == (0, "")
    rows = [line.split() for line in done.stdout.splitlines()[2:]]
    assert {row[0] for row in rows} == set(NAMES) - {"idle"}
    times = {
        (row[0], int(row[1])): [float(cell) for cell in row[2:5]]
        for row in rows
        if row[0] not in ("hey", "namaste")
    }
    assert all(0 < least <= median <= most for least, median, most in times.values())
    for name, less, more in [("pi", 0, 10**7), ("tumatmul", 0, 10**7), ("cond_mod", 2, 1)]:
        assert times[name, less][1] < times[name, more][1]
    assert any(row[0] == "linpack" and row[-1] == "operations" for row in rows)


def test_calibration_needs_the_binaries(tmp_path: Path) -> None:
    done = calibrate(tmp_path)
    assert done.returncode == 2
    assert f"{tmp_path} must hold hey; run `make -C " in done.stderr
    assert "--runs must be ≥ 1, got 0" in calibrate(tmp_path, "--runs", "0").stderr


def test_calibration_refuses_a_workload_that_fails(built: Path, tmp_path: Path) -> None:
    copies = Path(shutil.copytree(built, tmp_path / "copies"))
    (copies / "pi").write_text("#!/bin/sh\nexit 3\n")
    done = calibrate(copies, "--runs", 1)
    assert done.returncode == 1
    assert done.stderr == f"{copies / 'pi'} 0: must end with status 0, got 3\n"
