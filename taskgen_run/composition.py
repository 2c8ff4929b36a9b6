"""How Hydra composes the configuration of one experiment, or of each one of a sweep.

Hydra reports what a user did wrong in several lines and exits with 1. Here every such error
becomes one `ConfigurationError`, which names the place, the constraint and the value.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hydra import version
from hydra._internal.hydra import Hydra
from hydra._internal.utils import create_config_search_path
from hydra.core.config_search_path import SearchPathQuery
from hydra.core.global_hydra import GlobalHydra
from hydra.core.hydra_config import HydraConfig
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.errors import HydraException, MissingConfigException, OverrideParseException
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf, read_write
from omegaconf.errors import OmegaConfBaseException

from taskgen_run.config import explain
from taskgen_run.errors import (
    ConfigurationError,
    InfrastructureError,
    one_line,
    unknown_name,
)

JOB_NAME = "taskgen_run"
CONFIG_NAME = "config"
_BASIC_SWEEPER = "hydra._internal.core_plugins.basic_sweeper.BasicSweeper"


@dataclass(frozen=True)
class Composed:
    """The configuration of one experiment, with Hydra's own node under `hydra`.

    `number` is the experiment's number in its sweep; None for one that stands alone.
    """

    config: DictConfig
    number: int | None = None

    @property
    def directory(self) -> Path:
        """Where Hydra is going to run it. Raises ConfigurationError."""
        if self.number is not None:
            with read_write(self.config.hydra):
                self.config.hydra.job.num = self.number
                self.config.hydra.job.id = str(self.number)
        HydraConfig.instance().set_config(self.config)
        hydra = self.config.hydra
        try:
            if self.number is None:
                return Path(hydra.run.dir)
            return Path(hydra.sweep.dir, hydra.sweep.subdir)
        except OmegaConfBaseException as error:
            raise ConfigurationError(explain(error)) from error


def config_dir() -> Path:
    """Where `conf/` lies: inside an installed package, else at the top of the repository."""
    package = Path(__file__).resolve().parent
    installed = package / "conf"
    return installed if installed.is_dir() else package.parent / "conf"


@contextmanager
def search_path(extra_dir: str | None = None, config_path: str | None = None) -> Iterator[None]:
    """Let `compose` find configurations: our own, and the user's in `extra_dir`.

    `extra_dir` and `config_path` mean what --config-dir and --config-path mean to Hydra.
    Raises ConfigurationError if they are no directories.
    """
    for option, path in (("--config-dir", extra_dir), ("--config-path", config_path)):
        if path is not None and not Path(path).is_dir():
            raise ConfigurationError(f"{option} must be an existing directory, got '{path}'")
    directory = Path(config_path).resolve() if config_path else config_dir()
    places = create_config_search_path(str(directory))
    if extra_dir is not None:
        places.prepend(
            provider="command-line",
            path=f"file://{Path(extra_dir).resolve()}",
            anchor=SearchPathQuery(provider="schema"),
        )
    version.setbase("1.3")
    with _no_other_hydra():
        _Hydra.create_main_hydra2(task_name=JOB_NAME, config_search_path=places)
        yield


class _Hydra(Hydra):
    """Hydra that takes a composition it is given instead of making it again, which is slow."""

    given: DictConfig | None = None

    def compose_config(self, *args: Any, **kwargs: Any) -> DictConfig:
        given, self.given = self.given, None
        return given if given is not None else super().compose_config(*args, **kwargs)


@contextmanager
def _no_other_hydra() -> Iterator[None]:
    """Put aside the Hydra of the program that calls us; there is only one per process."""
    outer = GlobalHydra.instance().hydra
    GlobalHydra.instance().clear()
    try:
        yield
    finally:
        GlobalHydra.instance().clear()
        if outer is not None:
            GlobalHydra.instance().initialize(outer)


def compose(
    overrides: Sequence[str], *, multirun: bool = False, config_name: str | None = None
) -> list[Composed]:
    """Compose one experiment, or with `multirun` each one of the sweep, inside `search_path`.

    Empty for a sweep by another sweeper than Hydra's basic one: only that sweeper knows what
    it is going to try. Raises ConfigurationError.
    """
    name = config_name or CONFIG_NAME
    if not multirun:
        try:
            single = _compose_one(name, overrides)
        except ConfigurationError:  # a sweep whose configuration, not its command line, says so?
            if _compose_one(name, overrides, sweep=True).hydra.mode != RunMode.MULTIRUN:
                raise
        else:
            if single.hydra.mode != RunMode.MULTIRUN:
                return [Composed(single)]
    base = _compose_one(name, overrides, sweep=True)
    if base.hydra.sweeper._target_ != _BASIC_SWEEPER:
        return []
    return [
        Composed(_compose_one(name, combination), number)
        for number, combination in enumerate(_combinations(base, overrides))
    ]


def run(composed: Composed, directory: Path, task: Callable[[DictConfig], None]) -> None:
    """Let Hydra run the `task` of one experiment in its `directory`, inside `search_path`."""
    with read_write(composed.config.hydra):
        composed.config.hydra.mode = RunMode.RUN
        composed.config.hydra.run.dir = str(directory)
    hydra = _hydra()
    hydra.given = composed.config
    with _writing(directory):
        hydra.run(config_name=None, task_function=task, overrides=[])


def run_sweep(
    overrides: Sequence[str], task: Callable[[DictConfig], None], config_name: str | None = None
) -> Path:
    """Let Hydra's sweeper and launcher run the `task` of each experiment of a sweep.

    Returns the directory of the sweep.
    """
    name, forced = config_name or CONFIG_NAME, [*overrides, "hydra.mode=MULTIRUN"]
    base = _compose_one(name, forced, sweep=True)
    _hydra().given = base
    directory = Path(base.hydra.sweep.dir)
    with _writing(directory):
        _hydra().multirun(config_name=name, task_function=task, overrides=forced)
    return directory


@contextmanager
def _writing(directory: Path) -> Iterator[None]:
    """Hydra makes directories and writes multirun.yaml. Raises InfrastructureError."""
    try:
        yield
    except OSError as error:
        raise InfrastructureError(
            f"{error.filename or directory}: cannot be written: {error.strerror or error}; "
            "choose another place with outputs=DIRECTORY"
        ) from error


def _hydra() -> _Hydra:
    hydra = GlobalHydra.instance().hydra
    assert isinstance(hydra, _Hydra)
    return hydra


def _compose_one(name: str, overrides: Sequence[str], *, sweep: bool = False) -> DictConfig:
    """Compose `overrides`, those of a whole `sweep` as far as that is possible."""
    with _explained(name, overrides):
        return _hydra().compose_config(
            config_name=name,
            overrides=list(overrides),
            run_mode=RunMode.MULTIRUN if sweep else RunMode.RUN,
            from_shell=False,
            validate_sweep_overrides=not sweep,
        )


@contextmanager
def _explained(name: str, overrides: Sequence[str]) -> Iterator[None]:
    try:
        yield
    except MissingConfigException as error:
        raise ConfigurationError(_missing_choice(error)) from error
    except (HydraException, OmegaConfBaseException) as error:
        raise ConfigurationError(_explain(error, name, overrides)) from error
    except Exception as error:  # for odd input, Hydra and the yaml reader raise what they like
        raise ConfigurationError(
            f"the configuration cannot be composed: {type(error).__name__}: {one_line(error)}"
        ) from error


def _combinations(base: DictConfig, overrides: Sequence[str]) -> list[list[str]]:
    """What Hydra's basic sweeper is going to run, in its order."""
    from hydra._internal.core_plugins.basic_sweeper import BasicSweeper

    params = base.hydra.sweeper.get("params") or {}
    arguments = [*(f"{key}={value}" for key, value in params.items()), *overrides]
    parser = OverridesParser.create(config_loader=GlobalHydra.instance().config_loader())
    limit = base.hydra.sweeper.get("max_batch_size")
    if limit is not None and limit < 1:
        raise ConfigurationError(f"hydra.sweeper.max_batch_size must be ≥ 1, got {limit}")
    with _explained(CONFIG_NAME, overrides):
        batches = BasicSweeper.split_arguments(parser.parse_overrides(arguments), None)
    return batches[0]


