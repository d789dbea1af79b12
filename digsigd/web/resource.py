"""The HTTP endpoint: a Klein resource for a site whose requests are `digsigd.web.request.UploadRequest`."""

from __future__ import annotations

import json
import secrets
from collections.abc import Awaitable, Callable, Mapping
from types import MappingProxyType
from typing import Any, TypeVar
from urllib.parse import quote

from klein import Klein
from klein.resource import KleinResource
from twisted.internet.defer import CancelledError
from twisted.logger import Logger, LogLevel
from twisted.python.failure import Failure
from twisted.web.iweb import IRequest
from werkzeug.exceptions import HTTPException

from digsigd.callers.access import Asking
from digsigd.errors import Busy, DigsigError, out_of_descriptors, shutting_down
from digsigd.page import frame
from digsigd.signing.request import Signed, SigningRequest
from digsigd.web.answers import (
    MAX_HEADER,
    NOTE,
    OWN_ID,
    HttpError,
    common_headers,
    is_page,
    not_routed,
    note_headers,
    render,
    request_id_of,
    text_of,
    trace_of,
    wants_json,
)
from digsigd.web.asking import asking_of
from digsigd.web.machine_keys import MachineKeyRequests
from digsigd.web.outcomes import SIGNED
from digsigd.web.pages import Pages, Viewer
from digsigd.web.request import UploadRequest, log_answered
from digsigd.web.upload import Sign, Upload
from digsigd.web.upload_state import State
from digsigd.web.verify_upload import VerifyUpload

T = TypeVar("T")
Missing = Callable[[], Awaitable[list[str]]]
Scrape = Callable[[Asking, str], Awaitable[tuple[bytes, str]]]


