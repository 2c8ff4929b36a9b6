"""A session that shows task sets instead of running them."""

from __future__ import annotations

import sys
import zlib
from typing import Any

import xmltodict

from taskgen_run.errors import InfrastructureError
from taskgen_run.job import Job
from taskgen_run.session import AbstractSession
from taskgen_run.taskset import TaskSet

COLOURS = ("cyan", "green", "yellow", "magenta", "blue", "red")
"""What tells hosts apart on a terminal; a host keeps its colour."""


class StdIOSession(AbstractSession):
    """Prints each task set as the XML of the wire protocol and as a table; runs nothing."""

    computes = True
    parallel = False  # what it prints must stay in order
    admission_control = True

    @classmethod
    def check(cls, taskset: TaskSet, **options: Any) -> None:
        """Check that the task set can be written as XML. Raises ConfigurationError."""
        taskset.to_xml()

    def __init__(self, host: str, port: int) -> None:
        self._host = host

    def start(self, taskset: TaskSet, *params: Any) -> None:
        """Print the task set, after the admission-control goal if there is one.

        Raises InfrastructureError when nobody reads what is printed any more.
        """
        # Imported here: slow to import, and only this session needs it before the end of a run.
        from rich.console import Console
        from rich.table import Table
        from rich.text import Text

        console = Console(file=sys.stdout, soft_wrap=not sys.stdout.isatty())
        style = COLOURS[zlib.crc32(self._host.encode()) % len(COLOURS)]
        names = list(dict.fromkeys(name for task in taskset for name in task if name != "id"))
        table = Table("id", *names, style=style, header_style=f"bold {style}")
        for identifier, task in zip(taskset.ids(), taskset, strict=True):
            cells = ("" if task.get(name) is None else str(task[name]) for name in names)
            table.add_row(str(identifier), *map(Text, cells))
        with console.capture() as capture:
            console.print(Text(f"{self._host}: {taskset.name}, variant {taskset.variant}", style))
            for goal in params:
                xml = xmltodict.unparse({"optimize": goal}, full_document=False, pretty=True)
                console.print(Text(xml, style))
            console.print(Text(taskset.to_xml(pretty=True), style))
            console.print(table)
        try:
            print(capture.get(), end="", flush=True)
        except BrokenPipeError as error:
            raise InfrastructureError("standard output is closed; nobody reads it") from error

    def run(self, taskset: TaskSet) -> list[Job]:
        """No jobs: nothing runs."""
        return []

    def is_running(self, taskset: TaskSet) -> bool:
        """False: a task set is done as soon as it is printed."""
        return False

    def stop(self) -> None:
        """Nothing to end early."""

    def close(self) -> None:
        """Nothing to release."""
