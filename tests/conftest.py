"""Settings of all tests, and what several of them need."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import settings
from instances import kernel

# How fast an example runs depends on the machine, and says nothing about the code.
settings.register_profile("taskgen_run", deadline=None)
settings.load_profile("taskgen_run")


@pytest.fixture
def halts(tmp_path: Path) -> Path:
    """A kernel for QEMU that does nothing."""
    return kernel(tmp_path)
