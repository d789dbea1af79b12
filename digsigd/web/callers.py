"""Authenticate callers, and check what they may sign."""

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
    """A caller who may sign.

    `machines` are patterns of machine names, `backends` are names; None allows all.
    """

    name: str
    machines: tuple[str, ...] | None = None
    backends: tuple[str, ...] | None = None
    token_hash: bytes = field(default=b"", repr=False)

    def check_machine(self, machine: str) -> None:
        """Raise `NotAllowed` unless this machine's keys may be used."""
        if self.machines is not None and not any(fnmatchcase(machine, pattern) for pattern in self.machines):
            raise NotAllowed(
                f"caller {self.name!r} may not sign for machine {machine!r}",
                hint="ask the operator of the signing host to allow it",
            )

    def check_backend(self, backend: str) -> None:
        """Raise `NotAllowed` unless this backend may be used."""
        if self.backends is not None and backend not in self.backends:
            raise NotAllowed(
                f"caller {self.name!r} may not use backend={backend}",
                hint="ask the operator of the signing host to allow it",
            )


ANONYMOUS = Caller("anonymous")


class Callers:
    """The callers who may sign. If there are none, authentication is off, and every caller is "anonymous"."""

    def __init__(self, callers: Mapping[str, tuple[str, tuple[str, ...] | None, tuple[str, ...] | None]]) -> None:
        """Take the token, machines and backends of each caller by name. Only a hash of the token is kept."""
        self._callers = tuple(
            Caller(name, machines, backends, _hashed(token.encode()))
            for name, (token, machines, backends) in callers.items()
        )

    def identify(self, authorization: str) -> Caller:
        """Return the caller that an `Authorization` header identifies.

        Raises `NotAuthenticated` if the header is empty or malformed, or its name or token is wrong.
        """
        if not self._callers:
            return ANONYMOUS
        if not authorization:
            raise NotAuthenticated(
                "authentication required",
                hint="send Authorization: Bearer TOKEN, or the caller's name and token as user name and password",
            )
        name, token = _credentials(authorization)
        given = _hashed(token)
        found = None
        # All callers are compared even after a match, so that the time taken reveals nothing.
        for caller in self._callers:
            if hmac.compare_digest(given, caller.token_hash) and name in {None, caller.name}:
                found = caller
        if found is None:
            raise NotAuthenticated("wrong caller name or token")
        return found


def _hashed(token: bytes) -> bytes:
    return hashlib.sha256(b"digsigd caller " + token).digest()


def _credentials(authorization: str) -> tuple[str | None, bytes]:
    """Return the caller's name (None for a bearer token) and the token."""
    scheme, _, rest = authorization.strip().partition(" ")
    if scheme.lower() == "bearer":
        return None, rest.strip().encode()
    if scheme.lower() == "basic":
        try:
            name, colon, token = base64.b64decode(rest.strip(), validate=True).partition(b":")
            if colon:
                return name.decode(), token
        except ValueError:  # not base64, or not UTF-8 inside
            pass
        raise NotAuthenticated("malformed Basic credentials: expected NAME:TOKEN in base64")
    raise NotAuthenticated("unknown authentication scheme: expected Bearer or Basic")
