"""One experiment: built from a configuration or from objects, checked, run and recorded."""

from __future__ import annotations

import copy
import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from functools import cached_property, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hydra.errors import HydraException
from hydra.utils import instantiate
from omegaconf import DictConfig, OmegaConf

from taskgen_run import __version__
from taskgen_run.analysis.verdicts import Analysis, check_names
from taskgen_run.config import (
    ExperimentConfig,
    check_settings,
    load_class,
    validate,
    validate_keywords,
)
from taskgen_run.errors import BugError, ConfigurationError, TaskgenError, one_line
from taskgen_run.fingerprint import IGNORED, code_files, fingerprint, plain
from taskgen_run.hosts import TargetRange
from taskgen_run.interrupts import Interrupted, Interrupts
from taskgen_run.monitor import AbstractMonitor, Monitors, make_monitor
from taskgen_run.provenance import log_file, provenance, save_composition
from taskgen_run.session import AbstractSession
from taskgen_run.taskset import TaskSet
from taskgen_run.values import from_yaml
from taskgen_run.variants import VariantStream

if TYPE_CHECKING:
    from taskgen_run.results import Intervals, State

log = logging.getLogger(__name__)

BOUNDS = ("attempts", "restarts", "max_sessions", "probe_timeout", "available_timeout")
"""The settings that bound what is tried on real targets; see `known_hosts.Bounds`."""

OPTIONAL = ("max_variants", "workers")

OUTPUTS = "outputs"
"""Where result directories are made unless something else is said."""


@dataclass(frozen=True)
class Report:
    """What a run came to: `status` is 'finished' or, when variants have failed, 'failed'."""

    directory: Path
    status: str
    failed: int = 0


