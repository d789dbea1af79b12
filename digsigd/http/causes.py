"""Why there was no answer: the causes below what Twisted, treq and OpenSSL raise."""

from __future__ import annotations

from collections.abc import Iterator
from enum import Enum, auto

from OpenSSL.SSL import Error as TlsError
from service_identity import VerificationError
from twisted.internet.defer import TimeoutError as LateError
from twisted.internet.error import (
    ConnectError,
    ConnectionClosed,
    DNSLookupError,
    TCPTimedOutError,
)
from twisted.internet.error import ConnectionRefusedError as Refused
from twisted.internet.error import TimeoutError as ConnectTimeout
from twisted.web._newclient import ParseError

from digsigd.http.body import TooLong
from digsigd.http.connection import HeadTooLong
from digsigd.http.deadline import StoodStill


class Cause(Enum):
    """What went wrong. Those from `NO_HOST` on may pass."""

    WRONG_NAME = auto()  # the server's certificate is for another name
    UNTRUSTED = auto()
    NO_TLS = auto()
    CERTIFICATE_WANTED = auto()  # the server wants one, or another one
    OTHER_TLS = auto()
    HEAD_TOO_LONG = auto()
    BODY_TOO_LONG = auto()
    NO_HTTP = auto()
    NO_HOST = auto()
    REFUSED = auto()
    CONNECTING_TOO_LONG = auto()
    NOT_CONNECTED = auto()
    STOOD_STILL = auto()
    CLOSED = auto()
    UNKNOWN = auto()

    @property
    def passing(self) -> bool:
        """Whether another try may get an answer."""
        return self.value >= Cause.NO_HOST.value


# The first that matches counts.
_TYPES: tuple[tuple[Cause, tuple[type[BaseException], ...]], ...] = (
    (Cause.WRONG_NAME, (VerificationError,)),
    (Cause.HEAD_TOO_LONG, (HeadTooLong,)),
    (Cause.BODY_TOO_LONG, (TooLong,)),
    (Cause.NO_HTTP, (ParseError, ValueError, KeyError)),
    (Cause.NO_HOST, (DNSLookupError,)),
    (Cause.REFUSED, (Refused,)),
    (Cause.CONNECTING_TOO_LONG, (ConnectTimeout, TCPTimedOutError)),
    (Cause.NOT_CONNECTED, (ConnectError,)),
    (Cause.STOOD_STILL, (StoodStill, LateError)),
    (Cause.CLOSED, (ConnectionClosed,)),
)
# What OpenSSL calls what: the third of the texts of an error, and alerts of RFC 8446, 6.2.
_TLS: tuple[tuple[Cause, tuple[str, ...]], ...] = (
    (Cause.UNTRUSTED, ("certificate verify failed",)),
    (
        Cause.NO_TLS,
        ("wrong version number", "packet length too long", "record layer failure", "http request", "unknown protocol"),
    ),
    (
        Cause.CERTIFICATE_WANTED,
        (
            "certificate required",
            "handshake failure",
            "bad certificate",
            "unknown ca",
            "certificate unknown",
            "certificate expired",
            "unsupported certificate",
        ),
    ),
)


def causes_of(error: BaseException) -> Iterator[BaseException]:
    """Yield what is below Twisted's wrappers, of which there may be several."""
    reasons = getattr(error, "reasons", None)
    if not reasons:
        yield error
        return
    for reason in reasons:
        yield from causes_of(reason.value)


def words_of(error: BaseException) -> str:
    """Return all causes of an error as their libraries put them. A server's own words may be among them."""
    texts = (f"{type(one).__name__}: {one}" if str(one) else type(one).__name__ for one in causes_of(error))
    return "; ".join(dict.fromkeys(texts))


def cause_of(error: BaseException) -> tuple[Cause, str]:
    """Return the one cause of an error that explains it best, and what its library says of it.

    Those that no other try removes come first. A server's own words may be in the text.
    """
    found = [_named(cause) for cause in causes_of(error)]
    lasting = [one for one in found if not one[0].passing]
    known = lasting or [one for one in found if one[0] is not Cause.UNKNOWN]
    return known[0] if known else (Cause.UNKNOWN, words_of(error))


def _named(error: BaseException) -> tuple[Cause, str]:
    if isinstance(error, TlsError):
        told = ", ".join(str(text) for part in error.args if isinstance(part, list) for *_, text in part)
        return next((cause for cause, texts in _TLS if any(text in told for text in texts)), Cause.OTHER_TLS), told
    return next((cause for cause, types in _TYPES if isinstance(error, types)), Cause.UNKNOWN), str(error)
