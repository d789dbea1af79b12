"""Keys on tokens: access by machine, turns and PINs, and the configuration with which cst reaches them.

cst contains no PKCS #11 code. Versions up to 3 load the OpenSSL engine `pkcs11` (libp11), later versions the
OpenSSL provider pkcs11-provider. Both read the PIN from the OpenSSL configuration file in OPENSSL_CONF. That file is
written into the work directory of each request. The PIN is never in arguments, environment or CSF descriptions.
"""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Collection, Iterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
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
from digsigd.signing.host import Host, OneProcess
from digsigd.signing.libraries import module_in
from digsigd.signing.queue import Slot
from digsigd.signing.start import NOTHING, Needs
from digsigd.signing.workdir import Workdir

Way: TypeAlias = Literal["engine", "provider"]
# The function that a cst imports for each way.
_IMPORTS: dict[Way, bytes] = {"engine": b"\0ENGINE_by_id\0", "provider": b"\0OSSL_PROVIDER_load\0"}
# PKCS #11 v2.40, 'General errors': those after which another try is useless or can lock the token.
_PIN_ERRORS = {
    0xA0: "the PIN is wrong",
    0xA1: "the PIN has characters that the token does not accept",
    0xA2: "the PIN is too short or too long",
    0xA3: "the PIN has expired",
    0xA4: "the PIN is locked",
    0x102: "the token has no user PIN yet",
}
# libp11's errors in OpenSSL's queue: ERR_LIB is assigned at load time, the reason is the token's return value.
# Match whole lines, because texts from clients can appear within lines of both outputs.
_ENGINE_ERROR = re.compile(rb"^[0-9A-F]+:error:[0-9A-F]{2}([0-9A-F]{6}):PKCS#11 module:", re.MULTILINE)
_LOGIN_FAILED = re.compile(rb"^Login failed$", re.MULTILINE)
_PROVIDER_ERROR = re.compile(
    rb"^(?:\[[^\]\n]*\] ){1,2}p11prov_Login\(\): Error (\d+) returned by C_Login$", re.MULTILINE
)
_NO_MODULE = (b"Unable to load PKCS#11 module", b"Module initialization failed", b"Error loading pkcs11")
_NOT_FOUND = b"Public key certificate is invalid in file pkcs11:"
# The output of libp11 with VERBOSE, and in it the lists of a token's objects of one kind.
_CHATTER = re.compile(
    rb"PKCS#11: Initializing|Found \d+ |Looking in slots?\b|- \[|Found (?:slot|token|uninitialized token):|Returning |"
    rb"\s+\d+\s+(?:P\s+)?id=|(?:The )?PKCS#11 engine|Login"
)
_LISTED = re.compile(rb"\s+\d+\s+(?:P\s+)?id=([0-9a-f]*) label=(.*?)(?: expiry=.*)?")
_LIST = re.compile(rb"Found \d+ (?:certificate|private key)s?:")
# A search in the provider's trace: its start, each certificate that it found, and the number of objects.
_SEARCH = re.compile(rb"p11prov_obj_find\(\): Find objects \[(.*?)Find objects: found (\d+) objects", re.DOTALL)
_CERTIFICATE_READ = b"Fetching attributes (0): 0x00000080"  # CKA_CERTIFICATE_TYPE, which only certificates have
# The most bytes of the provider's trace, the only place with failed logins and search results. Usually 80 KB.
MAX_TRACE = 8 << 20
# The queue for cst and the limit of uploads bound the number of waiting requests.
MOST_WAITING = 1 << 16


def session_queue(token: str) -> str:
    """Return the name of the queue for sessions of a token."""
    return f"token {token}"


def trial_queue(token: str) -> str:
    """Return the name of the queue of those that would try a token's PIN."""
    return f"PIN {token}"


def way_of(executable: str) -> Way | None:
    """Return the way in which a cst reaches tokens, from its imports; None if it has no or no single way. Blocks."""
    try:
        with Path(executable).open("rb") as file, Mapped.of(file.fileno()) as content:
            found = [way for way, name in _IMPORTS.items() if content.find(name) >= 0]
    except (OSError, ValueError):
        return None
    return found[0] if len(found) == 1 else None


@dataclass(frozen=True, slots=True)
class Access:
    """How cst on this host reaches tokens. Paths are absolute; with None, OpenSSL finds the file.

    `environment` is added to that of cst. `ways` overrides the way by cst version. `needs` is what they may use in
    the cage. `found` means that the provider is not from the configuration.
    """

    module: Path | None
    engine: Path | None = None
    provider: Path | None = None
    environment: Mapping[str, str] = field(default_factory=dict)
    ways: Mapping[str, Way] = field(default_factory=dict)
    needs: Needs = NOTHING
    found: bool = False

    def beside(self, libraries: str) -> Access:
        """Return it for a cst with its own libraries: with their engine and provider, unless those are configured.

        An engine or provider has to fit the libcrypto that loads it. Blocks.
        """
        provider = module_in(libraries, "provider") if self.found or self.provider is None else None
        return replace(
            self,
            engine=self.engine or module_in(libraries, "engine"),
            provider=provider or self.provider,
            needs=replace(self.needs, libraries=libraries),
        )


