from __future__ import annotations

import statistics

from taskgen_run.sessions.execution_time import drawn_execution_time_ns


def draw(key: tuple[int, int, int, int], deviation: int = 100_000) -> int:
    return drawn_execution_time_ns(
        key, mean_ns=1_000_000, deviation_ns=deviation, worst_ns=1_200_000
    )


def test_a_draw_is_a_function_of_its_key() -> None:
    # Recorded: what was drawn once is drawn for ever, on every machine.
    assert [draw((1, 2, 3, job)) for job in range(3)] == [1102634, 971620, 956513]


def test_every_part_of_the_key_counts() -> None:
    keys = [(0, 0, 0, 0), (1, 0, 0, 0), (0, 1, 0, 0), (0, 0, 1, 0), (0, 0, 0, 1)]
    assert len({draw(key) for key in keys}) == len(keys)


def test_draws_have_the_mean_and_the_deviation() -> None:
    draws = [
        drawn_execution_time_ns(
            (0, 0, 0, job), mean_ns=10**9, deviation_ns=10**6, worst_ns=2 * 10**9
        )
        for job in range(4_000)
    ]
    assert abs(statistics.mean(draws) - 10**9) < 5 * 10**6 / 4_000**0.5
    assert abs(statistics.stdev(draws) / 10**6 - 1) < 0.05


def test_draws_are_clipped() -> None:
    draws = [draw((0, 0, 0, job), deviation=10**7) for job in range(200)]
    assert min(draws) == 0
    assert max(draws) == 1_200_000


def test_without_deviation_the_mean_is_drawn() -> None:
    assert draw((0, 0, 0, 0), deviation=0) == 1_000_000
