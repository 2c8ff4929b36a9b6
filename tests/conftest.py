"""Settings of all tests."""

from __future__ import annotations

from hypothesis import settings

# How fast an example runs depends on the machine, and says nothing about the code.
settings.register_profile("taskgen_run", deadline=None)
settings.load_profile("taskgen_run")
