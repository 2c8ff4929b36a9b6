"""Tests of taskgen_run.errors."""

from __future__ import annotations

import pytest

from taskgen_run.errors import (
    BugError,
    ConfigurationError,
    InfrastructureError,
    TargetError,
    TaskgenError,
    one_line,
    unknown_name,
)


@pytest.mark.parametrize(
    "kind",
    [ConfigurationError, TargetError, InfrastructureError, BugError],
    ids=lambda k: k.__name__,
)
def test_every_kind_is_caught_as_one_family(kind: type[TaskgenError]) -> None:
    assert kind.__bases__ == (TaskgenError,)


def test_only_a_bad_configuration_exits_with_2() -> None:
    codes = {kind: kind.exit_code for kind in TaskgenError.__subclasses__()}
    assert {kind for kind, code in codes.items() if code == 2} == {ConfigurationError}
    assert TaskgenError.exit_code == 1


def test_unknown_name_suggests_the_closest() -> None:
    assert unknown_name("attribute", "preiod", ["period", "offset"]) == (
        "unknown attribute 'preiod'; did you mean 'period'?"
    )


def test_unknown_name_suggests_the_one_in_other_letters() -> None:
    names = ["EDF", "EDF2", "DM"]
    assert unknown_name("scheduler", "edf", names).endswith("did you mean 'EDF'?")


def test_unknown_name_without_a_close_one_lists_all_in_order() -> None:
    assert unknown_name("key", 7, ["b", "a"]) == "unknown key 7; known are: a, b"
    assert unknown_name("key", "x", []) == "unknown key 'x'; there are none here"


@pytest.mark.parametrize(
    ("error", "text"),
    [
        (ValueError("two\n  lines"), "two lines"),
        (ValueError(), "ValueError"),
        (KeyError("a"), "'a'"),
        (ValueError("\n"), "ValueError"),
    ],
)
def test_one_line(error: Exception, text: str) -> None:
    assert one_line(error) == text