class Endpoint:
    """The routes of `digsigd.web.answers.ROUTES`.

    `pages` is the page for people, None if there is none. `record_key` returns the public half of the record's key,
    None if there is none (yet). `is_known` returns whether a request is from somebody who may sign, for whom `/healthz`
    has the `version`.
    `missing` returns what is missing before requests can be signed, one line each; an empty list means ready.
    `scrape` returns the body and the media type of `GET /metrics`, for who is asking and an Accept header; None: off.
    """

    app = Klein()
    log = Logger()

    def __init__(
        self,
        *,
        sign: Sign,
        missing: Missing,
        machine_key_requests: MachineKeyRequests,
        record_key: Callable[[], str | None],
        is_known: Callable[[Asking], bool],
        version: str,
        scrape: Scrape | None = None,
        pages: Pages | None = None,
    ) -> None:
        self._is_known = is_known
        self._version = version
        self._scrape = scrape
        self._pages = pages
        self._record_key = record_key
        self._sign = sign
        self._missing = missing
        self._machine_key_requests = machine_key_requests

    def resource(self) -> KleinResource:
        """Return a new resource, to serve at the root of a site or at any path."""
        return _Resource(self.app, self)

    @app.route("/sign/imx", methods=["POST"])
    async def sign_imx(self, request: IRequest) -> bytes | None:
        """Answer with the CSF blob of the artifacts, or for AHAB with the whole file.

        Raises the errors of `digsigd.errors`, and `CancelledError`.
        """
        arrived, upload = _upload_of(request)

        async def signing() -> Signed:
            if upload.request is not None:
                self._log_received(upload.request, request)
            return await upload.sign(self._sign)

        signed = await self._done(arrived, upload, signing)
        headers = common_headers(upload.request_id, signed.record)
        headers["Content-Type"] = "application/octet-stream"
        headers["Content-Disposition"] = 'attachment; filename="artifact.signed"'
        for note in note_headers(signed.notes):
            request.responseHeaders.addRawHeader(NOTE, note)
        if signed.file is None:
            return self._answer(request, 200, headers, signed.blob, None)
        _head(request, 200, headers, signed.file.size)
        try:
            await upload.send(request, signed.file)
        except CancelledError:
            self.log.info("the client disconnected", **upload.who, event="gone")
            raise
        self._answered(request, 200, None)
        return None

    @app.route("/machines/<machine>", methods=["GET"])
    async def machine_keys(self, request: IRequest, machine: str) -> bytes:
        """Answer with a machine's public keys. Raises the errors of `digsigd.errors`, and `CancelledError`."""
        who = _who(request)
        gone: list[Failure] = []
        request.notifyFinish().addErrback(gone.append)  # type: ignore[attr-defined]
        try:
            asking = asking_of(request.channel, request.requestHeaders)  # type: ignore[attr-defined]
            body = await self._machine_key_requests.answer(machine, asking, who)
        except (CancelledError, DigsigError):
            if gone:
                self.log.info("the client disconnected", **who, event="gone")
                raise CancelledError from None
            raise
        headers = common_headers(who["request_id"])
        headers["Content-Type"] = "application/json"
        return self._answer(request, 200, headers, body, None)

    @app.route("/record/key", methods=["GET"])
    def record_key(self, request: IRequest) -> bytes:
        """Answer with the public half of the key that signs the record's checkpoints."""
        key = self._record_key()
        if key is None:
            raise HttpError(404, "this signing host keeps no record, or has not opened it yet", hint="see GET /readyz")
        headers = common_headers(_who(request)["request_id"])
        headers["Content-Type"] = "text/plain; charset=utf-8"
        return _send(request, 200, headers, key.encode() + b"\n")

    @app.route("/healthz", methods=["GET"])
    def healthz(self, request: IRequest) -> bytes:
        """Answer 200: the daemon is alive. Callers also get its version, which would help others to attack it."""
        asking = asking_of(request.channel, request.requestHeaders)  # type: ignore[attr-defined]
        return _status(request, 200, [], {"version": self._version} if self._is_known(asking) else {})

    @app.route("/readyz", methods=["GET"])
    async def readyz(self, request: IRequest) -> bytes:
        """Answer 200 if requests can be signed, else 503 with what is missing, one line each."""
        missing = await self._missing()
        return _status(request, 503 if missing else 200, missing)

    @app.route("/metrics", methods=["GET"])
    async def metrics(self, request: IRequest) -> bytes:
        """Answer with the metrics of the host. Raises `NotAuthenticated` and `NotAllowed`."""
        if self._scrape is None:
            raise HttpError(404, "metrics are off", hint="the operator turns them on with metrics.path = true")
        asking = asking_of(request.channel, request.requestHeaders)  # type: ignore[attr-defined]
        body, media_type = await self._scrape(asking, text_of(request.requestHeaders, b"accept")[:MAX_HEADER])
        headers = common_headers(_who(request)["request_id"])
        headers["Content-Type"] = media_type
        return _send(request, 200, headers, body)

    @app.route("/", methods=["GET"])
    async def overview(self, request: IRequest) -> bytes:
        """Answer with the first page for people."""
        return await self._page(request, lambda pages, viewer: pages.overview(viewer))

    @app.route("/page/machines", methods=["GET"])
    async def machines_page(self, request: IRequest) -> bytes:
        """Answer with machines, for people."""
        return await self._page(request, lambda pages, viewer: pages.machines(viewer, _query(request)))

    @app.route("/page/signatures", methods=["GET"])
    async def signatures_page(self, request: IRequest) -> bytes:
        """Answer with entries of the record, for people."""
        return await self._page(request, lambda pages, viewer: pages.signatures(viewer, _query(request)))

    @app.route("/page/signatures/<record>", methods=["GET"])
    async def entry_page(self, request: IRequest, record: str) -> bytes:
        """Answer with one entry of the record, for people."""
        return await self._page(request, lambda pages, viewer: pages.entry(viewer, record))

    @app.route("/page/verify", methods=["GET"])
    async def verify_form(self, request: IRequest) -> bytes:
        """Answer with the form for an image to verify."""
        return await self._page(request, lambda pages, viewer: pages.form(viewer))

    @app.route("/page/verify", methods=["POST"])
    async def verify_image(self, request: IRequest) -> bytes:
        """Answer with the report on a signed image."""
        pages = self._with_pages()
        arrived, upload = _upload_of(request)
        if not isinstance(upload, VerifyUpload):
            raise not_routed(_text(request.path), pages=True)
        status, body = await self._done(arrived, upload, lambda: pages.verify(upload, _base_of(request)))
        return self._answer(request, status, common_headers(upload.request_id) | frame.HEADERS, body, None)

    @app.route("/page/<style>", methods=["GET"])
    def style(self, request: IRequest, style: str) -> bytes:
        """Answer with the style sheet of the pages, which every caller may see."""
        self._with_pages()
        if style != frame.STYLE_NAME:
            raise not_routed("", pages=True)
        headers = common_headers(_who(request)["request_id"]) | frame.STYLE_HEADERS
        return _send(request, 200, headers, frame.STYLE)

    def _with_pages(self) -> Pages:
        if self._pages is None:
            raise not_routed("/", pages=False)
        return self._pages

    async def _page(self, request: Any, make: Callable[[Pages, Viewer], Awaitable[bytes | tuple[int, bytes]]]) -> bytes:
        """Answer with a page. Raises the errors of `digsigd.errors`, and `CancelledError`."""
        pages, who = self._with_pages(), _who(request)
        gone: list[Failure] = []
        request.notifyFinish().addErrback(gone.append)
        try:
            viewer = Viewer(asking_of(request.channel, request.requestHeaders), who, _base_of(request))
            made = await make(pages, viewer)
        except (CancelledError, DigsigError):
            if gone:
                self.log.info("the client disconnected", **who, event="gone")
                raise CancelledError from None
            raise
        status, body = made if isinstance(made, tuple) else (200, made)
        return self._answer(request, status, common_headers(who["request_id"]) | frame.HEADERS, body, None)

    async def _done(self, arrived: UploadRequest, upload: Upload, work: Callable[[], Awaitable[T]]) -> T:
        """Do what an upload is for, unless it was refused. Raises the errors of `digsigd.errors`, `CancelledError`."""
        try:
            if arrived.error is not None:
                # The answer is sent after everything of the request is removed.
                await upload.remove()
                raise await upload.decided(arrived.error)
            return await work()
        except (CancelledError, DigsigError) as error:
            if arrived.state is State.GONE:
                self.log.info("the client disconnected", **upload.who, event="gone")
                raise CancelledError from None
            if isinstance(error, CancelledError):
                raise shutting_down() from None
            raise

    @app.handle_errors(Exception)
    def failed(self, request: IRequest, failure: Failure) -> bytes:
        """Turn any exception of a route into an answer."""
        error = failure.value
        who = _who(request)
        below = _path_below(request)
        if isinstance(error, HTTPException):
            error = not_routed(below, pages=self._pages is not None)
        elif isinstance(error, CancelledError):
            error = shutting_down()
        elif not isinstance(error, Busy) and (busy := out_of_descriptors(error)):
            error = busy
        elif not isinstance(error, DigsigError):
            self.log.failure("unexpected", failure, LogLevel.critical, **who, event="unexpected")
            error = DigsigError(
                "internal error on the signing host", hint="search for the request's id in the host's log"
            )
        accept = text_of(request.requestHeaders, b"accept")
        base = _base_of(request) if self._pages is not None and is_page(below) else None
        status, headers, body = render(error, who["request_id"], accept, base)
        return self._answer(request, status, headers, body, error)

    def not_text(self, request: IRequest) -> bytes:
        """Answer 404 to a path that is not UTF-8."""
        body: bytes = self.failed(request, Failure(not_routed("", pages=False)))
        return body

    def _answer(
        self, request: Any, status: int, headers: dict[str, str], body: bytes, error: DigsigError | None
    ) -> bytes:
        self._answered(request, status, error)
        return _send(request, status, headers, body)

    def _answered(self, request: Any, status: int, error: DigsigError | None) -> None:
        seconds = 0.0
        if isinstance(request, UploadRequest):
            seconds = request.seconds()
            request.outcome = SIGNED if error is None else error.problem
        log_answered(self.log, _who(request), status, seconds, error)

    def _log_received(self, signing: SigningRequest, request: Any) -> None:
        self.log.info(
            "received {size} bytes {name!r} for {machine} with cst {version} ({backend}) from {caller} at {address}",
            event="received", size=signing.size,
            name=" ".join(one.name for one in signing.artifacts),
            machine=signing.machine, version=signing.cst_version, backend=signing.backend,
            soctype=signing.soctype, **_who(request),
        )  # fmt: skip


