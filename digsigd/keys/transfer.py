"""Fetching over HTTP with bounds of our own: time, size, tries and redirects."""

from __future__ import annotations

import random
import re
from collections.abc import Awaitable, Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeVar
from urllib.parse import quote, urljoin, urlsplit

from treq.client import HTTPClient
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.defer import TimeoutError as LateError
from twisted.internet.ssl import PrivateCertificate
from twisted.internet.task import deferLater
from twisted.logger import Logger
from twisted.python.failure import Failure
from twisted.web.client import Agent, HTTPConnectionPool
from twisted.web.http_headers import Headers

from digsigd.errors import DigsigError, KeyStoreFailed, KeyStoreTimeout
from digsigd.keys.body import BadCoding, Body, Hangup, TooLong, file_in
from digsigd.keys.connection import HEAD_BYTES, STAND_IN, Endpoints, HeadTooLong, PlainAgent
from digsigd.keys.source import InThread
from digsigd.settings import KeysSettings

T = TypeVar("T")
# Statuses that may be another a moment later: RFC 9110, 15.5.9 and 15.6; RFC 6585, 4.
_WORTH_ANOTHER_TRY = frozenset({408, 429, 500, 502, 503, 504})
_REDIRECTS = frozenset({301, 302, 303, 307, 308})
_MAX_REDIRECTS = 3
# What is read of an answer that is no tarball: enough for the name of an error.
_ERROR_BYTES = 16 << 10
# Before the second try; doubled before each further one, and spread by half to both sides.
_FIRST_PAUSE = 0.2
# RFC 3986, 3.2, of what a host of http can be. All parsers of addresses read this the same way.
_AUTHORITY = re.compile(r"(?:[A-Za-z0-9._-]+|\[[0-9A-Fa-f:.]+\])(?::[0-9]{1,5})?")
# RFC 3986, 2.2 and 2.3, and the percent sign of what is escaped already.
_AS_IT_IS = "!#$%&'()*+,/:;=?@[]~"

HeadersFor = Callable[[str], Awaitable[Mapping[str, str]]]


@dataclass(frozen=True, slots=True)
class Answer:
    """The end of a fetch; `body` is the file for a 200, else its start. `url` is where it came from, for operators."""

    status: int
    headers: Headers
    body: bytes = field(repr=False)
    url: str

    def header(self, name: str) -> str | None:
        """The value of a header that is there once and not empty. Raises `KeyStoreFailed` where it is no text."""
        values = self.headers.getRawHeaders(name.encode(), [])
        if len(values) != 1:
            return None
        try:
            return values[0].decode() or None
        except UnicodeDecodeError:
            raise nonsense(self.url, f"the header {name} is no UTF-8") from None


class _Again(Exception):
    """A try that failed in a way that another may not."""

    def __init__(self, error: DigsigError) -> None:
        super().__init__(str(error))
        self.error = error


@dataclass(slots=True)
class _State:
    """Whether anybody still waits for a fetch."""

    given_up: bool = False


