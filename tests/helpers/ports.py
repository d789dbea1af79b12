"""Ports that no other program gets by chance, so that a server may leave one and come back to it."""

from __future__ import annotations

import os
import random
import socket
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

_returned: set[int] = set()


def own_ports(number: int) -> list[int]:
    """Return so many free ports below those that the kernel hands out for port 0, and that no other call returns."""
    lowest = int(Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split()[0])
    found: list[int] = []
    if not number:
        return found
    # Each process of pytest-xdist has its own: both would find the same one free that neither uses yet.
    worker = int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw"))
    ports = range(lowest // 2 + worker, lowest, int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", "1")))
    for port in random.sample(ports, len(ports)):
        if port in _returned:
            continue
        with suppress(OSError), socket.create_server(("127.0.0.1", port)):
            found.append(port)
            _returned.add(port)
        if len(found) == number:
            break
    return found


@contextmanager
def refusing_port() -> Iterator[int]:
    """A port where nobody listens, nor any other program will meanwhile."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        yield taken.getsockname()[1]
