"""File descriptors of the process: how many there may be, and how many connections they allow."""

from __future__ import annotations

import resource

from digsigd.settings import Settings

# Below this limit a start warns: a few uploads and runs of cst would take all descriptors.
FEW = 256
# Descriptors of the reactor, threads, logs and libraries, connections to the key store, and the few connections that
# are accepted beyond the limit.
_RESERVE = 96
# Descriptors of one run of cst: two pipes, its directory, files that are checked and verified meanwhile.
_RUN = 8
# A daemon with fewer connections could not work at all.
_LEAST = 8


def wanted(settings: Settings) -> int:
    """Return how many descriptors a daemon with these settings needs at most."""
    return settings.listen.max_connections + _others(settings)


def raise_limit(settings: Settings) -> None:
    """Raise the soft limit of this process to what the settings need, as far as the hard limit allows."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    enough = wanted(settings) if hard == resource.RLIM_INFINITY else min(wanted(settings), hard)
    if soft != resource.RLIM_INFINITY and soft < enough:
        resource.setrlimit(resource.RLIMIT_NOFILE, (enough, hard))


def room(settings: Settings) -> tuple[int, str]:
    """Return how many connections the process has descriptors for, and a warning if that is less than configured."""
    soft = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    if soft == resource.RLIM_INFINITY or soft >= wanted(settings):
        return settings.listen.max_connections, ""
    # What is too little is shared: each connection can have an upload, which has a file.
    rest = soft - _RUN * settings.cst.max_running - min(_RESERVE, soft // 2)
    possible = max(soft - _others(settings), rest // 2, _LEAST)
    connections = min(possible, settings.listen.max_connections)
    few = f", fewer than {FEW}," if soft < FEW else ""
    return connections, (
        f"this process may have {soft} file descriptors{few} but needs {wanted(settings)}: it accepts {connections}"
        f" connections at a time instead of {settings.listen.max_connections}; raise LimitNOFILE= or `ulimit -n`"
    )


def _others(settings: Settings) -> int:
    """Return how many descriptors everything but connections needs. Each upload has a file."""
    return settings.upload.max_at_once + _RUN * settings.cst.max_running + _RESERVE
