"""The command line: compose and check every experiment, and only then let Hydra run them."""

from __future__ import annotations

import argparse
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from hydra._internal.utils import _run_hydra, get_args_parser
from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig, open_dict

from taskgen_run.compose import CONFIG_NAME, Composed, compose, config_dir, search_path
from taskgen_run.errors import (
    ConfigurationError,
    InfrastructureError,
    TargetError,
    TaskgenError,
    one_line,
)
from taskgen_run.experiment import Experiment
from taskgen_run.help import help_text
from taskgen_run.interrupts import Interrupted
from taskgen_run.tables import show_plan, show_summary, shown

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Planned:
    """An experiment that has been checked, and the directory of its results."""

    experiment: Experiment
    directory: Path
    rerun: bool


def run(arguments: Sequence[str]) -> int:
    """Do what the command line says and return the exit code.

    Raises TaskgenError for what is found before anything runs, and Interrupted.
    """
    parser = get_args_parser()
    args = parser.parse_args(list(arguments))
    if args.experimental_rerun:
        raise ConfigurationError("--experimental-rerun is not supported; use rerun=true")
    if args.config_path:
        args.config_path = str(Path(args.config_path).resolve())
    with search_path(args.config_dir, args.config_path):
        if args.help:
            print(help_text(args.config_name or CONFIG_NAME))
            return 0
        if args.cfg or args.info or args.hydra_help or args.shell_completion:
            composed, planned = [], []  # Hydra shows something and runs nothing
        else:
            composed = compose(
                args.overrides, multirun=args.multirun, config_name=args.config_name
            )
            planned = [_plan(item) for item in composed]
    if any(item.config.plan for item in composed):
        show_plan([(item.experiment, item.directory, item.rerun) for item in planned])
        return 0
    return _launch(args, parser, planned)


def _plan(composed: Composed) -> Planned:
    """Check an experiment, and that its directory is free or its own."""
    experiment = Experiment.from_config(composed.config)
    directory = composed.directory
    experiment.state(directory).require_usable(rerun=composed.config.rerun)
    return Planned(experiment, directory, composed.config.rerun)


def _launch(
    args: argparse.Namespace, parser: argparse.ArgumentParser, planned: Sequence[Planned]
) -> int:
    """Let Hydra run what is planned. Returns the exit code."""
    _make_parents(planned)
    failures: dict[Path, TaskgenError] = {}

    def task(config: DictConfig) -> None:
        directory = Path(HydraConfig.get().runtime.output_dir)
        with open_dict(config):
            config.hydra = HydraConfig.get()
        try:
            _run_one(Experiment.from_config(config), directory, rerun=config.rerun)
        except TaskgenError as error:
            log.error("error: %s", one_line(error))
            failures[directory] = error

    _run_hydra(
        args=args,
        args_parser=parser,
        task_function=task,
        config_path=str(config_dir()),
        config_name=CONFIG_NAME,
    )
    if len(planned) > 1:
        _conclude(planned, failures)
        return 1 if failures else 0
    return max((error.exit_code for error in failures.values()), default=0)


def _make_parents(planned: Sequence[Planned]) -> None:
    for parent in {item.directory.parent for item in planned}:
        try:
            parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise InfrastructureError(
                f"cannot make the directory '{parent}': {one_line(error)}; "
                "choose another with outputs=DIRECTORY"
            ) from error


def _run_one(experiment: Experiment, directory: Path, *, rerun: bool) -> None:
    """Run one experiment and show what came of it. Raises TaskgenError if anything failed."""
    log.info("%s on %s, results in %s", experiment.name, experiment.hosts, shown(directory))
    try:
        report = experiment.run(directory, rerun=rerun)
    except Interrupted as interrupt:
        log.error(
            "stopped by %s; what is finished is kept, the same command continues: %s",
            interrupt,
            shown(directory),
        )
        raise
    show_summary(report)
    if report.failed:
        raise TargetError(
            f"{report.failed} variants failed (tasksets.parquet says why); the same command runs "
            f"them again: {shown(directory)}"
        )


def _conclude(planned: Sequence[Planned], failures: Mapping[Path, TaskgenError]) -> None:
    """The list of failures of a sweep."""
    if not failures:
        log.info("all %d experiments are finished", len(planned))
        return
    log.error("%d of %d experiments failed:", len(failures), len(planned))
    for directory, error in failures.items():
        log.error("  %s: %s", shown(directory), one_line(error))
