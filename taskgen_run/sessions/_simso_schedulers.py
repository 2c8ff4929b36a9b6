"""Finding SimSo's schedulers, its own and users', and loading a fresh copy of one.

Some of SimSo's schedulers keep state in their module or class; a fresh copy of the module for each
simulation starts without it. Importing this module imports SimSo.
"""

from __future__ import annotations

import functools
import importlib.util
import pkgutil
import sys
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from importlib.machinery import ModuleSpec
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

from taskgen_run.errors import ConfigurationError, one_line, unknown_name
from taskgen_run.sessions._simso_parts import Scheduler, SchedulerInfo

# isort: split
# Only now: importing SimSo warns, which the module above keeps quiet.
import simso.schedulers
import simso.utils  # loads the module whose print is replaced below

if TYPE_CHECKING:
    from taskgen_run.sessions._simso_model import System

PACKAGE = "simso.schedulers"

PRIORITY_DRIVEN = {"FP", "DM"}
"""Served by SimSo's FP, which reads the priority of a task from its data."""

MS_SCALE = {"LLF", "EPDF", "PD2", "ER_PD2", "BF"}
"""Schedulers with quantums: a literal number of ms, or a fraction of the cycles in one."""


class PackingError(Exception):
    """Raised by a scheduler that finds no processors for the tasks."""


@dataclass(frozen=True, slots=True)
class SchedulerChoice:
    """A scheduler that was asked for: `name` as in messages, `builtin` if it is SimSo's.

    `load` returns a fresh copy of the class; it raises ConfigurationError.
    """

    name: str
    builtin: bool
    load: Callable[[], type[Any]]
    file: Path | None = None

    @property
    def ms_scale(self) -> bool:
        """Whether its ms must be ms; those of a user always are."""
        return not self.builtin or self.name in MS_SCALE

    def accepts(self, system: System) -> bool:
        """Begin the simulation, unless the scheduler finds no processors for all tasks.

        SimSo's own say so with an assertion that fails, or by running out of processors.
        """
        try:
            system.begin()
        except PackingError:
            return False
        except (AssertionError, IndexError) as error:
            if self.builtin or error.args == ("Packing failed",):
                return False
            raise
        return True


def choose(scheduler: str) -> SchedulerChoice:
    """Find a scheduler by short name, class path or file; loads nothing of a user's.

    Raises ConfigurationError if there is none.
    """
    if scheduler.endswith(".py") or "/" in scheduler:
        return _from_file(Path(scheduler))
    if scheduler.startswith(f"{PACKAGE}."):
        scheduler = scheduler.split(".")[2]
    if "." in scheduler:
        load = functools.partial(_load_path, scheduler)
        return SchedulerChoice(scheduler, False, load, _source(scheduler))
    if scheduler not in builtin_names():
        raise ConfigurationError(
            f"session.scheduler: {unknown_name('scheduler', scheduler, builtin_names())}"
        )
    return SchedulerChoice(scheduler, True, functools.partial(_load_builtin, scheduler))


@functools.cache
def builtin_names() -> tuple[str, ...]:
    """The short names: SimSo's schedulers, and DM."""
    modules = [module.name for module in pkgutil.iter_modules(simso.schedulers.__path__)]
    return (*(name for name in modules if name != "RUNServer"), "DM")


def _source(path: str) -> Path | None:
    """The file of the module in the dotted `path` of a class; None if there is none."""
    try:
        spec = importlib.util.find_spec(path.rpartition(".")[0])
    except (ImportError, ValueError):
        return None  # loading it will say why
    return Path(spec.origin) if spec is not None and spec.has_location and spec.origin else None


def _load_builtin(name: str) -> type[Any]:
    # The helpers that pack tasks print what a failed assertion tells anyway.
    vars(sys.modules["simso.utils.PartitionedScheduler"])["print"] = _discard
    module_name = "FP" if name == "DM" else name
    spec = importlib.util.find_spec(f"{PACKAGE}.{module_name}")
    assert spec is not None
    module = _executed(_module(spec, print=_listen))
    cls: type[Any] = getattr(module, module_name)
    if name in PRIORITY_DRIVEN:
        cls.on_terminated = _on_terminated
    elif name == "Fixed_PEDF":  # passes the class where SimSo 0.8.5 takes an overhead
        vars(module)["SchedulerInfo"] = lambda name, cls: SchedulerInfo(cls)
    elif name == "EDHS":
        cls.init = functools.partialmethod(_init_split, cls.init, vars(module)["migrating_tasks"])
    return cls