class Transfer:
    """Fetches from one origin, and without credentials from wherever that redirects to."""

    log = Logger()

    def __init__(
        self,
        settings: KeysSettings,
        *,
        reactor: Any,
        in_thread: InThread,
        trust_root: Any = None,
        certificate: PrivateCertificate | None = None,
    ) -> None:
        self._settings = settings
        self._reactor = reactor
        self._in_thread = in_thread
        self._trust_root = trust_root
        self._pool = HTTPConnectionPool(reactor)
        self._pool.maxPersistentPerHost = 4
        self._pool.cachedConnectionTimeout = 30
        self._trusted = self._agent(certificate, self._pool)
        # For other origins: our certificate is a credential too, and connections with it are not reused.
        self._stranger = self._agent(None, HTTPConnectionPool(reactor, persistent=False))

    def _agent(self, certificate: PrivateCertificate | None, pool: HTTPConnectionPool) -> Agent:
        endpoints = Endpoints(
            self._reactor,
            connect_timeout=self._settings.connect_timeout,
            trust_root=self._trust_root,
            certificate=certificate,
        )
        agent: Agent = Agent.usingEndpointFactory(self._reactor, endpoints, pool)
        return agent

    async def get(
        self, url: str, headers_for: HeadersFor, *, credentials: frozenset[str], method: str = "GET"
    ) -> Answer:
        """Fetch, with redirects and further tries. `headers_for` gives the headers of each try.

        Those named in `credentials` (in lower case) go to the origin of `url` alone. Raises `KeyStoreFailed`,
        `KeyStoreTimeout`; a 200 larger than `max_tarball` is a failure too.
        """
        state = _State()
        inner = Deferred.fromCoroutine(self._with_tries(state, url, headers_for, credentials, method))

        def give_up() -> None:
            state.given_up = True
            inner.cancel()

        try:
            return await _within(self._settings.timeout, inner, give_up, self._reactor)
        except LateError:
            raise _too_late(url, f"{self._settings.timeout:g} s in all") from None

    async def close(self) -> None:
        """Close kept connections."""
        await self._pool.closeCachedConnections()

    async def _with_tries(
        self, state: _State, url: str, headers_for: HeadersFor, credentials: frozenset[str], method: str
    ) -> Answer:
        for number in range(1, self._settings.tries + 1):
            try:
                return await self._with_redirects(state, url, await headers_for(url), credentials, method)
            except _Again as again:
                if number == self._settings.tries:
                    raise again.error from None
                self.log.info("try {number} failed: {error}", number=number, error=str(again.error), event="keys-retry")
                pause = _FIRST_PAUSE * 2 ** (number - 1) * random.uniform(0.5, 1.5)  # noqa: S311 - no secret
                await deferLater(self._reactor, pause)
        raise AssertionError("tries is at least 1")

    async def _with_redirects(
        self, state: _State, url: str, headers: Mapping[str, str], credentials: frozenset[str], method: str
    ) -> Answer:
        here, agent = url, self._trusted
        for _ in range(_MAX_REDIRECTS + 1):
            answer = await self._once(state, agent, method, here, headers)
            location = answer.header("location") if answer.status in _REDIRECTS else None
            if location is None:
                return answer
            there = _redirected(here, location)
            if _origin(there) != _origin(url):
                # And never again, even where the way leads back.
                agent = self._stranger
                headers = {name: value for name, value in headers.items() if name.lower() not in credentials}
            here = there
        raise KeyStoreFailed("the key store redirects in circles", detail=shown(here))

    async def _once(self, state: _State, agent: Agent, method: str, url: str, headers: Mapping[str, str]) -> Answer:
        limit, idle = self._settings.max_tarball, self._settings.idle_timeout
        # Both for this request alone: a client of treq's keeps cookies as long as it lives.
        written = _as_written(url)
        plain = PlainAgent(agent, written)
        try:
            asking: Deferred[Any] = HTTPClient(plain).request(
                method,
                url if written is None else STAND_IN,
                headers=Headers({name: [value] for name, value in headers.items()}),
                allow_redirects=False,
                unbuffered=True,
                reactor=self._reactor,
            )
            # The time to connect has a bound of its own.
            response = await _within(self._settings.connect_timeout + idle, asking, asking.cancel, self._reactor)
            if response.code == 200 and isinstance(response.length, int) and response.length > limit:
                # Else the connection would wait for somebody to read from it.
                response.deliverBody(Hangup())
                raise TooLong
            bare = method == "HEAD" or response.code in {204, 304}
            body = b""
            if not bare:
                body = await Body(limit if response.code == 200 else _ERROR_BYTES, idle, self._reactor).of(response)
            if not bare and response.code == 200 and plain.codings:
                body = await self._in_thread(file_in, body, plain.codings, limit)
        except CancelledError:
            raise
        except LateError:
            raise _Again(_too_late(url, f"{idle:g} s without a byte")) from None
        except TooLong:
            raise _too_large(limit, url) from None
        except BadCoding as error:
            raise nonsense(url, str(error)) from None
        except Exception as error:  # noqa: BLE001 - every layer below has errors of its own
            if state.given_up:
                # What a cancelled request fails with tells nothing of why.
                raise CancelledError from None
            if any(isinstance(cause, HeadTooLong) for cause in _causes(error)):
                raise nonsense(url, f"headers of more than {HEAD_BYTES} bytes") from None
            why = "; ".join(dict.fromkeys(map(_in_words, _causes(error))))
            raise _Again(KeyStoreFailed("the key store cannot be reached", detail=f"{shown(url)}: {why}")) from None
        if response.code in _WORTH_ANOTHER_TRY:
            raise _Again(KeyStoreFailed("the key store failed", detail=f"{shown(url)}: status {response.code}"))
        return Answer(response.code, response.headers, body, shown(url))


