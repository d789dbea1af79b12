"""The type of reactor that HTTP clients need."""

from __future__ import annotations

from twisted.internet.interfaces import IReactorPluggableNameResolver, IReactorTCP, IReactorTime


class Reactor(IReactorTCP, IReactorTime, IReactorPluggableNameResolver):
    """The interfaces that are used of a reactor: TCP, time, and the name lookup of `HostnameEndpoint`.

    This type is for type checkers only. No reactor declares it; any reactor with these three interfaces works.
    """
