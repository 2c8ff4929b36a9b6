"""Experiments from overrides, for notebooks and scripts: Hydra without its command line."""

from __future__ import annotations

from collections.abc import Sequence

from taskgen_run.composition import compose as _compose
from taskgen_run.composition import search_path
from taskgen_run.errors import ConfigurationError
from taskgen_run.experiment import Experiment


def compose(overrides: Sequence[str] = (), *, config_dir: str | None = None) -> Experiment:
    """One experiment, as ``python -m taskgen_run OVERRIDES`` would run it.

    `config_dir` is a directory of configurations of your own. Raises ConfigurationError.
    """
    with search_path(config_dir):
        composed = _compose(overrides)
        if len(composed) != 1:
            raise ConfigurationError("overrides must make one experiment; use sweep() for several")
        return Experiment.from_config(composed[0].config)


def sweep(overrides: Sequence[str], *, config_dir: str | None = None) -> list[Experiment]:
    """The experiments of ``python -m taskgen_run -m OVERRIDES``. Raises ConfigurationError."""
    with search_path(config_dir):
        return [
            Experiment.from_config(composed.config)
            for composed in _compose(overrides, multirun=True)
        ]
