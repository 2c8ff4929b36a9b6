"""The executables that a client has sent. They lie in memory and have no path."""

from __future__ import annotations

import os
import struct
from dataclasses import dataclass

from taskgen_run.taskloader.linux import executable_in_memory
from taskgen_run.taskloader.messages import ProtocolError

_PAGE = 4096
_PT_LOAD = 1
BESIDE_SEGMENTS_BYTES = 300 * 2**10
"""Address space that a process needs beside the segments of its program: stack, first heap, vDSO.

Measured with statically linked programs and glibc 2.36 on Linux 6.18.
"""


@dataclass(frozen=True, slots=True)
class Executable:
    """An executable in memory; the memory it needs at least is 0 where it cannot be known."""

    fd: int
    size_bytes: int
    needed_bytes: int


class Binaries:
    """The executables of one client, by name; a name that comes again replaces its executable.

    most: how many; most_bytes: how large together.
    """

    def __init__(self, most: int, most_bytes: int) -> None:
        self._most = most
        self._most_bytes = most_bytes
        self._executables: dict[str, Executable] = {}

    def add(self, name: str, data: bytes) -> None:
        """Keep an executable. Raises ProtocolError when these are too many or too large."""
        old = self._executables.get(name)
        count = len(self._executables) + (old is None)
        if count > self._most:
            raise ProtocolError(f"binaries must be ≤ {self._most}, got {name!r} as one more")
        total = sum(executable.size_bytes for executable in self._executables.values()) + len(data)
        total -= old.size_bytes if old else 0
        if total > self._most_bytes:
            raise ProtocolError(
                f"binaries must have ≤ {self._most_bytes} bytes together, got {total} with {name!r}"
            )
        if old:
            os.close(old.fd)
        fd = executable_in_memory(name, data)
        self._executables[name] = Executable(fd, len(data), needed_bytes(data))

    def get(self, name: str) -> Executable | None:
        """The executable of that name; None if it was not sent."""
        return self._executables.get(name)

    def clear(self) -> None:
        """Forget all of them. Jobs that run keep theirs."""
        for executable in self._executables.values():
            os.close(executable.fd)
        self._executables.clear()


def needed_bytes(program: bytes) -> int:
    """The least address space that a statically linked ELF program runs in; 0 for other files."""
    try:
        return _segments_bytes(program) + BESIDE_SEGMENTS_BYTES
    except (ValueError, struct.error):
        return 0


def _segments_bytes(program: bytes) -> int:
    """Size of the segments to load. Raises ValueError or struct.error if it is no ELF program."""
    magic, width, endianness = struct.unpack_from("<4sBB", program)
    if magic != b"\x7fELF" or width not in (1, 2) or endianness not in (1, 2):
        raise ValueError("not an ELF program")
    order = "<" if endianness == 1 else ">"
    if width == 2:
        (table,) = struct.unpack_from(f"{order}Q", program, 32)
        size, count = struct.unpack_from(f"{order}HH", program, 54)
        word, address_at, memory_at = "Q", 16, 40
    else:
        (table,) = struct.unpack_from(f"{order}I", program, 28)
        size, count = struct.unpack_from(f"{order}HH", program, 42)
        word, address_at, memory_at = "I", 8, 20
    total = 0
    for at in range(table, table + size * count, size or 1):
        (kind,) = struct.unpack_from(f"{order}I", program, at)
        (address,) = struct.unpack_from(f"{order}{word}", program, at + address_at)
        (memory,) = struct.unpack_from(f"{order}{word}", program, at + memory_at)
        if kind == _PT_LOAD:
            total += -(-(address + memory) // _PAGE) * _PAGE - address // _PAGE * _PAGE
    return total
