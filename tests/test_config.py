from __future__ import annotations

from typing import Any

import pytest
from omegaconf import OmegaConf

from taskgen_run.config import (
    ExperimentConfig,
    load_class,
    validate,
    validate_keywords,
    validate_options,
)
from taskgen_run.errors import ConfigurationError
from taskgen_run.monitor import AbstractMonitor
from taskgen_run.monitors import StdOutMonitor

VALID: dict[str, Any] = {"session": {"_target_": "a.B"}, "taskset": {"tasks": [{"period": 5}]}}


def _validate(**values: Any) -> ExperimentConfig:
    return validate(OmegaConf.create({**VALID, **values}))


def test_what_is_not_given_has_its_default() -> None:
    root = _validate()
    assert (root.targets, root.port, root.seed, root.max_variants) == ("127.0.0.1", 3001, 0, None)


def test_interpolations_are_resolved_and_hydra_is_left_out() -> None:
    root = _validate(seed=7, max_variants="${seed}", hydra={"anything": 1})
    assert root.max_variants == 7


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"sed": 1}, "unknown key 'sed'; did you mean 'seed'?"),
        ({"seed": "abc"}, "seed must be a whole number, got 'abc'"),
        ({"seed": True}, "seed must be a whole number, got True"),
        ({"seed": 1.5}, "seed must be a whole number, got 1.5"),
        ({"seed": -1}, "seed must be ≥ 0, got -1"),
        ({"seed": None}, "seed must be a whole number, got None"),
        ({"max_variants": 0}, "max_variants must be ≥ 1 or null, got 0"),
        ({"max_variants": "x"}, "max_variants must be a whole number or null, got 'x'"),
        ({"port": 0}, "port must be between 1 and 65535, got 0"),
        ({"port": 65536}, "port must be between 1 and 65535, got 65536"),
        ({"targets": 5}, "targets must be text or a list, got 5"),
        ({"outputs": ""}, "outputs must be the path of a directory, got ''"),
        ({"rerun": "maybe"}, "rerun must be true or false, got 'maybe'"),
        ({"session": {}}, "session must be set; choose one with session=NAME"),
        ({"taskset": "hey"}, "taskset must be a mapping, got 'hey'"),
        ({"seed": "???"}, "seed must be set, with seed=VALUE"),
        ({"seed": "${nowhere}"}, "seed: Interpolation key 'nowhere' not found"),
    ],
)
def test_a_wrong_value_names_place_constraint_and_value(
    values: dict[str, Any], message: str
) -> None:
    with pytest.raises(ConfigurationError) as raised:
        _validate(**values)
    assert str(raised.value) == message


class Plugin:
    def __init__(  # type: ignore[no-untyped-def]  # an option without a type, as users write
        self,
        host: str,
        *,
        cpus: int = 1,
        length: float | str = "auto",
        factor: float = 1.0,
        names: list[Any] | None = None,
        flag: bool = False,
        anything=None,
    ) -> None: ...


class Needy:
    def __init__(self, host: str, *, path: str, **more: Any) -> None: ...


@pytest.mark.parametrize(
    "options",
    [
        {"cpus": 4, "length": 5, "factor": 2, "names": [1], "flag": True, "anything": object()},
        {"length": 2.5},
        {"length": "auto", "names": None},
    ],
)
def test_options_that_fit_the_annotations_pass(options: dict[str, Any]) -> None:
    assert validate_keywords(options, Plugin, "session", positional=1) == options


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"cpu": 4}, "unknown key 'session.cpu'; did you mean 'session.cpus'?"),
        ({"cpus": "four"}, "session.cpus must be a whole number, got 'four'"),
        ({"cpus": 1.5}, "session.cpus must be a whole number, got 1.5"),
        ({"cpus": True}, "session.cpus must be a whole number, got True"),
        ({"cpus": None}, "session.cpus must be a whole number, got None"),
        ({"length": [1]}, "session.length must be a number or text, got [1]"),
        ({"names": "a"}, "session.names must be a list or null, got 'a'"),
        ({"flag": 1}, "session.flag must be true or false, got 1"),
        ({"host": "x"}, "unknown key 'session.host'; "),
    ],
)
def test_options_that_do_not_fit_are_named(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigurationError) as raised:
        validate_keywords(options, Plugin, "session", positional=1)
    assert str(raised.value).startswith(message)


def test_an_option_without_a_default_must_be_set_and_others_may_be_free() -> None:
    with pytest.raises(ConfigurationError, match=r"^session\.path must be set$"):
        validate_keywords({"free": 1}, Needy, "session", positional=1)
    assert validate_keywords({"path": "p", "free": 1}, Needy, "session", positional=1)


def test_options_of_an_unknown_type_are_left_to_their_class() -> None:
    assert validate_options({"x": 5}, {"x": complex}, "monitor") == {"x": 5}


def test_a_class_is_loaded_by_its_path() -> None:
    node = {"_target_": "taskgen_run.monitors.StdOutMonitor"}
    assert load_class(node, "monitor", AbstractMonitor) is StdOutMonitor


@pytest.mark.parametrize(
    ("node", "message"),
    [
        ({}, "monitor._target_ must be the dotted path of a class, got None"),
        ({"_target_": "nowhere.Nothing"}, "monitor._target_: cannot load 'nowhere.Nothing': "),
        ({"_target_": "taskgen_run.monitors.No"}, "monitor._target_: cannot load "),
        ({"_target_": "no path at all"}, "monitor._target_: cannot load 'no path at all': "),
        ({"_target_": "os.path"}, "monitor._target_ must name a subclass of AbstractMonitor"),
        ({"_target_": "builtins.int"}, "monitor._target_ must name a subclass of AbstractM"),
    ],
)
def test_a_class_that_cannot_be_had_is_explained(node: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigurationError) as raised:
        load_class(node, "monitor", AbstractMonitor)
    assert str(raised.value).startswith(message)
