"""What is known of the hosts that have failed, from one run of an experiment to the next."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import pyarrow as pa

from taskgen_run.errors import SilentError, one_line
from taskgen_run.results.schemas import HOSTS, schema

COLUMNS = schema(HOSTS)


@dataclass
class _Host:
    """A row of hosts.parquet, which `schemas` documents."""

    host: str
    failures: int = 0
    restarts: int = 0
    put_aside: bool = False
    error: str = ""


class FailedHosts:
    """The hosts that have failed: counted while an experiment runs, kept in its experiment.json."""

    def __init__(self, earlier: Sequence[Mapping[str, Any]] = ()) -> None:
        """Go on from what experiment.json has of earlier runs: all hosts are asked again."""
        hosts = (_Host(**{**row, "put_aside": False}) for row in earlier)
        self._hosts = {host.host: host for host in hosts}

    def count(self, host: str, error: Exception, *, put_aside: bool) -> None:
        """A host has failed."""
        known = self._hosts.setdefault(host, _Host(host))
        known.failures += 1
        known.restarts += isinstance(error, SilentError) and error.restarted
        known.put_aside = put_aside
        known.error = one_line(error)

    @property
    def rows(self) -> list[dict[str, Any]]:
        """A row for each host, in the order of the first failures."""
        return [asdict(host) for host in self._hosts.values()]

    def table(self) -> pa.RecordBatch:
        """The rows of hosts.parquet."""
        return pa.RecordBatch.from_pylist(self.rows, COLUMNS)
