"""Keys on tokens: who may use which, one caller after the other, and what cst needs to reach them.

cst itself speaks no PKCS #11. Versions up to 3 load OpenSSL's engine `pkcs11` (libp11), later ones its provider
(pkcs11-provider). Both take the PIN from the OpenSSL configuration that OPENSSL_CONF names: it is written for each
request into the request's own directory, and is in no argument, environment or description.
"""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Collection, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Literal, TypeAlias

from twisted.internet.defer import Deferred
from twisted.internet.defer import TimeoutError as LateError
from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger

from digsigd.csf import KeyUri
from digsigd.csf.cst_files import CONFIGURATION, TRACE
from digsigd.errors import Busy, Refused, TokenFailed
from digsigd.mapped import Mapped
from digsigd.signing.queue import Queue
from digsigd.signing.workdir import Workdir

Way: TypeAlias = Literal["engine", "provider"]
# What a cst imports that goes one way or the other.
_IMPORTS: dict[Way, bytes] = {"engine": b"\0ENGINE_by_id\0", "provider": b"\0OSSL_PROVIDER_load\0"}
# PKCS #11 v2.40, 'General errors': those after which another try may lock the token, or is in vain.
_PIN_ERRORS = {
    0xA0: "the PIN is wrong",
    0xA1: "the PIN has characters that it does not take",
    0xA2: "the PIN is too short or too long",
    0xA3: "the PIN has expired",
    0xA4: "the PIN is locked",
    0x102: "it has no user PIN yet",
}
# libp11's errors in OpenSSL's queue: ERR_LIB is chosen when it is loaded, the reason is what the token returned.
# Whole lines, for names of clients stand in both texts.
_ENGINE_ERROR = re.compile(rb"^[0-9A-F]+:error:[0-9A-F]{2}([0-9A-F]{6}):PKCS#11 module:", re.MULTILINE)
_LOGIN_FAILED = re.compile(rb"^Login failed$", re.MULTILINE)
_PROVIDER_ERROR = re.compile(rb"^\[[^\]\n]*\] p11prov_Login\(\): Error (\d+) returned by C_Login$", re.MULTILINE)
_NO_MODULE = (b"Unable to load PKCS#11 module", b"Module initialization failed", b"Error loading pkcs11")
_NOT_FOUND = b"Public key certificate is invalid in file pkcs11:"
# What libp11 says with VERBOSE, and of it the objects that a token holds of a kind.
_CHATTER = re.compile(
    rb"PKCS#11: Initializing|Found \d+ |Looking in slots?\b|- \[|Found (?:slot|token|uninitialized token):|Returning |"
    rb"\s+\d+\s+(?:P\s+)?id=|(?:The )?PKCS#11 engine|Login"
)
_LISTED = re.compile(rb"\s+\d+\s+(?:P\s+)?id=([0-9a-f]*) label=(.*?)(?: expiry=.*)?")
_LIST = re.compile(rb"Found \d+ (?:certificate|private key)s?:")
# What the provider's trace has of each search: its start, each certificate that it found, and how many objects.
_SEARCH = re.compile(rb"p11prov_obj_find\(\): Find objects \[(.*?)Find objects: found (\d+) objects", re.DOTALL)
_CERTIFICATE_READ = b"Fetching attributes (0): 0x00000080"  # CKA_CERTIFICATE_TYPE, which nothing else has
# The provider says of a login that failed, and of what it found, only here: 80 KB of a usual run.
MAX_TRACE = 8 << 20


def way_of(executable: str) -> Way | None:
    """Which way a cst goes to tokens, to go by what it imports; None where it is no program or goes none."""
    try:
        with Path(executable).open("rb") as file, Mapped.of(file.fileno()) as content:
            found = [way for way, name in _IMPORTS.items() if content.find(name) >= 0]
    except (OSError, ValueError):
        return None
    return found[0] if len(found) == 1 else None


@dataclass(frozen=True, slots=True)
class Access:
    """How cst of this host reaches tokens: absolute paths; None leaves finding it to OpenSSL."""

    module: Path | None
    engine: Path | None = None
    provider: Path | None = None
    environment: Mapping[str, str] = field(default_factory=dict)
    ways: Mapping[str, Way] = field(default_factory=dict)