def _discard(*words: object, **options: object) -> None:
    """What SimSo's own schedulers print is for nobody."""


def _listen(*words: object, **options: object) -> None:
    """Hear P_EDF2 fail: it says so, and goes on as if it had not."""
    if words == ("oops bin packing failed.",):
        raise PackingError


def _on_terminated(self: Any, job: Any) -> None:
    """FP's, which also forgets a job that is killed while it waits."""
    if job in self.ready_list:
        self.ready_list.remove(job)
    job.cpu.resched()


def _init_split(self: Any, init: Callable[[Any], None], split: dict[Any, list[Any]]) -> None:
    """EDHS's, which notices only later that a task has no processor to be split over."""
    init(self)
    if not all(split.values()):
        raise PackingError


def _from_file(path: Path) -> SchedulerChoice:
    if not path.is_file():
        raise ConfigurationError(
            f"session.scheduler: must be the path of a Python file, got '{path}', which does not "
            "exist"
        )
    return SchedulerChoice(str(path), False, functools.partial(_load_file, path), path)


def _load_file(path: Path) -> type[Any]:
    directory = str(path.resolve().parent)
    if directory not in sys.path:
        sys.path.append(directory)  # as SimSo does it, for modules beside the file
    spec = importlib.util.spec_from_file_location(f"_simso_scheduler_{path.stem}", path)
    assert spec is not None
    module = _module(spec)
    sys.modules[spec.name] = module  # dataclasses look for the module that they are in
    try:
        _executed(module)
    except Exception as error:  # whatever a user's module raises
        raise _unloadable(str(path), error) from error
    own = [cls for cls in _schedulers(vars(module).values()) if cls.__module__ == spec.name]
    named = [cls for cls in own if cls.__name__ == path.stem]
    if len(named or own) != 1:
        found = ", ".join(cls.__name__ for cls in own) or "none"
        raise ConfigurationError(
            f"session.scheduler: '{path}' must have one subclass of simso.core.Scheduler, or one "
            f"called {path.stem}, got {found}"
        )
    return (named or own)[0]


def _load_path(path: str) -> type[Any]:
    module_name, _, name = path.rpartition(".")
    try:
        found = _attribute(module_name, name)
        if isinstance(found, ModuleType):  # SimSo's way: the class is called like its module
            found = getattr(found, name)
        home = importlib.util.find_spec(found.__module__)
        if home is not None:
            found = getattr(_executed(_module(home)), found.__qualname__, found)
    except Exception as error:  # whatever a user's module raises
        raise _unloadable(path, error) from error
    if not _schedulers([found]):
        raise ConfigurationError(
            f"session.scheduler: must name a subclass of simso.core.Scheduler, got '{path}'"
        )
    cls: type[Any] = found
    return cls


def _attribute(module_name: str, name: str) -> Any:
    module = importlib.import_module(module_name)
    if hasattr(module, name):
        return getattr(module, name)
    return importlib.import_module(f"{module_name}.{name}")


def _unloadable(path: str, error: Exception) -> ConfigurationError:
    return ConfigurationError(
        f"session.scheduler: cannot load '{path}': {type(error).__name__}: {one_line(error)}"
    )


def _schedulers(values: Iterable[object]) -> list[type[Any]]:
    return [c for c in values if isinstance(c, type) and issubclass(c, Scheduler)]


def _module(spec: ModuleSpec, **names: Any) -> ModuleType:
    """An empty module with `names` in it; the one that others import stays as it is."""
    module = importlib.util.module_from_spec(spec)
    vars(module).update(names)
    return module


def _executed(module: ModuleType) -> ModuleType:
    declared = simso.schedulers.get_loaded_schedulers()
    count = len(declared)
    assert module.__spec__ is not None
    assert module.__spec__.loader is not None
    try:
        module.__spec__.loader.exec_module(module)
    finally:
        del declared[count:]  # SimSo's list of declared schedulers would grow for ever
    return module
