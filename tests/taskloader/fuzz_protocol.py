"""A fuzzer of the wire protocol: ``python tests/taskloader/fuzz_protocol.py --seconds 600``.

Streams of messages, broken here and there, go through both decoders in pieces of any size. Nothing
but ProtocolError may come of it, the pieces must make no difference, and memory stays bounded.
"""

from __future__ import annotations

import argparse
import gc
import itertools
import time
import tracemalloc
from collections.abc import Sequence

from hypothesis import HealthCheck, given, seed, settings
from hypothesis import strategies as st
from wire import (
    COMMANDS,
    REPORTS,
    SMALL,
    bytewise,
    cut,
    encoded,
    from_client,
    from_target,
    push,
    u32,
)

ROUND = 200  # streams

FRAGMENTS = [
    *[u32(number) for number in (0, 1, 0x90, 0x13C, 4096, 4097, 0x0909093C, 2**31, 2**32 - 1)],
    *[u32(magic) for magic in (0xDE5, 0xDE6, 0xDE5F11E, 0x514DE5, 0x6F7074, 0x159D2)],
    *[push(xml.ljust(0x90)) for xml in ("<profile/>", "<live/>", "<taskset/>", "<a>")],
    *b"<profile> </profile> <events> <event <live> <task/> <taskset> <periodictask> <id>".split(),
    *b"</id> <config> <optimize> <goal> &a; &#0; &#xd800; <!-- --> <![CDATA[ ]]> <?xml ?>".split(),
    b'<!DOCTYPE a [<!ENTITY b "c">]>',
    b'<?xml version="1.0" encoding="utf-16"?>',
    b' type="EXIT" task-id="1" time-stamp="1.5"',
    b"hey".ljust(16, b"\0"),
    b"\0",
    b"\xff\xfe",
]
EDITS = st.lists(
    st.tuples(
        st.integers(0, 5000),  # where
        st.integers(0, 40) | st.just(0),  # how many bytes are lost there
        st.sampled_from(FRAGMENTS) | st.binary(max_size=8),  # and what takes their place
    ),
    max_size=4,
)
STREAMS = COMMANDS.map(encoded) | st.lists(REPORTS, max_size=4).map(encoded) | st.just(b"")
PLACES = st.lists(st.integers(0, 5000), max_size=4)


def broken(stream: bytes, edits: Sequence[tuple[int, int, bytes]]) -> bytes:
    for where, lost, fragment in edits:
        where %= len(stream) + 1
        stream = stream[:where] + fragment + stream[where + lost :]
    return stream


def check(stream: bytes, due: int, places: Sequence[int]) -> None:
    """Decode `stream` at both ends; tracemalloc must be running."""
    tracemalloc.reset_peak()
    before, _ = tracemalloc.get_traced_memory()
    began = time.process_time()
    at_client, at_target = from_target([stream], due=due), from_client([stream])
    took = time.process_time() - began
    _, peak = tracemalloc.get_traced_memory()
    assert peak - before <= 64 * (SMALL.xml_bytes + len(stream)) + 100_000
    assert took < 5
    for pieces in (cut(stream, places), bytewise(stream)):
        assert from_target(pieces, due=due) == at_client
        assert from_client(pieces) == at_target


def run(examples: int, number: int) -> None:
    """Check that many streams; `number` decides which."""

    @seed(number)
    @settings(
        max_examples=examples,
        deadline=None,
        database=None,
        suppress_health_check=list(HealthCheck),
    )
    @given(STREAMS, EDITS, st.integers(0, 3), PLACES)
    def broken_streams(
        stream: bytes, edits: list[tuple[int, int, bytes]], due: int, places: list[int]
    ) -> None:
        check(broken(stream, edits), due, places)

    broken_streams()


def kept() -> int:
    """Bytes that the codec has allocated and not given back."""
    gc.collect()
    snapshot = tracemalloc.take_snapshot()
    ours = snapshot.filter_traces([tracemalloc.Filter(True, "*/taskgen_run/taskloader/*")])
    return sum(trace.size for trace in ours.traces)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=600, help="how long, at least")
    parser.add_argument("--seed", type=int, default=0, help="the number of the first round")
    arguments = parser.parse_args()
    tracemalloc.start()
    end = time.monotonic() + arguments.seconds
    for number in itertools.count(arguments.seed):
        run(ROUND, number)
        print(f"round {number}: {ROUND} streams, {kept()} bytes kept", flush=True)
        assert kept() < 10_000
        if time.monotonic() >= end:
            break


if __name__ == "__main__":
    main()
