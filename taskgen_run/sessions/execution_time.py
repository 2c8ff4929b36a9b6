"""Random execution times: functions of what a job is, never of when it was asked for."""

from __future__ import annotations

import hashlib
from statistics import NormalDist

_STANDARD_NORMAL = NormalDist()


def drawn_execution_time_ns(
    key: tuple[int, int, int, int], *, mean_ns: int, deviation_ns: int, worst_ns: int
) -> int:
    """The execution time in ns of the job `key`: (seed, variant, task, job).

    Normally distributed, rounded to whole ns and clipped to [0, `worst_ns`]. The same job has the
    same execution time under every scheduler: the fraction whose quantile it is comes from the
    first 52 bits of the key's SHA-256.
    """
    digest = hashlib.sha256("{}/{}/{}/acet/{}".format(*key).encode()).digest()
    fraction = ((int.from_bytes(digest[:8], "big") >> 12) + 0.5) / 2**52
    drawn = round(mean_ns + deviation_ns * _STANDARD_NORMAL.inv_cdf(fraction))
    return min(max(drawn, 0), worst_ns)
