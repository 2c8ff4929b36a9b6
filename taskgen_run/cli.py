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

from taskgen_run import __version__
from taskgen_run.composition import (
    CONFIG_NAME,
    Composed,
    compose,
    config_dir,
    run_sweep,
    search_path,
)
from taskgen_run.composition import run as run_single
from taskgen_run.errors import (
    ConfigurationError,
    InfrastructureError,
    TaskgenError,
    one_line,
)
from taskgen_run.experiment import Experiment, title
from taskgen_run.help import help_text
from taskgen_run.interrupts import Interrupted
from taskgen_run.tables import say, show_plan, show_summary, show_sweep, shown

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Planned:
    """An experiment that has been checked, and the directory of its results."""

    composed: Composed
    experiment: Experiment
    directory: Path


def run(arguments: Sequence[str]) -> int:
    """Do what the command line says and return the exit code.

    Raises TaskgenError for what is found before anything runs, and Interrupted.
    """
    if "--version" in arguments:
        say(f"taskgen_run {__version__}")
        return 0
    parser = get_args_parser()
    args = parser.parse_intermixed_args(list(arguments))
    if args.experimental_rerun:
        raise ConfigurationError("--experimental-rerun is not supported; use rerun=true")
    if args.config_path:
        args.config_path = str(Path(args.config_path).resolve())
    with search_path(args.config_dir, args.config_path):
        if args.help:
            say(help_text(args.config_name or CONFIG_NAME))
            return 0
        if not (args.info or args.hydra_help or args.shell_completion):
            composed = compose(args.overrides, multirun=args.multirun, config_name=args.config_name)
            if not args.cfg:
                return _run(args, [_plan(item) for item in composed])
    _run_hydra(  # it shows something, and runs nothing
        args=args,
        args_parser=parser,
        task_function=lambda config: None,
        config_path=str(config_dir()),
        config_name=CONFIG_NAME,
    )
    return 0


def _plan(composed: Composed) -> Planned:
    """Check an experiment, and that its directory is free or its own."""
    experiment = Experiment.from_config(composed.config)
    directory = composed.directory
    experiment.state(directory).require_usable(rerun=composed.config.rerun)
    return Planned(composed, experiment, directory)


def _run(args: argparse.Namespace, planned: Sequence[Planned]) -> int:
    if any(item.composed.config.plan for item in planned):
        show_plan(
            (title(p.composed.config), p.experiment, p.directory, p.composed.config.rerun)
            for p in planned
        )
        return 0
    known = _by_directory(planned)
    _make_parents(planned)
    titles = {item.directory.resolve(): title(item.composed.config) for item in planned}
    begun: list[Path] = []
    failures: dict[Path, TaskgenError] = {}

    def task(config: DictConfig) -> None:
        directory = Path(HydraConfig.get().runtime.output_dir)
        begun.append(directory)
        experiment = known.get(directory.resolve()) or _rebuilt(config)
        count = f"{len(begun)} of {len(planned)}: {titles.get(directory.resolve(), '')}, "
        log.info(
            "%s%s on %s",
            count if len(planned) > 1 else "",
            experiment.name,
            experiment.hosts,
        )
        try:
            _run_one(experiment, directory, rerun=config.rerun)
        except TaskgenError as error:
            log.error("error: %s", one_line(error))
            failures[directory] = error

    if len(planned) == 1 and planned[0].composed.number is None:
        run_single(planned[0].composed, planned[0].directory, task)
        return max((error.exit_code for error in failures.values()), default=0)
    sweep_dir = run_sweep(args.overrides, task, args.config_name)
    _conclude(sweep_dir, begun, failures, titles)
    return 1 if failures else 0


def _by_directory(planned: Sequence[Planned]) -> dict[Path, Experiment]:
    """The experiments by their directories. Raises ConfigurationError if two share one."""
    known: dict[Path, Experiment] = {}
    for item in planned:
        other = known.setdefault(item.directory.resolve(), item.experiment)
        if other.fingerprint != item.experiment.fingerprint:
            raise ConfigurationError(
                f"hydra.sweep.subdir must give every experiment a directory of its own, got "
                f"'{item.directory}' for {other.name} and {item.experiment.name}"
            )
    return known


def _rebuilt(config: DictConfig) -> Experiment:
    """The experiment of a sweep whose experiments only its sweeper knows."""
    with open_dict(config):
        config.hydra = HydraConfig.get()
    return Experiment.from_config(config)


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
    try:
        report = experiment.run(directory, rerun=rerun)
    except Interrupted as interrupt:
        log.error(
            "stopped by %s; what is finished is kept, the same command continues it: %s",
            interrupt,
            shown(directory),
        )
        raise
    show_summary(report)
    if report.failed:
        variants = "variant" if report.failed == 1 else "variants"
        raise TaskgenError(
            f"{report.failed} {variants} failed, tasksets.parquet says why; the same command runs "
            f"what failed again: {shown(directory)}"
        )


def _conclude(
    sweep_dir: Path,
    begun: Sequence[Path],
    failures: Mapping[Path, TaskgenError],
    titles: Mapping[Path, str],
) -> None:
    """What came of a sweep: a row per experiment, and the list of failures."""
    from taskgen_run.results import write_index

    index = write_index(sweep_dir, begun)
    if failures:
        log.error("%d of %d experiments failed:", len(failures), len(begun))
    else:
        log.info("all %d experiments are finished", len(begun))
    show_sweep((titles.get(directory.resolve(), ""), directory) for directory in begun)
    for directory, error in failures.items():
        log.error("  %s: %s", shown(directory), one_line(error))
    say(f"results of the sweep in {shown(index)}")
