"""What a composed configuration may hold, and the checks that hold it to that."""

from __future__ import annotations

import inspect
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pkgutil import resolve_name
from types import NoneType, UnionType
from typing import Any, Union, get_args, get_origin, get_type_hints

from omegaconf import DictConfig, OmegaConf, open_dict, read_write
from omegaconf.errors import MissingMandatoryValue, OmegaConfBaseException

from taskgen_run.errors import ConfigurationError, one_line, unknown_name

_WORDS = {
    bool: "true or false",
    int: "a whole number",
    float: "a number",
    str: "text",
    list: "a list",
    dict: "a mapping",
    NoneType: "null",
}

_LEAST = {
    "seed": 0,
    "max_variants": 1,
    "workers": 1,
    "attempts": 1,
    "restarts": 0,
    "max_sessions": 1,
}
"""The smallest value of each whole number among the settings."""

_CHECKED = (*_LEAST, "port", "probe_timeout", "available_timeout")


@dataclass
class ExperimentConfig:
    """The root of a composed configuration, apart from Hydra's own node."""

    session: dict[str, Any] = field(default_factory=dict)
    taskset: dict[str, Any] = field(default_factory=dict)
    admission: dict[str, Any] = field(default_factory=dict)
    monitor: dict[str, Any] = field(default_factory=dict)
    targets: str | list[Any] = "127.0.0.1"
    port: int = 3001
    seed: int = 0
    max_variants: int | None = None
    analysis: list[Any] = field(default_factory=list)
    workers: int | None = None
    attempts: int = 3
    restarts: int = 3
    max_sessions: int = 256
    probe_timeout: float = 1.0
    available_timeout: float = 60.0
    outputs: str = "outputs"
    rerun: bool = False
    plan: bool = False


def validate(config: DictConfig) -> ExperimentConfig:
    """Resolve a composed configuration and check names, types and bounds at its root.

    Raises ConfigurationError.
    """
    plain = _resolve(config)
    root = ExperimentConfig(**validate_options(plain, get_type_hints(ExperimentConfig), ""))
    for group in ("session", "taskset"):
        if not getattr(root, group):
            raise ConfigurationError(f"{group} must be set; choose one with {group}=NAME")
    check_settings({name: getattr(root, name) for name in _CHECKED})
    if not root.outputs:
        raise ConfigurationError("outputs must be the path of a directory, got ''")
    return root


def check_settings(settings: Mapping[str, Any]) -> None:
    """Check the types and the bounds of settings of `ExperimentConfig`, by their names.

    Raises ConfigurationError.
    """
    validate_options(settings, get_type_hints(ExperimentConfig), "")
    for name, value in settings.items():
        if name in _LEAST and value is not None and value < _LEAST[name]:
            null = " or null" if name in ("max_variants", "workers") else ""
            raise ConfigurationError(f"{name} must be ≥ {_LEAST[name]}{null}, got {value}")
        if name in ("probe_timeout", "available_timeout") and not 0 < value < math.inf:
            raise ConfigurationError(f"{name} must be > 0 s, got {value}")
        if name == "port" and not 1 <= value <= 65535:
            raise ConfigurationError(f"port must be between 1 and 65535, got {value}")


def _resolve(config: DictConfig) -> dict[str, Any]:
    own = config.copy()
    with read_write(own), open_dict(own):
        own.pop("hydra", None)
    try:
        plain = OmegaConf.to_container(own, resolve=True, throw_on_missing=True)
    except MissingMandatoryValue as error:
        key = error.full_key
        raise ConfigurationError(f"{key} must be set, with {key}=VALUE") from error
    except OmegaConfBaseException as error:
        raise ConfigurationError(explain(error)) from error
    assert isinstance(plain, dict)
    return {str(key): value for key, value in plain.items()}


