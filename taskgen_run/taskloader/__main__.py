"""``python -m taskgen_run.taskloader``: make this machine a target of experiments.

A client of the taskloader protocol sends executables and tasks, and this machine runs them. Whoever
may connect may run programs, as the user that is given with --user or, if this is not started as
root, as the user who has started it. What a job gets:

* its binary's name as argv[0] and, if its `config` has one, `arg1` as argv[1];
* in its environment TASKLOADER_CONFIG, the whole `config` as JSON, and TASKLOADER_TASK, the id;
* /dev/null as input and output, and a directory of its client's own to work in, which is removed
  when the client disconnects;
* `quota` as the limit of its address space.
"""

from __future__ import annotations

import argparse
import ipaddress
import logging
import sys

from taskgen_run.errors import ConfigurationError, TaskgenError, one_line
from taskgen_run.task import quota_bytes
from taskgen_run.taskloader.agent import Agent, Network, Options
from taskgen_run.taskloader.messages import Limits
from taskgen_run.taskloader.protocol import DEFAULT_PORT

_LOOPBACK = ("127.0.0.0/8", "::1/128")


def main(arguments: list[str] | None = None) -> int:
    """Serve until a signal comes. Returns the exit code: 128 and the number of the signal."""
    options = _parse(arguments)
    logging.basicConfig(format="%(asctime)s %(message)s", level=logging.INFO)
    try:
        return 128 + Agent(_checked(options)).serve()
    except TaskgenError as error:
        print(f"error: {one_line(error)}", file=sys.stderr)
        return error.exit_code


def _parse(arguments: list[str] | None) -> argparse.Namespace:
    limits = Limits()
    parser = argparse.ArgumentParser(
        prog="python -m taskgen_run.taskloader",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add(
        "--bind",
        metavar="ADDRESS",
        default="127.0.0.1",
        type=ipaddress.ip_address,
        help="address to listen on (%(default)s)",
    )
    add("--port", default=DEFAULT_PORT, type=int, help="TCP port; 0 takes a free one (%(default)s)")
    add(
        "--allow",
        metavar="NETWORK",
        action="append",
        type=ipaddress.ip_network,
        help="network whose clients may connect, such as 192.168.7.0/24; may be repeated. "
        "Needed unless ADDRESS is a loopback one, which other machines cannot reach",
    )
    add("--user", default="nobody", help="user of the jobs when started as root (%(default)s)")
    add(
        "--max-tasks",
        metavar="N",
        default=limits.tasks,
        type=int,
        help="tasks of a client (%(default)s)",
    )
    add(
        "--max-processes",
        metavar="N",
        default=1024,
        type=int,
        help="processes and threads of all jobs (%(default)s)",
    )
    add(
        "--max-binaries",
        metavar="N",
        default=limits.binaries,
        type=int,
        help="binaries of a client (%(default)s)",
    )
    add(
        "--max-binary-size",
        metavar="BYTES",
        default=limits.binary_bytes,
        type=_size,
        help="size of a binary, with K, M or G (64M)",
    )
    add(
        "--max-stored",
        metavar="BYTES",
        default=2**28,
        type=_size,
        help="size of all binaries of a client, which stay in memory (256M)",
    )
    return parser.parse_args(arguments)


def _size(text: str) -> int:
    return quota_bytes(text)


def _checked(options: argparse.Namespace) -> Options:
    """Raises ConfigurationError for what cannot be served."""
    if not options.allow and not options.bind.is_loopback:
        raise ConfigurationError(
            f"--allow must be given to listen on {options.bind}, which other machines may reach; "
            "name the networks of the clients, such as --allow 192.168.7.0/24"
        )
    if not 0 <= options.port < 2**16:
        raise ConfigurationError(f"--port must be 0 to 65535, got {options.port}")
    if options.max_processes < 1:
        raise ConfigurationError(f"--max-processes must be ≥ 1, got {options.max_processes}")
    networks: list[Network] = options.allow or list(map(ipaddress.ip_network, _LOOPBACK))
    return Options(
        bind=str(options.bind),
        port=options.port,
        clients=networks,
        user=options.user,
        processes=options.max_processes,
        stored_bytes=options.max_stored,
        limits=Limits(
            tasks=options.max_tasks,
            binaries=options.max_binaries,
            binary_bytes=options.max_binary_size,
        ),
    )


if __name__ == "__main__":
    sys.exit(main())
