"""`scripts/qemu-up.sh` on kernels that do nothing: arguments, restarts, requests, nothing left."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path

import psutil
import pytest
from agents import PATIENCE, ROOT, fresh_address, wait_until
from instances import (
    EMPTY,
    SCRIPT,
    Instance,
    arm_kernel,
    end,
    instance,
    kernel,
    left_in,
    needs_qemu,
    needs_root,
    put_request,
    refused,
    run,
    runtime,
)
from networks import BRIDGE, Network, mac_of, needs_dhcp, needs_networks, network

NOBODY = 65534
DOCUMENTATION = (ROOT / "docs" / "qemu.md").read_text(encoding="utf-8")
SHELL_SCRIPTS = ("scripts/qemu-up.sh", "scripts/check.sh", "guest/init", "guest/lease", ".ci/run")


@pytest.mark.skipif(not shutil.which("shellcheck"), reason="shellcheck is not installed")
def test_shellcheck_has_nothing_to_say() -> None:
    done = subprocess.run(
        ["shellcheck", *SHELL_SCRIPTS], cwd=ROOT, capture_output=True, text=True, timeout=60
    )
    assert (done.returncode, done.stdout) == (0, "")


# ---- arguments ----


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ("", "must have --user ADDRESS, or BRIDGE and TAP, got 'nothing'; see --help"),
        ("br1", "must have --user ADDRESS, or BRIDGE and TAP, got 'br1'; see --help"),
        ("br1 tap1 tap2", "must have --user ADDRESS, or BRIDGE and TAP, got 'br1 tap1 tap2'; "),
        ("--user 127.0.9.1 br1 tap1", "--user takes no bridge and tap device, got 'br1 tap1'; "),
        ("--user", "--user must be followed by a value; see --help"),
        ("--user 127.0.9.256", "--user must be an IPv4 address of this machine, such as 127.0.9.1"),
        ("--user 127.0.9.01", "--user must be an IPv4 address of this machine, such as 127.0.9.1"),
        ("--user ::1", "--user must be an IPv4 address of this machine, such as 127.0.9.1"),
        ("--user localhost", "got 'localhost'"),
        ("--user 127.0.9.1,foo=bar", "got '127.0.9.1,foo=bar'"),
        ("--user 127.0.9.1 --port 0", "--port must be a whole number from 1 to 65535, got '0'"),
        ("--user 127.0.9.1 --port 65536", "--port must be a whole number from 1 to 65535"),
        ("--user 127.0.9.1 --port x", "--port must be a whole number from 1 to 65535, got 'x'"),
        ("--user 127.0.9.1 --port -1", "--port must be a whole number from 1 to 65535, got '-1'"),
        ("--user 127.0.9.1 --memory 15", "--memory must be a whole number from 16 to 1048576"),
        ("--user 127.0.9.1 --memory 1G", "--memory must be a whole number from 16 to 1048576"),
        ("--user 127.0.9.1 --cpus 0", "--cpus must be a whole number from 1 to 256, got '0'"),
        (
            "--user 127.0.9.1 --boot-timeout 0",
            "--boot-timeout must be a whole number from 1 to 86400",
        ),
        ("--user 127.0.9.1 --accel hvf", "--accel must be kvm or tcg, got 'hvf'"),
        ("--user 127.0.9.1 --arch sparc", "--arch must be x86_64 or arm, got 'sparc'"),
        ("--user 127.0.9.1 --kernel", "--kernel must be followed by a value; see --help"),
        ("--frozen", "unknown option '--frozen'; see --help"),
        ("br1 a/b", "the name of a tap device must be 1 to 15 letters, digits, '_' or '-'"),
        ("br1 sixteen-letters-", "the name of a tap device must be 1 to 15 letters, digits"),
    ],
)
def test_a_bad_argument_is_refused(arguments: str, said: str) -> None:
    assert said in refused(*arguments.split())


@needs_qemu
def test_what_is_not_there_is_refused(tmp_path: Path) -> None:
    missing = tmp_path / "missing"
    said = f"'{missing}' must be a file that can be read"
    assert refused("--user", "127.0.9.1", "--kernel", missing) == said
    assert refused("--user", "127.0.9.1", "--kernel", kernel(tmp_path), "--initrd", missing) == said
    assert refused("--user", "127.0.9.1", "--kernel", tmp_path).startswith(f"'{tmp_path}' must be")
    console = ("--console", missing / "console")
    assert refused("--user", "127.0.9.1", "--kernel", kernel(tmp_path), *console) == (
        f"--console must be a file that can be written, got '{missing}/console'"
    )


@needs_qemu
def test_without_an_image_it_says_how_to_build_one(tmp_path: Path) -> None:
    (tmp_path / "scripts").mkdir()
    copy = shutil.copy(SCRIPT, tmp_path / "scripts")
    done = subprocess.run([copy, "--user", "127.0.9.1"], capture_output=True, text=True, timeout=60)
    assert done.returncode == 2
    assert done.stderr == (
        f"qemu-up.sh: there is no image in {tmp_path}/guest/build/x86_64; "
        "run: python3 guest/build.py --arch x86_64\n"
    )


def test_missing_tools_are_named_with_their_packages(tmp_path: Path) -> None:
    for tool in ("bash", "dirname"):
        found = shutil.which(tool)
        assert found is not None
        (tmp_path / tool).symlink_to(found)
    path = {"PATH": str(tmp_path)}
    said = "tools are missing; run: apt-get install "
    assert refused("--user", "127.0.9.1", environment=path) == said + "qemu-system-x86 util-linux"
    assert refused("--user", "127.0.9.1", "--arch", "arm", environment=path) == (
        said + "qemu-system-arm util-linux"
    )
    assert refused("br1", "tap1", environment=path).endswith("util-linux iproute2")


def test_the_documentation_names_options_that_there_are() -> None:
    told = set(re.findall(r"--([a-z]+)", run("--help").stdout))
    named = set(re.findall(r"qemu-up\.sh .*?(?:\n|$)", DOCUMENTATION))
    assert {option for line in named for option in re.findall(r"--([a-z]+)", line)} <= told


@needs_networks
@needs_dhcp
def test_the_documentation_sets_up_a_bridge_and_removes_it(tmp_path: Path) -> None:
    (make,) = re.findall(r"```sh\n(sudo ip link add .*?)```", DOCUMENTATION, re.DOTALL)
    (remove,) = re.findall(r"```sh\n(sudo sh -c 'kill .*?)```", DOCUMENTATION, re.DOTALL)
    commands = f"{make}\nip -d link show dev netbr1 type bridge\n{remove}\nip -o link"
    commands = commands.replace("sudo ", "").replace("/run/", f"{tmp_path}/")
    done = subprocess.run(
        ["unshare", "--net", "sh", "-ec", commands], capture_output=True, text=True, timeout=60
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.count("52:54:00:77:00:01") == 1
    assert list(tmp_path.iterdir()) == []


def test_help_names_every_option() -> None:
    done = run("--help")
    assert (done.returncode, done.stderr) == (0, "")
    options = (
        *("user", "port", "arch", "kernel", "initrd", "append", "machine", "nic", "memory"),
        *("cpus", "accel", "console", "boot-timeout"),
    )
    assert [o for o in options if f"--{o} " not in done.stdout] == []


@needs_qemu
def test_a_bridge_needs_root_and_to_be_one(halts: Path) -> None:
    if os.geteuid() != 0:
        assert "a bridge needs root" in refused("--kernel", halts, "lo", "tap1")
        return
    assert refused("--kernel", halts, "lo", "tap1") == (
        "'lo' must be a bridge, and is another device; choose another name"
    )


# ---- restarts ----


@needs_qemu
def test_a_qemu_that_is_killed_boots_again(halts: Path) -> None:
    address = fresh_address()
    with runtime() as directory, instance(directory, "--kernel", halts, "--user", address) as up:
        for count in (1, 2):
            end(up.wait_for_boot(count))
        up.wait_for_boot(3)
        ended = f"qemu-up.sh: {address}: QEMU has ended with 137"
        assert up.said.splitlines().count(ended) == 2


@needs_qemu
def test_a_qemu_that_ends_at_once_three_times_ends_the_script(tmp_path: Path) -> None:
    address = fresh_address()
    arguments = ("--kernel", kernel(tmp_path, dies=True), "--user", address)
    with runtime() as directory, instance(directory, *arguments) as up:
        assert up.ends(2).splitlines()[-1] == (
            f"qemu-up.sh: {address}: QEMU has ended 3 times at once with 0: its guest has switched "
            "itself off; --console - shows why"
        )
        assert len(up.boots) == 3


@needs_qemu
@pytest.mark.parametrize(
    ("option", "value", "reason"),
    [("--machine", "pdp11", "unsupported machine type"), ("--nic", "virtio-net-x", "not a valid")],
)
def test_it_ends_with_the_reason_of_qemu(halts: Path, option: str, value: str, reason: str) -> None:
    arguments = ("--kernel", halts, "--user", fresh_address(), option, value)
    with runtime() as directory, instance(directory, *arguments) as up:
        said = up.ends(2).splitlines()[-1]
    assert "QEMU has ended 3 times at once with 1: " in said
    assert reason in said


@needs_qemu
def test_a_port_in_use_is_named(halts: Path) -> None:
    address = fresh_address()
    arguments = ("--kernel", halts, "--user", address, "--port", "3007")
    with runtime() as directory, instance(directory, *arguments) as first:
        first.wait_for_boot()
        with runtime() as other, instance(other, *arguments) as second:
            assert (
                second.ends(2)
                .splitlines()[-1]
                .endswith(f"{address} must be an address of this machine, and its port 3007 free")
            )
        assert len(first.boots) == 1


@needs_qemu
def test_a_path_that_is_too_long_for_a_socket_is_refused(halts: Path, tmp_path: Path) -> None:
    long = tmp_path / ("x" * 100)
    long.mkdir(mode=0o700)
    said = refused(
        *("--accel", "tcg", "--kernel", halts, "--user", "127.0.9.1"),
        environment={"XDG_RUNTIME_DIR": str(long)},
    )
    assert said.startswith("the path of a socket must be shorter than 108 bytes, got ")


@needs_qemu
@needs_root
def test_it_needs_no_root(halts: Path) -> None:
    as_nobody = ("setpriv", "--reuid", str(NOBODY), "--regid", str(NOBODY), "--clear-groups")
    with (
        runtime(NOBODY) as directory,
        as_others_see(halts) as seen,
        instance(directory, "--kernel", seen, "--user", fresh_address(), prefix=as_nobody) as up,
    ):
        assert up.wait_for_boot().uids().effective == NOBODY


@contextmanager
def as_others_see(path: Path) -> Iterator[Path]:
    """A copy of a file where every user may read it."""
    with runtime() as directory:
        directory.chmod(0o755)
        copy = Path(shutil.copy(path, directory))
        copy.chmod(0o644)
        yield copy


@needs_qemu
@pytest.mark.parametrize("where", ["-", "file, with a comma"])
def test_the_console_of_every_boot_is_kept(halts: Path, tmp_path: Path, where: str) -> None:
    # SeaBIOS tells of itself on the console that its configuration names.
    place = where if where == "-" else str(tmp_path / where)
    hello = bytes.fromhex("66 ba f8 03 b0 48 ee b0 0a ee fa f4 eb fc")  # 'H\n' to COM1; cli; hlt
    image = tmp_path / "hello.elf"
    image.write_bytes(halts.read_bytes()[:32] + hello)
    arguments = ("--kernel", image, "--user", fresh_address(), "--console", place)
    with runtime() as directory, instance(directory, *arguments) as up:

        def told() -> int:
            if where == "-":
                text = up.said
            else:
                text = Path(place).read_text() if Path(place).exists() else ""
            return text.splitlines().count("H")

        first = up.wait_for_boot()
        wait_until(lambda: told() == 1, "the console has the first boot")
        end(first)
        up.wait_for_boot(2)
        wait_until(lambda: told() == 2, "the console has both boots")


@needs_qemu
@pytest.mark.skipif(not shutil.which("qemu-system-arm"), reason="qemu-system-arm is not installed")
def test_the_board_of_a_genode_image_starts(tmp_path: Path) -> None:
    (line,) = re.findall(
        r"^scripts/qemu-up.sh (.* realview-pbx-a9 .*)$", DOCUMENTATION, re.MULTILINE
    )
    arguments = line.replace("image.elf", str(arm_kernel(tmp_path)))
    arguments = re.sub(r"(?<=--user )\S+", fresh_address(), arguments)
    with runtime() as directory, instance(directory, *arguments.split()) as up:
        qemu = up.wait_for_boot()
        assert "nic,model=lan9118" in " ".join(qemu.cmdline())


# ---- nothing is left ----


@needs_qemu
@pytest.mark.parametrize(
    ("signum", "code"), [("SIGINT", 130), ("SIGTERM", 143), ("SIGHUP", 143), ("SIGKILL", -9)]
)
def test_a_signal_leaves_nothing(halts: Path, signum: str, code: int) -> None:
    arguments = ("--kernel", halts, "--user", fresh_address())
    with runtime() as directory, instance(directory, *arguments) as up:
        qemu = up.wait_for_boot()
        up.process.send_signal(getattr(signal, signum))
        up.ends(code)
        if signum != "SIGKILL":
            assert not qemu.is_running()
            assert left_in(directory) == EMPTY
        up.assert_nothing_left()


@needs_qemu
@needs_networks
def test_a_signal_at_any_moment_is_obeyed(halts: Path) -> None:
    with network() as net:

        def ends_at(moment: int) -> int:
            arguments = ("--kernel", halts, BRIDGE, f"tap{moment}")
            with runtime() as directory, instance(directory, *arguments, prefix=net.prefix) as up:
                up.wait_for_boot()
                time.sleep(1 + 0.07 * moment)  # into another part of the loop
                up.process.terminate()
                return up.process.wait(PATIENCE)

        with ThreadPoolExecutor(6) as pool:
            assert set(pool.map(ends_at, range(18))) == {143}
        assert net.devices == {"lo", BRIDGE}


@needs_qemu
def test_a_terminal_that_kills_all_its_processes_leaves_nothing(halts: Path) -> None:
    arguments = ("--kernel", halts, "--user", fresh_address())
    with runtime() as directory, instance(directory, *arguments) as up:
        up.wait_for_boot()
        os.killpg(up.process.pid, signal.SIGKILL)
        up.assert_nothing_left()


@needs_qemu
def test_an_error_leaves_nothing(halts: Path) -> None:
    arguments = ("--kernel", halts, "--user", fresh_address())
    with runtime() as directory, instance(directory, *arguments) as up:
        qemu = up.wait_for_boot()
        own = up.monitor.parents[1]
        shutil.rmtree(own)
        own.touch()  # where its files belong
        end(qemu)
        assert f"'{own}' cannot be made" in up.ends(2)
        own.unlink()
        for left in EMPTY:  # as it is otherwise
            (directory / left).mkdir()


AT_A_LINE = """
unset BASH_ENV
set -o functrace
trap '[ "$LINENO" != {line} ] || [ "$BASHPID" != "$$" ] || {{ trap - DEBUG; {action}; }}' DEBUG
"""
RECORD = """
unset BASH_ENV
set -o functrace
trap '[ "$BASHPID" != "$$" ] || echo "$LINENO" >>{file}' DEBUG
"""
CODES = {"exit 1": 1, "kill -TERM $$": 143, "kill -KILL $$": -9}


@needs_qemu
@pytest.mark.parametrize("action", CODES)
def test_an_end_at_any_line_leaves_nothing(halts: Path, tmp_path: Path, action: str) -> None:
    ends_at_lines(action, tmp_path, lambda hook: user_life(halts, hook))


@needs_qemu
@needs_networks
@pytest.mark.parametrize("action", CODES)
def test_an_end_at_any_line_leaves_no_device(halts: Path, tmp_path: Path, action: str) -> None:
    ends_at_lines(action, tmp_path, lambda hook: bridge_life(halts, hook))


def ends_at_lines(action: str, directory: Path, life: Callable[[Path], int]) -> None:
    """Let the script end at each of the lines that it reaches in its life."""
    record, lines = directory / "record.sh", directory / "lines"
    record.write_text(RECORD.format(file=lines))
    assert life(record) == 143
    (begin,) = [
        number
        for number, text in enumerate(SCRIPT.read_text().splitlines(), 1)
        if text.startswith("exec {lifeline}> >(")
    ]
    reached = {line for line in map(int, lines.read_text().split()) if line > begin}
    assert len(reached) > 50

    def ends_at(line: int) -> None:
        hook = directory / f"{line}.sh"
        hook.write_text(AT_A_LINE.format(line=line, action=action))
        # The first lines do not know of signals yet, and those of the clean-up of no other end.
        assert life(hook) in (CODES[action], -signal.SIGTERM, 143), line

    with ThreadPoolExecutor(3) as pool:
        list(pool.map(ends_at, sorted(reached)))


def user_life(halts: Path, hook: Path) -> int:
    """The exit code of an instance that lives through a kill, a request and SIGTERM.

    Its shell reads `hook` first, which may end it before.
    """
    address = fresh_address()
    environment = {"BASH_ENV": str(hook)}
    arguments = ("--kernel", halts, "--user", address)
    with runtime() as directory, instance(directory, *arguments, environment=environment) as up:
        return lives(up, address)


def bridge_life(halts: Path, hook: Path) -> int:
    """The same on a bridge, which has forgotten the guest and its device in the end."""
    with network() as net:
        arguments = ("--kernel", halts, BRIDGE, "tap1")
        environment = {"BASH_ENV": str(hook)}
        with (
            runtime() as directory,
            instance(directory, *arguments, environment=environment, prefix=net.prefix) as up,
        ):
            code = lives(up, "10.77.0.9", net)
        wait_until(lambda: net.devices == {"lo", BRIDGE}, "the device is gone")
        wait_until(lambda: not net.ip("neigh"), "the guest is forgotten")
        return code


def lives(up: Instance, address: str, net: Network | None = None) -> int:
    def boots(count: int) -> bool:
        wait_until(lambda: len(up.boots) >= count or up.process.poll() is not None, "a boot")
        return up.process.poll() is None

    with suppress(psutil.NoSuchProcess):
        if boots(1):
            end(psutil.Process(up.boots[0]))
            if boots(2):
                if net is not None:
                    mac = mac_of(psutil.Process(up.boots[1]))
                    net.ip("neigh", "add", address, "lladdr", mac, "dev", BRIDGE, "nud", "stale")
                put_request(up.runtime / "taskgen_run" / "requests", address)
                if boots(3):
                    up.process.terminate()
    code = up.process.wait(PATIENCE)
    print(code, up.said)  # which is shown if the test fails
    for request in (up.runtime / "taskgen_run" / "requests").glob("*"):
        request.unlink()
    return code
