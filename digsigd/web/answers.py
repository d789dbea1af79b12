"""Turn errors into answers: status, headers and body (RFC 9457 if the client asks for JSON). Nothing else does."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from http import HTTPStatus

from twisted.web.http_headers import Headers
from werkzeug.http import parse_accept_header

from digsigd.errors import (
    BadRequest,
    BadTarball,
    Busy,
    CstFailed,
    CstTimeout,
    DigsigError,
    KeyStoreFailed,
    KeyStoreTimeout,
    NoKeys,
    NoSpace,
    NotAllowed,
    NotAuthenticated,
    RateLimited,
    Refused,
    TokenFailed,
    TooLarge,
    UnsupportedCoding,
    UploadTimeout,
    VerificationFailed,
)
from digsigd.names import REQUEST_ID, trace_id_of
from digsigd.page import frame
from digsigd.text import one_line

# All paths and their methods. A name in braces matches any one segment of a path.
ROUTES: dict[str, tuple[str, ...]] = {
    "/sign/imx": ("POST",),
    "/machines/{machine}": ("GET", "HEAD"),
    "/record/key": ("GET", "HEAD"),
    "/healthz": ("GET", "HEAD"),
    "/readyz": ("GET", "HEAD"),
    "/metrics": ("GET", "HEAD"),
    "/": ("GET", "HEAD"),
    "/page/machines": ("GET", "HEAD"),
    "/page/signatures": ("GET", "HEAD"),
    "/page/signatures/{record}": ("GET", "HEAD"),
    "/page/verify": ("GET", "HEAD", "POST"),
    "/page/{style}": ("GET", "HEAD"),
}

# curl retries 408, 429, 500, 502, 503 and 504. An error that a retry cannot cure has another status, except 500, where
# the host's operator has to act.
STATUS: dict[type[DigsigError], int] = {
    BadRequest: 400,
    NotAuthenticated: 401,
    NotAllowed: 403,
    NoKeys: 404,
    UploadTimeout: 408,
    TooLarge: 413,
    UnsupportedCoding: 415,
    Refused: 422,
    BadTarball: 500,
    CstFailed: 500,
    TokenFailed: 500,
    VerificationFailed: 500,
    KeyStoreFailed: 502,
    Busy: 503,
    NoSpace: 503,
    RateLimited: 429,
    KeyStoreTimeout: 504,
    CstTimeout: 504,
}
_ROUTES = [(re.compile(re.sub(r"\{\w+\}", "[^/]+", path)), methods) for path, methods in ROUTES.items()]
# The header with this host's own id of a request.
OWN_ID = "X-Digsigd-Request"
# The header with a remark on a signature that is not a reason to refuse it, once for each remark.
NOTE = "X-Digsigd-Note"
# How many there are at most, and how long each is, in characters.
_MAX_NOTES, _MAX_NOTE = 8, 400
# Only this much of a header is parsed, in characters: werkzeug takes time in the square of its length.
MAX_HEADER = 1024
_JSON = {"application/json", "application/problem+json", "application/*"}
_TEXT = {"text/plain", "text/*"}
# `type` of RFC 9457, 3.1.1: an identifier, which need not be a URL that can be fetched.
_PROBLEM = "urn:digsigd:problem:"


class HttpError(DigsigError):
    """An error that exists in HTTP only: an unknown path, a method that is not allowed."""

    def __init__(self, status: int, what: str, *, hint: str = "", headers: dict[str, str] | None = None) -> None:
        super().__init__(what, hint=hint)
        self.status = status
        self.headers = headers or {}
        self.problem = HTTPStatus(status).phrase.lower().replace(" ", "-")  # type: ignore[misc]


def not_routed(path: str, *, pages: bool) -> HttpError:
    """Build the error for an unknown path, or for a method that a path does not allow. `pages`: there are some."""
    methods = methods_of(path, pages=pages)
    if not methods:
        return HttpError(404, "path not found", hint="to sign an image, send POST /sign/imx")
    return HttpError(405, f"{path} allows only {' and '.join(methods)}", headers={"Allow": ", ".join(methods)})


def methods_of(path: str, *, pages: bool) -> tuple[str, ...]:
    """Return the methods that a path allows; an empty tuple for an unknown path. `pages`: there are some."""
    if not pages and is_page(path):
        return ()
    return next((methods for pattern, methods in _ROUTES if pattern.fullmatch(path)), ())


def is_page(path: str) -> bool:
    """Return whether a path is one of the page for people."""
    return path == "/" or path.startswith("/page/")


def text_of(headers: Headers, name: bytes) -> str:
    """Return a header's values, joined with commas; empty if it is missing. Bytes that are not UTF-8 are replaced."""
    return b",".join(headers.getRawHeaders(name, [])).decode("utf-8", "replace")


