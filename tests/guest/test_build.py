"""The image of a guest: built twice the same, and a target that runs every workload."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from agents import ROOT, WORKLOADS, Client, RunningAgent, fresh_address, script, workload
from guests import BUILD_SECONDS, PORT, guests, need_image, wait_until_serving
from instances import Instance, needs_root, runtime

from taskgen_run.blocks import binaries
from taskgen_run.taskloader.protocol import EventType

BUILD = ROOT / "guest" / "build.py"
ARM_COMPILER = "arm-linux-gnueabihf-gcc"

pytestmark = pytest.mark.timeout(2 * BUILD_SECONDS)


def build(
    *arguments: str | Path, prefix: tuple[str, ...] = (), **environment: str
) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*prefix, sys.executable, BUILD, *arguments],
        capture_output=True,
        text=True,
        timeout=BUILD_SECONDS,
        env={**os.environ, **environment},
    )


def contents(directory: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in directory.iterdir()}


def target(guest: Instance, address: str, port: int = PORT) -> RunningAgent:
    """The agent in a guest, which the tests of agents can talk to."""
    return RunningAgent(guest.process, Path(os.devnull), address, port)


def ends_of(client: Client, tasks: int) -> list[EventType]:
    """How the one job of each task has ended, in the order of tasks."""
    ends = (EventType.EXIT, EventType.EXIT_ERROR, EventType.EXIT_CRITICAL, EventType.OUT_OF_QUOTA)

    def end_of(task: int) -> list[EventType]:
        return [kind for kind in client.kinds(task) if kind in ends]

    client.wait_for(lambda: all(end_of(task) for task in range(tasks)))
    return [end_of(task)[0] for task in range(tasks)]


def test_built_twice_it_has_the_same_bytes(tmp_path: Path) -> None:
    image = need_image()
    done = build("--output", tmp_path / "again")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == f"guest: {tmp_path / 'again'} has vmlinuz and initramfs\n"
    first, second = contents(image), contents(tmp_path / "again")
    assert first.keys() == second.keys() == {"vmlinuz", "initramfs", "packages.txt"}
    assert [name for name in first if first[name] != second[name]] == []


PROBE = """
read -r stat </proc/$$/stat
set -- ${stat##*)}
while read -r key id _; do
    [ "$key" != Uid: ] || user=$id
done </proc/$$/status
[ "$user" = 65534 ] && [ "${39}" = 1 ] && [ "${38}" = 98 ] && ! echo >/etc/lease
"""
"""Ends well as an unprivileged user with SCHED_FIFO (1, see sched.h) at the highest level."""


def test_a_guest_runs_every_workload_and_scripts() -> None:
    need_image()
    address, port = fresh_address(), 4242
    tasks = [{**block, "priority": 10, "numberofjobs": 1} for block in binaries.Ending]
    sent = {block["pkg"]: workload(block["pkg"]) for block in binaries.All}
    with runtime() as directory, guests(directory, [address], "--port", str(port)) as (guest,):
        wait_until_serving(address, port=port)
        with Client(target(guest, address, port)) as client:
            client.start(
                *(*tasks, {"pkg": "probe", "priority": 10}, {"pkg": "idle", "criticaltime": 500}),
                **{**sent, "probe": script(PROBE)},
            )
            assert ends_of(client, len(tasks) + 2) == [
                *[EventType.EXIT] * (len(tasks) + 1),
                EventType.EXIT_CRITICAL,
            ]


@pytest.mark.skipif(
    not (shutil.which(ARM_COMPILER) and shutil.which("qemu-system-arm")),
    reason=f"{ARM_COMPILER} and qemu-system-arm are not installed",
)
def test_an_arm_guest_is_built_and_runs_workloads(tmp_path: Path) -> None:
    need_image()  # or this machine cannot build any
    done = build("--arch", "arm")
    assert (done.returncode, done.stderr) == (0, "")
    compiled = tmp_path / "workloads"
    subprocess.run(
        ["make", "-s", "-C", WORKLOADS, f"CC={ARM_COMPILER}", f"BUILD={compiled}"],
        check=True,
        timeout=100,
    )
    address = fresh_address()
    with runtime() as directory, guests(directory, [address], "--arch", "arm") as (guest,):
        wait_until_serving(address)
        tasks = [{"pkg": block["pkg"], "priority": 10} for block in binaries.Greetings]
        sent = {task["pkg"]: (compiled / task["pkg"]).read_bytes() for task in tasks}
        with Client(target(guest, address)) as client:
            client.start(*tasks, **sent)
            assert ends_of(client, len(tasks)) == [EventType.EXIT] * len(tasks)


# ---- what cannot be built ----


def refused(*arguments: str | Path, prefix: tuple[str, ...] = (), **environment: str) -> str:
    """The one line with which the image is not built."""
    done = build(*arguments, prefix=prefix, **environment)
    assert (done.returncode, done.stdout) == (1, "")
    (line,) = done.stderr.splitlines()
    assert line.startswith("guest: ")
    return line.removeprefix("guest: ")


def test_missing_tools_are_named_with_their_packages(tmp_path: Path) -> None:
    said = refused("--arch", "arm", PATH=str(tmp_path))
    assert said.startswith("tools must be installed, apt-get, apt-cache, cpio, ")
    assert said.endswith(
        "are missing; run: apt-get install apt cpio dpkg make binutils "
        "gcc-arm-linux-gnueabihf libc6-dev-armhf-cross"
    )


def test_an_architecture_that_there_is_none_of_is_refused() -> None:
    done = build("--arch", "sparc")
    assert done.returncode == 2
    assert "'sparc' (choose from" in done.stderr


@needs_root
def test_without_a_network_it_says_what_to_look_at(tmp_path: Path) -> None:
    need_image()  # or the tools are missing
    said = refused("--output", tmp_path / "image", prefix=("unshare", "--net"))
    assert said.startswith("package linux-image-cloud-amd64 must be in the lists of apt, ")
    assert "Failed to fetch" in said or "Temporary failure" in said or "onnect" in said
    assert said.endswith("; see to the network and to /etc/apt/sources.list")
    assert not (tmp_path / "image").exists()
