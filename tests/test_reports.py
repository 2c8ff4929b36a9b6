from __future__ import annotations

import threading
import time

from taskgen_run.reports import Reports


def test_a_reader_takes_all_that_is_there_in_order() -> None:
    reports: Reports[int] = Reports(10, 100)
    for number in range(5):
        assert reports.put(number, 1, 0.0)
    assert reports.wait(0.0)
    assert list(reports.take()) == [0, 1, 2, 3, 4]
    assert not reports.wait(0.0)


def test_writers_wait_when_there_are_too_many_items_or_rows() -> None:
    reports: Reports[str] = Reports(2, 10)
    assert reports.put("a", 0, 0.0)
    assert reports.put("b", 0, 0.0)
    assert not reports.put("c", 0, 0.01)
    assert list(reports.take()) == ["a", "b"]
    assert reports.put("many rows", 10, 0.0)
    assert not reports.put("c", 1, 0.01)
    assert list(reports.take()) == ["many rows"]
    assert reports.put("c", 1, 0.0)


def test_a_writer_goes_on_as_soon_as_there_is_room() -> None:
    reports: Reports[int] = Reports(1, 10)
    reports.put(0, 0, 0.0)
    done: list[bool] = []
    writer = threading.Thread(target=lambda: done.append(reports.put(1, 0, 10.0)), daemon=True)
    writer.start()
    time.sleep(0.05)
    assert not done
    assert list(reports.take()) == [0]
    writer.join(5)
    assert done == [True]


def test_a_reader_is_woken_by_an_item() -> None:
    reports: Reports[int] = Reports(1, 10)
    threading.Timer(0.05, lambda: reports.put(1, 0, 1.0)).start()
    before = time.monotonic()
    assert reports.wait(10.0)
    assert time.monotonic() - before < 5.0


def test_nothing_of_many_writers_is_lost_and_each_keeps_its_order() -> None:
    reports: Reports[tuple[int, int]] = Reports(16, 64)
    writers, each = 16, 500

    def write(writer: int) -> None:
        for number in range(each):
            while not reports.put((writer, number), number % 3, 0.1):
                pass

    threads = [threading.Thread(target=write, args=(n,), daemon=True) for n in range(writers)]
    for thread in threads:
        thread.start()
    read: list[tuple[int, int]] = []
    deadline = time.monotonic() + 30
    while len(read) < writers * each and time.monotonic() < deadline:
        if reports.wait(0.1):
            assert len(reports) <= 16 + writers
            read += reports.take()
    for writer in range(writers):
        assert [number for who, number in read if who == writer] == list(range(each))