class Token:
    """A token: its PIN, the patterns of machines that may use it (None: all), and the requests that wait for it.

    `proven`: its PIN has worked. `failed`: why it is not tried again until the operator reloads the daemon, else empty.
    """

    log = Logger()

    def __init__(
        self,
        name: str,
        pin: str,
        machines: tuple[str, ...] | None,
        max_sessions: int,
        *,
        clock: IReactorTime,
        host: Host | None = None,
    ) -> None:
        self.name = name
        self.proven, self.failed = False, ""
        self._pin = pin
        self._machines = machines
        self._clock = clock
        self._host = OneProcess() if host is None else host
        self._queue = self._host.queue(session_queue(name), max_sessions, MOST_WAITING, clock=clock)
        # Who tries the PIN.
        self._trial = self._host.queue(trial_queue(name), 1, MOST_WAITING, clock=clock)

    def is_for(self, machine: str) -> bool:
        """Return whether a machine may use this token."""
        return self._machines is None or any(fnmatchcase(machine, pattern) for pattern in self._machines)

    def describe(self) -> str:
        """Return which machines may use the token and how many sessions it allows, as a text."""
        machines = "all machines" if self._machines is None else f"machines {', '.join(self._machines)}"
        return f"{machines}, {self._queue.slots} at a time"

    def reload(self, pin: str, machines: tuple[str, ...] | None) -> None:
        """Set the PIN and the machines, and use the token again if it had failed."""
        self._pin, self._machines, self.failed, self.proven = pin, machines, "", False

    @asynccontextmanager
    async def session(self, timeout: float) -> AsyncIterator[str]:
        """Wait for a session on the token, in order of arrival, and give the PIN to use in it.

        Until the PIN has worked once, there is only one session at a time. Raises `Busy` if there is no free session
        within `timeout` seconds, `TokenFailed` if the PIN must not be tried again.
        """
        turn = Deferred.fromCoroutine(self._queue.enter())
        turn.addTimeout(timeout, self._clock)
        try:
            slot = await turn
        except LateError:
            raise Busy(f"token {self.name!r} had no free session within {timeout:g} s") from None
        try:
            alone = await self._alone()
            try:
                if self.failed:
                    raise self._error()
                yield self._pin
            finally:
                if alone is not None:
                    alone.leave()
        finally:
            slot.leave()

    async def _alone(self) -> Slot | None:
        """Wait until the PIN was tried. Return a slot if the caller must try it, alone on this host."""
        if self._is_tried():
            return None
        slot = await self._trial.enter()
        if self._is_tried():
            slot.leave()
            return None
        return slot

    def _is_tried(self) -> bool:
        return self.proven or bool(self.failed)

    def learn(self, *, proven: bool, failed: str) -> None:
        """Take over what another process of this host has found out about the PIN."""
        self.proven, self.failed = proven, failed

    def judge(self, way: Way, output: bytes, trace: bytes, uris: Collection[KeyUri], *, pin: str, worked: bool) -> None:
        """Judge the token by a run of cst with `pin`, its output and the trace. Call this within the session.

        Raises `TokenFailed` if the token cannot be used, `Refused` if an object is missing or ambiguous, and `Busy` if
        the PIN was refused but has been changed meanwhile.
        """
        current = pin == self._pin
        if worked and current:
            if not self.proven:
                self._host.token_tried(self.name, proven=True, failed="")
            self.proven = True
        if doubled := _doubled(way, output, trace, uris):
            raise Refused(
                f"several objects on token {self.name!r} match {doubled}", hint="select one by its id, as in id=%01"
            )
        if worked:
            return
        code = _login_error(way, output, trace)
        if code in _PIN_ERRORS and not current:
            raise Busy(f"the PIN of token {self.name!r} was changed during the request", retry_after=1)
        if code in _PIN_ERRORS:
            self.failed = _PIN_ERRORS[code]
            self._host.token_tried(self.name, proven=False, failed=self.failed)
            self.log.error(
                "token {token} is not used until the daemon reloads: {why}",
                token=self.name, why=self.failed, event="token-failed",
            )  # fmt: skip
            raise self._error()
        if code is not None:
            raise TokenFailed(f"login to token {self.name!r} failed", detail=f"C_Login returned {code:#x}")
        if any(mark in output for mark in _NO_MODULE):
            raise TokenFailed("the PKCS #11 module of this host cannot be loaded")
        if _NOT_FOUND in output:
            raise Refused(
                f"the certificate is not on token {self.name!r}, or the token is not present",
                hint="check the labels with pkcs11-tool --list-objects",
            )

    def _error(self) -> TokenFailed:
        return TokenFailed(
            f"token {self.name!r} cannot be used: {self.failed}",
            hint="the operator of the signing host must correct this and reload the daemon",
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
        """Return the token `name`. Raises `Refused` if it does not exist or `machine` may not use it."""
        token = self._tokens.get(name)
        # Do not reveal tokens of other machines.
        if token is None or not token.is_for(machine):
            mine = sorted(one.name for one in self._tokens.values() if one.is_for(machine))
            raise Refused(
                f"machine {machine!r} has no token with that name",
                hint=f"its tokens: {', '.join(map(repr, mine)) or 'none'}",
            )
        return token

    def __iter__(self) -> Iterator[Token]:
        return iter(self._tokens.values())

    def any_for(self, machine: str) -> bool:
        """Return whether there is a token that a machine may use."""
        return any(one.is_for(machine) for one in self._tokens.values())

    def way(self, version: str, executable: str) -> Way:
        """Return the way in which a cst reaches tokens. Blocks. Raises `Refused` if it cannot."""
        way = self.access.ways.get(version) or way_of(executable)
        if way is None:
            raise Refused(f"cst {version} has no pkcs11 backend")
        return way

    def describe(self) -> list[tuple[str, str, bool]]:
        """Return name, description and usability of each token, for operators. Blocks."""
        module = self.access.module
        problem = "" if module is None or is_file(module) else f"the module {module} is not a file"
        shown = f"module {module or 'from p11-kit'}"
        return [(one.name, problem or f"{shown}, {one.describe()}", not problem) for one in self._tokens.values()]

    def missing(self) -> list[str]:
        """Return a line for each token that has failed."""
        return [f"token {token.name}: {token.failed}" for token in self._tokens.values() if token.failed]

    def learn(self, name: str, *, proven: bool, failed: str) -> None:
        """Take over what another process of this host has found out about a token's PIN."""
        if name in self._tokens:
            self._tokens[name].learn(proven=proven, failed=failed)

    def reload(self, pins: Mapping[str, str], machines: Mapping[str, tuple[str, ...] | None]) -> None:
        """Set the PINs and the machines of tokens by name, and use tokens again that had failed."""
        for name, pin in pins.items():
            self._tokens[name].reload(pin, machines[name])


def is_file(path: Path) -> bool:
    """Return whether this user finds a file there. Unlike `Path.is_file`, it never raises."""
    try:
        return path.is_file()
    except OSError:  # a folder on the way that this user may not enter
        return False


def write_access(workdir: Workdir, way: Way, access: Access, pin: str) -> dict[str, str]:
    """Write the OpenSSL configuration into a request's work directory. Return the environment that cst needs.

    Raises `DigsigError` if it cannot be written.
    """
    workdir.write(CONFIGURATION, _configuration(way, access, pin).encode())
    environment = {**access.environment, "OPENSSL_CONF": str(workdir.path / CONFIGURATION)}
    if way == "provider":
        # Relative to cst's current directory, because a comma in an absolute path would end the path.
        environment["PKCS11_PROVIDER_DEBUG"] = f"file:{TRACE},level:1"
    return environment


def forms_of(pin: str) -> tuple[bytes, ...]:
    """Return the forms of a PIN that must not appear in any output: plain, and as quoted in the configuration."""
    return pin.encode(), _quoted(pin)[1:-1].encode()


def without_chatter(output: bytes) -> bytes:
    """Return the output of cst without libp11's report of each step."""
    return b"\n".join(line for line in output.split(b"\n") if not _CHATTER.match(line))


def _doubled(way: Way, output: bytes, trace: bytes, uris: Collection[KeyUri]) -> str:
    """Return the first URI that several objects match, of which cst would take any; empty if there is no such URI."""
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
        # A certificate has a private key, and on many tokens a public key too.
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
    """Return the error code of C_Login, or None if it did not fail."""
    if way == "engine":
        codes = _ENGINE_ERROR.findall(output) if _LOGIN_FAILED.search(output) else []
        return int(codes[0], 16) & 0x7FFFFF if codes else None
    found = _PROVIDER_ERROR.search(trace)
    return int(found[1]) if found else None


def _configuration(way: Way, access: Access, pin: str) -> str:
    """Return an OpenSSL configuration, see config(5).

    It does not activate the provider: cst loads the provider and the default one by name, but the OpenSSL of SoftHSM
    reads the same file and must not. The provider can read the PIN from a file, but fails for more than 31 bytes.
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
    """Return a text in quotation marks, with special characters escaped: config(5)."""
    return '"' + re.sub(r'([\\"$])', r"\\\1", text) + '"'
