"""The contract of a session: what runs a task set on one host."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Protocol, runtime_checkable

from taskgen_run.analysis.scheduling import DESCRIBED, Scheduling
from taskgen_run.task import Attribute

if TYPE_CHECKING:
    import pyarrow as pa

    from taskgen_run.job import Job
    from taskgen_run.taskset import TaskSet

PROBES = 64
"""How many hosts the default `available` asks at the same time."""


class AbstractSession(ABC):
    """One instance is one connection to one host.

    The options of a session are the keyword arguments of its `__init__`; their annotations are
    the schema against which `conf/session/*.yaml` and command lines are checked.
    """

    task_attributes: ClassVar[Mapping[str, Attribute]] = {}
    """Attributes of tasks that the session understands beyond those of every task."""

    computes: ClassVar[bool] = False
    """Whether the host only names a machine and the result is a function of the task set."""

    parallel: ClassVar[bool] = True
    """Of a session that computes: whether several may run at once, in processes of their own."""

    admission_control: ClassVar[bool] = False
    """Whether `start` takes an admission-control goal as its first parameter."""

    @staticmethod
    def is_available(host: str, port: int, timeout: float) -> bool:
        """Tell within `timeout` seconds whether `host` answers; never raises if it is down."""
        return True

    @classmethod
    def available(cls, hosts: Iterable[str], port: int, timeout: float) -> Iterator[str]:
        """Yield those of `hosts` that answer, in the order in which they do.

        Takes `hosts` lazily, and asks `PROBES` of them at the same time.
        """
        unasked = iter(hosts)
        with ThreadPoolExecutor(PROBES) as pool:
            asked: dict[Future[bool], str] = {}
            while True:
                for host in islice(unasked, PROBES - len(asked)):
                    asked[pool.submit(cls.is_available, host, port, timeout)] = host
                if not asked:
                    return
                for answer in wait(asked, return_when=FIRST_COMPLETED).done:
                    host = asked.pop(answer)
                    if answer.result():
                        yield host

    @classmethod
    def check(cls, taskset: TaskSet, **options: Any) -> None:
        """Called before anything runs, with the first variant and the options of `__init__`.

        Raises ConfigurationError for what this session cannot run.
        """

    @classmethod
    def files(cls, taskset: TaskSet, **options: Any) -> Iterable[Path]:
        """The files whose content decides the results, such as a scheduler of the user's own.

        Asked after `check`, with the first variant, and with it for each other text that one of
        its attributes may have; they are part of the fingerprint. Raises ConfigurationError.
        """
        return ()

    @classmethod
    def scheduling(cls, **options: Any) -> Scheduling | None:
        """How task sets are scheduled with the checked options, for schedulability tests.

        None if no test can tell, as there are costs or policies that they do not know. By default
        it is not said, and they analyse the descriptions of the tasks.
        """
        return DESCRIBED

    @abstractmethod
    def __init__(self, host: str, port: int) -> None:
        """Connect to `host`. Raises OSError if it cannot."""

    @abstractmethod
    def start(self, taskset: TaskSet, *params: Any) -> None:
        """Begin one concrete task set; sets `taskset.horizon_ns` once it is known.

        `params` carries what the session supports beyond the task set, such as an
        admission-control goal. Raises ConfigurationError, TargetError.
        """

    @abstractmethod
    def run(self, taskset: TaskSet) -> list[Job]:
        """Wait a short, bounded time and return the jobs that are new or changed.

        Called again and again while the task set is processed. Stores what is new in the tasks'
        `jobs`. Raises TargetError.
        """

    @abstractmethod
    def is_running(self, taskset: TaskSet) -> bool:
        """Whether more jobs, or changes of jobs, are to come."""

    @abstractmethod
    def stop(self) -> None:
        """End the task set early."""

    @abstractmethod
    def close(self) -> None:
        """Release the connection; safe to call twice, and after a failure."""


@runtime_checkable
class BatchSession(Protocol):
    """A session that computes many concrete task sets in one call; the distributor prefers it."""

    def run_batch(self, tasksets: Sequence[TaskSet]) -> pa.RecordBatch:
        """The jobs of all `tasksets` in `job.JOB_SCHEMA`, in order; sets each `horizon_ns`."""
        ...


@runtime_checkable
class TracingSession(Protocol):
    """A session that can tell when and where each job executed."""

    def segments(self) -> pa.RecordBatch | None:
        """The stretches of execution behind the jobs last returned, in `job.SEGMENT_SCHEMA`.

        None when the session was not asked to trace.
        """
        ...