class Token:
    """One token: its PIN, the machines it is for (None: all), and the callers who wait for it.

    `failed` says why it is not tried again until an operator reloads; empty while it may be.
    """

    log = Logger()

    def __init__(
        self, name: str, pin: str, machines: tuple[str, ...] | None, max_sessions: int, *, clock: IReactorTime
    ) -> None:
        self.name = name
        self.failed = ""
        self._pin = pin
        self._machines = machines
        self._clock = clock
        # Those who wait are bounded by the queue for cst and by the uploads there may be.
        self._queue = Queue(max_sessions, 1 << 16, clock=clock)
        self._proven = self._trying = False
        # In order of arrival.
        self._waiters: dict[Deferred[None], None] = {}

    def is_for(self, machine: str) -> bool:
        """Whether a machine's keys may be on it."""
        return self._machines is None or any(fnmatchcase(machine, pattern) for pattern in self._machines)

    def describe(self) -> str:
        """For whom it is, and for how many at once."""
        machines = "all machines" if self._machines is None else f"machines {', '.join(self._machines)}"
        return f"{machines}, {self._queue.slots} at a time"

    def reload(self, pin: str) -> None:
        """Try again, with this PIN."""
        self._pin, self.failed, self._proven = pin, "", False

    @asynccontextmanager
    async def session(self, timeout: float) -> AsyncIterator[str]:
        """A turn at the token, first come, first served, and the PIN to use in it.

        Until the PIN has worked once, only one at a time has a turn. Raises `Busy` where none comes within `timeout`
        seconds, `TokenFailed` where the PIN is not to be tried again.
        """
        turn = Deferred.fromCoroutine(self._queue.enter())
        turn.addTimeout(timeout, self._clock)
        try:
            slot = await turn
        except LateError:
            raise Busy(f"token {self.name!r} had no room within {timeout:g} s") from None
        try:
            alone = await self._whether_alone()
            try:
                if self.failed:
                    raise self._error()
                yield self._pin
            finally:
                if alone:
                    self._tried()
        finally:
            slot.leave()

    async def _whether_alone(self) -> bool:
        """Wait until somebody else has tried the PIN. Whoever is to try it itself is alone, and calls `_tried`."""
        while not (self._proven or self.failed):
            if not self._trying:
                self._trying = True
                return True
            waiter: Deferred[None] = Deferred(lambda one: self._waiters.pop(one, None))
            self._waiters[waiter] = None
            await waiter
        return False

    def _tried(self) -> None:
        self._trying = False
        waiters, self._waiters = self._waiters, {}
        for waiter in waiters:
            if not waiter.called:
                waiter.callback(None)

    def judge(
        self, way: Way, output: bytes, workdir: Path, uris: Collection[KeyUri], *, pin: str, worked: bool
    ) -> None:
        """What a run with this PIN tells of the token, to be called while the session lasts.

        Raises `TokenFailed`, `Refused`, and `Busy` where the PIN was refused, but is another one by now.
        """
        trace = _trace(workdir) if way == "provider" else b""
        current = pin == self._pin
        if worked and current:
            self._proven = True
        if doubled := _doubled(way, output, trace, uris):
            raise Refused(f"several objects on token {self.name!r} match {doubled}", hint="name one by its id: id=%01")
        if worked:
            return
        code = _login_error(way, output, trace)
        if code in _PIN_ERRORS and not current:
            raise Busy(f"the PIN of token {self.name!r} has been changed meanwhile", retry_after=1)
        if code in _PIN_ERRORS:
            self.failed = _PIN_ERRORS[code]
            self.log.error(
                "token {token} is not used until the daemon reloads: {why}",
                token=self.name, why=self.failed, event="token-failed",
            )  # fmt: skip
            raise self._error()
        if code is not None:
            raise TokenFailed(f"token {self.name!r} refused to be logged into", detail=f"C_Login returned {code:#x}")
        if any(mark in output for mark in _NO_MODULE):
            raise TokenFailed("the PKCS #11 module of this host cannot be loaded")
        if _NOT_FOUND in output:
            raise Refused(
                f"the certificate is not on token {self.name!r}, or the token is not there",
                hint="pkcs11-tool --list-objects shows the labels",
            )

    def _error(self) -> TokenFailed:
        return TokenFailed(
            f"token {self.name!r} cannot be used: {self.failed}",
            hint="the operator of the signing host has to mend it, and reload",
        )


class Tokens:
    """The tokens of this host, by name."""

    def __init__(self, tokens: Mapping[str, Token], access: Access, *, login_timeout: float) -> None:
        self.access = access
        self.login_timeout = login_timeout
        self._tokens = dict(tokens)

    def __bool__(self) -> bool:
        return bool(self._tokens)

    def find(self, name: str, machine: str) -> Token:
        """The token that a description names. Raises `Refused` where this machine's keys may not be on it."""
        token = self._tokens.get(name)
        # What there is for other machines is not told.
        if token is None or not token.is_for(machine):
            mine = sorted(one.name for one in self._tokens.values() if one.is_for(machine))
            raise Refused(
                f"machine {machine!r} has no token of that name", hint=f"it has {', '.join(map(repr, mine)) or 'none'}"
            )
        return token

    def any_for(self, machine: str) -> bool:
        """Whether there is one for a machine."""
        return any(one.is_for(machine) for one in self._tokens.values())

    def way(self, version: str, executable: str) -> Way:
        """Which way a cst goes to tokens. It blocks. Raises `Refused` where it goes none."""
        way = self.access.ways.get(version) or way_of(executable)
        if way is None:
            raise Refused(f"cst {version} has no pkcs11 backend")
        return way

    def describe(self) -> list[tuple[str, str, bool]]:
        """Each token's name, what is known of it, and whether it can be used: for operators. It blocks."""
        module = self.access.module
        problem = "" if module is None or module.is_file() else f"the module {module} is no file"
        shown = f"module {module or 'by p11-kit'}"
        return [(one.name, problem or f"{shown}, {one.describe()}", not problem) for one in self._tokens.values()]

    def missing(self) -> list[str]:
        """Which tokens are not used, a line each."""
        return [f"token {token.name}: {token.failed}" for token in self._tokens.values() if token.failed]

    def reload(self, pins: Mapping[str, str]) -> None:
        """Try tokens again, with these PINs."""
        for name, pin in pins.items():
            self._tokens[name].reload(pin)


