"""What a signing host answers, read strictly: a CSF blob, JSON, or why there is neither."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Annotated, TypeVar

import msgspec
from msgspec import Meta, Struct
from twisted.web.http_headers import Headers

from digsigd.client._internal.errors import ClientError, ServerFailed, ServerRefused
from digsigd.client._internal.machine_keys import CertificateInfo, MachineKeys, SrkTableInfo
from digsigd.hab import HabError, SrkTable
from digsigd.names import REQUEST_ID, VERSION
from digsigd.text import one_line

T = TypeVar("T")
# What is shown of a server's text. The longest that digsigd sends lists the certificates of a tarball.
_MAX_SHOWN = 4000
_PROBLEM = re.compile(r"urn:digsigd:problem:([a-z0-9-]{1,40})")
# The header of a CSF: HAB_TAG_CSF, two bytes of length, HAB version 4.x. HABv4 API Reference Manual, "Header".
_CSF = re.compile(rb"\xd4..[\x40-\x4f]", re.DOTALL)


@dataclass(frozen=True, slots=True)
class Answer:
    """A whole answer. `coded` says that its body is compressed, which nobody asked for."""

    status: int
    headers: Headers
    body: bytes = field(repr=False)
    coded: bool = False

    def header(self, name: str) -> str:
        """A header's first value as text that can be shown, or nothing."""
        values = self.headers.getRawHeaders(name.encode(), [])
        return clean(values[0].decode("utf-8", "replace"))[:200] if values else ""

    @property
    def kind(self) -> str:
        """The media type of the body, without parameters."""
        return self.header("content-type").partition(";")[0].strip().lower()

    @property
    def is_json(self) -> bool:
        """Whether the body says that it is JSON."""
        return self.kind in {"application/json", "application/problem+json"}

    @property
    def request_id(self) -> str | None:
        """What the host calls the request."""
        given = self.header("x-request-id")
        return given if REQUEST_ID.fullmatch(given) else None


class _Problem(Struct):
    """RFC 9457, 3.1, of the members those that are used."""

    type: str = ""
    detail: str = ""


class _Readiness(Struct):
    missing: Annotated[list[Annotated[str, Meta(max_length=_MAX_SHOWN)]], Meta(max_length=64)]


_Name = Annotated[str, Meta(min_length=1, max_length=1024)]


class _Table(Struct):
    name: _Name
    fuse_value: Annotated[str, Meta(pattern=r"^[0-9a-f]{64}\Z")]
    data: bytes


class _Certificate(Struct):
    name: _Name
    subject: Annotated[str, Meta(max_length=1024)]
    srk: Annotated[int, Meta(ge=1, le=4)] | None
    is_srk: bool
    not_after: Annotated[datetime, Meta(tz=True)]
    sha256: Annotated[str, Meta(pattern=r"^[0-9a-f]{64}\Z")] | None = None


class _Machine(Struct):
    machine: str
    tarball_sha256: Annotated[str, Meta(pattern=r"^[0-9a-f]{64}\Z")]
    srk_tables: Annotated[list[_Table], Meta(max_length=16)]
    certificates: Annotated[list[_Certificate], Meta(max_length=256)]
    versions: Annotated[list[Annotated[str, Meta(pattern=rf"^{VERSION.pattern}\Z")]], Meta(max_length=64)]
    backends: Annotated[list[Annotated[str, Meta(pattern=r"^[a-z0-9]{1,16}\Z")]], Meta(max_length=16)]


def clean(text: str) -> str:
    """A server's text as one line without control characters, and not without an end."""
    text = " ".join(text[: 2 * _MAX_SHOWN].split())
    text = one_line(text)
    return text if len(text) <= _MAX_SHOWN else text[:_MAX_SHOWN] + "…"


def read_blob(answer: Answer) -> bytes:
    """The CSF of a 200. Raises `ClientError` where it begins as no CSF does: a login page, for example."""
    if answer.coded or not _CSF.match(answer.body):
        raise _no_answer_of_ours(answer, "with what is no CSF")
    return answer.body


def read_missing(answer: Answer) -> list[str]:
    """What an answer of `/readyz`, of whatever status, says is missing. Raises `ClientError`."""
    return [clean(line) for line in _decoded(answer, _Readiness).missing]


