"""What a signing service needs from a reactor: types for type checkers, and a check when the service is made.

Importing this module does not import `twisted.internet.reactor`: a program that embeds digsigd chooses the reactor.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any, Protocol, cast

from twisted.internet.base import ReactorBase
from twisted.internet.interfaces import (
    IDelayedCall,
    IReactorCore,
    IReactorPluggableNameResolver,
    IReactorProcess,
    IReactorTCP,
    IReactorThreads,
    IReactorTime,
)

from digsigd.http.reactor import Reactor as HttpReactor

# Core and threads for the service's life, processes for cst, TCP and names for ports and key stores, time for both.
_NEEDED = (
    IReactorCore,
    IReactorTime,
    IReactorThreads,
    IReactorProcess,
    IReactorTCP,
    IReactorPluggableNameResolver,
)


class SigningReactor(HttpReactor, IReactorCore, IReactorThreads, IReactorProcess):
    """All reactor interfaces that the parts of a service use, as one type. No object declares that it provides it."""


class Reactor(Protocol):
    """The type of a `reactor` argument: `twisted.internet.reactor`, or an instance of a reactor class.

    Twisted declares its installed reactor without some interfaces that it provides, so this type requires less than
    `SigningReactor`. `reactor_of` checks the rest.
    """

    @property
    def callWhenRunning(self) -> Callable[..., Any]:
        """Defined by `IReactorCore`."""

    @property
    def callLater(self) -> Callable[..., IDelayedCall]:
        """Defined by `IReactorTime`."""

    @property
    def seconds(self) -> Callable[[], float]:
        """Defined by `IReactorTime`."""

    @property
    def spawnProcess(self) -> Callable[..., Any]:
        """Defined by `IReactorProcess`."""

    @property
    def listenTCP(self) -> Callable[..., Any]:
        """Defined by `IReactorTCP`."""


def keep_monotonic_time(reactor: object) -> None:
    """Let a reactor of Twisted measure time by the monotonic clock, for the whole process.

    Twisted measures by the time of day, so an hour's jump would end all that has a time limit, or prolong it. Calls
    that are scheduled already keep their delays. Other reactors are left as they are.
    """
    if not isinstance(reactor, ReactorBase) or reactor.seconds is time.monotonic:
        return
    shift = time.monotonic() - reactor.seconds()
    for call in reactor.getDelayedCalls():
        vars(call)["time"] += shift
        vars(call)["seconds"] = time.monotonic
    vars(reactor)["seconds"] = time.monotonic


def reactor_of(given: Reactor | None) -> SigningReactor:
    """Return the given reactor, or for None the installed one. If none is installed, the default is installed.

    Raises `TypeError` if it lacks an interface that a signing service needs.
    """
    if given is None:
        from twisted.internet import reactor as installed

        given = installed
    lacking = [interface.__name__ for interface in _NEEDED if not interface.providedBy(given)]
    if lacking:
        raise TypeError(f"{type(given).__name__} cannot run a signing service: it does not provide {lacking[0]}")
    return cast("SigningReactor", given)