@dataclass
class Experiment:
    """A task set, the session that runs it and the targets where.

    ``Experiment(TaskSet([Task(period=5, executiontime=1)]), SimSoSession).run()`` runs one.
    `options` are the keyword arguments of the session; `admission` is the admission-control
    goal, empty for none; `analysis` names the schedulability tests whose verdicts on each variant
    are kept (`analysis.verdicts.TESTS`); `workers` processes simulate, by default one for each
    core; `bounds` are the fields of `known_hosts.Bounds`; `monitors` are called without arguments
    to make those of a run. `labels` name the experiment's choices in the tables of a sweep.
    `composed` is Hydra's composition and `config` the same resolved, if it was built from them.

    Raises ConfigurationError for everything that can be known before it runs.
    """

    taskset: TaskSet
    session: type[AbstractSession]
    options: Mapping[str, Any] = field(default_factory=dict)
    targets: str | Sequence[str] = "127.0.0.1"
    port: int = 3001
    seed: int = 0
    max_variants: int | None = None
    workers: int | None = None
    bounds: Mapping[str, Any] = field(default_factory=dict)
    admission: Mapping[str, Any] = field(default_factory=dict)
    analysis: Sequence[str] = ()
    monitors: Sequence[Callable[[], AbstractMonitor]] = ()
    labels: Mapping[str, Any] = field(default_factory=dict)
    config: Mapping[str, Any] | None = None
    composed: DictConfig | None = None

    def __post_init__(self) -> None:
        settings = {name: getattr(self, name) for name in ("seed", "port", *OPTIONAL)}
        check_settings({**settings, **self.bounds})
        check_names(self.analysis)
        self.hosts = TargetRange(self.targets)
        self.taskset = copy.copy(self.taskset)  # its seed is this experiment's alone
        self.taskset.seed = self.seed
        validate_keywords(self.options, self.session, "session", positional=2)
        if self.admission and not self.session.admission_control:
            raise ConfigurationError(
                f"admission must be none with {self.session.__name__}, which has no admission "
                f"control, got {self.labels.get('admission', dict(self.admission))}"
            )
        self.taskset.check(self.session.task_attributes)
        first = next(self.taskset.variants(), None)
        if first is None:
            raise ConfigurationError(
                f"task set {self.taskset.name!r} must have a variant, has none"
            )
        first.check(self.session.task_attributes)
        self._blaming_session("check", lambda: self.session.check(first, **self.options))
        self.tests = self._tests()

    def _tests(self) -> Analysis | None:
        if not self.analysis:
            return None
        scheduling = self._blaming_session(
            "scheduling", lambda: self.session.scheduling(**self.options)
        )
        return Analysis(tuple(self.analysis), scheduling)

    def _blaming_session(self, what: str, call: Callable[[], Any]) -> Any:
        try:
            return call()
        except TaskgenError:
            raise
        except Exception as error:  # sessions are plug-ins: whatever they raise
            raise BugError(
                f"session {self.session.__name__} failed in {what}: {type(error).__name__}: "
                f"{one_line(error)}"
            ) from error

    @classmethod
    def from_config(cls, config: DictConfig) -> Experiment:
        """Build an experiment from a composed configuration. Raises ConfigurationError."""
        root = validate(config)
        choices = _choices(config)
        session = load_class(root.session, "session", AbstractSession)
        return cls(
            taskset=_build_taskset(root.taskset, choices.get("taskset", "taskset")),
            session=session,
            options={key: value for key, value in root.session.items() if key != "_target_"},
            targets=root.targets,
            port=root.port,
            seed=root.seed,
            max_variants=root.max_variants,
            workers=root.workers,
            bounds={name: getattr(root, name) for name in BOUNDS},
            admission=root.admission,
            analysis=root.analysis,
            monitors=list(_build_monitors(root.monitor)),
            labels={**choices, **_settings(root), **_overridden(config)},
            config=vars(root),
            composed=config,
        )

    @cached_property
    def fingerprint(self) -> str:
        """64 hexadecimal digits: the same exactly for the same experiment."""
        config = plain(self.config or self._description())
        named = self._blaming_session("files", self._named_files)
        return fingerprint(config, [*named, *sorted(code_files(config))])

    def _named_files(self) -> list[Path]:
        """The files that decide the results of any variant, each once, in a fixed order."""
        named: dict[Path, None] = {}
        for taskset in self.taskset.witnesses():
            named |= dict.fromkeys(self.session.files(taskset, **self.options))
        return list(named)

    @property
    def name(self) -> str:
        """The name of the result directory: session, task set and fingerprint."""
        session = self.labels.get("session", self.session.__name__)
        taskset = self.taskset.name or type(self.taskset).__name__
        return f"{session}-{taskset}-{self.fingerprint[:8]}".replace("/", "_")

    @property
    def variant_count(self) -> int | None:
        """How many variants are to be processed in all; None if that is not known."""
        counts = [n for n in (self.taskset.variant_count(), self.max_variants) if n is not None]
        return min(counts, default=None)

    def state(self, directory: Path) -> State:
        """What `directory` holds of this experiment; changes nothing."""
        from taskgen_run import results

        return results.state(directory, self.fingerprint, __version__)

    def is_finished(self, directory: Path) -> bool:
        """Whether `directory` has all that this experiment asks for."""
        from taskgen_run.results import Kind

        state = self.state(directory)
        return state.kind is Kind.FINISHED and next(self._pending(state.finished), None) is None

    def run(self, directory: str | Path | None = None, *, rerun: bool = False) -> Report:
        """Run what is not finished yet, into `directory` (default: outputs/NAME).

        With `rerun`, what is finished is run again. A variant that fails does not raise: the
        report tells. Raises ConfigurationError, InfrastructureError, BugError and Interrupted;
        what was finished until then is kept, and the next run continues.
        """
        # Imported here: pyarrow is slow to import, and help, plans and mistakes do without it.
        from taskgen_run.monitors import ProgressMonitor
        from taskgen_run.results import ResultWriter

        path = Path(OUTPUTS, self.name) if directory is None else Path(directory)
        if not rerun and self.is_finished(path):
            log.info("finished already, not run again (rerun=true does): %s", path)
            return Report(path, "finished")
        own = [make_monitor(monitor) for monitor in self.monitors]
        with Interrupts() as interrupts, ExitStack() as stack:
            facts = provenance(
                fingerprint=self.fingerprint,
                seed=self.seed,
                labels=self.labels,
                version=__version__,
            )
            writer = ResultWriter.open(
                path,
                facts,
                rerun=rerun,
                declared=self.session.task_attributes,
                tests=self.analysis,
            )
            stack.callback(writer.close)
            if self.composed is not None:
                save_composition(self.composed, path / ".hydra")
            stack.enter_context(log_file(path / "experiment.log"))
            finished = writer.finished
            progress = ProgressMonitor(self.variant_count, len(finished))
            watching = [writer, progress]
            stack.callback(Monitors(watching).close)
            watching += own
            distribute = self._distribution(Monitors(watching), interrupts)
            try:
                distribute(self._pending(finished))
                status = "failed" if writer.failed else "finished"
                writer.finish(status)
            except (Interrupted, TaskgenError) as error:
                writer.finish("stopped", one_line(error))
                raise
            failed = writer.failed
            with interrupts.allowed():
                pass  # a signal that came while the files were written ends a sweep
        return Report(path, status, failed)

    def _distribution(
        self, monitor: AbstractMonitor, interrupts: Interrupts
    ) -> Callable[[Iterator[TaskSet]], None]:
        """What runs variants: on real targets, or in the processes of this machine."""
        from taskgen_run.computing import Computing, usable_cores
        from taskgen_run.distributor import Distributor
        from taskgen_run.known_hosts import Bounds
        from taskgen_run.targets import Targets

        common: dict[str, Any] = {
            "connect": partial(self.session, port=self.port, **self.options),
            "targets": self.hosts,
            "monitor": monitor,
            "interrupts": interrupts,
            "params": [self.admission] if self.admission else [],
            "declared": self.session.task_attributes,
            "analysis": self.tests,
        }
        if self.session.computes:
            workers = (self.workers or usable_cores()) if self.session.parallel else 1
            return Computing(Distributor(**common), workers).run
        bounds = Bounds(**self.bounds)
        return Targets(session=self.session, port=self.port, bounds=bounds, **common).run

    def _pending(self, finished: Intervals) -> Iterator[TaskSet]:
        """The variants that are not finished, in order."""
        numbers = finished.missing(self.max_variants)
        return VariantStream(self.taskset, numbers, checked=self.session.task_attributes)

    def _description(self) -> dict[str, Any]:
        # What an object of a class of the user's own has beyond its tasks may decide its variants.
        own = {key: it for key, it in vars(self.taskset).items() if key not in vars(TaskSet())}
        return {
            "session": {"_target_": plain(self.session), **self.options},
            "taskset": {
                "_target_": plain(type(self.taskset)),
                "tasks": list(self.taskset),
                **({"attributes": own} if own else {}),
            },
            "admission": self.admission,
            "analysis": self.analysis,
            "targets": self.targets,
            "port": self.port,
            "seed": self.seed,
        }


