"""The face of the package: ``python -m taskgen_run`` and the console script."""

from __future__ import annotations

import io
import logging
import os
import sys
from pathlib import Path
from typing import TextIO

from taskgen_run.errors import TaskgenError, one_line
from taskgen_run.interrupts import Interrupted


class _ToStderr(logging.StreamHandler[TextIO]):
    """Writes to the `sys.stderr` of the moment: that of a progress bar puts lines above it."""

    def emit(self, record: logging.LogRecord) -> None:
        self.stream = sys.stderr
        super().emit(record)


def main() -> None:
    """Run the command line. Ends the process: 0 done, 1 something failed, 2 bad configuration,
    130 and 143 for SIGINT and SIGTERM.
    """
    logging.basicConfig(level=logging.INFO, format="%(message)s", handlers=[_ToStderr()])
    logging.getLogger("hydra").setLevel(logging.WARNING)
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="replace")  # a terminal may not know all characters
    here = str(Path.cwd())
    if "" not in sys.path and here not in sys.path:
        sys.path.insert(0, here)  # `python -m` does; classes of a user's own are found there
    try:
        from taskgen_run.cli import run

        code = run(sys.argv[1:])
        sys.stdout.flush()
        sys.exit(code)
    except BrokenPipeError:
        # Whoever read our output has gone; the interpreter must not try to write the rest.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(1)
    except TaskgenError as error:
        print(f"error: {one_line(error)}", file=sys.stderr)
        sys.exit(error.exit_code)
    except Interrupted as interrupt:
        sys.exit(128 + interrupt.signum)
    except KeyboardInterrupt:
        sys.exit(130)


if __name__ == "__main__":
    main()
