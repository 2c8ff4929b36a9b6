from __future__ import annotations

import os
import pty
import re
import subprocess
import sys

import pytest

from taskgen_run.sessions.contract import SessionContract
from taskgen_run.sessions.stdio import StdIOSession
from taskgen_run.task import Task
from taskgen_run.taskset import TaskSet

TASKSET = TaskSet([Task(period=5, executiontime=1, pkg="hey", config={"arg1": 13})], "mine")


class TestContract(SessionContract):
    session = StdIOSession
    jobs_expected = False

    def taskset(self) -> TaskSet:
        return TASKSET


def _start(host: str, *params: object) -> None:
    session = StdIOSession(host, 3001)
    session.start(next(TASKSET.variants()), *params)
    session.close()


def test_it_prints_the_xml_of_the_wire_protocol(capsys: pytest.CaptureFixture[str]) -> None:
    _start("172.25.1.1")
    printed = capsys.readouterr().out
    assert "172.25.1.1: mine, variant 0" in printed
    xml = re.sub(r"\s", "", printed[printed.index("<taskset>") : printed.index("</taskset>")])
    assert "<id>0</id>" in xml
    assert "<deadline>5</deadline><numberofjobs>0</numberofjobs><period>5</period>" in xml
    assert "<config><arg1>13</arg1></config></periodictask>" in xml


def test_it_prints_a_table_with_a_column_per_attribute(
    capsys: pytest.CaptureFixture[str],
) -> None:
    _start("172.25.1.1")
    lines = capsys.readouterr().out.splitlines()
    header = next(line for line in lines if "period" in line and "<" not in line)
    assert [cell.strip() for cell in re.split(r"[┃│]", header) if cell.strip()] == [
        "id",
        "period",
        "executiontime",
        "pkg",
        "config",
    ]


def test_it_prints_the_goal_of_admission_control(capsys: pytest.CaptureFixture[str]) -> None:
    _start("172.25.1.1", {"goal": {"fairness": {"apply": 1}}, "query_interval": 1000})
    xml = re.sub(r"\s", "", capsys.readouterr().out)
    assert "<optimize><goal><fairness><apply>1</apply></fairness></goal>" in xml


def test_markup_in_values_is_printed_as_it_is(capsys: pytest.CaptureFixture[str]) -> None:
    session = StdIOSession("172.25.1.1", 3001)
    session.start(TaskSet([Task(config={"arg1": "[red]x[/red]"})], "[bold]"))
    printed = capsys.readouterr().out
    assert "[red]x[/red]" in printed
    assert "[bold]" in printed


def test_without_a_terminal_there_is_no_colour(capsys: pytest.CaptureFixture[str]) -> None:
    _start("172.25.1.1")
    assert "\x1b" not in capsys.readouterr().out


def test_on_a_terminal_each_host_has_its_own_colour() -> None:
    script = (
        "from taskgen_run.sessions.stdio import StdIOSession\n"
        "from taskgen_run.task import Task\n"
        "from taskgen_run.taskset import TaskSet\n"
        "for host in ('172.25.1.1', '172.25.1.2', '172.25.1.1'):\n"
        "    StdIOSession(host, 3001).start(TaskSet([Task(period=5)], 'mine'))\n"
    )
    ours, theirs = pty.openpty()
    environment = {**os.environ, "TERM": "xterm-256color"}
    environment.pop("NO_COLOR", None)
    subprocess.run(
        [sys.executable, "-c", script], stdout=theirs, env=environment, check=True, timeout=60
    )
    os.close(theirs)
    shown = b""
    while True:
        try:
            piece = os.read(ours, 65536)
        except OSError:  # a terminal without a writer ends like this on Linux
            break
        if not piece:
            break
        shown += piece
    os.close(ours)
    colours = re.findall(r"\x1b\[([\d;]+)m(172\.25\.1\.\d)", shown.decode())
    assert [host for _, host in colours] == ["172.25.1.1", "172.25.1.2", "172.25.1.1"]
    assert colours[0][0] == colours[2][0] != colours[1][0]
