"""Read a signing host's responses strictly: a CSF blob, JSON, or an error."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Annotated, TypeVar

import msgspec
from msgspec import Meta, Struct
from twisted.web.http_headers import Headers

from digsigd import ahab
from digsigd.client._internal.errors import ClientError, ServerFailed, ServerRefused
from digsigd.client._internal.machine_keys import AhabTableInfo, CertificateInfo, MachineKeys, SrkTableInfo
from digsigd.hab import HabError, SrkTable
from digsigd.names import REQUEST_ID, VERSION
from digsigd.text import one_line

T = TypeVar("T")
# Characters of a server's text that are shown. digsigd's longest text lists the certificates of a tarball.
_MAX_SHOWN = 4000
_CHECK_HOST = "check that the address is that of a signing host, not of a proxy in front of it"
# How many notes are shown, and how long each is, in characters.
_MAX_NOTES, _MAX_NOTE = 16, 500
_PROBLEM = re.compile(r"urn:digsigd:problem:([a-z0-9-]{1,40})")
_RECORD = re.compile(r"[0-9a-f]{8}\.[0-9]{1,18}")
# The header of a CSF: HAB_TAG_CSF, two bytes of length, HAB version 4.x. HABv4 API Reference Manual, "Header".
_CSF = re.compile(rb"\xd4..[\x40-\x4f]", re.DOTALL)


@dataclass(frozen=True, slots=True)
class Answer:
    """A complete response. `coded` is True if its body is compressed, although the client did not ask for that."""

    status: int
    headers: Headers
    body: bytes = field(repr=False)
    coded: bool = False

    def header(self, name: str) -> str:
        """Return a header's first value as printable text of at most 200 characters, "" if it is missing."""
        values = self.headers.getRawHeaders(name.encode(), [])
        return clean(values[0].decode("utf-8", "replace"))[:200] if values else ""

    @property
    def kind(self) -> str:
        """The media type of the body, without parameters."""
        return self.header("content-type").partition(";")[0].strip().lower()

    @property
    def is_json(self) -> bool:
        """True if the media type is JSON."""
        return self.kind in {"application/json", "application/problem+json"}

    @property
    def request_id(self) -> str | None:
        """The host's ID of the request; None if it sent no valid one."""
        given = self.header("x-request-id")
        return given if REQUEST_ID.fullmatch(given) else None

    @property
    def record(self) -> str:
        """The host's ID of the entry in its record; "" if it sent no valid one."""
        given = self.header("x-digsigd-record")
        return given if _RECORD.fullmatch(given) else ""

    @property
    def notes(self) -> tuple[str, ...]:
        """The host's remarks on the signature, as printable text."""
        values = self.headers.getRawHeaders(b"x-digsigd-note", [])[:_MAX_NOTES]
        return tuple(clean(one.decode("utf-8", "replace"))[:_MAX_NOTE] for one in values)


class _Problem(Struct):
    """The members of RFC 9457, 3.1, that are used."""

    type: str = ""
    detail: str = ""


class _Readiness(Struct):
    missing: Annotated[list[Annotated[str, Meta(max_length=_MAX_SHOWN)]], Meta(max_length=64)]
    version: Annotated[str, Meta(max_length=100)] = ""


_Name = Annotated[str, Meta(min_length=1, max_length=1024)]


class _Table(Struct):
    name: _Name
    fuse_value: Annotated[str, Meta(pattern=r"^[0-9a-f]{64}\Z")]
    data: bytes


class _AhabTable(Struct):
    name: _Name
    version: Annotated[int, Meta(ge=1, le=2)]
    sha256: Annotated[str, Meta(pattern=r"^[0-9a-f]{64}\Z")]
    sha512: Annotated[str, Meta(pattern=r"^[0-9a-f]{128}\Z")]
    keys: Annotated[list[Annotated[str, Meta(max_length=100)]], Meta(max_length=4)]
    data: bytes


class _Certificate(Struct):
    name: _Name
    subject: Annotated[str, Meta(max_length=1024)]
    srk: Annotated[int, Meta(ge=1, le=4)] | None
    is_srk: bool
    not_after: Annotated[datetime, Meta(tz=True)]
    sha256: Annotated[str, Meta(pattern=r"^[0-9a-f]{64}\Z")] | None = None
    tables: Annotated[list[_Name], Meta(max_length=32)] | None = None
    key: Annotated[str, Meta(max_length=100)] = ""


