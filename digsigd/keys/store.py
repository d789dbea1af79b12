"""The keys of machines: fetch them, check them against the pinned hash, and keep them for a while."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Literal

from twisted.internet.interfaces import IDelayedCall, IReactorTime

from digsigd.errors import BadTarball, NoKeys
from digsigd.keys.source import InThread, KeySource, being_written
from digsigd.keys.tar import CutTarball
from digsigd.keys.tarball import KeyTarball, read_tarball


@dataclass(frozen=True, slots=True)
class Keys:
    """A machine's tarball and where it came from.

    `origin` is the key store's address, for operators. `seconds` is how long fetching took.
    """

    tarball: KeyTarball = field(repr=False)
    origin: str
    how: Literal["fetched", "revalidated"]
    seconds: float


@dataclass(slots=True)
class _Kept:
    tarball: KeyTarball
    version: Any
    size: int
    forgetting: IDelayedCall


class KeyStore:
    """Fetches the current keys of a machine from a key source, and keeps tarballs in memory.

    A tarball is kept until `keep` seconds after its last use (0: never kept). For every request the source is asked
    whether it has changed. `max_unpacked` is the most bytes a tarball may decompress to, `max_kept_bytes` the most
    bytes of all kept tarballs together.
    """

    def __init__(
        self,
        source: KeySource,
        *,
        keep: float,
        clock: IReactorTime,
        in_thread: InThread,
        max_unpacked: int,
        max_kept_bytes: int = 64 << 20,
    ) -> None:
        self._source = source
        self._keep = keep
        self._clock = clock
        self._in_thread = in_thread
        self._max_unpacked = max_unpacked
        self._max_kept_bytes = max_kept_bytes
        # In order of use, the oldest first.
        self._kept: dict[str, _Kept] = {}
        self._stopped = False
        # How many uses fetched a tarball, and how many found the kept one unchanged.
        self.fetched = self.revalidated = 0
        # Gets the machine and the tarball of each fetch.
        self.on_fetched: Callable[[str, KeyTarball], None] | None = None

    @property
    def kept(self) -> tuple[int, int]:
        """How many tarballs are in memory, and how many bytes they have together."""
        return len(self._kept), sum(one.size for one in self._kept.values())

    async def get(self, machine: str, *, sha256: str | None = None) -> Keys:
        """Return the keys of a machine. With `sha256`, in hex, the tarball must have that hash.

        Raises `NoKeys`, `KeyStoreFailed`, `KeyStoreTimeout` or `BadTarball`.
        """
        began = self._clock.seconds()
        kept = self._kept.get(machine)
        try:
            fetched = await self._source.fetch(machine, kept.version if kept else None)
        except NoKeys:
            self._forget(machine)
            raise
        if fetched.data is None and kept is not None:
            tarball = kept.tarball
            self._check_pin(machine, tarball, sha256)
            self._keep_on(machine, kept)
            self.revalidated += 1
            return Keys(tarball, str(self._source), "revalidated", self._clock.seconds() - began)
        if fetched.data is None:
            raise BadTarball("the key store sent no key tarball")
        try:
            tarball = await self._in_thread(read_tarball, fetched.data, max_bytes=self._max_unpacked)
        except CutTarball as error:
            if fetched.unfinished:
                raise being_written(machine, f"{self._source}: written a moment ago; {error.what}") from None
            raise
        self._check_pin(machine, tarball, sha256)
        self._remember(machine, tarball, fetched.version)
        self.fetched += 1
        if self.on_fetched is not None:
            self.on_fetched(machine, tarball)
        return Keys(tarball, str(self._source), "fetched", self._clock.seconds() - began)

    def _check_pin(self, machine: str, tarball: KeyTarball, pinned: str | None) -> None:
        if pinned is not None and tarball.sha256 != pinned:
            self._forget(machine)
            raise BadTarball(
                f"the key tarball of machine {machine!r} has SHA-256 {tarball.sha256}, but {pinned} is pinned",
                hint="if it was changed on purpose, the operator of the signing host must change keys_sha256",
            )

    async def check(self) -> None:
        """Raise `KeyStoreFailed` or `KeyStoreTimeout` unless the source can be reached."""
        await self._source.check()

    async def stop(self) -> None:
        """Forget all keys and close connections."""
        self._stopped = True
        for machine in list(self._kept):
            self._forget(machine)
        await self._source.close()

    def _remember(self, machine: str, tarball: KeyTarball, version: Any) -> None:
        self._forget(machine)
        if not self._keep or self._stopped or version is None:
            return
        size = sum(map(len, tarball.members.values()))
        forgetting = self._clock.callLater(self._keep, self._forget, machine)
        self._kept[machine] = _Kept(tarball, version, size, forgetting)
        while sum(kept.size for kept in self._kept.values()) > self._max_kept_bytes:
            self._forget(next(iter(self._kept)))

    def _keep_on(self, machine: str, kept: _Kept) -> None:
        """Note a use of the tarball, unless it was forgotten or replaced meanwhile."""
        if self._kept.get(machine) is kept:
            kept.forgetting.reset(self._keep)
            self._kept[machine] = self._kept.pop(machine)

    def _forget(self, machine: str) -> None:
        kept = self._kept.pop(machine, None)
        if kept is not None and kept.forgetting.active():
            kept.forgetting.cancel()
