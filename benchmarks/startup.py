"""One experiment's fixed cost: ``session=stdio taskset=hey0`` beside a trivial Hydra application.

Both are whole processes, from start-up to exit, alternating; prints the medians and their ratio.

    python benchmarks/startup.py
"""

from __future__ import annotations

import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROUNDS = 21

APPLICATION = """
import hydra

@hydra.main(version_base="1.3", config_path="conf", config_name="config")
def main(config):
    print(config)

main()
"""


def main() -> None:
    """Measure and print."""
    with tempfile.TemporaryDirectory() as name:
        directory = Path(name)
        (directory / "conf" / "group").mkdir(parents=True)
        (directory / "conf" / "group" / "choice.yaml").write_text("value: 1\n")
        (directory / "conf" / "config.yaml").write_text("defaults:\n- group: choice\n- _self_\n")
        (directory / "application.py").write_text(APPLICATION)
        commands = {
            "trivial Hydra application": [sys.executable, "application.py"],
            "taskgen_run session=stdio taskset=hey0": [
                *(sys.executable, "-m", "taskgen_run"),
                *("session=stdio", "taskset=hey0", "rerun=true"),
            ],
        }
        seconds: dict[str, list[float]] = {what: [] for what in commands}
        for _ in range(ROUNDS):
            for what, command in commands.items():
                begin = time.perf_counter()
                subprocess.run(command, cwd=directory, check=True, capture_output=True)
                seconds[what].append(time.perf_counter() - begin)
    medians = {what: statistics.median(values[1:]) for what, values in seconds.items()}
    for what, median in medians.items():
        print(f"{what}: {median:.3f} s")
    trivial, ours = medians.values()
    print(f"ratio: {ours / trivial:.2f}")


if __name__ == "__main__":
    main()