def _missing_choice(error: MissingConfigException) -> str:
    group, _, choice = str(error.missing_cfg_file or "").rpartition("/")
    if group and error.options:
        return unknown_name(group, choice, error.options)
    return one_line(error)


def _explain(error: BaseException, name: str, overrides: Sequence[str]) -> str:
    text = one_line(error)
    if match := re.match(r"Could not override '([^'@]+)", text):
        told = unknown_name("key", match[1], _known_keys(match[1], name, overrides))
        return f"{told} (+{match[1]}=… adds it)" if match[1].startswith("taskset.") else told
    if match := re.match(r"Ambiguous value for argument '([^=]+)=(.*?)' 1\.", text):
        key, values = match[1], match[2]
        list_too = f", or write {key}=[{values}] for a list" if key == "targets" else ""
        return f"{key} must be one value, got {values}; add -m to run a sweep over them{list_too}"
    if isinstance(error, OverrideParseException):
        reason = text.partition(" See https:")[0]
        return f"override {error.override!r} cannot be read: {reason}"
    cause = error if isinstance(error, OmegaConfBaseException) else error.__cause__
    return explain(cause) if isinstance(cause, OmegaConfBaseException) else text


def _known_keys(key: str, name: str, overrides: Sequence[str]) -> list[str]:
    """The keys that stand where the unknown `key` was looked for."""
    parent, _, _ = key.rpartition(".")
    groups = GlobalHydra.instance().config_loader().list_groups("")
    choices = [override for override in overrides if override.partition("=")[0] in groups]
    base = _compose_one(name, choices, sweep=True)
    node = OmegaConf.select(base, parent) if parent else base
    keys = map(str, node.keys()) if isinstance(node, DictConfig) else ()
    shown = [key for key in keys if key not in ("hydra", "_target_")]
    return [f"{parent}.{key}" for key in shown] if parent else shown
