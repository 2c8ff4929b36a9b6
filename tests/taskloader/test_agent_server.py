"""Who may talk to an agent, how much of it, and what it does with nonsense."""

from __future__ import annotations

import os
import socket
import struct
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from agents import (
    PATIENCE,
    ROOT,
    Client,
    RunningAgent,
    agent,
    is_refused,
    script,
    wait_until,
    workload,
)
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from taskgen_run.taskloader.protocol import (
    Binary,
    Clear,
    EventType,
    GetLive,
    GetProfile,
    Optimize,
    SendBinaries,
    SendDescs,
    Start,
    Stop,
    encode,
)

DONE = EventType.JOBS_DONE

needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root has jobs of other users")


@pytest.fixture(scope="module")
def target(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningAgent]:
    options = ["--max-tasks", "5", "--max-binaries", "3"]
    sizes = ["--max-binary-size", "1M", "--max-stored", "2M"]
    with agent(tmp_path_factory.mktemp("agent"), *options, *sizes) as running:
        yield running
        assert running.process.poll() is None


def assert_serves(target: RunningAgent) -> None:
    """The agent runs a job for a new client."""
    with Client(target) as client:
        client.start({"pkg": "hey"}, hey=workload("hey"))
        client.wait_for_event(DONE)
        assert client.kinds() == [EventType.START, EventType.EXIT, DONE]


def test_one_client_after_the_other(target: RunningAgent) -> None:
    for _ in range(5):
        assert_serves(target)


def test_a_connection_that_only_tries_the_port_does_no_harm(target: RunningAgent) -> None:
    for _ in range(5):
        socket.create_connection((target.address, target.port)).close()
        assert_serves(target)


def test_a_second_client_is_refused(target: RunningAgent) -> None:
    with Client(target) as first:
        assert first.live().tasks == ()
        assert is_refused(target)
        wait_until(lambda: "another one is connected" in target.log, "it is logged")
        assert first.live().tasks == ()
    assert_serves(target)


def test_clients_of_other_networks_are_refused(tmp_path: Path) -> None:
    networks = ["--allow", "127.5.0.0/16", "--allow", "127.6.6.6"]
    with agent(tmp_path, *networks) as target:
        for source in ["127.0.0.1", "127.6.6.7"]:
            assert is_refused(target, source)
        assert "127.6.6.7 is refused: it is in none of the allowed networks" in target.log
        for source in ["127.5.200.1", "127.6.6.6"]:
            with Client(target, source) as friend:
                assert friend.live().tasks == ()


def test_an_agent_on_ipv6(tmp_path: Path) -> None:
    with agent(tmp_path, address="::1") as target:
        assert_serves(target)


def _refused(*options: str) -> str:
    done = subprocess.run(
        [sys.executable, "-m", "taskgen_run.taskloader", *options],
        capture_output=True,
        text=True,
        cwd=ROOT,
        timeout=PATIENCE,
    )
    assert done.returncode == (1 if "free to listen" in done.stderr else 2)
    assert "Traceback" not in done.stderr
    return done.stderr


def test_other_machines_need_permission() -> None:
    error = _refused("--bind", "0.0.0.0")
    assert error.startswith("error: --allow must be given to listen on 0.0.0.0")
    assert len(error.splitlines()) == 1


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--bind", "localhost"], "localhost"),
        (["--port", "70000"], "--port must be 0 to 65535, got 70000"),
        (["--max-tasks", "0"], "limit tasks must be ≥ 1, got 0"),
        (["--max-processes", "0"], "--max-processes must be ≥ 1, got 0"),
        (["--max-stored", "lots"], "lots"),
        (["--allow", "everybody"], "everybody"),
        pytest.param(["--user", "root"], "must not be root", marks=needs_root),
        pytest.param(["--user", "0"], "must not be root", marks=needs_root),
        pytest.param(["--user", "no-such-user"], "must exist, got 'no-such", marks=needs_root),
        (["--bind", "192.0.2.1", "--allow", "::/0"], "192.0.2.1 port 3001 must be free to listen"),
    ],
)
def test_options_that_cannot_be_had(options: list[str], message: str) -> None:
    assert message in _refused(*options)


