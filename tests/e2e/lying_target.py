"""A target that lies: a proxy in front of an agent, as a process of its own.

``python lying_target.py HOST PORT AGENT_PORT LIE`` listens on HOST, hands on what the client and
the agent on HOST say, one client at a time. From the second time on that the agent tells how the
tasks run, some of it is changed:

garbage       bytes that are no message
size          the size of a message is said to be four gigabytes
unknown_task  the events are about a task that nobody has sent
early_end     jobs end before they have started
upload        nothing is changed, but the connection is closed in the middle of the upload
"""

from __future__ import annotations

import contextlib
import re
import selectors
import socket
import sys
from collections.abc import Callable

from taskgen_run.taskloader.protocol import Start, encode

UPLOADED = 2**17
"""After how many bytes of the client the upload breaks off; every workload is larger."""

LIES: dict[str, Callable[[bytes], bytes]] = {
    "garbage": lambda data: b"\x07" * len(data),
    "size": lambda data: b"\xff\xff\xff\xf0" + data[4:],
    "unknown_task": lambda data: re.sub(rb'task-id="\d"', b'task-id="7"', data),
    "early_end": lambda data: re.sub(
        rb'(type="EXIT"[^>]*time-stamp=")([0-9]+)', lambda m: m[1] + b"0" * len(m[2]), data
    ),
    "upload": lambda data: data,
}


def main(host: str, port: str, agent_port: str, lie: str) -> None:
    """Serve one client after the other, until it is killed."""
    with socket.create_server((host, int(port))) as listener:
        print("listens", flush=True)
        while True:
            client, _ = listener.accept()
            agent = socket.create_connection((host, int(agent_port)))
            with client, agent, contextlib.suppress(ConnectionError):
                _hand_on(client, agent, lie)


def _hand_on(client: socket.socket, agent: socket.socket, lie: str) -> None:
    begins = encode(Start())
    uploaded, told, started = 0, 0, False
    with selectors.DefaultSelector() as selector:
        for end in (client, agent):
            selector.register(end, selectors.EVENT_READ)
        while True:
            for key, _ in selector.select():
                data = key.fileobj.recv(2**16)  # type: ignore[union-attr]
                if not data:
                    return
                if key.fileobj is agent:
                    told += started
                    client.sendall(LIES[lie](data) if told > 1 else data)
                    continue
                uploaded += len(data)
                if lie == "upload" and uploaded > UPLOADED:
                    return
                started = started or data.endswith(begins)
                agent.sendall(data)


if __name__ == "__main__":
    main(*sys.argv[1:])
