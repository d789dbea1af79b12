"""The interface of a key store."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, ParamSpec, Protocol, TypeVar

from twisted.internet.defer import Deferred

from digsigd.errors import KeyStoreFailed
from digsigd.names import MACHINE

P = ParamSpec("P")
T = TypeVar("T")

# The path below `${KEYFILE_URI}/${machine}/`: the layout of the existing servers of this API.
TARBALL = "imxsign/imx-cst-keys.tar.gz"


class InThread(Protocol):
    """A function that calls a blocking function in a thread."""

    def __call__(self, function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> Deferred[T]:
        """Start `function`. The Deferred fires with its result or fails with its exception."""


@dataclass(frozen=True, slots=True)
class Fetched:
    """The current tarball of a machine. `data` is None if the version is the known one.

    `version` compares equal as long as the tarball is the same, and is None if the store gives no version.
    `unfinished` means that the tarball may still be being written: if it is truncated, another try can find it whole.
    """

    data: bytes | None = field(repr=False)
    version: Any
    unfinished: bool = False


class KeySource(Protocol):
    """A key store. `str(source)` is its address for operators, without credentials."""

    async def fetch(self, machine: str, known: Any) -> Fetched:
        """Return the tarball of a machine, without its data if it still has the version `known`.

        Raises `NoKeys`, `KeyStoreFailed`, `KeyStoreTimeout`, or `BadTarball` if it is too large.
        """

    async def check(self) -> None:
        """Raise `KeyStoreFailed` or `KeyStoreTimeout` unless the store can be reached."""

    async def close(self) -> None:
        """Close connections."""


def being_written(machine: str, detail: str) -> KeyStoreFailed:
    """Build the error for a tarball that is still being written."""
    return KeyStoreFailed(f"the keys of machine {machine!r} are being written", hint="try again", detail=detail)


def checked(machine: str) -> str:
    """Return `machine` unchanged. Raises `ValueError` if it is not a machine name, which callers check before."""
    if not MACHINE.fullmatch(machine):
        raise ValueError(f"{machine!r} is not a machine name")
    return machine
