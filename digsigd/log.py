"""Log lines: one event per line, as text for people or JSON for machines, each with the id of its request.

Every part of digsigd logs through `twisted.logger.Logger` with a format and named fields, including `request_id` and
`event` (a short, stable name: received, keys, cst, verified, answered, ...), so other observers can use the events,
too. A field never holds a secret. The observers here write one event as one line.
"""

from __future__ import annotations

import atexit
import json
import os
import sys
import time
from collections.abc import Callable
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import IO, Any, Literal, TypeAlias

from twisted.logger import ILogObserver, LogEvent, LogLevel, formatEvent
from twisted.python.failure import Failure
from zope.interface import implementer

from digsigd.log_queue import QueuedStream
from digsigd.text import one_line

Format: TypeAlias = Literal["text", "json"]
FORMATS: tuple[Format, ...] = ("text", "json")
Level: TypeAlias = Literal["debug", "info", "warn", "error"]
# From the least to the most severe.
_RANKS = {level: rank for rank, level in enumerate(LogLevel.iterconstants())}

# Fields that the logging system adds, and fields that have a fixed place in every line.
_OWN = frozenset(
    {"time", "message", "isError", "failure", "format", "system", "logSource", "why", "request_id", "event"}
)
# What `twisted.plugin` logs at each start of a user who may not write into Twisted's folder: plugins are found anyway.
_NO_PLUGIN_CACHE = "Unable to write to plugin cache"
# Twisted's parts that log every connection: only their warnings and errors are logged.
_QUIET = ("twisted.web.http.HTTPChannel", "twisted.web.client", "twisted.internet", "treq")


@implementer(ILogObserver)
class LineObserver:
    """A log observer that writes each event as one line to `stream`, flushed, as text or JSON.

    `worker` is the number of this process among the workers of a daemon, which each line then has.
    """

    def __init__(self, stream: IO[str] | QueuedStream, form: Format, worker: int | None = None) -> None:
        self._stream = stream
        self._render = _renderer(form, worker)
        self.level = "info"

    @property
    def level(self) -> Level:
        """The least level of lines that are written; a reload can change it."""
        return self._level

    @level.setter
    def level(self, level: Level) -> None:
        self._level = level
        self._least = _RANKS[LogLevel.levelWithName(level)]

    def settle(self) -> None:
        """Wait a moment for lines that are not written yet, at the end of the process."""
        if isinstance(self._stream, QueuedStream):
            self._stream.settle()

    def close(self) -> None:
        """Close the stream. Further events are dropped."""
        self._stream.close()

    def __call__(self, event: LogEvent) -> None:
        """Write one event. Events below `level`, and information about connections and plugins, are dropped."""
        level = event.get("log_level", LogLevel.info)
        if _RANKS[level] < self._least:
            return
        if level in {LogLevel.debug, LogLevel.info} and str(event.get("log_namespace", "")).startswith(_QUIET):
            return
        if str(event.get("format", "")).startswith(_NO_PLUGIN_CACHE):
            return
        line = self._render(event) + "\n"
        try:
            try:
                self._stream.write(line)
            except UnicodeEncodeError:
                # The stream accepts ASCII only.
                self._stream.write(line.encode("ascii", "backslashreplace").decode("ascii"))
            self._stream.flush()
        except ValueError:
            return  # the stream is closed: the process is ending
        except OSError:
            return  # a full disk must not stop the daemon, and there is no place to report it


def observer(form: Format, logfile: str | None, worker: int | None = None) -> LineObserver:
    """Return an observer that appends to a file, or writes to standard output (None or "-"), without ever blocking.

    Raises `OSError` if the file cannot be opened.
    """
    render = _renderer(form, worker)

    def dropped(count: int) -> str:
        event: LogEvent = {
            "log_time": time.time(), "log_level": LogLevel.warn, "event": "dropped", "count": count,
            "log_format": "{count} log lines were dropped here: they were read too slowly",
        }  # fmt: skip
        return render(event) + "\n"

    if logfile is None or logfile == "-":
        sys.stdout.flush()
        lines = QueuedStream(os.dup(sys.stdout.fileno()), sys.stdout.encoding, dropped)
        atexit.register(lines.settle)
        return LineObserver(lines, form, worker)
    # One write per line and no seeking: rotation by renaming works with a restart, copytruncate without.
    descriptor = os.open(logfile, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o666)
    lines = QueuedStream(descriptor, "utf-8", dropped)
    atexit.register(lines.settle)
    return LineObserver(lines, form, worker)


def _when(event: LogEvent) -> str:
    moment = datetime.fromtimestamp(event.get("log_time", 0.0), UTC)
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _level(event: LogEvent) -> str:
    level = event.get("log_level")
    return str(level.name) if level is not None else "info"


def _message(event: LogEvent) -> str:
    """Return the text of an event. Python's own format takes a tenth of the time of Twisted's, which has more forms."""
    try:
        return event["log_format"].format_map(event)  # type: ignore[no-any-return]
    except Exception:  # noqa: BLE001 - whatever it is, Twisted's formatter does not raise it
        return formatEvent(event)


def _trace(event: LogEvent) -> str:
    """Return the type of an unexpected error and where it was raised. Its text is left out: it may hold secrets."""
    failure = event.get("log_failure")
    if not isinstance(failure, Failure):
        return ""
    frames = [f"{Path(name).name}:{line} in {method}" for method, name, line, *_ in failure.frames[-4:]]
    kind = failure.type.__name__ if failure.type else "error"
    return " < ".join([kind, *reversed(frames)])


def _renderer(form: Format, worker: int | None) -> Callable[[LogEvent], str]:
    return partial(_as_text if form == "text" else _as_json, worker=worker)


def _as_text(event: LogEvent, *, worker: int | None) -> str:
    parts = [_when(event), f"{_level(event):5}"]
    if worker is not None:
        parts.append(f"w{worker}")
    if request_id := event.get("request_id"):
        parts.append(f"[{request_id}]")
    parts.append(_message(event))
    if request_id and (caller := event.get("caller")):
        address = f" at {event['address']}" if event.get("address") else ""
        trace = f", trace {event['trace_id']}" if event.get("trace_id") else ""
        parts.append(f"({caller}{address}, {event.get('own_id', '-')}{trace})")
    if trace := _trace(event):
        parts.append(f"({trace})")
    return one_line(" ".join(parts))


def _as_json(event: LogEvent, *, worker: int | None) -> str:
    line: dict[str, Any] = {
        "time": _when(event),
        "level": _level(event),
        "event": event.get("event") or event.get("log_namespace", "-"),
    }
    if worker is not None:
        line["worker"] = worker
    if request_id := event.get("request_id"):
        line["request_id"] = request_id
    line["message"] = _message(event)
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