class _Machine(Struct):
    machine: str
    tarball_sha256: Annotated[str, Meta(pattern=r"^[0-9a-f]{64}\Z")]
    srk_tables: Annotated[list[_Table], Meta(max_length=16)]
    certificates: Annotated[list[_Certificate], Meta(max_length=256)]
    versions: Annotated[list[Annotated[str, Meta(pattern=rf"^{VERSION.pattern}\Z")]], Meta(max_length=64)]
    backends: Annotated[list[Annotated[str, Meta(pattern=r"^[a-z0-9]{1,16}\Z")]], Meta(max_length=16)]
    ahab_tables: Annotated[list[_AhabTable], Meta(max_length=16)] = []


def clean(text: str) -> str:
    """Return a server's text as one line of limited length without control characters."""
    text = " ".join(text[: 2 * _MAX_SHOWN].split())
    text = one_line(text)
    return text if len(text) <= _MAX_SHOWN else text[:_MAX_SHOWN] + "…"


def read_blob(answer: Answer) -> bytes:
    """Return the CSF blob of a 200. Raises `ClientError` if it does not start like a CSF blob: a login page, say."""
    if answer.coded or not _CSF.match(answer.body):
        raise _no_answer_of_ours(answer, "without a CSF blob")
    return answer.body


def check_file(answer: Answer, length: int, expected: int) -> None:
    """Check a 200 whose body, a signed file, was written away: `length` bytes. Raises `ClientError`."""
    if answer.coded or answer.kind != "application/octet-stream":
        raise _no_answer_of_ours(answer, "without a signed file")
    if length != expected:
        raise _nonsense(answer, f"the signed file has {length} bytes, the one that was sent has {expected}")


def read_missing(answer: Answer) -> list[str]:
    """Return what the host lacks, from a response of `/readyz` with any status: one line each. Raises `ClientError`."""
    return [clean(line) for line in _decoded(answer, _Readiness).missing]


def read_version(answer: Answer) -> str:
    """Return the version of a host, from a response of `/healthz`; "" if it tells none. Raises `ClientError`."""
    return clean(_decoded(answer, _Readiness).version)


def read_machine_keys(answer: Answer, machine: str) -> MachineKeys:
    """Return the keys of `machine` from a response. Raises `ClientError` if it is invalid.

    Unknown members are ignored. The fuse value of each table must match the table, since it gets burnt into boards.
    """
    answered = _decoded(answer, _Machine)
    if answered.machine != machine:
        raise _nonsense(answer, f"it is for another machine, {clean(answered.machine)!r}")
    of_ahab = answered.ahab_tables
    names = [one.name for one in answered.srk_tables] + [one.name for one in of_ahab]
    for name in [*names, *(one.name for one in answered.certificates)]:
        if not name.isprintable():
            raise _nonsense(answer, f"a name has control characters: {clean(name)!r}")
    for table in answered.srk_tables:
        _check_table(answer, table)
    return MachineKeys(
        machine=machine,
        tarball_sha256=answered.tarball_sha256,
        srk_tables=tuple(
            SrkTableInfo(one.name, bytes.fromhex(one.fuse_value), one.data) for one in answered.srk_tables
        ),
        certificates=tuple(_certificate(one) for one in answered.certificates),
        versions=tuple(answered.versions),
        backends=tuple(answered.backends),
        ahab_tables=tuple(_ahab_table(answer, one) for one in of_ahab),
    )


def _check_table(answer: Answer, table: _Table) -> None:
    try:
        fuse_value = SrkTable.parse(table.data).fuse_value
    except HabError as error:
        raise _nonsense(answer, f"{table.name} is not an SRK table: {error}") from None
    if fuse_value.hex() != table.fuse_value:
        raise _nonsense(
            answer, f"the fuse value of {table.name} is {fuse_value.hex()}, the response says {table.fuse_value}"
        )


def _ahab_table(answer: Answer, told: _AhabTable) -> AhabTableInfo:
    """Return a table whose hashes are those that the response says."""
    try:
        table = ahab.parse_table(told.data)
    except ahab.AhabError as error:
        raise _nonsense(answer, f"{told.name} is not an SRK table for AHAB: {error}") from None
    version = 1 if isinstance(table, ahab.SrkTable) else 2
    if version != told.version:
        raise _nonsense(answer, f"{told.name} has the version {version}, the response says {told.version}")
    for name, value in (("sha256", told.sha256), ("sha512", told.sha512)):
        if (found := table.hash(name).hex()) != value:
            raise _nonsense(answer, f"the {name} of {told.name} is {found}, the response says {value}")
    return AhabTableInfo(
        told.name,
        told.version,
        bytes.fromhex(told.sha256),
        bytes.fromhex(told.sha512),
        tuple(clean(one) for one in told.keys),
        told.data,
    )


