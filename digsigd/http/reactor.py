"""The reactor that HTTP clients need, as a type."""

from __future__ import annotations

from twisted.internet.interfaces import IReactorPluggableNameResolver, IReactorTCP, IReactorTime


class Reactor(IReactorTCP, IReactorTime, IReactorPluggableNameResolver):
    """What is used of a reactor: connections, time, and names as `HostnameEndpoint` looks them up.

    It is for type checkers. No reactor declares it, and every one that provides these three interfaces will do.
    """
