"""Target ranges: the hosts that addresses and CIDR ranges stand for."""

from __future__ import annotations

import ipaddress
import re
import sys
from bisect import bisect_right
from collections.abc import Iterable, Iterator, Sequence
from ipaddress import IPv6Address
from itertools import accumulate
from socket import inet_ntoa

from taskgen_run.errors import ConfigurationError

Span = tuple[int, int, int]
"""The version of IP, and the first and the last address as numbers, both included."""

_ADDRESS = {4: ipaddress.IPv4Address, 6: ipaddress.IPv6Address}


class TargetRange:
    """The hosts of addresses and CIDR ranges, IPv4 and IPv6, each as `str(ip_address)` writes it.

    ``TargetRange(["172.25.1.1", "172.25.2.0/28"])`` has 15 hosts: those of a CIDR range are the
    ones of Python's `ip_network.hosts()`, without network and broadcast address. They are sorted,
    IPv4 first, and none occurs twice. Neither time nor memory depend on how many they are.

    Raises ConfigurationError for what is neither an address nor a CIDR range. There are no scope
    ids (fe80::1%eth0) and no names: a host is known by one address, the same on every machine.
    """

    def __init__(self, targets: str | Sequence[str]) -> None:
        texts = [targets] if isinstance(targets, str) else targets
        if not isinstance(texts, Sequence) or isinstance(texts, bytes):
            raise ConfigurationError(
                f"targets must be an address, a CIDR range or a list of them, got {targets!r}"
            )
        if not texts:
            raise ConfigurationError(
                "targets must have at least one address or CIDR range, got an empty list"
            )
        self._spans = _merged(map(_span, texts))
        sizes = (last - first + 1 for _, first, last in self._spans)
        self._ends = list(accumulate(sizes))
        self._text = ", ".join(texts)

    @property
    def count(self) -> int:
        """The number of hosts; unlike `len()` not limited to `sys.maxsize`, as of an IPv6 /64."""
        return self._ends[-1]

    def __len__(self) -> int:
        if self.count > sys.maxsize:
            raise OverflowError(f"len() is limited to {sys.maxsize}, use count: {self.count} hosts")
        return self.count

    def __bool__(self) -> bool:
        return True

    def __getitem__(self, index: int) -> str:
        """The host at `index`, from 0; negative ones count from the end."""
        if not -self.count <= index < self.count:
            raise IndexError(f"host {index} of {self.count}")
        index %= self.count
        span = bisect_right(self._ends, index)
        version, _, last = self._spans[span]
        return str(_ADDRESS[version](last - (self._ends[span] - 1 - index)))

    def __iter__(self) -> Iterator[str]:
        for version, first, last in self._spans:
            number = first
            while number <= last:
                yield inet_ntoa(number.to_bytes(4)) if version == 4 else str(IPv6Address(number))
                number += 1

    def __contains__(self, address: object) -> bool:
        try:
            ip = ipaddress.ip_address(str(address))
        except ValueError:
            return False
        return any(v == ip.version and first <= int(ip) <= last for v, first, last in self._spans)

    def __str__(self) -> str:
        return self._text

    def __repr__(self) -> str:
        return f"<TargetRange {self._text}: {self.count} hosts>"


def _span(text: object) -> Span:
    if not isinstance(text, str):
        raise ConfigurationError(
            f"targets: {text!r} must be text with an IP address or CIDR range, "
            f"got {type(text).__name__}"
        )
    try:
        if "%" in text:
            raise ValueError("a scope id")
        network = ipaddress.ip_network(text)
    except ValueError:
        raise ConfigurationError(
            f"targets: {text!r} is no IP address or CIDR range; {_advice(text)}"
        ) from None
    first, last = int(network.network_address), int(network.broadcast_address)
    if last - first > 1:
        first += 1
        if network.version == 4:
            last -= 1
    return network.version, first, last


def _advice(text: str) -> str:
    """What to write instead of `text`."""
    if "," in text:
        return f"write a list: targets=[{text}]"
    if "%" in text:
        return "leave out the scope id"
    try:
        network = ipaddress.ip_network(text, strict=False)
    except ValueError:
        pass
    else:
        return f"did you mean {network}?"
    if re.fullmatch(r"[0-9.]+:[0-9]+|\[.*\]:[0-9]+", text):
        return "write the address alone, and its port as port=NUMBER"
    if re.search(r"[g-z]", text, re.IGNORECASE):
        return "names are not looked up, write the address"
    return "write one like 172.25.1.1, 172.25.2.0/28 or fd00::1"


def _merged(spans: Iterable[Span]) -> list[Span]:
    """The spans in order, with those that overlap or touch made one."""
    merged: list[Span] = []
    for version, first, last in sorted(spans):
        if merged and merged[-1][0] == version and first <= merged[-1][2] + 1:
            _, start, end = merged.pop()
            first, last = start, max(last, end)
        merged.append((version, first, last))
    return merged
