"""Fetching over HTTP with bounds of our own: time, size, tries and redirects."""

from __future__ import annotations

import random
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeVar
from urllib.parse import urljoin, urlsplit

from treq.client import HTTPClient
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.defer import TimeoutError as LateError
from twisted.internet.interfaces import IDelayedCall, IOpenSSLClientConnectionCreator
from twisted.internet.protocol import Protocol, connectionDone
from twisted.internet.ssl import PrivateCertificate, optionsForClientTLS
from twisted.internet.task import deferLater
from twisted.logger import Logger
from twisted.python.failure import Failure
from twisted.web.client import Agent, HTTPConnectionPool, ResponseDone
from twisted.web.http import PotentialDataLoss
from twisted.web.http_headers import Headers
from twisted.web.iweb import IPolicyForHTTPS
from zope.interface import implementer

from digsigd.errors import DigsigError, KeyStoreFailed, KeyStoreTimeout
from digsigd.settings import Keys

T = TypeVar("T")
# Statuses that may be another a moment later: RFC 9110, 15.5.9 and 15.6; RFC 6585, 4.
_WORTH_ANOTHER_TRY = frozenset({408, 429, 500, 502, 503, 504})
_REDIRECTS = frozenset({301, 302, 303, 307, 308})
_MAX_REDIRECTS = 3
# What is read of an answer that is no tarball: enough for the name of an error.
_ERROR_BYTES = 16 << 10
# Before the second try; doubled before each further one, and spread by half to both sides.
_FIRST_PAUSE = 0.2

HeadersFor = Callable[[str], Awaitable[Mapping[str, str]]]


@dataclass(frozen=True, slots=True)
class Answer:
    """The end of a fetch; `body` is whole for a 200, else its start. `url` is where it came from."""

    status: int
    headers: Headers
    body: bytes = field(repr=False)
    url: str


class _Again(Exception):
    """A try that failed in a way that another may not."""

    def __init__(self, error: DigsigError) -> None:
        super().__init__(str(error))
        self.error = error


@dataclass(slots=True)
class _State:
    """Whether anybody still waits for a fetch."""

    given_up: bool = False


@implementer(IPolicyForHTTPS)
class TlsPolicy:
    """Whom to trust (None: the system's authorities) and the certificate to show (None: none)."""

    def __init__(self, trust_root: Any, certificate: PrivateCertificate | None) -> None:
        self._trust_root = trust_root
        self._certificate = certificate

    def creatorForNetloc(self, hostname: bytes, port: int) -> IOpenSSLClientConnectionCreator:  # noqa: ARG002
        """How connections to a host begin."""
        more = {} if self._trust_root is None else {"trustRoot": self._trust_root}
        creator: IOpenSSLClientConnectionCreator = optionsForClientTLS(
            hostname.decode("ascii"), clientCertificate=self._certificate, **more
        )
        return creator


class Transfer:
    """Fetches from one origin, and without credentials from wherever that redirects to."""

    log = Logger()

    def __init__(
        self, settings: Keys, *, reactor: Any, trust_root: Any = None, certificate: PrivateCertificate | None = None
    ) -> None:
        self._settings = settings
        self._reactor = reactor
        self._pool = HTTPConnectionPool(reactor)
        self._pool.maxPersistentPerHost = 4
        self._pool.cachedConnectionTimeout = 30
        self._trusted = self._client(TlsPolicy(trust_root, certificate))
        # For other origins: our certificate is a credential too, and connections with it are not reused.
        self._stranger_pool = HTTPConnectionPool(reactor, persistent=False)
        self._stranger = self._client(TlsPolicy(trust_root, None), self._stranger_pool)

    def _client(self, policy: TlsPolicy, pool: HTTPConnectionPool | None = None) -> HTTPClient:
        agent = Agent(self._reactor, policy, connectTimeout=self._settings.connect_timeout, pool=pool or self._pool)
        return HTTPClient(agent)

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
        here, client = url, self._trusted
        for _ in range(_MAX_REDIRECTS + 1):
            answer = await self._once(state, client, method, here, headers)
            location = answer.headers.getRawHeaders("location", [""])[0]
            if answer.status not in _REDIRECTS or not location:
                return answer
            there = urljoin(here, location)
            _check_redirect(here, there)
            if _origin(there) != _origin(url):
                # And never again, even where the way leads back.
                client = self._stranger
                headers = {name: value for name, value in headers.items() if name.lower() not in credentials}
            here = there
        raise KeyStoreFailed("the key store redirects in circles", detail=here)

    async def _once(
        self, state: _State, client: HTTPClient, method: str, url: str, headers: Mapping[str, str]
    ) -> Answer:
        try:
            asking: Deferred[Any] = client.request(
                method,
                url,
                headers=Headers({name: [value] for name, value in headers.items()}),
                allow_redirects=False,
                unbuffered=True,
                reactor=self._reactor,
            )
            idle = self._settings.idle_timeout
            # The time to connect has a bound of its own.
            response = await _within(self._settings.connect_timeout + idle, asking, asking.cancel, self._reactor)
            limit = self._settings.max_tarball if response.code == 200 else _ERROR_BYTES
            if response.code == 200 and isinstance(response.length, int) and response.length > limit:
                # Else the connection would wait for somebody to read from it.
                response.deliverBody(_Hangup())
                raise _too_large(limit, url)
            bare = method == "HEAD" or response.code in {204, 304}
            body = b"" if bare else await _Body(limit, idle, self._reactor).of(response)
        except (DigsigError, CancelledError):
            raise
        except LateError:
            raise _Again(_too_late(url, f"{self._settings.idle_timeout:g} s without a byte")) from None
        except _TooLong:
            raise _too_large(self._settings.max_tarball, url) from None
        except Exception as error:  # noqa: BLE001 - every layer below has errors of its own
            if state.given_up:
                # What a cancelled request fails with tells nothing of why.
                raise CancelledError from None
            raise _Again(KeyStoreFailed("the key store cannot be reached", detail=f"{url}: {_why(error)}")) from None
        if response.code in _WORTH_ANOTHER_TRY:
            raise _Again(KeyStoreFailed("the key store failed", detail=f"{url}: status {response.code}"))
        return Answer(response.code, response.headers, body, url)


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


