"""Fetch over HTTP with limits on time, size, tries and redirects."""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urljoin, urlsplit

from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.defer import TimeoutError as LateError
from twisted.internet.ssl import PrivateCertificate
from twisted.logger import Logger
from twisted.web.client import HTTPConnectionPool
from twisted.web.http_headers import Headers
from twisted.web.iweb import IAgent

from digsigd.errors import DigsigError, KeyStoreFailed, KeyStoreTimeout
from digsigd.http.agent import bounded_agent, escaped
from digsigd.http.body import BadCoding, TooLong, file_in
from digsigd.http.causes import Cause, cause_of, words_of
from digsigd.http.connection import HEAD_BYTES
from digsigd.http.deadline import Stalled, within
from digsigd.http.endpoints import Endpoints
from digsigd.http.exchange import Bounds, Exchange
from digsigd.http.reactor import Reactor
from digsigd.http.retry import PASSING, Again, with_tries
from digsigd.keys.source import InThread
from digsigd.settings import KeysSettings

_REDIRECTS = frozenset({301, 302, 303, 307, 308})
_MAX_REDIRECTS = 3
# Bytes that are read of an answer without a tarball: enough for an error code.
_ERROR_BYTES = 16 << 10
# The subset of RFC 3986, 3.2, for hosts of http. All URL parsers read it the same way.
_AUTHORITY = re.compile(r"(?:[A-Za-z0-9._-]+|\[[0-9A-Fa-f:.]+\])(?::[0-9]{1,5})?")

HeadersFor = Callable[[str], Awaitable[Mapping[str, str]]]


@dataclass(frozen=True, slots=True)
class Answer:
    """The final answer of a fetch. `body` is the file for a 200, else the start of the body.

    `url` is where it came from, for operators.
    """

    status: int
    headers: Headers
    body: bytes = field(repr=False)
    url: str

    def header(self, name: str) -> str | None:
        """Return the value of a header, or None if it is missing, empty or repeated.

        Raises `KeyStoreFailed` if it is not UTF-8.
        """
        values = self.headers.getRawHeaders(name.encode(), [])
        if len(values) != 1:
            return None
        try:
            return values[0].decode() or None
        except UnicodeDecodeError:
            raise invalid_response(self.url, f"the header {name} is not UTF-8") from None


