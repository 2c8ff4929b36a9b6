"""Whether a task set is admitted: the schedulability test that an optimization goal asks for.

Each core is tested for itself. Tasks without `coreoffset` count for the first one. Deadline tasks
are tested for EDF, and then run before all fixed priorities; tasks without priority run last.

A test may take long, so the agent has it made by a process of its own, and gives up in time.
"""

from __future__ import annotations

import os
import signal
import time
from collections import defaultdict
from collections.abc import Iterable, Sequence
from typing import NoReturn

from taskgen_run.analysis import processor_demand, response_time
from taskgen_run.analysis.sporadic import SporadicTask, from_task
from taskgen_run.errors import ConfigurationError, one_line
from taskgen_run.task import PRIORITY_EDF, Task
from taskgen_run.taskloader import linux
from taskgen_run.taskloader.policies import cores

_MOST_BYTES = 4096
_FIRST = -1
_LAST = PRIORITY_EDF

TEST_SECONDS = 10
"""How long a test may take."""


class AdmissionTest:
    """A test that is under way: what it tells of can be waited for with `fileno`.

    Raises OSError if there can be no process for it.
    """

    def __init__(self, tasks: Sequence[Task], allowed_cores: Sequence[int]) -> None:
        self.deadline_ns = time.monotonic_ns() + TEST_SECONDS * 10**9
        self._answer, answers = os.pipe()
        os.set_blocking(self._answer, False)
        agent = os.getpid()
        try:
            self._pid = os.fork()
        except OSError:
            os.close(self._answer)
            raise
        finally:
            if os.getpid() == agent:
                os.close(answers)
        if not self._pid:
            _answer(answers, tasks, allowed_cores, agent)

    def fileno(self) -> int:
        """The file descriptor that becomes readable when the test has ended."""
        return self._answer

    def refusal(self) -> str | None:
        """Why the tasks are not admitted, as far as that is known now; None if they are."""
        try:
            answer = os.read(self._answer, _MOST_BYTES)
        except BlockingIOError:
            return (
                f"the schedulability test must end within {TEST_SECONDS} s, and did not; load "
                "fewer tasks, or choose periods with a smaller least common multiple"
            )
        if not answer:
            return "the schedulability test has ended without an answer"
        return answer[1:].decode(errors="replace") or None

    def close(self) -> None:
        """End the test."""
        os.kill(self._pid, signal.SIGKILL)
        os.waitpid(self._pid, 0)
        os.close(self._answer)


def _answer(
    answers: int, tasks: Sequence[Task], allowed_cores: Sequence[int], agent: int
) -> NoReturn:
    """Make the test in this process, a copy of the agent."""
    try:
        signal.set_wakeup_fd(-1)
        for signum in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            signal.signal(signum, signal.SIG_DFL)
        linux.schedule(())
        linux.die_with_parent()
        if os.getppid() == agent:
            reason = refusal(tasks, allowed_cores)
            os.write(answers, b"." + (reason or "").encode()[: _MOST_BYTES - 1])
    finally:
        os._exit(0)


def refusal(tasks: Iterable[Task], allowed_cores: Sequence[int]) -> str | None:
    """Why the tasks cannot be scheduled together, or cannot be tested; None if they can be."""
    of_core = defaultdict(list)
    for task in tasks:
        used = cores(task, allowed_cores) if "coreoffset" in task else None
        of_core[min(used or allowed_cores[:1])].append(task)
    try:
        for core, group in sorted(of_core.items()):
            if problem := _problem(group):
                return f"core {core}: {problem}"
    except ConfigurationError as error:
        return one_line(error)
    return None


def _problem(tasks: Sequence[Task]) -> str | None:
    by_deadline: list[SporadicTask] = []
    fixed: list[SporadicTask] = []
    for task in tasks:
        if task.get("priority") == PRIORITY_EDF:
            by_deadline.append(_analysed(task, _FIRST))
        else:
            fixed.append(_analysed(task, task.get("priority", _LAST)))
    if not processor_demand.is_schedulable(by_deadline):
        return "the deadline tasks need more than the processor"
    responses = response_time.response_times_ns([*fixed, *by_deadline])
    for analysed, response_ns in zip(fixed, responses, strict=False):
        deadline_ns = analysed.deadline_ns
        if deadline_ns and (response_ns is None or response_ns > deadline_ns):
            worst = "no bound" if response_ns is None else f"{response_ns} ns"
            return (
                f"a task of priority {analysed.priority} has a worst-case response time of {worst}"
                f", and a deadline of {deadline_ns} ns"
            )
    return None


def _analysed(task: Task, priority: int) -> SporadicTask:
    changed = task.copy()
    changed["priority"] = priority
    return from_task(changed, f"task {task['id']}")
