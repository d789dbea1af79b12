"""The `Authorization` header: whose token it has."""

from __future__ import annotations

import base64

from digsigd.errors import NotAuthenticated


def credentials_in(authorization: str) -> tuple[str | None, bytes]:
    """Return the caller's name (None for a bearer token) and the token in an `Authorization` header.

    Raises `NotAuthenticated` for another scheme, or a malformed header.
    """
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