class _Resource(KleinResource):
    """Klein's resource, except for paths that are not UTF-8, which Klein would log as faults."""

    def __init__(self, app: Klein, endpoint: Endpoint) -> None:
        super().__init__(app)
        self._endpoint = endpoint

    def render(self, request: Any) -> Any:
        # Klein moves what it has routed from one to the other.
        request.root_path = "/" + "".join(quote(segment) + "/" for segment in request.prepath)
        request.path_below = "/" + _text(b"/".join(request.postpath))
        try:
            b"/".join([*request.prepath, *request.postpath]).decode("utf-8")
        except UnicodeDecodeError:
            return self._endpoint.not_text(request)
        return super().render(request)


def _upload_of(request: IRequest) -> tuple[UploadRequest, Upload]:
    if not isinstance(request, UploadRequest):
        if request.clientproto == b"HTTP/2":  # type: ignore[attr-defined]
            raise HttpError(505, "cannot sign images over HTTP/2", hint="use HTTP/1.1; with curl: --http1.1")
        raise DigsigError(
            "the site of this resource does not stream uploads",
            hint="make the site with Site(root, requestFactory=service.mount(root, PATH))",
        )
    if request.upload is None:
        # Klein's route matched, but the path is escaped differently, with %2F for example.
        raise not_routed(_text(request.path), pages=False)
    return request, request.upload


