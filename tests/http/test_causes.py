"""Causes: what is found below the wrappers of the libraries, and which of several counts."""

from __future__ import annotations

import pytest
from OpenSSL.SSL import Error as TlsError
from service_identity import VerificationError
from twisted.internet import error
from twisted.internet.defer import TimeoutError as LateError
from twisted.python.failure import Failure
from twisted.web.client import ResponseFailed, ResponseNeverReceived

from digsigd.http.body import TooLong
from digsigd.http.causes import Cause, cause_of, causes_of, words_of
from digsigd.http.connection import HeadTooLong
from digsigd.http.deadline import Stalled


def tls(text: str) -> TlsError:
    return TlsError([("SSL routines", "", text)])


def wrapped(*errors: BaseException) -> BaseException:
    """As Twisted does, twice."""
    inner = ResponseNeverReceived([Failure(one) for one in errors])
    return ResponseFailed([Failure(inner)])


@pytest.mark.parametrize(
    ("found", "cause"),
    [
        (VerificationError(errors=[]), Cause.WRONG_NAME),
        (tls("certificate verify failed"), Cause.UNTRUSTED),
        (tls("wrong version number"), Cause.NO_TLS),
        (tls("tlsv13 alert certificate required"), Cause.CERTIFICATE_WANTED),
        (tls("something else"), Cause.OTHER_TLS),
        (TlsError(), Cause.OTHER_TLS),
        (HeadTooLong(), Cause.HEAD_TOO_LONG),
        (TooLong(), Cause.BODY_TOO_LONG),
        (ValueError(), Cause.NO_HTTP),
        (ValueError("certificate verify failed"), Cause.NO_HTTP),
        (error.DNSLookupError(), Cause.NO_HOST),
        (error.ConnectionRefusedError(), Cause.REFUSED),
        (error.TimeoutError(), Cause.CONNECTING_TOO_LONG),
        (error.TCPTimedOutError(), Cause.CONNECTING_TOO_LONG),
        (error.NoRouteError(), Cause.NOT_CONNECTED),
        (Stalled(1, "it"), Cause.STALLED),
        (LateError(), Cause.STALLED),
        (error.ConnectionDone(), Cause.CLOSED),
        (error.ConnectionLost(), Cause.CLOSED),
        (ZeroDivisionError(), Cause.UNKNOWN),
    ],
)
def test_each_cause_is_known(found: BaseException, cause: Cause) -> None:
    """By itself, and in wrappers."""
    assert cause_of(found)[0] is cause
    assert cause_of(wrapped(found))[0] is cause
    assert list(causes_of(wrapped(found))) == [found]


def test_what_no_other_try_removes_counts_first() -> None:
    """Then what is known, and else all there is."""
    closed, refused = error.ConnectionDone(), error.ConnectionRefusedError()
    assert cause_of(wrapped(closed, HeadTooLong()))[0] is Cause.HEAD_TOO_LONG
    assert cause_of(wrapped(ZeroDivisionError(), refused, closed))[0] is Cause.REFUSED
    unknown = wrapped(ZeroDivisionError("a"), KeyboardInterrupt(), ZeroDivisionError("a"))
    assert cause_of(unknown) == (Cause.UNKNOWN, "ZeroDivisionError: a; KeyboardInterrupt")
    assert words_of(unknown) == "ZeroDivisionError: a; KeyboardInterrupt"


def test_what_may_pass() -> None:
    """Connections, not TLS nor what is no answer."""
    passing = {cause for cause in Cause if cause.passing}
    assert {Cause.REFUSED, Cause.CLOSED, Cause.STALLED, Cause.NO_HOST, Cause.UNKNOWN} <= passing
    assert not {Cause.UNTRUSTED, Cause.OTHER_TLS, Cause.HEAD_TOO_LONG, Cause.BODY_TOO_LONG, Cause.NO_HTTP} & passing


def test_what_the_libraries_say_is_told() -> None:
    """Of TLS, all of it."""
    both = TlsError([("SSL routines", "", "one"), ("SSL routines", "", "two")])
    assert cause_of(both) == (Cause.OTHER_TLS, "one, two")
    assert cause_of(Stalled(1.5, "the upload"))[1] == "the upload stalled for 1.5 s"
