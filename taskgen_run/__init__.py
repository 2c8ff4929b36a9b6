"""A declarative experiment runner for real-time scheduling.

From Python, the same as on the command line::

    import taskgen_run

    experiment = taskgen_run.compose(["session=simso", "taskset=hey0"])
    report = experiment.run()
    jobs = taskgen_run.results.read(report.directory)

or from objects::

    from taskgen_run.sessions.simso import SimSoSession
    from taskgen_run.task import Task
    from taskgen_run.taskset import TaskSet

    tasks = [Task(period=7, executiontime=3), Task(period=12, executiontime=3)]
    experiment = taskgen_run.Experiment(TaskSet(tasks, "mine"), SimSoSession)
    report = experiment.run()
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"
__all__ = ["Experiment", "__version__", "compose", "results", "sweep"]

if TYPE_CHECKING:
    from taskgen_run import results
    from taskgen_run.experiment import Experiment
    from taskgen_run.notebook import compose, sweep

_HOMES = {
    "Experiment": "taskgen_run.experiment",
    "compose": "taskgen_run.notebook",
    "sweep": "taskgen_run.notebook",
}


def __getattr__(name: str) -> Any:
    """Import on first use: --help and the taskloader agent do without most of the package."""
    if name == "results":
        return import_module("taskgen_run.results")
    if name in _HOMES:
        return getattr(import_module(_HOMES[name]), name)
    raise AttributeError(f"module 'taskgen_run' has no attribute {name!r}")
