"""Connections that fail in TLS, or speak plain HTTP to a port with TLS, or TLS to one without: logged, with a limit."""

from __future__ import annotations

import re
from collections import Counter
from typing import Any

from OpenSSL.SSL import Error
from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.logger import Logger
from twisted.protocols.tls import BufferingTLSTransport

from digsigd.text import one_line
from digsigd.web.upload_state import LINGER_BYTES

# The most lines a minute, and of one address, so that one that tries all the time does not hide the others.
LINES, LINES_OF_ADDRESS = 20, 5
_MINUTE = 60.0
_LONGEST_REASON = 200
# What clients send that do not know that a port uses TLS. Not PROXY: that is a proxy's own protocol.
_PLAIN_HTTP = re.compile(rb"(?:GET|HEAD|POST|PUT|PATCH|DELETE|OPTIONS|TRACE|CONNECT) ")
# The first bytes of a ClientHello: a handshake record of TLS 1.x. RFC 8446, 5.1.
_HANDSHAKE = b"\x16\x03"
# What OpenSSL's reasons mean for the operator of this host; the texts of alerts are RFC 8446's, 6.2.
_MEANINGS = {
    "http request": "the client sent plain HTTP: its address must begin with https://",
    "unknown ca": "the client does not know the authority of this host's certificate",
    "certificate unknown": "the client does not accept this host's certificate",
    "bad certificate": "the client does not accept this host's certificate",
    "certificate expired": "the client says that this host's certificate has expired",
    "certificate verify failed": "the client's certificate is not of an authority in client_ca, or is not valid now",
    "unsupported protocol": "the client has no TLS 1.2",
    "no shared cipher": "the client has no cipher that this host accepts",
}


def sent_plain_http(data: bytes) -> bool:
    """Return whether the first bytes of a connection are a request in plain HTTP."""
    return _PLAIN_HTTP.match(data) is not None


def sent_tls(data: bytes) -> bool:
    """Return whether the first bytes of a connection are those of TLS."""
    return data.startswith(_HANDSHAKE)


def reason_of(error: Error) -> str:
    """Return OpenSSL's reasons for an error, and what they mean."""
    entries = error.args[0] if error.args and isinstance(error.args[0], list) else []
    text = one_line("; ".join(str(entry[-1]) for entry in entries))[:_LONGEST_REASON] or "OpenSSL does not say why"
    meaning = next((means for words, means in _MEANINGS.items() if words in text), "")
    return f"{text} ({meaning})" if meaning else text


class FailedTls:
    """Logs failed connections: at most `LINES` a minute, and `LINES_OF_ADDRESS` of one address. Others are counted."""

    log = Logger()

    def __init__(self, clock: IReactorTime) -> None:
        self._clock = clock
        self._logged: Counter[str] = Counter()
        self._others = 0
        self._minute: IDelayedCall | None = None

    def failed(self, address: str, reason: str) -> None:
        """Log that a connection of a client failed, unless there are too many."""
        if self._minute is None:
            self._minute = self._clock.callLater(_MINUTE, self._over)
        if self._logged.total() >= LINES or self._logged[address] >= LINES_OF_ADDRESS:
            self._others += 1
            return
        self._logged[address] += 1
        self.log.warn(
            "connection of {address} failed: {reason}", address=address or "a local socket", reason=reason, event="tls"
        )

    def close(self) -> None:
        """Say how many were not logged, and begin anew with the next."""
        if self._minute is not None and self._minute.active():
            self._minute.cancel()
        self._over()

    def _over(self) -> None:
        others, self._others, self._minute = self._others, 0, None
        self._logged.clear()
        if others:
            self.log.warn("{count} more connections failed in the last minute", count=others, event="tls")


class ToldTransport(BufferingTLSTransport):
    """TLS for a `SigningChannel`. A client that sends plain HTTP gets an answer in plain HTTP that says so."""

    # How many bytes were discarded after plain HTTP; None as long as it is TLS.
    _discarded: int | None = None
    _has_begun = False

    def dataReceived(self, data: bytes) -> None:
        """Take bytes: those of TLS, or those that follow an answer in plain HTTP and are discarded."""
        transport: Any = self.transport
        if self._discarded is not None:
            self._discarded += len(data)
            if self._discarded > LINGER_BYTES:
                transport.abortConnection()
        elif not self._has_begun and sent_plain_http(data):
            self._discarded = len(data)
            channel: Any = self.wrappedProtocol
            channel.sent_plain_http(transport)
        else:
            self._has_begun = True
            super().dataReceived(data)
