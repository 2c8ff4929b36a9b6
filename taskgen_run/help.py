"""What --help prints: the groups with their choices and the settings, a line each."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

from hydra.core.global_hydra import GlobalHydra
from hydra.core.object_type import ObjectType

_USAGE = """\
taskgen_run runs experiments in real-time scheduling and keeps their results as Parquet files.

  python -m taskgen_run session=simso taskset=hey0            one experiment
  python -m taskgen_run -m session=simso,stdio taskset=hey0,hey4    a sweep: every combination
  python -m taskgen_run plan=true taskset=hey6                what would run

Options
  -m, --multirun      run a sweep over the values separated by commas
  --config-dir DIR    find configurations of your own in DIR, too
  --config-name NAME  use another root configuration than config.yaml
  --cfg job           print the composed configuration and run nothing
  --hydra-help        all options of Hydra, which composes the configuration
"""


def help_text(config_name: str) -> str:
    """The text for the configurations that Hydra finds, inside `composition.search_path`."""
    parts = [_USAGE]
    loader = GlobalHydra.instance().config_loader()
    for group in loader.list_groups(""):
        choices = loader.get_group_options(group, ObjectType.CONFIG)
        if group == "hydra" or not choices:
            continue
        lines = [f"  {name:<12}  {_first_comment(f'{group}/{name}')}".rstrip() for name in choices]
        parts.append("\n".join([f"{group}=…", *lines, ""]))
    parts.append("\n".join(["Settings", *_settings(_read(config_name)), ""]))
    return "\n".join(parts)


def _read(name: str) -> list[str]:
    """The lines of the first configuration of that name, in the order of Hydra's search."""
    for element in GlobalHydra.instance().config_loader().get_search_path().get_path():
        directory = str(element.path).removeprefix("file://")
        file = Path(directory, f"{name}.yaml")
        if file.is_file():
            return file.read_text(encoding="utf-8").splitlines()
    return []


def _first_comment(name: str) -> str:
    lines = _read(name)
    return lines[0].removeprefix("#").strip() if lines and lines[0].startswith("#") else ""


def _settings(lines: list[str]) -> list[str]:
    """`key=default` and the comment above it, for every plain key at the root."""
    shown = []
    for before, line in pairwise(lines):
        key, colon, value = line.partition(":")
        if colon and value.strip() and key.isidentifier():
            setting = f"{key}={value.strip()}"
            shown.append(f"  {setting:<18}  {before.removeprefix('#').strip()}")
    return shown