def write_access(workdir: Workdir, way: Way, access: Access, pin: str) -> dict[str, str]:
    """Write what OpenSSL needs into a request's directory; the result is what cst needs in its environment."""
    workdir.write(CONFIGURATION, _configuration(way, access, pin).encode())
    environment = {**access.environment, "OPENSSL_CONF": str(workdir.path / CONFIGURATION)}
    if way == "provider":
        # Relative to where cst runs: a comma in a path would end it.
        environment["PKCS11_PROVIDER_DEBUG"] = f"file:{TRACE},level:1"
    return environment


def forms_of(pin: str) -> tuple[bytes, ...]:
    """What must be in no log, error or answer: the PIN, as it is and as a configuration has it."""
    return pin.encode(), _quoted(pin)[1:-1].encode()


def without_chatter(output: bytes) -> bytes:
    """Cst's own words, without what libp11 says of each of its steps."""
    return b"\n".join(line for line in output.split(b"\n") if not _CHATTER.match(line))


def _trace(workdir: Path) -> bytes:
    try:
        with (workdir / TRACE).open("rb") as file:
            return file.read(MAX_TRACE)
    except OSError:
        return b""


def _doubled(way: Way, output: bytes, trace: bytes, uris: Collection[KeyUri]) -> str:
    """The URI that more than one certificate or key has matched, for cst would take any; empty if there is none."""
    if way == "engine":
        lists: list[list[tuple[bytes, bytes]]] = []
        for line in output.split(b"\n"):
            if _LIST.fullmatch(line):
                lists.append([])
            elif lists and (found := _LISTED.fullmatch(line)):
                lists[-1].append((found[1], found[2]))
        for uri in uris:
            if any(sum(_matches(uri, *one) for one in entries) > 1 for entries in lists):
                return str(uri)
        return ""
    for search in _SEARCH.finditer(trace):
        certificates = search[1].count(_CERTIFICATE_READ)
        # Beside its certificate there is a private key, and a public one on many tokens.
        if certificates > 1 or int(search[2]) - certificates > 2:
            label = search[1].partition(b"]")[0].rpartition(b"label=")[2]
            matching = [uri for uri in uris if uri.object is not None and uri.object.encode() == label] or list(uris)
            return str(matching[0])
    return ""


def _matches(uri: KeyUri, identifier: bytes, label: bytes) -> bool:
    if uri.id is not None and uri.id.hex().encode() != identifier:
        return False
    return uri.object is None or uri.object.encode() == label


def _login_error(way: Way, output: bytes, trace: bytes) -> int | None:
    """What C_Login has returned, where it failed."""
    if way == "engine":
        codes = _ENGINE_ERROR.findall(output) if _LOGIN_FAILED.search(output) else []
        return int(codes[0], 16) & 0x7FFFFF if codes else None
    found = _PROVIDER_ERROR.search(trace)
    return int(found[1]) if found else None


def _configuration(way: Way, access: Access, pin: str) -> str:
    """OpenSSL's config(5).

    The provider is not activated: cst loads it, and the default one, by name, and SoftHSM's own OpenSSL, which reads
    the same file, must not. It takes PINs from files too, but wrongly those of more than 31 bytes.
    """
    if way == "engine":
        lines = ["VERBOSE = EMPTY", f"PIN = {_quoted(pin)}"]
        if access.engine is not None:
            lines.insert(0, f"dynamic_path = {_quoted(str(access.engine))}")
        if access.module is not None:
            lines.append(f"MODULE_PATH = {_quoted(str(access.module))}")
    else:
        lines = [f"pkcs11-module-token-pin = {_quoted(pin)}"]
        if access.provider is not None:
            lines.append(f"module = {_quoted(str(access.provider))}")
        if access.module is not None:
            lines.append(f"pkcs11-module-path = {_quoted(str(access.module))}")
    section = f"{way}s = loaded\n\n[loaded]\npkcs11 = token\n\n[token]\n"
    return "openssl_conf = init\n\n[init]\n" + section + "\n".join(lines) + "\n"


def _quoted(text: str) -> str:
    """Between quotation marks a backslash takes the meaning from what follows: config(5)."""
    return '"' + re.sub(r'([\\"$])', r"\\\1", text) + '"'
