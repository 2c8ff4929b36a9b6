#!/usr/bin/env bash
# Sets up a virtual environment and runs every check: style, types, import directions, tests.
# PYTHON chooses the interpreter, VENV the environment; arguments go to pytest.
set -euo pipefail
cd "$(dirname "$0")/.."

python=${PYTHON:-python3}
venv=${VENV:-.venv}
ours=(taskgen_run tests benchmarks guest workloads)

[ -x "$venv/bin/python" ] || "$python" -m venv "$venv"
"$venv/bin/python" -m pip install --quiet --editable '.[test]'
"$venv/bin/ruff" check "${ours[@]}"
"$venv/bin/ruff" format --check "${ours[@]}"
"$venv/bin/mypy"
"$venv/bin/lint-imports" --no-logo
"$venv/bin/python" -m pytest --numprocesses auto "$@"