def _who(request: Any) -> dict[str, str]:
    """Return the fields of all log lines of a request, which are also its ids."""
    if not hasattr(request, "who"):
        own_id = secrets.token_hex(8)
        address = getattr(request.getClientAddress(), "host", "a local socket")
        request_id = request_id_of(request.requestHeaders) or own_id
        request.who = {"request_id": request_id, "own_id": own_id, "caller": "-", "address": address}
        request.who.update(trace_of(request.requestHeaders))
    who: dict[str, str] = request.who
    return who


def _base_of(request: Any) -> str:
    """Return the path of this host's root, which ends with a slash: of a site of its own, or where it is mounted."""
    base: str = request.root_path
    return base


def _path_below(request: Any) -> str:
    """Return the path of a request below this host's root."""
    path: str = request.path_below
    return path


def _query(request: Any) -> dict[str, str]:
    return {_text(name): _text(values[0]) for name, values in request.args.items()}


def _status(request: Any, status: int, missing: list[str], more: Mapping[str, str] = MappingProxyType({})) -> bytes:
    headers = common_headers(_who(request)["request_id"])
    accept = text_of(request.requestHeaders, b"accept")
    if wants_json(accept):
        headers["Content-Type"] = "application/json"
        body = json.dumps({"ok": not missing, "missing": missing, **more}).encode() + b"\n"
    else:
        headers["Content-Type"] = "text/plain; charset=utf-8"
        body = ("\n".join(missing) if missing else "ok").encode() + b"\n"
    return _send(request, status, headers, body)


def _send(request: Any, status: int, headers: dict[str, str], body: bytes) -> bytes:
    _head(request, status, headers, len(body))
    return body


def _head(request: Any, status: int, headers: dict[str, str], length: int) -> None:
    """Set status and headers of an answer of so many bytes."""
    request.setResponseCode(status)
    if isinstance(request, UploadRequest):
        request.setHeader(OWN_ID, request.own_id)
    for name, value in headers.items():
        request.setHeader(name, value)
    request.setHeader("Content-Length", str(length))


def _text(value: bytes) -> str:
    return value.decode("utf-8", "replace")
