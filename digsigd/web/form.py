"""Read the form of a signing request while it arrives: small fields into memory, artifacts into files."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import BinaryIO, TypeAlias

from multipart import MultipartError, MultipartSegment, ParserLimitReached, PushMultipartParser
from werkzeug.http import parse_options_header

from digsigd import names
from digsigd.csf import cst_files
from digsigd.csf.members import base_of
from digsigd.errors import BadRequest, TooLarge, UnsupportedCoding
from digsigd.signing.request import Artifact, SigningRequest
from digsigd.signing.sums import StreamSum
from digsigd.signing.workdir import Workdir
from digsigd.web.answers import MAX_HEADER

MAX_PARTS = 16
MAX_ARTIFACTS = 8
MAX_CSF = 1 << 20
MAX_FIELD = 64 << 10
# Room in bytes for boundaries and headers of sixteen parts: more than a body needs besides the contents of its parts.
OVERHEAD = MAX_PARTS * 16 << 10
# The most bytes of a body besides its artifacts.
BESIDES = MAX_CSF + MAX_PARTS * MAX_FIELD + OVERHEAD
_SOCS = (names.HAB_SOC, *names.AHAB_SOCS)
# The small fields of a form: the pattern of each, and the words for it.
Fields: TypeAlias = Mapping[str, tuple[re.Pattern[str], str]]
_FIELDS: Fields = {
    "machine": (names.MACHINE, names.MACHINE_FORM),
    "soctype": (re.compile("|".join(_SOCS)), f"one of {', '.join(_SOCS)}"),
    "cstversion": (names.VERSION, names.VERSION_FORM),
    # Empty means ssl.
    "backend": (re.compile("|".join((*names.BACKENDS, ""))), " or ".join(names.BACKENDS)),
}
# More lenient than RFC 2046, 5.1.1: longer, and with any printable character. The parser only searches for it.
_BOUNDARY = re.compile(r"[ -~]{1,200}")
# Content types of a CSF description. curl sends application/octet-stream for a file of unknown type.
_CSF_TYPES = {"", "text/plain", "application/octet-stream"}


def boundary_of(content_type: str) -> str:
    """Return the boundary of a multipart/form-data body.

    Raises `BadRequest` for another content type, or a boundary that is missing or malformed.
    """
    kind, parameters = parse_options_header(content_type[:MAX_HEADER])
    if kind.lower() != "multipart/form-data":
        raise BadRequest("the body is not multipart/form-data", hint="with curl, send each field with -F")
    boundary = parameters.get("boundary", "")
    if not _BOUNDARY.fullmatch(boundary):
        raise BadRequest("the Content-Type of the form has no boundary")
    return boundary


def check_body(coding: str, length: int | None, largest: int) -> None:
    """Check what the headers say of a body: its content coding, and its length in bytes (None: not known).

    `largest` is the limit of all artifacts. Raises `UnsupportedCoding`, `TooLarge`, `BadRequest`.
    """
    coding = coding.strip().lower()
    if coding not in {"", "identity"}:
        raise UnsupportedCoding(
            f"the body has the content coding {coding[:40]!r}, but only uncompressed bodies are accepted",
            hint="send the form without Content-Encoding; the artifact itself may be compressed",
        )
    if length is not None and length > largest + BESIDES:
        raise TooLarge(f"the body has {length} bytes; artifacts may have at most {largest}")
    if length == 0:
        raise BadRequest("the request has no body", hint="send a multipart/form-data form")


class Form:
    """A parser of the form. It takes the body in chunks of any size.

    `workdir` returns the directory for artifacts; it is called when the first byte of an artifact arrives.
    `max_artifact` limits all artifacts together, in bytes. `checks` are functions by the name of a field: each is
    called with the field's value as soon as that is known, and raises to refuse it. `new_sum` returns what computes the
    digests of an artifact, from the CSF description (None: it has not arrived yet) and the artifact's name. `fields`
    are the small fields that it takes; it ignores others.
    """

    def __init__(
        self,
        content_type: str,
        *,
        max_artifact: int,
        workdir: Callable[[], Workdir],
        checks: dict[str, Callable[[str], None]],
        new_sum: Callable[[bytes | None, str], StreamSum] = lambda *_: StreamSum(),
        fields: Fields = _FIELDS,
    ) -> None:
        self._parser = PushMultipartParser(
            boundary_of(content_type),
            max_header_size=4 << 10,
            max_header_count=8,
            max_segment_count=MAX_PARTS,
        )
        self._artifact_bytes_left = max_artifact
        self._max_artifact = max_artifact
        self._workdir = workdir
        self._checks = checks
        self._fields = fields
        self._values: dict[str, str] = {}
        self._description: bytes | None = None
        # The artifacts that have content, and the names of those that are empty.
        self._artifacts: dict[str, Artifact] = {}
        self._empty: set[str] = set()
        self._repeated: set[str] = set()
        self._file: BinaryIO | None = None
        self._new_sum = new_sum
        self._sum = StreamSum()
        self._file_path = Path()
        self._file_name = ""
        self._unnamed = False
        self._outside = 0
        # The part being read: its name, again its name or "" if it is ignored, its size so far and its limit.
        self._name = ""
        self._part = ""
        self._buffer = bytearray()
        self._size = 0
        self._limit = MAX_FIELD

    def feed(self, chunk: bytes) -> None:
        """Take the next bytes of the body. Raises `BadRequest`, `TooLarge`, and what the checks raise."""
        nothing = True
        try:
            for event in self._parser.parse(chunk):
                nothing = False
                if isinstance(event, MultipartSegment):
                    self._begin(event)
                elif event is None:
                    self._end()
                else:
                    self._more(event)
        except ParserLimitReached:
            raise TooLarge(f"the form has more than {MAX_PARTS} parts, or headers of a part are too long") from None
        except (MultipartError, UnicodeDecodeError, ValueError):
            raise BadRequest("the body is not well-formed multipart/form-data") from None
        # Chunks without anything of a part are before the first part or behind the last.
        self._outside = self._outside + len(chunk) if nothing else 0
        if self._outside > OVERHEAD:
            raise TooLarge(f"the form has more than {OVERHEAD} bytes before its first or behind its last boundary")

    def finish(self, *, request_id: str, caller: str, csf_allow: frozenset[str] | None) -> SigningRequest:
        """Return the request, once the body is complete. Its artifacts are in the order of their files.

        Raises `BadRequest` for a form that ends early, a missing field, or an empty artifact.
        """
        self._complete()
        for name in ("machine", "cstversion"):
            if name not in self._values:
                raise BadRequest(f"the field {name} is missing", hint=f"with curl: -F {name}=VALUE")
        if self._description is None:
            raise BadRequest("the field csf is missing", hint="with curl: -F 'csf=@FILE;type=text/plain'")
        return SigningRequest(
            request_id=request_id,
            machine=self._values["machine"],
            cst_version=self._values["cstversion"],
            soctype=self._values.get("soctype"),
            backend=self._values.get("backend") or "ssl",
            description=self._description,
            artifacts=self._all_artifacts(),
            caller=caller,
            csf_allow=csf_allow,
        )

    def collected(self) -> tuple[dict[str, str], tuple[Artifact, ...]]:
        """Return the small fields and the artifacts, once the body is complete.

        Raises `BadRequest` for a form that ends early, and for a missing or empty artifact.
        """
        self._complete()
        return dict(self._values), self._all_artifacts()

    def _complete(self) -> None:
        self.close()
        try:
            self._parser.close()
        except MultipartError:
            raise BadRequest("the form ends before its last boundary") from None

    def _all_artifacts(self) -> tuple[Artifact, ...]:
        # A browser sends an empty part without a name where no file was chosen.
        empty = sorted(self._empty - {""}) or sorted(self._empty if not self._artifacts else ())
        if empty:
            which = f" {empty[0]!r}" if self._artifacts or len(empty) > 1 else ""
            raise BadRequest(f"the artifact{which} is empty")
        if not self._artifacts:
            raise BadRequest("the field artifact is missing", hint="with curl: -F artifact=@FILE")
        return tuple(replace(one, repeated=one.name in self._repeated) for one in self._artifacts.values())

    @property
    def is_behind(self) -> bool:
        """Whether bytes of the last artifact wait for their digest."""
        return self._sum.is_behind

    def close(self) -> None:
        """Close the artifact's file, if one is open. It may be called again."""
        if self._file is not None:
            file, self._file = self._file, None
            file.close()

    def _begin(self, part: MultipartSegment) -> None:
        name = part.name or ""
        self._buffer, self._size, self._limit = bytearray(), 0, MAX_FIELD
        self._part, self._name = "", name
        # The first of a repeated field counts. The size limit holds for the others, too.
        if name == "artifact":
            self._limit = self._artifact_bytes_left
            if not self._begin_artifact(part.filename):
                return
        elif name == "csf":
            self._limit = MAX_CSF
            if self._description is not None:
                return
            kind = (part.header("Content-Type") or "").partition(";")[0].strip().lower()
            if kind not in _CSF_TYPES:
                raise BadRequest(f"the field csf is {kind[:60]!r}; it must be text/plain")
        elif name not in self._fields or name in self._values:
            return
        self._part = name

    def _begin_artifact(self, filename: str | None) -> bool:
        """Return whether to keep an artifact of this name: the first of several with the same name counts."""
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
                name = cst_files.artifact(len(self._artifacts))
                self._file_path = self._workdir().path / name
                self._file = self._workdir().create(name)
                self._sum = self._new_sum(self._description, self._file_name)
            self._file.write(data)
            self._sum.update(data)
        elif self._part:
            self._buffer += data

    def _too_much(self) -> str:
        if self._name == "artifact" and self._limit < self._max_artifact:
            return f"the artifacts together have more than {self._max_artifact} bytes"
        which = f"the field {self._part}" if self._part else "an unknown or repeated field"
        return f"{which} has more than {self._limit} bytes"

    def _end(self) -> None:
        if self._name == "artifact":
            self._artifact_bytes_left -= self._size
        if self._part == "artifact":
            self.close()
            if self._size:
                self._artifacts[self._file_name] = Artifact(
                    self._file_path, self._file_name, self._size, sums=self._sum.end()
                )
            else:
                self._empty.add("" if self._unnamed else self._file_name)
        elif self._part == "csf":
            self._description = bytes(self._buffer)
        elif self._part:
            pattern, words = self._fields[self._part]
            text = self._buffer.decode("utf-8", "replace")
            if not pattern.fullmatch(text):
                raise BadRequest(f"the field {self._part} must be {words}")
            self._values[self._part] = text
            if self._part in self._checks:
                self._checks[self._part](text)
        self._part = ""


def base_name(filename: str | None) -> str:
    """Return the base name of a client's file name, at most 255 characters; `artifact` if it is empty.

    It is only compared with other names, never used as a path.
    """
    return base_of(filename or "")[:255] or "artifact"
