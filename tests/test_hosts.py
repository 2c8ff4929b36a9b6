"""Tests of taskgen_run.hosts."""

from __future__ import annotations

import ipaddress
import sys
import tracemalloc
from itertools import islice
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from taskgen_run.errors import ConfigurationError
from taskgen_run.hosts import TargetRange


@pytest.mark.parametrize(
    ("targets", "hosts"),
    [
        ("127.0.0.1", ["127.0.0.1"]),
        ("172.25.1.0/30", ["172.25.1.1", "172.25.1.2"]),
        ("172.25.1.4/31", ["172.25.1.4", "172.25.1.5"]),
        ("172.25.1.4/32", ["172.25.1.4"]),
        ("fd00::/126", ["fd00::1", "fd00::2", "fd00::3"]),
        ("fd00::/127", ["fd00::", "fd00::1"]),
        ("fd00::8/128", ["fd00::8"]),
        ("FD00:0::8", ["fd00::8"]),
        (["10.0.0.9", "10.0.0.10", "9.0.0.1"], ["9.0.0.1", "10.0.0.9", "10.0.0.10"]),
        (["::1", "10.0.0.1"], ["10.0.0.1", "::1"]),
        (["10.0.0.1", "10.0.0.0/30", "10.0.0.1"], ["10.0.0.1", "10.0.0.2"]),
        # A network address is a host where it is named as one.
        (["10.0.0.0", "10.0.0.0/30"], ["10.0.0.0", "10.0.0.1", "10.0.0.2"]),
        (("10.0.0.0/30", "10.0.0.0/29"), [f"10.0.0.{n}" for n in range(1, 7)]),
    ],
)
def test_hosts(targets: Any, hosts: list[str]) -> None:
    target_range = TargetRange(targets)
    assert list(target_range) == hosts
    assert [target_range[n] for n in range(len(hosts))] == hosts
    assert [target_range[n - len(hosts)] for n in range(len(hosts))] == hosts
    assert len(target_range) == target_range.count == len(hosts)
    assert all(host in target_range for host in hosts)


@st.composite
def networks(draw: st.DrawFn) -> str:
    """A small network in one of two crowded neighbourhoods, so that many overlap."""
    version = draw(st.sampled_from([4, 6]))
    bits = draw(st.integers(0, 4))
    start = draw(st.integers(0, 63)) >> bits << bits
    return f"10.0.0.{start}/{32 - bits}" if version == 4 else f"fd00::{start:x}/{128 - bits}"


@given(st.lists(networks(), min_size=1, max_size=6))
def test_hosts_are_those_of_ip_network(texts: list[str]) -> None:
    naive = {host for text in texts for host in ipaddress.ip_network(text).hosts()}
    expected = [str(host) for host in sorted(naive, key=lambda host: (host.version, int(host)))]
    target_range = TargetRange(texts)
    assert list(target_range) == expected
    assert [target_range[n] for n in range(target_range.count)] == expected
    for last in range(64):
        for address in (f"10.0.0.{last}", f"fd00::{last:x}"):
            assert (address in target_range) == (ipaddress.ip_address(address) in naive)


def test_large_ranges_cost_nothing() -> None:
    tracemalloc.start()
    try:
        target_range = TargetRange(["10.0.0.0/8", "fd00::/64"])
        assert target_range[2**24 - 3] == "10.255.255.254"
        assert target_range[2**24 - 2] == "fd00::1"
        assert target_range[-1] == "fd00::ffff:ffff:ffff:ffff"
        assert "fd00::abcd" in target_range
        assert "fd01::" not in target_range
        assert list(islice(target_range, 2)) == ["10.0.0.1", "10.0.0.2"]
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 100_000


def test_count_is_exact_where_len_ends() -> None:
    target_range = TargetRange("fd00::/64")
    assert target_range.count == 2**64 - 1 > sys.maxsize
    assert target_range
    with pytest.raises(OverflowError, match="use count"):
        len(target_range)


@pytest.mark.parametrize("index", [2, -3])
def test_index_outside(index: int) -> None:
    with pytest.raises(IndexError):
        TargetRange("172.25.1.0/30")[index]


@pytest.mark.parametrize("other", ["localhost", "", "172.25.1.0/30", 7, None, "::1"])
def test_contains_other_things(other: object) -> None:
    assert other not in TargetRange("172.25.1.0/30")


def test_text_is_what_the_user_wrote() -> None:
    assert str(TargetRange(["172.25.2.0/28", "172.25.1.1"])) == "172.25.2.0/28, 172.25.1.1"


@pytest.mark.parametrize(
    ("targets", "advice"),
    [
        ("172.25.1.256", "'172.25.1.256' is no IP address or CIDR range; write one like"),
        ("172.25.1.1/24", "did you mean 172.25.1.0/24?"),
        ("fd00::1/64", "did you mean fd00::/64?"),
        ("172.25.1.0/33", "write one like"),
        ("172.25.01.1", "write one like"),
        ("", "'' is no IP address"),
        (" 10.0.0.1", "' 10.0.0.1' is no IP address"),
        ("localhost", "names are not looked up"),
        ("target-7.example.org", "names are not looked up"),
        ("10.0.0.1,10.0.0.2", "write a list: targets=[10.0.0.1,10.0.0.2]"),
        ("10.0.0.1:3001", "its port as port=NUMBER"),
        ("[::1]:3001", "its port as port=NUMBER"),
        ("fe80::1%eth0", "leave out the scope id"),
        ([], "got an empty list"),
        ((), "got an empty list"),
        (["10.0.0.1", 7], "7 must be text with an IP address or CIDR range, got int"),
        ([["10.0.0.1"]], "got list"),
        ([None], "got NoneType"),
        (None, "got None"),
        (167772161, "got 167772161"),
        (b"10.0.0.1", "got b'10.0.0.1'"),
        ({"a": "10.0.0.1"}, "a list of them"),
    ],
)
def test_errors_name_the_value_and_what_to_do(targets: Any, advice: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        TargetRange(targets)
    message = str(caught.value)
    assert message.startswith("targets")
    assert advice in message
    assert "\n" not in message
