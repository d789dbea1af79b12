"""The form of a signing request, read while it arrives: small fields into memory, artifacts into files."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import BinaryIO

from multipart import MultipartError, MultipartSegment, ParserLimitReached, PushMultipartParser

from digsigd.errors import BadRequest, TooLarge

MAX_PARTS = 16
MAX_ARTIFACTS = 8
MAX_CSF = 1 << 20
MAX_FIELD = 64 << 10
# Boundaries and headers of sixteen parts; whatever a whole body has beyond its parts fits well.
OVERHEAD = MAX_PARTS * 16 << 10
# The small fields: what each must be, and how that is said.
_FIELDS = {
    "machine": (
        re.compile(r"[A-Za-z0-9_+-][A-Za-z0-9._+-]{0,63}"),
        "1-64 of A-Z a-z 0-9 . _ + -, not starting with a dot",
    ),
    "soctype": (re.compile("mx8m"), "mx8m"),
    "cstversion": (
        re.compile(r"[A-Za-z0-9][A-Za-z0-9._+-]{0,31}"),
        "1-32 of A-Z a-z 0-9 . _ + -, first a letter or digit",
    ),
    # An empty one is ssl as well.
    "backend": (re.compile("ssl|pkcs11|"), "ssl or pkcs11"),
}
# What a CSF description may say it is. curl calls a file of unknown kind application/octet-stream, unless told.
_CSF_TYPES = {"", "text/plain", "application/octet-stream"}


@dataclass(frozen=True, slots=True)
class Uploaded:
    """An artifact: the name that the client has for it, and its size in bytes.

    `repeated` says that others with this name came after it, which were left out.
    """

    name: str
    size: int
    repeated: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Fields:
    """The fields of a whole form, each of the right form. `artifacts` are in the order in which they were opened."""

    machine: str
    cst_version: str
    soctype: str | None
    backend: str
    csf: bytes
    artifacts: tuple[Uploaded, ...]


def boundary_of(content_type: str) -> str:
    """The boundary of a multipart/form-data body. Raises `BadRequest`."""
    kind, _, parameters = content_type.partition(";")
    if kind.strip().lower() != "multipart/form-data":
        raise BadRequest("the body is no multipart/form-data", hint="with curl, send each field with -F")
    match = re.search(r'(?:^|;)\s*boundary\s*=\s*(?:"([^"\r\n]{1,200})"|([^\s;"]{1,200}))', parameters, re.IGNORECASE)
    if match is None:
        raise BadRequest("the Content-Type of the form has no boundary")
    return match[1] or match[2]


class Form:
    """Takes the chunks of a body, in whatever pieces they come.

    `open_artifact` opens the file that the artifact of a number, from 0, goes into, once its first byte is there.
    `max_artifact` bounds all artifacts together. `checks` are called with the value of the field they are named for as
    soon as it is known, and may raise.
    """

    def __init__(
        self,
        content_type: str,
        *,
        max_artifact: int,
        open_artifact: Callable[[int], BinaryIO],
        checks: dict[str, Callable[[str], None]],
    ) -> None:
        self._parser = PushMultipartParser(
            boundary_of(content_type),
            max_header_size=4 << 10,
            max_header_count=8,
            max_segment_count=MAX_PARTS,
        )
        self._artifact_bytes_left = max_artifact
        self._max_artifact = max_artifact
        self._open_artifact = open_artifact
        self._checks = checks
        self._values: dict[str, str] = {}
        self._csf: bytes | None = None
        # The artifacts that have content, and of the names that were seen those that have none.
        self._artifacts: dict[str, int] = {}
        self._empty: set[str] = set()
        self._repeated: set[str] = set()
        self._file: BinaryIO | None = None
        self._file_name = ""
        self._unnamed = False
        # The part being read: its name, and the same or "" for one that is not wanted; how large it is and may be.
        self._name = ""
        self._part = ""
        self._buffer = bytearray()
        self._size = 0
        self._limit = MAX_FIELD

    def feed(self, chunk: bytes) -> None:
        """Take the next bytes of the body. Raises `BadRequest`, `TooLarge`, and what the checks raise."""
        try:
            for event in self._parser.parse(chunk):
                if isinstance(event, MultipartSegment):
                    self._begin(event)
                elif event is None:
                    self._end()
                else:
                    self._more(event)
        except ParserLimitReached:
            raise TooLarge(f"the form has more than {MAX_PARTS} parts, or headers of a part are too long") from None
        except (MultipartError, UnicodeDecodeError, ValueError):
            raise BadRequest("the body is no well-formed multipart/form-data") from None

    def finish(self) -> Fields:
        """The fields, once the body is whole. Raises `BadRequest` for what is missing or malformed."""
        self.close()
        try:
            self._parser.close()
        except MultipartError:
            raise BadRequest("the form ends before its last boundary") from None
        for name in ("machine", "cstversion"):
            if name not in self._values:
                raise BadRequest(f"the field {name} is missing", hint=f"with curl: -F {name}=VALUE")
        if self._csf is None:
            raise BadRequest("the field csf is missing", hint="with curl: -F 'csf=@FILE;type=text/plain'")
        # A browser sends an empty part without a name where no file was chosen.
        empty = sorted(self._empty - {""}) or sorted(self._empty if not self._artifacts else ())
        if empty:
            which = f" {empty[0]!r}" if self._artifacts or len(empty) > 1 else ""
            raise BadRequest(f"the artifact{which} is empty")
        if not self._artifacts:
            raise BadRequest("the field artifact is missing", hint="with curl: -F artifact=@FILE")
        return Fields(
            machine=self._values["machine"],
            cst_version=self._values["cstversion"],
            soctype=self._values.get("soctype"),
            backend=self._values.get("backend") or "ssl",
            csf=self._csf,
            artifacts=tuple(
                Uploaded(name, size, repeated=name in self._repeated) for name, size in self._artifacts.items()
            ),
        )

    def close(self) -> None:
        """Close the artifact's file. Closing twice is closing once."""
        if self._file is not None:
            file, self._file = self._file, None
            file.close()

    def _begin(self, part: MultipartSegment) -> None:
        name = part.name or ""
        self._buffer, self._size, self._limit = bytearray(), 0, MAX_FIELD
        self._part, self._name = "", name
        # Of a repeated field the first counts. The others may be as large.
        if name == "artifact":
            self._limit = self._artifact_bytes_left
            if not self._begin_artifact(part.filename):
                return
        elif name == "csf":
            self._limit = MAX_CSF
            if self._csf is not None:
                return
            kind = (part.header("Content-Type") or "").partition(";")[0].strip().lower()
            if kind not in _CSF_TYPES:
                raise BadRequest(f"the field csf is {kind[:60]!r}; it must be text/plain")
        elif name not in _FIELDS or name in self._values:
            return
        self._part = name

    def _begin_artifact(self, filename: str | None) -> bool:
        """Whether an artifact of this name is wanted: of several with one name the first counts."""
        self._file_name = base_name(filename)
        self._unnamed = not filename
        if self._file_name in self._artifacts or self._file_name in self._empty:
            self._repeated.add(self._file_name)
            return False
        if len(self._artifacts) == MAX_ARTIFACTS:
            raise TooLarge(f"the form has more than {MAX_ARTIFACTS} artifacts")
        return True

    def _more(self, data: bytes) -> None:
        self._size += len(data)
        if self._size > self._limit:
            raise TooLarge(self._too_much())
        if self._part == "artifact":
            if self._file is None:
                self._file = self._open_artifact(len(self._artifacts))
            self._file.write(data)
        elif self._part:
            self._buffer += data

    def _too_much(self) -> str:
        if self._name == "artifact" and self._limit < self._max_artifact:
            return f"the artifacts together have more than {self._max_artifact} bytes"
        return f"the field {self._part or 'of a name that is not known'} has more than {self._limit} bytes"

    def _end(self) -> None:
        if self._name == "artifact":
            self._artifact_bytes_left -= self._size
        if self._part == "artifact":
            self.close()
            if self._size:
                self._artifacts[self._file_name] = self._size
            else:
                self._empty.add("" if self._unnamed else self._file_name)
        elif self._part == "csf":
            self._csf = bytes(self._buffer)
        elif self._part:
            pattern, words = _FIELDS[self._part]
            text = self._buffer.decode("utf-8", "replace")
            if not pattern.fullmatch(text):
                raise BadRequest(f"the field {self._part} must be {words}")
            self._values[self._part] = text
            if self._part in self._checks:
                self._checks[self._part](text)
        self._part = ""


def why_not_machine(text: str) -> str:
    """What a machine's name must be; empty where this is one."""
    pattern, words = _FIELDS["machine"]
    return "" if pattern.fullmatch(text) else words


def base_name(filename: str | None) -> str:
    """The base name of what a client calls its file. It is only ever compared, never used as a path."""
    return re.split(r"[/\\]", filename or "")[-1][:255] or "artifact"
