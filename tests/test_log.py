"""One event, one line, whatever is in it."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any, Literal

import pytest
from twisted.logger import ILogObserver, Logger, LogLevel
from twisted.python.failure import Failure
from zope.interface.verify import verifyObject

from digsigd.errors import DigsigError
from digsigd.log import LineObserver, observer
from digsigd.text import one_line


def logged(form: Literal["text", "json"], text: str, level: LogLevel = LogLevel.info, **fields: Any) -> str:
    stream = io.StringIO()
    Logger(observer=LineObserver(stream, form)).emit(level, text, **fields)
    return stream.getvalue()


def test_text_is_for_people() -> None:
    """Time, level, request and message."""
    line = logged("text", "answered {status}", request_id="r1", event="answered", status=200)
    assert line.endswith("Z info  [r1] answered 200\n")


def test_json_is_for_machines() -> None:
    """Every field that is a plain value, and nothing of the logging system's own."""
    line = json.loads(
        logged("json", "answered {status}", request_id="r1", event="answered", status=200, notes=["a"], it=object())
    )
    assert set(line) == {"time", "level", "event", "request_id", "message", "status", "notes"}
    assert line["message"] == "answered 200"


@pytest.mark.parametrize("form", ["text", "json"])
def test_nobody_writes_lines_of_their_own(form: Literal["text", "json"]) -> None:
    """Line ends, escapes, and separators of other alphabets are escaped."""
    hostile = "a\nb\rc\x1b[2Jd\u2028e\x85f\x00"
    line = logged(form, "got {name}", request_id=hostile, name=hostile)
    assert line.count("\n") == 1
    assert len(line.splitlines()) == 1
    assert "\x1b" not in line


def test_an_unexpected_error_is_its_kind_and_place() -> None:
    """Not its text, which may hold anything."""
    stream = io.StringIO()
    log = Logger(observer=LineObserver(stream, "text"))
    try:
        raise ValueError("a secret")
    except ValueError:
        log.failure("it failed", Failure())
    assert "ValueError < test_log.py:" in stream.getvalue()
    assert "secret" not in stream.getvalue()


@pytest.mark.parametrize("form", ["text", "json"])
def test_a_stream_that_takes_ascii_alone_gets_every_line(form: Literal["text", "json"]) -> None:
    """No client's letters make a line disappear."""
    stream = io.TextIOWrapper(io.BytesIO(), encoding="ascii")
    Logger(observer=LineObserver(stream, form)).info("received {name}", name="spül.bin")
    assert b"sp\\" in stream.buffer.getvalue()


def test_chatter_is_left_out() -> None:
    """Debug lines, and what Twisted says of every connection; its warnings are kept."""
    assert logged("text", "x", LogLevel.debug) == ""
    stream = io.StringIO()
    chatty = Logger("twisted.web.http.HTTPChannel", observer=LineObserver(stream, "text"))
    chatty.info("Timing out client")
    assert stream.getvalue() == ""
    chatty.warn("something is wrong")
    assert "something is wrong" in stream.getvalue()


def test_a_full_disk_stops_nobody() -> None:
    """There is nowhere to say so."""

    class Full(io.StringIO):
        def write(self, _: str) -> int:
            raise OSError(28, "No space left on device")

    Logger(observer=LineObserver(Full(), "text")).info("x")
    closed = io.StringIO()
    closed.close()
    Logger(observer=LineObserver(closed, "text")).info("x")


def test_a_log_file_is_added_to(tmp_path: Path) -> None:
    """Nothing of an earlier run is lost."""
    path = tmp_path / "log"
    path.write_text("before\n")
    lines = observer("text", str(path))
    Logger(observer=lines).info("after")
    lines.close()
    assert path.read_text().startswith("before\n")
    assert path.read_text().endswith("after\n")


def test_printable_text_is_left_as_it_is() -> None:
    """Of any alphabet."""
    assert one_line("größe 大") == "größe 大"


def test_an_error_is_told_to_operators_in_one_way() -> None:
    """What happened, the detail that clients do not see, what to do; what is not there leaves no gap."""
    error = DigsigError("no keys", hint="put them there", detail="/keys/a")
    assert error.for_operator() == str(error) == "no keys | /keys/a | put them there"
    assert DigsigError("no keys", hint="put them there").for_operator() == "no keys | put them there"
    assert "/keys" not in error.for_client()


def test_it_is_what_twisted_takes_for_an_observer() -> None:
    """In both forms."""
    for form in ("text", "json"):
        assert verifyObject(ILogObserver, LineObserver(io.StringIO(), form))
