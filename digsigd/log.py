"""Log lines: one event a line, as text for people or JSON for machines, each with the id of its request.

Every part of digsigd logs through `twisted.logger.Logger` with a format and named fields, among them `request_id`
and `event` (a short, stable name: received, keys, cst, verified, answered, ...), so the events read well in anybody's
observer too. Nothing secret is ever a field; the observers here make sure that one event is one line.
"""

from __future__ import annotations

import json
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import IO, Any, Literal, TypeAlias

from twisted.logger import ILogObserver, LogEvent, LogLevel, formatEvent
from twisted.python.failure import Failure
from zope.interface import implementer

from digsigd.text import one_line

Format: TypeAlias = Literal["text", "json"]
FORMATS: tuple[Format, ...] = ("text", "json")

# What the logging system itself puts into an event, and what every line has in its own place.
_OWN = frozenset(
    {"time", "message", "isError", "failure", "format", "system", "logSource", "why", "request_id", "event"}
)
# Twisted's parts that speak of every connection: of interest only where something is wrong.
_QUIET = ("twisted.web.http.HTTPChannel", "twisted.web.client", "twisted.internet", "treq")


@implementer(ILogObserver)
class LineObserver:
    """Writes each event as one line to `stream`, flushed, in the given form."""

    def __init__(self, stream: IO[str], form: Format) -> None:
        self._stream = stream
        self._render = _as_text if form == "text" else _as_json

    def close(self) -> None:
        """Close the stream. Further events are dropped."""
        self._stream.close()

    def __call__(self, event: LogEvent) -> None:
        """Write one event, unless it is chatter below a warning."""
        level = event.get("log_level", LogLevel.info)
        if level is LogLevel.debug:
            return
        if level is LogLevel.info and str(event.get("log_namespace", "")).startswith(_QUIET):
            return
        line = self._render(event) + "\n"
        try:
            try:
                self._stream.write(line)
            except UnicodeEncodeError:
                # A terminal or a pipe that takes ASCII alone.
                self._stream.write(line.encode("ascii", "backslashreplace").decode("ascii"))
            self._stream.flush()
        except ValueError:
            return  # the stream was closed: the process is on its way out
        except OSError:
            return  # a full disk must not stop the daemon; there is nowhere to say so


def observer(form: Format, logfile: str | None) -> LineObserver:
    """An observer that writes to a file, or to standard output (None or "-")."""
    if logfile in (None, "-"):
        return LineObserver(sys.stdout, form)
    # One line a write and no seeking: rotation by renaming works with a restart, copytruncate without.
    return LineObserver(Path(logfile).open("a", encoding="utf-8", buffering=1), form)


def _when(event: LogEvent) -> str:
    moment = datetime.fromtimestamp(event.get("log_time", 0.0), UTC)
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _level(event: LogEvent) -> str:
    level = event.get("log_level")
    return str(level.name) if level is not None else "info"


def _trace(event: LogEvent) -> str:
    """The kind of an unexpected error and where it was raised; its text may hold what the log must not."""
    failure = event.get("log_failure")
    if not isinstance(failure, Failure):
        return ""
    frames = [f"{Path(name).name}:{line} in {method}" for method, name, line, *_ in failure.frames[-4:]]
    kind = failure.type.__name__ if failure.type else "error"
    return " < ".join([kind, *reversed(frames)])


def _as_text(event: LogEvent) -> str:
    parts = [_when(event), f"{_level(event):5}"]
    if request_id := event.get("request_id"):
        parts.append(f"[{request_id}]")
    parts.append(formatEvent(event))
    if trace := _trace(event):
        parts.append(f"({trace})")
    return one_line(" ".join(parts))


def _as_json(event: LogEvent) -> str:
    line: dict[str, Any] = {
        "time": _when(event),
        "level": _level(event),
        "event": event.get("event") or event.get("log_namespace", "-"),
    }
    if request_id := event.get("request_id"):
        line["request_id"] = request_id
    line["message"] = formatEvent(event)
    if trace := _trace(event):
        line["trace"] = trace
    for key, value in event.items():
        if key.startswith("log_") or key in _OWN or key in line:
            continue
        if value is None or isinstance(value, str | int | float | bool):
            line[key] = value
        elif isinstance(value, list | tuple) and all(isinstance(one, str) for one in value):
            line[key] = list(value)
    return json.dumps(line, default=str)