def test_a_port_in_use_is_said_so(target: RunningAgent) -> None:
    error = _refused("--bind", target.address, "--port", str(target.port))
    assert "Address already in use; choose others with --bind and --port" in error


@needs_root
def test_the_user_of_the_jobs_may_be_a_number(tmp_path: Path) -> None:
    with agent(tmp_path, "--user", "61234") as target, Client(target) as client:
        client.start({"pkg": "idle"}, idle=workload("idle"))
        client.wait_for_event(EventType.START)
        [job] = target.descendants()
        assert (job.uids().real, job.gids().real) == (61234, 61234)


def test_binaries_are_kept_over_clear_but_not_for_the_next_client(target: RunningAgent) -> None:
    with Client(target) as client:
        client.start({"pkg": "hey"}, hey=workload("hey"))
        client.wait_for_event(DONE)
        client.send(Clear())
        client.start({"pkg": "hey"})
        client.wait_for_event(DONE, count=2)
        assert client.kinds() == [EventType.START, EventType.EXIT, DONE] * 2
    with Client(target) as client:
        client.start({"pkg": "hey"})
        client.wait_for_event(DONE)
        assert client.kinds() == [EventType.START, EventType.EXIT_ERROR, DONE]


def test_a_binary_that_comes_again_replaces_the_old_one(target: RunningAgent) -> None:
    with Client(target) as client:
        client.start({"pkg": "x"}, x=script("exit 1"))
        client.wait_for_event(DONE)
        client.send(Clear())
        client.start({"pkg": "x"}, x=script("exit 0"))
        client.wait_for_event(DONE, count=2)
        assert EventType.EXIT in client.kinds()


HEADER = struct.Struct("<16sI")
UPLOAD = encode(SendBinaries(1))


@pytest.mark.parametrize(
    "sent",
    [
        b"GET / HTTP/1.1\r\n\r\n",
        bytes(1000),
        b"\xff" * 1000,
        struct.pack("<II", 0xDE5, 2**32 - 1),
        struct.pack("<II", 0x6F7074, 2**31),
        struct.pack("<II", 0xDE5F11E, 2**32 - 1),
        encode(SendBinaries(4)),
        UPLOAD + HEADER.pack(b"../x", 1) + b"x",
        UPLOAD + HEADER.pack(b"/bin/sh", 1) + b"x",
        UPLOAD + HEADER.pack(b"..", 1) + b"x",
        UPLOAD + HEADER.pack(b"", 1) + b"x",
        UPLOAD + HEADER.pack(b"sixteen-letters!", 1) + b"x",
        UPLOAD + HEADER.pack(b"big", 2**20 + 1),
        UPLOAD + HEADER.pack(b"huge", 2**32 - 1),
        encode(SendBinaries(3)) + b"".join(encode(Binary(n, bytes(2**20))) for n in "abc"),
        encode(SendBinaries(3)) + b"".join(encode(Binary(n, b"x")) for n in "abc")
        + UPLOAD + encode(Binary("d", b"x")),
        encode(SendDescs("<taskset><periodictask/></taskset>")),
        encode(SendDescs("<taskset><periodictask><id>0</id><pkg>../x</pkg></periodictask></taskset>")),
        encode(SendDescs("<taskset><periodictask><id>0</id></periodictask></taskset>")) * 2,
        encode(SendDescs("<!DOCTYPE x [<!ENTITY a 'b'>]><taskset>&a;</taskset>")),
        encode(
            SendDescs(
                "<taskset><periodictask><id>0</id><config><x>"
                + "x" * 70000
                + "</x></config></periodictask></taskset>"
            )
        ),
        b"".join(
            encode(SendDescs(f"<taskset><periodictask><id>{n}</id></periodictask></taskset>"))
            for n in range(6)
        ),
    ],
)  # fmt: skip
def test_what_is_not_allowed_ends_the_connection(target: RunningAgent, sent: bytes) -> None:
    with Client(target) as client:
        client.socket.sendall(sent)
        assert client.is_closed()
    assert_serves(target)


@pytest.mark.parametrize("size", [0, 7, 10, 24, 40, 50, 1000])
def test_an_upload_that_ends_in_the_middle(target: RunningAgent, size: int) -> None:
    with Client(target) as client:
        client.socket.sendall((UPLOAD + encode(Binary("hey", workload("hey"))))[:size])
    assert_serves(target)


