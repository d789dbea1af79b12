"""Key tarballs on a web server."""

from __future__ import annotations

import base64
from collections.abc import Mapping
from typing import Any
from urllib.parse import quote

from digsigd.errors import KeyStoreFailed, NoKeys
from digsigd.keys.source import TARBALL, Fetched, checked
from digsigd.keys.transfer import Answer, Transfer


class HttpSource:
    """`http://` and `https://`. `authorization` is sent to the origin of `base` alone."""

    def __init__(self, base: str, transfer: Transfer, *, authorization: str | None) -> None:
        self._base = base.rstrip("/")
        self._transfer = transfer
        self._authorization = authorization

    def __str__(self) -> str:
        return self._base

    async def fetch(self, machine: str, known: Any) -> Fetched:
        """See `KeySource`. The version is the answer's ETag, or else when it was last modified."""
        url = f"{self._base}/{quote(checked(machine))}/{TARBALL}"
        answer = await self._get(url, conditions(known))
        if answer.status in {404, 410}:
            raise no_keys(machine, url)
        if answer.status in {401, 403}:
            raise KeyStoreFailed(
                "the key store refuses this signing host",
                detail=f"{url}: status {answer.status}: check the credentials in [keys.http]",
            )
        return fetched(answer, known)

    async def check(self) -> None:
        """See `KeySource`. Folders need not be listed: whatever the server says but 401 shows that it is there."""
        answer = await self._get(self._base + "/", {}, "HEAD")
        if answer.status == 401:
            raise KeyStoreFailed(
                "the key store refuses this signing host", detail=f"{self._base}: check the credentials in [keys.http]"
            )

    async def close(self) -> None:
        """See `KeySource`."""
        await self._transfer.close()

    async def _get(self, url: str, more: Mapping[str, str], method: str = "GET") -> Answer:
        headers = {**COMMON, **more}
        if self._authorization is not None:
            headers["Authorization"] = self._authorization

        async def headers_for(_: str) -> Mapping[str, str]:
            return headers

        return await self._transfer.get(url, headers_for, credentials=frozenset({"authorization"}), method=method)


# Not to be compressed again on the way. Where it is nevertheless, treq unpacks it.
COMMON = {"User-Agent": "digsigd", "Accept-Encoding": "identity"}


def basic(user: str, password: str) -> str:
    """The value of an Authorization header: RFC 7617, section 2."""
    return "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode()


def conditions(known: Any) -> dict[str, str]:
    """The headers that ask for a body only where it has changed: RFC 9110, section 13.1."""
    if known is None:
        return {}
    kind, value = known
    return {"If-None-Match" if kind == "etag" else "If-Modified-Since": value}


def fetched(answer: Answer, known: Any) -> Fetched:
    """What an answer with a tarball, or with the news that there is no newer one, means."""
    if answer.status == 304 and known is not None:
        return Fetched(None, known)
    if answer.status != 200:
        raise KeyStoreFailed("the key store sent nonsense", detail=f"{answer.url}: status {answer.status}")
    for kind in ("etag", "last-modified"):
        if value := answer.headers.getRawHeaders(kind, [""])[0]:
            return Fetched(answer.body, (kind, value))
    return Fetched(answer.body, None)


def no_keys(machine: str, url: str) -> NoKeys:
    """The error of a store that has no tarball for a machine."""
    return NoKeys(
        f"there are no keys for machine {machine!r}",
        hint="check the name, and that the signing host has its key tarball",
        detail=url,
    )
