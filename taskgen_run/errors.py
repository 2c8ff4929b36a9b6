"""The family of errors, by who is to blame::

    TaskgenError
    ├── ConfigurationError    what the user wrote; found before anything runs, never retried
    ├── TargetError           a target host or its connection; retried
    │   └── SilentError       its machine was to be killed and booted again
    ├── InfrastructureError   the machine of the runner: disk, permissions; retried
    └── BugError              code that broke its contract, ours or a plug-in's; never retried

Every message names the thing, the constraint and the value, and says what to do, on one line.
"""

from __future__ import annotations

from collections.abc import Iterable
from difflib import get_close_matches
from pathlib import Path


class TaskgenError(Exception):
    """Base of all errors that taskgen_run raises on purpose."""

    exit_code = 1


class ConfigurationError(TaskgenError):
    """Raised when a configuration or a task set asks for what cannot be run."""

    exit_code = 2


class TargetError(TaskgenError):
    """Raised when a target host fails: it refuses, closes, lies or freezes."""


class SilentError(TargetError):
    """Raised when a target is silent for too long, and its machine is to be killed for it.

    `restarted` tells whether that was done, so that the machine boots again.
    """

    def __init__(self, message: str, *, restarted: bool) -> None:
        super().__init__(message)
        self.restarted = restarted


class InfrastructureError(TaskgenError):
    """Raised when the runner's own machine fails: a full disk, an unwritable directory."""


class BugError(TaskgenError):
    """Raised when code breaks its contract: a monitor or a session, ours or a user's."""


def unknown_name(kind: str, name: object, known: Iterable[str]) -> str:
    """Say that `name` is no known `kind`, with the closest known name or, if none, all of them."""
    names = sorted(known)
    same = [other for other in names if other.casefold() == str(name).casefold()]
    close = same or get_close_matches(str(name), names, n=1)
    if close:
        hint = f"did you mean {close[0]!r}?"
    else:
        hint = f"known are: {', '.join(names)}" if names else "there are none here"
    return f"unknown {kind} {name!r}; {hint}"


def place_of(error: BaseException) -> str:
    """Where an error was raised, as ' (file.py:12)'; empty if that is not known."""
    last = error.__traceback__
    while last is not None and last.tb_next is not None:
        last = last.tb_next
    return (
        "" if last is None else f" ({Path(last.tb_frame.f_code.co_filename).name}:{last.tb_lineno})"
    )


def one_line(error: BaseException) -> str:
    """The error's message on one line; its type when there is no message."""
    return " ".join(str(error).split()) or type(error).__name__
