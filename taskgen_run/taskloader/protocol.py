"""The wire protocol of the taskloader, both ends, without input or output.

Messages become bytes with `encode`. Bytes become messages with `ClientDecoder`, for what a target
sends, and `TargetDecoder`, for what a client sends; both take pieces of any size::

    decoder = ClientDecoder()
    decoder.expect_go_sends(2)
    connection.sendall(encode(SendBinaries(2)))
    for message in decoder.feed(connection.recv(65536)):
        match message:
            case GoSend():
                connection.sendall(encode(Binary("hey", executable)))
            case Profile(events):
                ...

The one ambiguity of the protocol: a target's GO_SEND is the integer 0x90, and so is the size of a
push of 144 bytes, which may be under way since before the upload. What decides is:

* While no GO_SEND is due, 0x90 is a size.
* While one is due, 0x90 gives `GoSend` at once, as the target may be waiting for the binary and
  send nothing more. The next integer then tells what it was: a size or another GO_SEND after a
  GO_SEND, but text after a size, and four characters make an integer of at least 0x09090909,
  which `Limits` allows no size to reach.
* When it was a size, the push is decoded, and the GO_SEND that is still to come gives no
  second `GoSend`. The binary was sent early then, which does no harm: a target reads its commands
  in order, and until it does, the binary waits in the connection.

So each `GoSend` allows one binary, no push is lost, and how the bytes were cut into pieces makes
no difference. `encode` pads what would be 144 bytes.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import Generic, TypeVar

from taskgen_run.errors import ConfigurationError
from taskgen_run.taskloader.documents import (
    read_goal,
    read_report,
    read_taskset,
    write_goal,
    write_live,
    write_profile,
)
from taskgen_run.taskloader.messages import (
    NAME_BYTES,
    Binary,
    Clear,
    Command,
    Event,
    EventType,
    GetLive,
    GetProfile,
    GoSend,
    Limits,
    Live,
    LiveTask,
    Optimize,
    Profile,
    ProtocolError,
    Report,
    SendBinaries,
    SendDescs,
    Start,
    Stop,
    name_problem,
)

__all__ = [
    "DEFAULT_PORT",
    "Binary",
    "Clear",
    "ClientDecoder",
    "Command",
    "Event",
    "EventType",
    "GetLive",
    "GetProfile",
    "GoSend",
    "Limits",
    "Live",
    "LiveTask",
    "Optimize",
    "Profile",
    "ProtocolError",
    "Report",
    "SendBinaries",
    "SendDescs",
    "Start",
    "Stop",
    "TargetDecoder",
    "encode",
    "name_problem",
]

DEFAULT_PORT = 3001

_SEND_DESCS = 0xDE5
_SEND_BINARIES = 0xDE5F11E
_OPTIMIZE = 0x6F7074
_GO_SEND = 0x90
_BARE: dict[int, type[Clear | Start | Stop | GetLive | GetProfile]] = {
    0xDE6: Clear,
    0x514DE5: Start,
    0x514DE6: Stop,
    0x159D2: GetLive,
    0x159D1: GetProfile,
}
"""The commands that consist of their magic number."""
_MAGIC = {command: magic for magic, command in _BARE.items()}

_U32 = struct.Struct("<I")
_BINARY_HEADER = struct.Struct(f"<{NAME_BYTES}sI")


def encode(message: Command | Report) -> bytes:
    """The bytes of `message`.

    Raises ConfigurationError for a name of a binary that the protocol does not allow, and for a
    goal that XML cannot express.
    """
    match message:
        case Profile():
            return _sized(write_profile(message.events))
        case Live():
            return _sized(write_live(message.tasks))
        case GoSend():
            return _U32.pack(_GO_SEND)
        case SendDescs():
            return _U32.pack(_SEND_DESCS) + _sized(message.xml)
        case Optimize():
            return _U32.pack(_OPTIMIZE) + _sized(write_goal(message.goal))
        case SendBinaries():
            return _U32.pack(_SEND_BINARIES) + _U32.pack(message.count)
        case Binary():
            if problem := name_problem(message.name):
                raise ConfigurationError(f"name of a binary {problem}")
            header = _BINARY_HEADER.pack(message.name.encode(), len(message.data))
            return header + message.data
        case _:
            return _U32.pack(_MAGIC[type(message)])


def _sized(xml: str) -> bytes:
    text = xml.encode("ascii", "xmlcharrefreplace")
    if len(text) == _GO_SEND:
        text += b"\0"
    return _U32.pack(len(text)) + text


_Message = TypeVar("_Message")


class _Decoder(Generic[_Message]):
    """Collects bytes and cuts messages from their front."""

    def __init__(self, limits: Limits | None = None) -> None:
        self.limits = limits or Limits()
        self._buffer = bytearray()
        self._failure = ""

    def feed(self, data: bytes) -> Iterator[_Message]:
        """Take what was received, and iterate over the messages that are now complete.

        What is not iterated over comes with the next call. Raises ProtocolError, while iterating
        and after all messages before it; from then on, always.
        """
        if not self._failure:
            self._buffer += data
        return self._messages()

    def _messages(self) -> Iterator[_Message]:
        if self._failure:
            raise ProtocolError(self._failure)
        try:
            while (message := self._next()) is not None:
                yield message
        except ProtocolError as error:
            self._failure = str(error)
            self._buffer.clear()
            raise

    def _next(self) -> _Message | None:
        """The next message; None until more bytes have come."""
        raise NotImplementedError

    def _integer(self, at: int) -> int | None:
        """The integer at position `at`, if it has come."""
        try:
            value: int = _U32.unpack_from(self._buffer, at)[0]
        except struct.error:
            return None
        return value

    def _take(self, start: int, end: int) -> bytes:
        """The bytes from `start` to `end`; they and those before them leave the buffer."""
        taken = bytes(memoryview(self._buffer)[start:end])
        del self._buffer[:end]
        return taken

    def _document(self, start: int, size: int) -> bytes | None:
        """XML of `size` bytes from position `start` on, if it has come."""
        if not 0 < size <= self.limits.xml_bytes:
            raise ProtocolError(f"size of XML must be 1 to {self.limits.xml_bytes}, got {size}")
        arrived = len(self._buffer) - start
        if arrived > 0 and self._buffer[start] not in b"< \t\r\n":
            first = bytes(self._buffer[start : start + 1])
            raise ProtocolError(f"XML of {size} bytes must begin with '<', got {first!r}")
        return self._take(start, start + size) if arrived >= size else None


class ClientDecoder(_Decoder[Report]):
    """Decodes what a target sends: GoSend, Profile, Live."""

    def __init__(self, limits: Limits | None = None) -> None:
        super().__init__(limits)
        self._due = 0  # GO_SENDs that are still to come
        self._given = False  # whether the next of them was given already
        self._undecided = False  # whether the last integer may have been it
        self._size: int | None = None

    def expect_go_sends(self, count: int) -> None:
        """Call this before SendBinaries(count) is sent: that many GO_SENDs are to come."""
        self._due += count

    def _next(self) -> Report | None:
        while self._size is None:
            integer = self._integer(0)
            if integer is None:
                return None
            if self._undecided:
                self._undecided = False
                if integer > self.limits.xml_bytes:
                    self._size = _GO_SEND
                    break
                self._due -= 1
                self._given = False
            del self._buffer[: _U32.size]
            if integer != _GO_SEND or not self._due:
                self._size = integer
                break
            self._undecided = True
            if not self._given:
                self._given = True
                return GoSend()
        document = self._document(0, self._size)
        if document is None:
            return None
        self._size = None
        return read_report(document, self.limits)


class TargetDecoder(_Decoder[Command]):
    """Decodes what a client sends: the commands, and the binaries of an upload.

    A GO_SEND is due after each SendBinaries with `count` and each Binary with `remaining` above 0.
    A client that sends a binary before its GO_SEND does no harm.
    """

    def __init__(self, limits: Limits | None = None) -> None:
        super().__init__(limits)
        self._binaries = 0  # that are still to come

    def _next(self) -> Command | None:
        if self._binaries:
            return self._binary()
        magic = self._integer(0)
        if magic is None:
            return None
        if magic in _BARE:
            self._take(0, 4)
            return _BARE[magic]()
        if magic not in (_SEND_DESCS, _OPTIMIZE, _SEND_BINARIES):
            raise ProtocolError(f"a command must begin with a known number, got {magic:#x}")
        number = self._integer(4)
        if number is None:
            return None
        if magic == _SEND_BINARIES:
            if number > self.limits.binaries:
                raise ProtocolError(
                    f"an upload must have ≤ {self.limits.binaries} binaries, got {number}"
                )
            self._take(0, 8)
            self._binaries = number
            return SendBinaries(number)
        document = self._document(8, number)
        if document is None:
            return None
        if magic == _OPTIMIZE:
            return Optimize(read_goal(document, self.limits))
        tasks = read_taskset(document, self.limits)
        return SendDescs(document.rstrip(b"\0").decode("ascii"), tasks)

    def _binary(self) -> Binary | None:
        if len(self._buffer) < _BINARY_HEADER.size:
            return None
        padded, size = _BINARY_HEADER.unpack_from(self._buffer)
        name, _, rest = padded.partition(b"\0")
        if rest.strip(b"\0"):
            raise ProtocolError(f"name of a binary must be padded with NULs, got {padded!r}")
        if problem := name_problem(name.decode("latin-1")):
            raise ProtocolError(f"name of a binary {problem}")
        if size > self.limits.binary_bytes:
            raise ProtocolError(
                f"binary {name.decode()!r} must have ≤ {self.limits.binary_bytes} bytes, got {size}"
            )
        end = _BINARY_HEADER.size + size
        if len(self._buffer) < end:
            return None
        self._binaries -= 1
        return Binary(name.decode(), self._take(_BINARY_HEADER.size, end), self._binaries)
