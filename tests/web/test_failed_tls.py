"""What is logged of connections that fail in TLS: why, from where, and not too often."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from OpenSSL.SSL import Error
from twisted.internet.task import Clock
from twisted.logger import ILogObserver, LogEvent, formatEvent, globalLogPublisher
from zope.interface import implementer

from digsigd.web.failed_tls import LINES, LINES_OF_ADDRESS, FailedTls, reason_of, sent_plain_http, sent_tls


@pytest.fixture
def lines() -> Iterator[list[str]]:
    """The lines that are logged."""
    found: list[str] = []

    @implementer(ILogObserver)
    def observe(event: LogEvent) -> None:
        if event.get("event") == "tls":
            found.append(formatEvent(event))

    globalLogPublisher.addObserver(observe)
    yield found
    globalLogPublisher.removeObserver(observe)


def test_one_address_does_not_hide_others(lines: list[str]) -> None:
    """It has a few lines a minute; the rest is counted, and told at the end of the minute."""
    clock = Clock()
    failed = FailedTls(clock)
    for _ in range(1000):
        failed.failed("192.0.2.1", "unknown ca")
    failed.failed("192.0.2.2", "http request")
    assert lines == [
        *["connection of 192.0.2.1 failed: unknown ca"] * LINES_OF_ADDRESS,
        "connection of 192.0.2.2 failed: http request",
    ]
    lines.clear()
    clock.advance(61)
    assert lines == [f"{1000 - LINES_OF_ADDRESS} more connections failed in the last minute"]
    failed.failed("192.0.2.1", "unknown ca")
    assert lines[1:] == ["connection of 192.0.2.1 failed: unknown ca"]


def test_many_addresses_do_not_fill_the_log(lines: list[str]) -> None:
    """All of them together have a few lines a minute, too; a stop tells the rest, and leaves no timer."""
    clock = Clock()
    failed = FailedTls(clock)
    for number in range(1000):
        failed.failed(f"192.0.2.{number}", "unknown ca")
    assert len(lines) == LINES
    failed.close()
    assert lines[LINES:] == [f"{1000 - LINES} more connections failed in the last minute"]
    assert clock.getDelayedCalls() == []
    failed.close()
    assert len(lines) == LINES + 1


def test_reasons_are_openssl_s_with_what_they_mean() -> None:
    """In one printable line of limited length."""
    assert reason_of(Error([("SSL routines", "", "http request")])) == (
        "http request (the client sent plain HTTP: its address must begin with https://)"
    )
    assert reason_of(Error([("SSL routines", "", "tlsv1 alert unknown ca")])).endswith(
        "(the client does not know the authority of this host's certificate)"
    )
    assert reason_of(Error([("", "", "something\nelse")])) == "something\\nelse"
    assert len(reason_of(Error([("", "", "x" * 9999)]))) == 200
    assert reason_of(Error()) == "OpenSSL does not say why"


def test_first_bytes_tell_plain_http_from_tls() -> None:
    """A proxy's own line before TLS is neither."""
    for plain in (b"GET / HTTP/1.1\r\n", b"POST /sign/imx HTTP/1.1\r\n"):
        assert sent_plain_http(plain)
        assert not sent_tls(plain)
    assert sent_tls(bytes.fromhex("160301020001"))
    for neither in (b"PROXY TCP4 192.0.2.1 192.0.2.2 1 2\r\n", b"", b"\x15\x03\x01", b"GETS"):
        assert not sent_plain_http(neither)
        assert not sent_tls(neither)
