"""Key tarballs on a web server."""

from __future__ import annotations

import base64
import re
from collections.abc import Awaitable, Callable, Mapping
from typing import Any
from urllib.parse import quote

from twisted.web.http import stringToDatetime

from digsigd.errors import KeyStoreFailed, NoKeys
from digsigd.keys.source import TARBALL, Fetched, checked
from digsigd.keys.transfer import Answer, Transfer, nonsense


class HttpSource:
    """`http://` and `https://`. `authorization` is sent to the origin of `base` alone."""

    def __init__(self, base: str, transfer: Transfer, *, authorization: str | None) -> None:
        self._base = base.rstrip("/")
        self._transfer = transfer
        self._authorization = authorization

    def __str__(self) -> str:
        return self._base

    async def fetch(self, machine: str, known: Any) -> Fetched:
        """See `KeySource`. The version is the answer's strong ETag."""
        url = f"{self._base}/{quote(checked(machine))}/{TARBALL}"
        answer = await unless_known(lambda more: self._get(url, more), known)
        if answer.status in {404, 410}:
            raise no_keys(machine, url)
        if answer.status in {401, 403}:
            raise KeyStoreFailed(
                "the key store refuses this signing host",
                detail=f"{url}: status {answer.status}: check the credentials in [keys.http]",
            )
        result = fetched(answer, known)
        return Fetched(result.data, None) if _is_young(answer) else result

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


# The bytes of the file as they are.
COMMON = {"User-Agent": "digsigd", "Accept-Encoding": "identity"}
# A strong entity tag: RFC 9110, 8.8.3. Nobody's has more than some hundred characters.
_STRONG = re.compile(r'"[\x21\x23-\x7e]{1,1024}"')
# nginx makes its ETags of the size and the second in which a file was written, and calls them strong: within that
# second one file of a size looks like another.
_YOUNG = 2


def basic(user: str, password: str) -> str:
    """The value of an Authorization header: RFC 7617, section 2."""
    return "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode()


async def unless_known(get: Callable[[Mapping[str, str]], Awaitable[Answer]], known: Any) -> Answer:
    """An answer of `get`, which is given the headers that ask for a body only where it has changed.

    If-None-Match compares weakly (RFC 9110, 13.1.2), so a 304 may be for a weak tag that looks like the known one. It
    has the tag that it is for; where that is another, the whole is asked for.
    """
    if known is None:
        return await get({})
    answer = await get({"If-None-Match": known})
    if answer.status == 304 and answer.headers.hasHeader("etag") and answer.header("etag") != known:
        return await get({})
    return answer


def fetched(answer: Answer, known: Any) -> Fetched:
    """What an answer with a tarball, or with the news that there is no newer one, means.

    Only a strong ETag is a version. Last-Modified is not: a server that compares it takes an older file that was moved
    into place, and one that was written in the same second, for the same. Neither is a weak ETag: with it a server says
    that two files may do for each other, not that their bytes are the same. Apache gives one to what was written just
    now, because the next change may not show in it; nginx to what it compresses on the way, which is not asked for.
    """
    if answer.status == 304 and known is not None:
        return Fetched(None, known)
    if answer.status != 200:
        raise nonsense(answer.url, f"status {answer.status}")
    tag = answer.header("etag")
    return Fetched(answer.body, tag if tag and _STRONG.fullmatch(tag) else None)


def _is_young(answer: Answer) -> bool:
    """Whether a 200 is for a file that was written just now, by the server's own clock."""
    if answer.status != 200:
        return False
    try:
        written, now = (stringToDatetime((answer.header(name) or "").encode()) for name in ("last-modified", "date"))
    except (ValueError, IndexError, KeyStoreFailed):
        return False  # not told; the ETag stands
    return bool(now - written < _YOUNG)


def no_keys(machine: str, url: str) -> NoKeys:
    """The error of a store that has no tarball for a machine."""
    return NoKeys(
        f"there are no keys for machine {machine!r}",
        hint="check the name, and that the signing host has its key tarball",
        detail=url,
    )