class _TooLong(Exception):
    """A body that goes on beyond what is taken."""


class _Hangup(Protocol):
    """Reads nothing."""

    def connectionMade(self) -> None:
        _cut(self)


class _Body(Protocol):
    """Collects a body: so many bytes at most, with so many seconds between two pieces at most."""

    def __init__(self, limit: int, idle: float, reactor: Any) -> None:
        self._limit = limit
        self._idle = idle
        self._reactor = reactor
        self._pieces: list[bytes] = []
        self._size = 0
        self._whole = False
        self._timer: IDelayedCall | None = None
        self._done: Deferred[bytes] = Deferred(lambda _: _cut(self))

    def of(self, response: Any) -> Deferred[bytes]:
        """The body of a response; one that is no tarball is only begun."""
        self._whole = response.code == 200
        self._timer = self._reactor.callLater(self._idle, self._end, LateError())
        response.deliverBody(self)
        return self._done

    def dataReceived(self, data: bytes) -> None:
        if self._timer is not None and self._timer.active():
            self._timer.reset(self._idle)
        self._pieces.append(data)
        self._size += len(data)
        if self._size > self._limit:
            self._end(_TooLong() if self._whole else None)

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        # A body without a length ends with its connection; a tarball shows whether it is whole.
        over = reason.check(ResponseDone, PotentialDataLoss)
        self._end(None if over else reason.value)

    def _end(self, error: BaseException | None) -> None:
        if self._timer is not None and self._timer.active():
            self._timer.cancel()
        if self._done.called:
            return
        if error is None:
            self._done.callback(b"".join(self._pieces))
        else:
            self._done.errback(error)
        _cut(self)


def _cut(protocol: Protocol) -> None:
    """Close a connection without reading on. Where the body has ended it is not there any more."""
    if protocol.transport is not None:
        protocol.transport.loseConnection()


def _check_redirect(here: str, there: str) -> None:
    schemes = (urlsplit(here).scheme, urlsplit(there).scheme)
    if schemes[1] not in {"http", "https"} or schemes == ("https", "http"):
        raise KeyStoreFailed("the key store redirects to where keys must not come from", detail=f"{here} to {there}")


def _origin(url: str) -> tuple[str, str, int]:
    """RFC 6454, section 4."""
    parts = urlsplit(url)
    return parts.scheme, (parts.hostname or "").lower(), parts.port or {"http": 80, "https": 443}.get(parts.scheme, 0)


def _too_late(url: str, bound: str) -> KeyStoreTimeout:
    return KeyStoreTimeout("the key store did not answer in time", detail=f"{url}: {bound}")


def _too_large(limit: int, url: str) -> DigsigError:
    return KeyStoreFailed(f"the key store sends more than the {limit} bytes that a tarball may have", detail=url)


def _why(error: Exception) -> str:
    """The cause below Twisted's wrappers, of which there may be several."""
    reasons = getattr(error, "reasons", None)
    if reasons:
        return "; ".join(dict.fromkeys(_why(reason.value) for reason in reasons))
    return f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