def _certificate(told: _Certificate) -> CertificateInfo:
    return CertificateInfo(
        told.name,
        clean(told.subject),
        told.srk,
        told.is_srk,
        told.not_after.astimezone(UTC),
        bytes.fromhex(told.sha256) if told.sha256 else None,
        tuple(told.tables) if told.tables is not None else None,
        clean(told.key),
    )


def error_of(answer: Answer, *, request_id: str, with_token: bool) -> ClientError:
    """Build the error for an unexpected response. `request_id` is used if the response has none."""
    status = answer.status
    request_id = answer.request_id or request_id
    if 300 <= status < 400:
        where = _host_of(answer.header("location"))
        return ClientError(
            f"the server answers {status}, a redirect{where}, which is not followed",
            hint="set the address of the signing host itself: --server, DIGSIGN_SERVER, or server in digsign.toml",
            status=status,
            request_id=request_id,
        )
    problem, detail = _told_by(answer)
    hint = _hint(status, problem, with_token)
    if not detail:
        what = {"text/html": " with a web page"}.get(answer.kind, "")
        detail = f"the server answers {status}{what} and gives no reason"
        if problem is None and status not in {401, 403}:
            hint = hint or _CHECK_HOST
    kind = ServerRefused if 400 <= status < 500 else ServerFailed if status >= 500 else ClientError
    return kind(detail, hint=hint, problem=problem, status=status, request_id=request_id)


def _told_by(answer: Answer) -> tuple[str | None, str]:
    """Return the problem name (None if there is none) and the error text ("" if there is none) of a response."""
    if answer.coded:
        return None, ""
    if answer.is_json:
        try:
            answered = msgspec.json.decode(answer.body, type=_Problem)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            return None, ""
        match = _PROBLEM.fullmatch(answered.type)
        return match[1] if match else None, clean(answered.detail)
    if answer.kind == "text/plain":
        return None, clean(answer.body.decode("utf-8", "replace"))
    return None, ""


def _hint(status: int, problem: str | None, with_token: bool) -> str:
    """Return the hint for an error that the host reports, "" if there is none."""
    if status == 401 and not with_token:
        return "pass a token: --token-file FILE, DIGSIGN_TOKEN_FILE, DIGSIGN_TOKEN, or token_file in digsign.toml"
    if status == 401:
        return "the host does not know this token: compare it with the one in the host's [callers]"
    if status == 403:
        return "the token is not allowed to do this: ask the operator of the signing host, or use another token"
    if problem == "no-keys":
        return "check the machine name: --machine, DIGSIGN_MACHINE, or machine in digsign.toml"
    if status in {404, 405}:
        return "check that the address is that of a signing host, with its path, if it has one"
    if problem in {"bad-key-tarball", "token-failed", "cst-failed", "verification-failed", "internal-error"}:
        return "ask the operator of the signing host: its log has more under the request ID"
    return ""


def _host_of(location: str) -> str:
    """Return the host that a redirect leads to: only the host, since the rest can contain a secret."""
    match = re.match(r"(https?://)(?:[^/?#@\\]*@)?([A-Za-z0-9._:\[\]-]{1,255})(?=[/?#]|\Z)", location)
    return f" to {match[1]}{match[2]}" if match else ""


def _decoded(answer: Answer, kind: type[T]) -> T:
    if answer.coded or not answer.is_json:
        raise _no_answer_of_ours(answer, "without JSON")
    try:
        return msgspec.json.decode(answer.body, type=kind)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise _nonsense(answer, str(error)) from None


def _no_answer_of_ours(answer: Answer, what: str) -> ClientError:
    kind = ", compressed" if answer.coded else f", of type {answer.kind}" if answer.kind else ""
    return ClientError(
        f"the server answers {answer.status} {what}{kind}",
        hint=_CHECK_HOST,
        status=answer.status,
        request_id=answer.request_id,
    )


def _nonsense(answer: Answer, why: str) -> ClientError:
    return ClientError(
        f"the server sent an invalid response: {clean(why)}",
        hint="check that the address is that of a signing host, and that this digsign supports its version",
        status=answer.status,
        request_id=answer.request_id,
    )
