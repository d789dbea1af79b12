"""What a signing service needs of a reactor, for type checkers and when it is made.

Nothing here imports `twisted.internet.reactor` before it is asked for: whoever embeds digsigd chooses the reactor.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol, cast

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
    """All that the parts of a service use of a reactor, as one type. No object provides it by name."""


class Reactor(Protocol):
    """What type checkers accept as a reactor: `twisted.internet.reactor`, and any class of reactors by itself.

    Twisted declares its installed reactor without some interfaces that it does provide, so this asks for less than
    `SigningReactor`; `reactor_of` looks at the rest.
    """

    @property
    def callWhenRunning(self) -> Callable[..., Any]:
        """As `IReactorCore` has it."""

    @property
    def callLater(self) -> Callable[..., IDelayedCall]:
        """As `IReactorTime` has it."""

    @property
    def seconds(self) -> Callable[[], float]:
        """As `IReactorTime` has it."""

    @property
    def spawnProcess(self) -> Callable[..., Any]:
        """As `IReactorProcess` has it."""

    @property
    def listenTCP(self) -> Callable[..., Any]:
        """As `IReactorTCP` has it."""


def reactor_of(given: Reactor | None) -> SigningReactor:
    """Return the given reactor, or the installed one (installing the default if there is none).

    Raises `TypeError` if it lacks an interface that a signing service needs.
    """
    if given is None:
        from twisted.internet import reactor as installed

        given = installed
    lacking = [interface.__name__ for interface in _NEEDED if not interface.providedBy(given)]
    if lacking:
        raise TypeError(f"{type(given).__name__} cannot run a signing service: it does not provide {lacking[0]}")
    return cast("SigningReactor", given)