def _build_taskset(node: Mapping[str, Any], name: str) -> TaskSet:
    if "_target_" not in node:
        return TaskSet.from_config(node, name)
    try:
        taskset = instantiate(node, _convert_="all")
    except TaskgenError:
        raise
    except Exception as error:  # whatever the class of a user raises
        cause = error.__cause__ if isinstance(error, HydraException) else error
        raise ConfigurationError(
            f"taskset._target_: cannot build {node['_target_']!r}: {one_line(cause or error)}"
        ) from error
    if not isinstance(taskset, TaskSet):
        raise ConfigurationError(
            f"taskset._target_ must make a TaskSet, got {type(taskset).__name__} "
            f"from {node['_target_']!r}"
        )
    taskset.name = name
    for position, task in enumerate(taskset):
        for key, value in task.items():
            if isinstance(value, Mapping):  # the forms of yaml, inside a block
                place = f"{taskset.place(position)}: {key}"
                task[key] = from_yaml(value, place, inside_config=key == "config")
    return taskset


def _build_monitors(node: Mapping[str, Any]) -> Iterator[Callable[[], AbstractMonitor]]:
    """One monitor with `_target_`, or several by names of the user's own."""
    one = "_target_" in node
    nodes = {"monitor": node} if one else {f"monitor.{k}": v for k, v in node.items()}
    for place, single in nodes.items():
        if not isinstance(single, Mapping):
            raise ConfigurationError(f"{place} must be a mapping with _target_, got {single!r}")
        cls: type[AbstractMonitor] = load_class(single, place, AbstractMonitor)
        options = {key: value for key, value in single.items() if key != "_target_"}
        validate_keywords(options, cls, place)
        yield partial(cls, **options)


def _choices(config: DictConfig) -> dict[str, str]:
    chosen = OmegaConf.select(config, "hydra.runtime.choices") or {}
    return {
        str(group): str(choice)
        for group, choice in chosen.items()
        if not str(group).startswith("hydra/")
    }


def _settings(root: ExperimentConfig) -> dict[str, Any]:
    """The seed and the single-valued options of the session, so that sweeps can be grouped."""
    options = {f"session.{key}": value for key, value in root.session.items() if key != "_target_"}
    single = {key: value for key, value in options.items() if isinstance(value, int | float | str)}
    return {"seed": root.seed, **single}


def _overridden(config: DictConfig) -> dict[str, Any]:
    """The values that the user overrode, by key, without the choices of groups."""
    keys = (str(o).lstrip("+").partition("=")[0] for o in config.hydra.overrides.task)
    choices = _choices(config)
    values = {
        k: OmegaConf.select(config, k) for k in keys if k not in choices | dict.fromkeys(IGNORED)
    }
    return {k: v for k, v in values.items() if isinstance(v, int | float | str)}


def title(config: DictConfig) -> str:
    """What the user said of an experiment: the overrides that tell those of a sweep apart."""
    overrides = [str(o) for o in config.hydra.overrides.task]
    return " ".join(o for o in overrides if o.lstrip("+").partition("=")[0] not in IGNORED)


# The name of a result directory, for hydra.run.dir and hydra.sweep.subdir.
OmegaConf.register_new_resolver(
    "taskgen_run.name",
    lambda *, _root_: Experiment.from_config(_root_).name,
    replace=True,
)
