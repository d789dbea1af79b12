"""Who is calling, and what they may sign."""

from __future__ import annotations

import base64
import hashlib
import hmac
from collections.abc import Mapping
from dataclasses import dataclass, field
from fnmatch import fnmatchcase

from digsigd.errors import NotAllowed, NotAuthenticated


@dataclass(frozen=True, slots=True)
class Caller:
    """Somebody who may sign. `machines` are patterns of names, None for all; `backends` likewise."""

    name: str
    machines: tuple[str, ...] | None = None
    backends: tuple[str, ...] | None = None
    token_hash: bytes = field(default=b"", repr=False)

    def check_machine(self, machine: str) -> None:
        """Raise `NotAllowed` unless this machine's keys may be used."""
        if self.machines is not None and not any(fnmatchcase(machine, pattern) for pattern in self.machines):
            raise NotAllowed(
                f"caller {self.name!r} may not sign for machine {machine!r}",
                hint="the operator of the signing host says who may",
            )

    def check_backend(self, backend: str) -> None:
        """Raise `NotAllowed` unless this backend may be used."""
        if self.backends is not None and backend not in self.backends:
            raise NotAllowed(
                f"caller {self.name!r} may not use backend={backend}",
                hint="the operator of the signing host says who may",
            )


ANONYMOUS = Caller("anonymous")


class Callers:
    """Those who may sign, by name. Without any, everybody may, as "anonymous"."""

    def __init__(self, callers: Mapping[str, tuple[str, tuple[str, ...] | None, tuple[str, ...] | None]]) -> None:
        """`callers` gives each name's token, machines and backends. Of a token only a hash is kept."""
        self._callers = tuple(
            Caller(name, machines, backends, _hashed(token.encode()))
            for name, (token, machines, backends) in callers.items()
        )

    def identify(self, authorization: str) -> Caller:
        """Who an `Authorization` header says is calling. Raises `NotAuthenticated`."""
        if not self._callers:
            return ANONYMOUS
        if not authorization:
            raise NotAuthenticated(
                "this signing host wants to know who is calling",
                hint="send Authorization: Bearer TOKEN, or the caller's name and token as user and password",
            )
        name, token = _credentials(authorization)
        given = _hashed(token)
        found = None
        # Every caller is compared, whoever matches: how long it takes tells nothing.
        for caller in self._callers:
            if hmac.compare_digest(given, caller.token_hash) and name in {None, caller.name}:
                found = caller
        if found is None:
            raise NotAuthenticated("the name or the token is wrong")
        return found


def _hashed(token: bytes) -> bytes:
    return hashlib.sha256(b"digsigd caller " + token).digest()


def _credentials(authorization: str) -> tuple[str | None, bytes]:
    """The caller's name, where it is given, and the token."""
    scheme, _, rest = authorization.strip().partition(" ")
    if scheme.lower() == "bearer":
        return None, rest.strip().encode()
    if scheme.lower() == "basic":
        try:
            name, colon, token = base64.b64decode(rest.strip(), validate=True).partition(b":")
            if colon:
                return name.decode(), token
        except ValueError:  # no base64, or no UTF-8 in it
            pass
        raise NotAuthenticated("the Basic credentials cannot be read")
    raise NotAuthenticated("credentials are Bearer or Basic")