def trace_of(headers: Headers) -> dict[str, str]:
    """Return the log field of the trace that a request is part of, by its `traceparent`; nothing if that is invalid."""
    trace_id = trace_id_of(text_of(headers, b"traceparent"))
    return {"trace_id": trace_id} if trace_id else {}


def request_id_of(headers: Headers) -> str:
    """Return the client's X-Request-Id if it is valid, else an empty text."""
    given = text_of(headers, b"x-request-id")
    return given if REQUEST_ID.fullmatch(given) else ""


def status_of(error: DigsigError) -> int:
    """Return the HTTP status of an error; 500 for an error that `STATUS` does not list."""
    if isinstance(error, HttpError):
        return error.status
    return next((STATUS[kind] for kind in type(error).__mro__ if kind in STATUS), 500)


def render(
    error: DigsigError, request_id: str, accept: str, base: str | None = None
) -> tuple[int, dict[str, str], bytes]:
    """Return status, headers and body of the answer to an error, for the request's `Accept` header.

    `base` is the path of the host's root for requests of the page for people, which get HTML if they accept it.
    """
    status = status_of(error)
    headers = common_headers(request_id, error.record)
    if isinstance(error, NotAuthenticated):
        headers["WWW-Authenticate"] = 'Basic realm="digsigd", charset="UTF-8"'
    if isinstance(error, UnsupportedCoding):
        headers["Accept-Encoding"] = "identity"
    if isinstance(error, Busy):
        headers["Retry-After"] = str(error.retry_after)
    if isinstance(error, HttpError):
        headers.update(error.headers)
    if base is not None and "text/html" in accept[:MAX_HEADER]:
        headers |= frame.HEADERS
        page = frame.error_page(
            frame.Frame(base), f"{status} {HTTPStatus(status).phrase}", error.what, error.hint, request_id
        )
        return status, headers, page
    text = one_line(error.for_client())
    if wants_json(accept):
        body: dict[str, object] = {
            "type": _PROBLEM + error.problem,
            "title": HTTPStatus(status).phrase,
            "status": status,
            "detail": text,
            "request_id": request_id,
        }
        if isinstance(error, Refused) and error.line is not None:
            body["line"] = error.line
        headers["Content-Type"] = "application/problem+json"
        return status, headers, json.dumps(body, ensure_ascii=False).encode() + b"\n"
    headers["Content-Type"] = "text/plain; charset=utf-8"
    return status, headers, f"{text} [request {request_id}]\n".encode()


def common_headers(request_id: str, record: str = "") -> dict[str, str]:
    """Return the headers that every answer has, and X-Digsigd-Record if its decision was recorded as `record`."""
    recorded = {"X-Digsigd-Record": record} if record else {}
    return recorded | {
        "Server": "digsigd",
        "X-Request-Id": request_id,
        "Cache-Control": "no-store",
        "X-Content-Type-Options": "nosniff",
    }


def note_headers(notes: Sequence[str]) -> list[str]:
    """Return the values of `X-Digsigd-Note` for remarks on a signature, in ASCII."""
    return [one_line(note)[:_MAX_NOTE].encode("ascii", "backslashreplace").decode() for note in notes[:_MAX_NOTES]]


def wants_json(accept: str) -> bool:
    """Return whether an Accept header prefers JSON to plain text. `*/*` prefers nothing."""
    ranges = [(kind.partition(";")[0].lower(), weight) for kind, weight in parse_accept_header(accept[:MAX_HEADER])]
    json_weight = max((weight for kind, weight in ranges if kind in _JSON), default=0)
    text_weight = max((weight for kind, weight in ranges if kind in _TEXT), default=0)
    return json_weight > 0 and json_weight >= text_weight
