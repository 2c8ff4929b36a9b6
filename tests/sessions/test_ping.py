"""PingSession: as GenodeSession, on hosts that answer to a ping."""

from __future__ import annotations

import inspect
import pkgutil
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml
from genode_targets import QUICK, binaries, good, loopback, one_job, periodic, single

from taskgen_run import probing
from taskgen_run.errors import ConfigurationError
from taskgen_run.hosts import TargetRange
from taskgen_run.sessions.contract import SessionContract
from taskgen_run.sessions.genode import GenodeSession, PingSession, QemuSession
from taskgen_run.taskloader.fake import FakeTarget
from taskgen_run.taskset import TaskSet

CONF = Path(__file__).parents[2] / "conf" / "session"

try:
    probing.check_ping()
except ConfigurationError as error:
    pytest.skip(f"pings: {error}", allow_module_level=True)


class TestContract(SessionContract):
    session = PingSession
    dead_host = "240.0.0.1"
    step_seconds = 0.5

    @pytest.fixture(autouse=True)
    def _target(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
        options = {**QUICK, "binaries": binaries(tmp_path / "bin")}
        monkeypatch.setattr(type(self), "options", options)
        with FakeTarget(good(*one_job(0), *one_job(10)), loopback()) as target:
            monkeypatch.setattr(type(self), "host", target.host)
            monkeypatch.setattr(type(self), "port", target.port)
            yield

    def taskset(self) -> TaskSet:
        return periodic(2)


def test_a_host_that_answers_needs_no_target() -> None:
    assert PingSession.is_available("127.0.0.1", 1, 1.0)
    found = PingSession.available(TargetRange("127.8.0.0/24"), 1, 1.0)
    assert len(list(found)) == 254


def test_its_check_is_that_of_genode(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="pkg must name a file"):
        PingSession.check(single(pkg="hi"), binaries=str(tmp_path))


@pytest.mark.parametrize(
    ("name", "cls"), [("genode", GenodeSession), ("ping", PingSession), ("qemu", QemuSession)]
)
def test_the_configuration_has_every_option_with_its_default(
    name: str, cls: type[GenodeSession]
) -> None:
    written = yaml.safe_load((CONF / f"{name}.yaml").read_text(encoding="utf-8"))
    assert pkgutil.resolve_name(written.pop("_target_")) is cls
    constructors = {GenodeSession.__init__, cls.__init__}
    parameters = [p for c in constructors for p in inspect.signature(c).parameters.values()]
    assert written == {p.name: p.default for p in parameters if p.kind is p.KEYWORD_ONLY}
