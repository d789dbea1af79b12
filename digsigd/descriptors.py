"""File descriptors of the process: how many there may be, and how many connections they allow."""

from __future__ import annotations

import resource

from digsigd.settings import Settings

# Below this limit a start warns: a few uploads and runs of cst would take all descriptors.
FEW = 256
# An idle daemon has 16: the reactor, its port, logs, the record, the lock of its work directory. The rest is for
# threads that read keys or remove directories, connections to the key store, and connections beyond the limit.
_RESERVE = 96
# Descriptors of an upload besides its connection: its directory, and its file or, once cst is prepared, two pipes.
_UPLOAD = 3
# Descriptors that a run of cst needs besides: to start it, and for the files that are checked and verified.
_RUN = 8
# A daemon with fewer connections could not work at all.
_LEAST = 4


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
    # Of what is too little, each connection can have an upload, and each of those that run at a time can run cst.
    rest = soft - min(_RESERVE, soft // 2)
    one = 1 + _UPLOAD
    possible = max(
        soft - _others(settings), (rest - _RUN * settings.cst.max_running) // one, rest // (one + _RUN), _LEAST
    )
    connections = min(possible, settings.listen.max_connections)
    few = f", fewer than {FEW}," if soft < FEW else ""
    return connections, (
        f"this process may have {soft} file descriptors{few} but needs {wanted(settings)}: it accepts {connections}"
        f" connections at a time instead of {settings.listen.max_connections}; raise LimitNOFILE= or `ulimit -n`"
    )


def _others(settings: Settings) -> int:
    """Return how many descriptors everything but connections needs."""
    return _UPLOAD * settings.upload.max_at_once + _RUN * settings.cst.max_running + _RESERVE