def read_machine_keys(answer: Answer, machine: str) -> MachineKeys:
    """The keys of `machine` as an answer tells them. Raises `ClientError` where it is anything else.

    Members that are not known are left out. The fuse value of each table has to be the table's own: people burn it.
    """
    told = _decoded(answer, _Machine)
    if told.machine != machine:
        raise _nonsense(answer, f"it is of another machine, {clean(told.machine)!r}")
    for name in [one.name for one in told.srk_tables] + [one.name for one in told.certificates]:
        if not name.isprintable():
            raise _nonsense(answer, f"a name has control characters: {clean(name)!r}")
    for table in told.srk_tables:
        try:
            fuse_value = SrkTable.parse(table.data).fuse_value
        except HabError as error:
            raise _nonsense(answer, f"{table.name} is no SRK table: {error}") from None
        if fuse_value.hex() != table.fuse_value:
            raise _nonsense(answer, f"{table.name} has another fuse value than is told")
    return MachineKeys(
        machine=machine,
        tarball_sha256=told.tarball_sha256,
        srk_tables=tuple(SrkTableInfo(one.name, bytes.fromhex(one.fuse_value), one.data) for one in told.srk_tables),
        certificates=tuple(
            CertificateInfo(
                one.name,
                clean(one.subject),
                one.srk,
                one.is_srk,
                one.not_after.astimezone(UTC),
                bytes.fromhex(one.sha256) if one.sha256 else None,
            )
            for one in told.certificates
        ),
        versions=tuple(told.versions),
        backends=tuple(told.backends),
    )


def error_of(answer: Answer, *, request_id: str, with_token: bool) -> ClientError:
    """Why an answer is none that was hoped for, and what to do about it. `request_id` is ours for it."""
    status = answer.status
    request_id = answer.request_id or request_id
    if 300 <= status < 400:
        where = _host_of(answer.header("location"))
        return ClientError(
            f"the server answers {status}, a redirect{where}, which is not followed",
            hint="say the signing host's own address: --server, DIGSIGN_SERVER, or server in digsign.toml",
            status=status,
            request_id=request_id,
        )
    problem, detail = _told_by(answer)
    hint = _hint(status, problem, with_token)
    if not detail:
        what = {"text/html": " with a web page"}.get(answer.kind, "")
        detail = f"the server answers {status}{what} and no reason"
        if problem is None and status not in {401, 403}:
            hint = hint or "is it a signing host? Something in front of it may have answered"
    kind = ServerRefused if 400 <= status < 500 else ServerFailed if status >= 500 else ClientError
    return kind(detail, hint=hint, problem=problem, status=status, request_id=request_id)


def _told_by(answer: Answer) -> tuple[str | None, str]:
    """The kind of problem, and the text for people; nothing of either where there is none."""
    if answer.coded:
        return None, ""
    if answer.is_json:
        try:
            told = msgspec.json.decode(answer.body, type=_Problem)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            return None, ""
        match = _PROBLEM.fullmatch(told.type)
        return match[1] if match else None, clean(told.detail)
    if answer.kind == "text/plain":
        return None, clean(answer.body.decode("utf-8", "replace"))
    return None, ""


def _hint(status: int, problem: str | None, with_token: bool) -> str:
    """What to do about an error of the host's."""
    if status == 401 and not with_token:
        return "give a token: --token-file FILE, DIGSIGN_TOKEN_FILE, DIGSIGN_TOKEN, or token_file in digsign.toml"
    if status == 401:
        return "the token is none of this host's: compare it with the one in its [callers]"
    if status == 403:
        return "the token does not count for this: ask the operator of the signing host, or use another"
    if problem == "no-keys":
        return "is it the right machine? --machine, DIGSIGN_MACHINE, or machine in digsign.toml"
    if status in {404, 405}:
        return "is it the address of a signing host, with the path below which it is, if any?"
    if problem in {"bad-key-tarball", "token-failed", "cst-failed", "verification-failed", "internal-error"}:
        return "the operator of the signing host has to look: its log has more under the request's id"
    return ""


def _host_of(location: str) -> str:
    """Where a redirect leads: the host alone, for the rest may be a secret."""
    match = re.match(r"(https?://)(?:[^/?#@\\]*@)?([A-Za-z0-9._:\[\]-]{1,255})(?=[/?#]|\Z)", location)
    return f" to {match[1]}{match[2]}" if match else ""


def _decoded(answer: Answer, kind: type[T]) -> T:
    if answer.coded or not answer.is_json:
        raise _no_answer_of_ours(answer, "with what is no JSON")
    try:
        return msgspec.json.decode(answer.body, type=kind)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise _nonsense(answer, str(error)) from None


def _no_answer_of_ours(answer: Answer, what: str) -> ClientError:
    kind = " that is compressed" if answer.coded else f" of type {answer.kind}" if answer.kind else ""
    return ClientError(
        f"the server answers {answer.status} {what}{kind}",
        hint="is it a signing host? Something in front of it may have answered",
        status=answer.status,
        request_id=answer.request_id,
    )


def _nonsense(answer: Answer, why: str) -> ClientError:
    return ClientError(
        f"the server's answer makes no sense: {clean(why)}",
        hint="is it a signing host, and of a version that this digsign knows?",
        status=answer.status,
        request_id=answer.request_id,
    )