def test_a_client_that_does_not_read_is_given_up(tmp_path: Path) -> None:
    """And until then its jobs are released: what it does not read waits in a bounded buffer."""
    with agent(tmp_path) as target:
        with Client(target) as client:
            client.load(*[{"period": 1, "pkg": "x", "offset": n % 7} for n in range(1000)])
            client.send(Start())
            wait_until(
                lambda: "the client does not read" in target.log, "the connection is given up"
            )
        assert_serves(target)


def test_a_flood_of_questions_does_not_stop_the_releases(target: RunningAgent) -> None:
    with Client(target) as client:
        client.start({"pkg": "hey", "period": 50, "numberofjobs": 4}, hey=workload("hey"))
        client.send(*[GetLive()] * 1000, GetProfile())
        client.wait_for_event(DONE)
        client.wait_for(lambda: len(client.lives) == 1000)


TASKS = st.lists(
    st.fixed_dictionaries(
        {"id": st.integers(0, 3)},
        optional={
            "period": st.sampled_from([0, 1, 5, 1000]),
            "offset": st.sampled_from([0, 1, 10**12]),
            "numberofjobs": st.sampled_from([0, 1, 3]),
            "executiontime": st.sampled_from([0, 1, 10**12]),
            "criticaltime": st.sampled_from([0, 1, 20]),
            "deadline": st.sampled_from([0, 1, 20, 10**12]),
            "priority": st.sampled_from([0, 127, 128]),
            "quota": st.sampled_from(["0", "1", "1M", "8G"]),
            "cores": st.sampled_from([0, 1, 2**40]),
            "coreoffset": st.sampled_from([-1, 0, 1, 2**40]),
            "pkg": st.sampled_from(["hey", "idle", "none"]),
        },
    ),
    max_size=3,
    unique_by=lambda task: task["id"],
)


def _described(tasks: list[dict[str, object]]) -> bytes:
    xml = "".join(
        "<periodictask>"
        + "".join(f"<{name}>{value}</{name}>" for name, value in task.items())
        + "</periodictask>"
        for task in tasks
    )
    return encode(SendDescs(f"<taskset>{xml}</taskset>"))


MESSAGES = st.one_of(
    st.sampled_from(
        [
            *[encode(Clear()), encode(Start()), encode(Start()), encode(Stop()), encode(GetLive())],
            encode(Optimize({"goal": {"fairness": {"apply": 1}}})),
            encode(SendBinaries(1)) + encode(Binary("hey", workload("hey"))),
            encode(SendBinaries(1)) + encode(Binary("idle", workload("idle"))),
            encode(SendBinaries(1)) + encode(Binary("none", b"")),
        ]
    ),
    TASKS.map(_described),
)


@settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(messages=st.lists(MESSAGES, max_size=12), garbage=st.binary(max_size=40))
def test_random_commands_and_random_bytes(
    target: RunningAgent, messages: list[bytes], garbage: bytes
) -> None:
    with Client(target) as client:
        try:
            client.socket.sendall(b"".join(messages))
            client.socket.sendall(garbage)
            client.socket.settimeout(0.02)
            client.socket.recv(65536)
        except (TimeoutError, ConnectionError):
            pass
    assert target.process.poll() is None
    assert "Traceback" not in target.log


def test_after_all_that_nothing_is_left(target: RunningAgent) -> None:
    assert_serves(target)
    wait_until(lambda: not target.descendants(), "no process is left")


def test_the_agent_imports_little() -> None:
    forbidden = ["pyarrow", "hydra", "omegaconf", "rich", "numpy", "simso", "yaml", "filelock"]
    forbidden += ["xmltodict", "xml.sax", "urllib.request", "ssl"]
    code = (
        "import sys, taskgen_run.taskloader.__main__; "
        f"print([name for name in {forbidden!r} if name in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT,
        timeout=60,
    )  # fmt: skip
    assert done.stdout.strip() == "[]"


def test_a_target_needs_python_alone(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-S", "-P", "-m", "taskgen_run.taskloader", "--help"],
        env={"PYTHONPATH": str(ROOT)}, capture_output=True, text=True, cwd=tmp_path, timeout=60,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
