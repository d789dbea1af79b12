"""What every kind of key store offers."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, ParamSpec, Protocol, TypeVar

from twisted.internet.defer import Deferred

from digsigd.errors import KeyStoreFailed
from digsigd.names import MACHINE

P = ParamSpec("P")
T = TypeVar("T")

# What follows `${KEYFILE_URI}/${machine}`: the layout of the existing servers of this API.
TARBALL = "imxsign/imx-cst-keys.tar.gz"


class InThread(Protocol):
    """Calls a blocking function in a thread that nobody has to wait for."""

    def __call__(self, function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> Deferred[T]:
        """Start it; what it raises fails the Deferred."""


@dataclass(frozen=True, slots=True)
class Fetched:
    """A tarball as the store has it now. `data` is None where it is the version that was known already.

    `version` is anything that compares equal as long as the tarball is the same one; None where that cannot be told.
    `unfinished` says that it may still be being written: where it ends too early, another try may find it whole.
    """

    data: bytes | None = field(repr=False)
    version: Any
    unfinished: bool = False


class KeySource(Protocol):
    """A key store. `str()` of it is its address without any credentials, for operators."""

    async def fetch(self, machine: str, known: Any) -> Fetched:
        """The tarball of a machine, unless it is of the version `known`.

        Raises `NoKeys`, `KeyStoreFailed`, `KeyStoreTimeout`, or `BadTarball` where it is too large.
        """

    async def check(self) -> None:
        """Raise `KeyStoreFailed` or `KeyStoreTimeout` unless the store can be reached."""

    async def close(self) -> None:
        """Give up connections."""


def being_written(machine: str, detail: str) -> KeyStoreFailed:
    """The error of a tarball that is not whole yet."""
    return KeyStoreFailed(f"the keys of machine {machine!r} are being written", hint="try again", detail=detail)


def checked(machine: str) -> str:
    """The name of a machine, which callers have checked before; whoever has not fails here."""
    if not MACHINE.fullmatch(machine):
        raise ValueError(f"{machine!r} is no machine name")
    return machine