class Transfer:
    """Fetches from one origin, and without credentials from other origins that it redirects to.

    `first_pause` is the pause in seconds before the second try. Each further pause is about twice as long.
    """

    log = Logger()

    def __init__(
        self,
        settings: KeysSettings,
        *,
        reactor: Reactor,
        in_thread: InThread,
        trust_root: Any = None,
        certificate: PrivateCertificate | None = None,
        first_pause: float = 0.2,
    ) -> None:
        self._settings = settings
        self._reactor = reactor
        self._in_thread = in_thread
        self._trust_root = trust_root
        self._first_pause = first_pause
        self._pool = HTTPConnectionPool(reactor)
        self._pool.maxPersistentPerHost = 4
        self._pool.cachedConnectionTimeout = 30
        self._trusted = self._agent(certificate, self._pool)
        # For other origins, without our certificate, which is a credential too. Its connections are not reused.
        self._stranger = self._agent(None, HTTPConnectionPool(reactor, persistent=False))

    def _agent(self, certificate: PrivateCertificate | None, pool: HTTPConnectionPool) -> IAgent:
        endpoints = Endpoints(
            self._reactor,
            connect_timeout=self._settings.connect_timeout,
            trust_root=self._trust_root,
            certificate=certificate,
        )
        return bounded_agent(endpoints, self._reactor, pool)

    async def get(
        self, url: str, headers_for: HeadersFor, *, credentials: frozenset[str], method: str = "GET"
    ) -> Answer:
        """Fetch `url`, with redirects and retries. `headers_for` is called for the headers of each try.

        Headers named in `credentials` (in lower case) are sent only to the origin of `url`. Raises `KeyStoreTimeout`,
        or `KeyStoreFailed`, also for a 200 larger than `max_tarball`.
        """

        async def attempt(_: int) -> Answer:
            return await self._with_redirects(url, await headers_for(url), credentials, method)

        trying = with_tries(
            attempt,
            tries=self._settings.tries,
            first_pause=self._first_pause,
            clock=self._reactor,
            on_retry=self._on_retry,
        )
        try:
            return await within(self._settings.timeout, Deferred.fromCoroutine(trying), self._reactor)
        except Again as again:
            raise again.error from None
        except LateError:
            raise _too_late(url, f"no answer after {self._settings.timeout:g} s in all") from None

    async def close(self) -> None:
        """Close idle connections."""
        await self._pool.closeCachedConnections()

    def _on_retry(self, again: Again[DigsigError]) -> None:
        self.log.info("try {number} failed: {error}", number=again.tries, error=str(again.error), event="keys-retry")

    async def _with_redirects(
        self, url: str, headers: Mapping[str, str], credentials: frozenset[str], method: str
    ) -> Answer:
        here, agent = url, self._trusted
        for _ in range(_MAX_REDIRECTS + 1):
            answer = await self._once(agent, method, here, headers)
            location = answer.header("location") if answer.status in _REDIRECTS else None
            if location is None:
                return answer
            there = _redirected(here, location)
            if _origin(there) != _origin(url):
                # Send no credentials from here on, even if a redirect leads back.
                agent = self._stranger
                headers = {name: value for name, value in headers.items() if name.lower() not in credentials}
            here = there
        raise KeyStoreFailed(f"the key store redirects more than {_MAX_REDIRECTS} times", detail=shown(here))

    async def _once(self, agent: IAgent, method: str, url: str, headers: Mapping[str, str]) -> Answer:
        limit, idle = self._settings.max_tarball, self._settings.idle_timeout
        # Connecting has a separate limit, which `head` must not cut short.
        bounds = Bounds(body=limit, other_body=_ERROR_BYTES, head=self._settings.connect_timeout + idle, idle=idle)
        exchange = Exchange(agent, reactor=self._reactor, bounds=bounds)
        try:
            response = await exchange.ask(method, url, Headers({name: [value] for name, value in headers.items()}))
            body = response.body
            if response.status == 200 and method != "HEAD" and response.codings:
                body = await self._in_thread(file_in, body, response.codings, limit)
        except CancelledError:
            raise
        except Stalled:
            raise Again(_too_late(url, f"no data for {idle:g} s")) from None
        except TooLong:
            raise _too_large(limit, url) from None
        except BadCoding as error:
            raise invalid_response(url, str(error)) from None
        except Exception as error:  # noqa: BLE001 - every layer below raises different errors
            if cause_of(error)[0] is Cause.HEAD_TOO_LONG:
                raise invalid_response(url, f"headers of more than {HEAD_BYTES} bytes") from None
            detail = f"{shown(url)}: {words_of(error)}"
            raise Again(KeyStoreFailed("the key store cannot be reached", detail=detail)) from None
        if response.status in PASSING or response.status == 500:
            raise Again(KeyStoreFailed("the key store failed", detail=f"{shown(url)}: status {response.status}"))
        return Answer(response.status, response.headers, body, shown(url))


def shown(url: str) -> str:
    """Return an address for operators, without user, password and query: presigned addresses have secrets there."""
    parts = urlsplit(url)
    address = f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path}"
    return f"{address}?..." if parts.query else address


def invalid_response(url: str, what: str) -> KeyStoreFailed:
    """Build the error for an invalid response."""
    return KeyStoreFailed("the key store sent an invalid response", detail=f"{shown(url)}: {what}")


def _redirected(here: str, location: str) -> str:
    """Return the target of a redirect: RFC 9110, 10.2.2. Raises `KeyStoreFailed` if it is invalid or not allowed."""
    try:
        there = escaped(urljoin(here, location))
        parts = urlsplit(there)
        _ = parts.port
    except ValueError:
        # Show neither the error nor the location: both can contain a secret.
        raise invalid_response(here, "the redirect's target is not a valid address") from None
    if parts.scheme not in {"http", "https"} or (urlsplit(here).scheme, parts.scheme) == ("https", "http"):
        raise KeyStoreFailed(
            "the key store redirects to an address that keys must not come from",
            detail=f"{shown(here)} redirects to {shown(there)}; only http and https are allowed, not https to http",
        )
    if not _AUTHORITY.fullmatch(parts.netloc):
        raise invalid_response(here, "the redirect's target has no valid host and port")
    return there


def _origin(url: str) -> tuple[str, str, int]:
    """Return the origin of an address: RFC 6454, section 4."""
    parts = urlsplit(url)
    return parts.scheme, (parts.hostname or "").lower(), parts.port or {"http": 80, "https": 443}.get(parts.scheme, 0)


def _too_late(url: str, bound: str) -> KeyStoreTimeout:
    return KeyStoreTimeout("the key store did not answer in time", detail=f"{shown(url)}: {bound}")


def _too_large(limit: int, url: str) -> KeyStoreFailed:
    return KeyStoreFailed(f"the key store sent more than {limit} bytes, the limit for a tarball", detail=shown(url))
