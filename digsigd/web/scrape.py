"""The metrics over HTTP: who may read them, and the site of an endpoint that serves nothing else."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from typing import Any

from twisted.internet.address import UNIXAddress
from twisted.internet.defer import Deferred
from twisted.internet.protocol import connectionDone
from twisted.logger import Logger
from twisted.python.failure import Failure
from twisted.web.http import HTTPChannel
from twisted.web.resource import Resource
from twisted.web.server import NOT_DONE_YET, Request, Site

from digsigd.callers.access import Asking, CurrentAccess
from digsigd.callers.hosts import LOCAL_NAMES, check_host, check_origin
from digsigd.errors import DigsigError, NotAuthenticated
from digsigd.web.answers import MAX_HEADER, HttpError, common_headers, render, text_of

# Returns the metrics as text and their media type, for an Accept header.
Scrape = Callable[[str], Coroutine[Any, Any, tuple[bytes, str]]]
_PATH = b"/metrics"
# How many connections the site may have, and how many seconds one may be idle.
_MOST, _IDLE = 32, 60.0


class SharedScrape:
    """The text of `scrape`, made once for all that ask at the same time."""

    def __init__(self, scrape: Scrape) -> None:
        self._scrape = scrape
        # Those that wait, by the form of the text.
        self._waiting: dict[str, list[Deferred[tuple[bytes, str]]]] = {}

    async def __call__(self, accept: str) -> tuple[bytes, str]:
        """Return the text and its media type."""
        # There are two forms: one text for all Accept headers of a form.
        form = "application/openmetrics-text; version=1.0.0" if "application/openmetrics-text" in accept else ""
        answer: Deferred[tuple[bytes, str]] = Deferred()
        if form in self._waiting:
            self._waiting[form].append(answer)
        else:
            self._waiting[form] = [answer]
            Deferred.fromCoroutine(self._scrape(form)).addBoth(self._done, form)
        return await answer

    def _done(self, result: Any, form: str) -> None:
        for answer in self._waiting.pop(form):
            answer.callback(result)


class CheckedScrape:
    """Metrics on the port of callers: for those with the right, or for all with `allow_anonymous`."""

    def __init__(self, scrape: Scrape, access: CurrentAccess, *, allow_anonymous: bool) -> None:
        self._scrape = SharedScrape(scrape)
        self._access = access
        self._allow_anonymous = allow_anonymous

    async def __call__(self, asking: Asking, accept: str) -> tuple[bytes, str]:
        """Return the text and its media type. Raises `NotAuthenticated` and `NotAllowed`."""
        try:
            caller = self._access.identify(asking)
            if not self._allow_anonymous:
                caller.check_metrics()
        except NotAuthenticated:
            if not self._allow_anonymous:
                raise
        return await self._scrape(accept)


class _Channel(HTTPChannel):
    """A connection of `ScrapeSite`, which closes those that are too many."""

    site: ScrapeSite

    def connectionMade(self) -> None:
        super().connectionMade()
        self.site.open += 1
        if self.site.open > _MOST:
            self.loseConnection()

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        self.site.open -= 1
        super().connectionLost(reason)


class ScrapeSite(Site):
    """The site of an endpoint for metrics: `GET /metrics` for everybody who can reach it.

    Unless `allow_anonymous`, requests must call it by an address of this host, so that no web page can read it.
    """

    noisy = False
    protocol = _Channel  # type: ignore[assignment]

    def __init__(self, scrape: Scrape, *, allow_anonymous: bool) -> None:
        super().__init__(
            _Metrics(SharedScrape(scrape), allow_anonymous), requestFactory=_Request, timeout=_IDLE,
            parsePOSTFormSubmission=False,
        )  # fmt: skip
        self.open = 0

    def log(self, request: Any) -> None:
        """Log nothing of a request."""


class _Request(Request):
    """A request whose body is thrown away."""

    def __init__(self, channel: HTTPChannel, queued: bool = False) -> None:
        super().__init__(channel, queued)

    def gotLength(self, length: int | None) -> None:  # noqa: ARG002
        super().gotLength(0)

    def handleContentChunk(self, data: bytes) -> None:
        pass


class _Metrics(Resource):
    isLeaf = True
    log = Logger()

    def __init__(self, scrape: SharedScrape, allow_anonymous: bool) -> None:
        super().__init__()
        self._scrape = scrape
        self._allow_anonymous = allow_anonymous

    def render(self, request: Any) -> Any:
        Deferred.fromCoroutine(self._answer(request)).addErrback(self._failed, request)
        return NOT_DONE_YET

    async def _answer(self, request: Request) -> None:
        gone: list[Failure] = []
        request.notifyFinish().addErrback(gone.append)
        accept = text_of(request.requestHeaders, b"accept")[:MAX_HEADER]
        try:
            self._check(request)
            body, media_type = await self._scrape(accept)
            status, headers = 200, {**common_headers(""), "Content-Type": media_type}
            del headers["X-Request-Id"]
        except DigsigError as error:
            status, headers, body = render(error, "-", accept)
        if not gone:
            _send(request, status, headers, body)

    def _check(self, request: Request) -> None:
        """Raise `NotAllowed` for web pages, and `HttpError` for another path or method."""
        host = text_of(request.requestHeaders, b"host")
        check_origin(
            [one.decode("utf-8", "replace") for one in request.requestHeaders.getRawHeaders(b"origin", [])], host
        )
        here = request.getHost()
        if not self._allow_anonymous and not isinstance(here, UNIXAddress):
            check_host(host, LOCAL_NAMES, getattr(here, "host", ""))
        if request.path != _PATH:
            raise HttpError(404, "path not found", hint="the metrics are at /metrics")
        if request.method not in {b"GET", b"HEAD"}:
            raise HttpError(405, "/metrics allows only GET and HEAD", headers={"Allow": "GET, HEAD"})

    def _failed(self, failure: Failure, request: Request) -> None:
        self.log.failure("cannot answer with the metrics", failure, event="unexpected")
        if request.channel is not None:
            request.channel.loseConnection()


def _send(request: Request, status: int, headers: dict[str, str], body: bytes) -> None:
    request.setResponseCode(status)
    for name, value in headers.items():
        request.setHeader(name, value)
    request.setHeader("Content-Length", str(len(body)))
    if request.method != b"HEAD":
        request.write(body)
    request.finish()
