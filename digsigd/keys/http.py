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
from digsigd.keys.transfer import Answer, Transfer, invalid_response


class HttpSource:
    """An `http://` or `https://` key store. `authorization` is sent to the origin of `base` only."""

    def __init__(self, base: str, transfer: Transfer, *, authorization: str | None) -> None:
        self._base = base.rstrip("/")
        self._transfer = transfer
        self._authorization = authorization

    def __str__(self) -> str:
        return self._base

    async def fetch(self, machine: str, known: Any) -> Fetched:
        """Implement `KeySource.fetch`. The version is the answer's strong ETag.

        Raises `NoKeys`, `KeyStoreFailed`, `KeyStoreTimeout`, and `BadTarball` if it is too large.
        """
        url = f"{self._base}/{quote(checked(machine))}/{TARBALL}"
        answer = await unless_known(lambda more: self._get(url, more), known)
        if answer.status in {404, 410}:
            raise no_keys(machine, url)
        if answer.status in {401, 403}:
            raise KeyStoreFailed(
                "the key store refused access",
                detail=f"{url}: status {answer.status}: check the credentials in [keys.http]",
            )
        result = fetched(answer, known)
        return Fetched(result.data, None) if _is_young(answer) else result

    async def check(self) -> None:
        """Implement `KeySource.check`: request a tarball that cannot exist, since a server need not list folders.

        A 403 passes: some servers send it for a missing file. Raises `KeyStoreFailed` or `KeyStoreTimeout`.
        """
        url = f"{self._base}/{_NO_MACHINE}/{TARBALL}"
        answer = await self._get(url, {}, "HEAD")
        if answer.status == 401:
            raise KeyStoreFailed(
                "the key store refused access", detail=f"{self._base}: check the credentials in [keys.http]"
            )
        if answer.status < 400:
            raise KeyStoreFailed(
                "the key store gave an invalid response",
                detail=f"{url}: status {answer.status} for a file that does not exist: is this a login page? Check"
                " keys.uri and the credentials in [keys.http]",
            )

    async def close(self) -> None:
        """Implement `KeySource.close`."""
        await self._transfer.close()

    async def _get(self, url: str, more: Mapping[str, str], method: str = "GET") -> Answer:
        headers = {**COMMON, **more}
        if self._authorization is not None:
            headers["Authorization"] = self._authorization

        async def headers_for(_: str) -> Mapping[str, str]:
            return headers

        return await self._transfer.get(url, headers_for, credentials=frozenset({"authorization"}), method=method)


# Not the name of a machine: those begin with a letter or a digit.
_NO_MACHINE = ".digsigd"
# `identity` asks for the bytes of the file, uncompressed.
COMMON = {"User-Agent": "digsigd", "Accept-Encoding": "identity"}
# A strong entity tag: RFC 9110, 8.8.3. Real ones have at most a few hundred characters.
_STRONG = re.compile(r'"[\x21\x23-\x7e]{1,1024}"')
# nginx makes its strong ETags from a file's size and the second of its last write: two files of the same size written
# in the same second look equal.
_YOUNG = 2


def basic(user: str, password: str) -> str:
    """Return the value of an Authorization header for Basic authentication: RFC 7617, section 2."""
    return "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode()


async def unless_known(get: Callable[[Mapping[str, str]], Awaitable[Answer]], known: Any) -> Answer:
    """Call `get` with headers that request a body only if it differs from the version `known`, and return its answer.

    If-None-Match compares weakly (RFC 9110, 13.1.2), so a 304 can be for a weak tag that matches the known tag. If the
    tag in the 304 differs from `known`, the whole body is requested.
    """
    if known is None:
        return await get({})
    answer = await get({"If-None-Match": known})
    if answer.status == 304 and answer.headers.hasHeader("etag") and answer.header("etag") != known:
        return await get({})
    return answer


def fetched(answer: Answer, known: Any) -> Fetched:
    """Return the tarball of a 200, or for a 304 that it has not changed. Raises `KeyStoreFailed` for any other status.

    Only a strong ETag counts as a version. Last-Modified does not: it hides an older file that was moved into place,
    and a second write within the same second. A weak ETag does not either: it says that two files are equivalent, not
    that their bytes are equal. Apache sends weak ETags for files written a moment ago, because another write may leave
    the ETag unchanged. nginx sends them for files that it compresses, which is not requested.
    """
    if answer.status == 304 and known is not None:
        return Fetched(None, known)
    if answer.status != 200:
        raise invalid_response(answer.url, f"status {answer.status}")
    tag = answer.header("etag")
    return Fetched(answer.body, tag if tag and _STRONG.fullmatch(tag) else None)


def _is_young(answer: Answer) -> bool:
    """Return whether a 200 is for a file written less than `_YOUNG` seconds ago, by the server's clock."""
    if answer.status != 200:
        return False
    try:
        written, now = (stringToDatetime((answer.header(name) or "").encode()) for name in ("last-modified", "date"))
    except (ValueError, IndexError, KeyStoreFailed):
        return False  # unknown; trust the ETag
    return bool(now - written < _YOUNG)


def no_keys(machine: str, url: str) -> NoKeys:
    """Build the error for a machine without a tarball in the key store."""
    return NoKeys(
        f"there are no keys for machine {machine!r}",
        hint="check the machine name; if it is right, add its key tarball to the signing host's key store",
        detail=url,
    )