def explain(error: OmegaConfBaseException) -> str:
    """OmegaConf's message on one line: the place first, without the types of its own objects."""
    text = re.sub(r"\s+(full_key|object_type|reference_type)[:=]\s*\S*", "", one_line(error))
    return f"{error.full_key}: {text}" if error.full_key else text


def load_class(node: Mapping[str, Any], place: str, base: type) -> type[Any]:
    """The subclass of `base` that `_target_` in `node` names. Raises ConfigurationError."""
    target = node.get("_target_")
    if not isinstance(target, str):
        raise ConfigurationError(
            f"{place}._target_ must be the dotted path of a class, got {target!r}"
        )
    try:
        found = resolve_name(target)
    except Exception as error:  # whatever the import of a user's module raises
        raise ConfigurationError(
            f"{place}._target_: cannot load '{target}': {one_line(error)}"
        ) from error
    if not (isinstance(found, type) and issubclass(found, base)):
        raise ConfigurationError(
            f"{place}._target_ must name a subclass of {base.__name__}, got '{target}'"
        )
    return found


def validate_keywords(
    options: Mapping[str, Any], cls: type[Any], place: str, *, positional: int = 0
) -> dict[str, Any]:
    """Check `options` against the keyword parameters of ``cls.__init__`` and their annotations.

    An ``__init__`` with ``**options`` hands them on to the one above it. The first `positional`
    parameters after self are somebody else's. Raises ConfigurationError.
    """
    parameters = _parameters(cls)[positional:]
    types = {
        p.name: Any if p.annotation is p.empty else p.annotation
        for p in parameters
        if p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY)
    }
    if any(p.kind is p.VAR_KEYWORD for p in parameters):
        types = dict.fromkeys(options, Any) | types
    checked = validate_options(options, types, place)
    for parameter in parameters:
        named = parameter.name in types
        if named and parameter.default is parameter.empty and parameter.name not in checked:
            raise ConfigurationError(f"{place}.{parameter.name} must be set")
    return checked


def _parameters(cls: type[Any]) -> list[inspect.Parameter]:
    """Those of ``cls.__init__``, and of those above it that it hands on to."""
    found = {p.name: p for p in inspect.signature(cls, eval_str=True).parameters.values()}
    for base in (b for b in cls.__mro__[1:] if "__init__" in vars(b)):
        handed_on = [p.name for p in found.values() if p.kind is p.VAR_KEYWORD]
        abstract = getattr(vars(base)["__init__"], "__isabstractmethod__", False)
        if not handed_on or abstract or base is object:
            break
        for name in handed_on:
            del found[name]
        for parameter in inspect.signature(base, eval_str=True).parameters.values():
            found.setdefault(parameter.name, parameter)
    return list(found.values())


def validate_options(
    options: Mapping[str, Any], types: Mapping[str, Any], place: str
) -> dict[str, Any]:
    """Check that each option is known to `types` and of its type. Raises ConfigurationError."""
    prefix = f"{place}." if place else ""
    for name, value in options.items():
        if name not in types:
            known = [prefix + known for known in types]
            raise ConfigurationError(unknown_name("key", f"{prefix}{name}", known))
        _check_type(value, types[name], f"{prefix}{name}")
    return dict(options)


def _check_type(value: Any, annotation: Any, place: str) -> None:
    members = get_args(annotation) if _is_union(annotation) else (annotation,)
    kinds = {get_origin(member) or member for member in members}
    if not kinds <= set(_WORDS):
        return  # a type of a user's own: its class decides
    if isinstance(value, bool):
        fits = bool in kinds
    elif isinstance(value, int):
        fits = bool(kinds & {int, float})
    else:
        fits = type(value) in kinds
    if not fits:
        words = [word for kind, word in _WORDS.items() if kind in kinds]
        raise ConfigurationError(f"{place} must be {' or '.join(words)}, got {value!r}")


def _is_union(annotation: Any) -> bool:
    return get_origin(annotation) in (Union, UnionType)
