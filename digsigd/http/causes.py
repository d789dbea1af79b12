"""Find out why there was no answer, from the errors that Twisted, treq and OpenSSL raise."""

from __future__ import annotations

from collections.abc import Iterator
from enum import Enum

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
from digsigd.http.deadline import Stalled


class Cause(Enum):
    """A kind of failure, recognised by exception class or by an OpenSSL text. The first member that fits counts.

    The texts are OpenSSL's reason strings, including those for the alerts of RFC 8446, 6.2.
    """

    WRONG_NAME = (VerificationError,)
    UNTRUSTED = ("certificate verify failed",)
    NO_TLS = (
        *("wrong version number", "packet length too long", "record layer failure"),
        *("http request", "unknown protocol"),
    )
    CERTIFICATE_WANTED = (
        *("certificate required", "handshake failure", "bad certificate", "unknown ca"),
        *("certificate unknown", "certificate expired", "unsupported certificate"),
    )
    OTHER_TLS = (TlsError,)
    HEAD_TOO_LONG = (HeadTooLong,)
    BODY_TOO_LONG = (TooLong,)
    NO_HTTP = (ParseError, ValueError, KeyError)
    # The causes from here on are temporary.
    NO_HOST = (DNSLookupError,)
    REFUSED = (Refused,)
    CONNECTING_TOO_LONG = (ConnectTimeout, TCPTimedOutError)
    NOT_CONNECTED = (ConnectError,)
    STALLED = (Stalled, LateError)
    CLOSED = (ConnectionClosed,)
    UNKNOWN = (BaseException,)

    @property
    def passing(self) -> bool:
        """Whether another try can succeed."""
        causes = list(Cause)
        return causes.index(self) >= causes.index(Cause.NO_HOST)

    def fits(self, error: BaseException, text: str) -> bool:
        """Return whether an error, whose library's text is `text`, is of this kind."""
        of_tls = isinstance(error, TlsError)
        return any(of_tls and one in text if isinstance(one, str) else isinstance(error, one) for one in self.value)


def causes_of(error: BaseException) -> Iterator[BaseException]:
    """Yield the errors inside Twisted's wrappers, or `error` if it is not a wrapper."""
    reasons = getattr(error, "reasons", None)
    if not reasons:
        yield error
        return
    for reason in reasons:
        yield from causes_of(reason.value)


def words_of(error: BaseException) -> str:
    """Return the texts of all causes of an error, joined by "; ". They can quote the server."""
    texts = (f"{type(one).__name__}: {one}" if str(one) else type(one).__name__ for one in causes_of(error))
    return "; ".join(dict.fromkeys(texts))


def cause_of(error: BaseException) -> tuple[Cause, str]:
    """Return the cause that explains an error best, and its library's text, which can quote the server.

    Lasting causes take precedence over temporary ones.
    """
    found = [_named(cause) for cause in causes_of(error)]
    lasting = [one for one in found if not one[0].passing]
    known = lasting or [one for one in found if one[0] is not Cause.UNKNOWN]
    return known[0] if known else (Cause.UNKNOWN, words_of(error))


def _named(error: BaseException) -> tuple[Cause, str]:
    text = str(error)
    if isinstance(error, TlsError):
        text = ", ".join(str(reason) for part in error.args if isinstance(part, list) for *_, reason in part)
    return next(cause for cause in Cause if cause.fits(error, text)), text
