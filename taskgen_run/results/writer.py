"""The monitor that writes a result directory."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from taskgen_run.errors import (
    BugError,
    ConfigurationError,
    InfrastructureError,
    TaskgenError,
    one_line,
)
from taskgen_run.job import JobBatch
from taskgen_run.monitor import AbstractMonitor
from taskgen_run.results import directory as directories
from taskgen_run.results import files, journal
from taskgen_run.results.directory import Contents, Kind, Status
from taskgen_run.results.intervals import Intervals
from taskgen_run.results.pending import Pending
from taskgen_run.results.publish import publish
from taskgen_run.results.schemas import FORMAT, TABLES, attributes, plain, schema
from taskgen_run.task import Attribute
from taskgen_run.taskset import TaskSet

if TYPE_CHECKING:
    import filelock
    import pyarrow as pa

COMMIT_SECONDS = 0.02
"""What has ended is in the journal about this much later, whatever the runner does meanwhile."""

COMMIT_SIZE = 2**15
"""What has been reported is written down at once when it is about as many rows."""


class ResultWriter(AbstractMonitor):
    """Writes what it is told of an experiment into one directory, in bounded memory.

    Its methods raise InfrastructureError when the disk fails and BugError when they are called
    against their contract; either is raised again by every later call, and what had been
    committed until then is kept.
    """

    def __init__(
        self,
        directory: Path,
        lock: filelock.BaseFileLock,
        schemas: Mapping[str, pa.Schema],
        pending: Pending,
    ) -> None:
        """Use `open`."""
        self.directory = directory
        self._lock_file = lock
        self._schemas = schemas