def _within(seconds: float, inner: Deferred[T], give_up: Callable[[], None], reactor: Any) -> Deferred[T]:
    """What `inner` gives, or a timeout; it is given up on that, and when nobody waits any more.

    Unlike with `inner.addTimeout`, whatever `inner` makes of being cancelled does not hide that it was.
    """

    def drop(waiting: Deferred[T]) -> None:
        waiting.errback(CancelledError())
        give_up()

    def pass_on(result: T) -> None:
        if not outer.called:
            outer.callback(result)

    def pass_failure_on(failure: Failure) -> None:
        if not outer.called:
            outer.errback(failure)

    outer: Deferred[T] = Deferred(drop)
    inner.addCallbacks(pass_on, pass_failure_on)
    return outer.addTimeout(seconds, reactor)


def _as_written(url: str) -> bytes | None:
    """The address as it goes out; None where its host's name needs IDNA, which treq knows."""
    return quote(url, safe=_AS_IT_IS).encode() if urlsplit(url).netloc.isascii() else None


def shown(url: str) -> str:
    """An address for operators: without what may be a secret, as in presigned ones."""
    parts = urlsplit(url)
    address = f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path}"
    return f"{address}?..." if parts.query else address


def nonsense(url: str, what: str) -> KeyStoreFailed:
    """The error of an answer that makes no sense."""
    return KeyStoreFailed("the key store sent nonsense", detail=f"{shown(url)}: {what}")


def _redirected(here: str, location: str) -> str:
    """The address that a redirect leads to: RFC 9110, 10.2.2. Raises `KeyStoreFailed` where no keys may come from."""
    try:
        there = quote(urljoin(here, location), safe=_AS_IT_IS)
        parts = urlsplit(there)
        _ = parts.port
    except ValueError:
        # Neither the text of the error nor the location can be shown: what of them is a secret is not known.
        raise nonsense(here, "redirects to what is no address") from None
    if parts.scheme not in {"http", "https"} or (urlsplit(here).scheme, parts.scheme) == ("https", "http"):
        raise KeyStoreFailed(
            "the key store redirects to where keys must not come from", detail=f"{shown(here)} to {shown(there)}"
        )
    if not _AUTHORITY.fullmatch(parts.netloc):
        raise nonsense(here, "redirects to what is no host with a port or without one")
    return there


def _origin(url: str) -> tuple[str, str, int]:
    """RFC 6454, section 4."""
    parts = urlsplit(url)
    return parts.scheme, (parts.hostname or "").lower(), parts.port or {"http": 80, "https": 443}.get(parts.scheme, 0)


def _too_late(url: str, bound: str) -> KeyStoreTimeout:
    return KeyStoreTimeout("the key store did not answer in time", detail=f"{shown(url)}: {bound}")


def _too_large(limit: int, url: str) -> KeyStoreFailed:
    return KeyStoreFailed(f"the key store sends more than the {limit} bytes that a tarball may have", detail=shown(url))


def _causes(error: BaseException) -> Iterator[BaseException]:
    """What is below Twisted's wrappers, of which there may be several."""
    reasons = getattr(error, "reasons", None)
    if not reasons:
        yield error
        return
    for reason in reasons:
        yield from _causes(reason.value)


def _in_words(error: BaseException) -> str:
    return f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
