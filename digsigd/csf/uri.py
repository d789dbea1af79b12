"""PKCS #11 URIs (RFC 7512) that name a certificate on a token, and with it its key.

Only the attributes that say which object is meant are read. Attributes with a PIN or a module make engines and
providers open files and libraries of the host, so they are refused.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from digsigd.csf.errors import CsfPolicyError, CsfSyntaxError, quoted
from digsigd.csf.model import Place

SCHEME = "pkcs11:"
# What RFC 7512, 2.3, allows unescaped in a path or a query; everything else is escaped as %XX.
_VALUE = re.compile(r"(?:[A-Za-z0-9\-._~:\[\]@!$'()*+,=&/?|]|%[0-9A-Fa-f]{2})*")
_PLAIN = re.compile(r"[A-Za-z0-9\-._~]")
# The most bytes in UTF-8: those of the text fields of CK_TOKEN_INFO, and a sensible limit for names of objects.
_LONGEST = {"token": 32, "manufacturer": 32, "model": 16, "serial": 16, "object": 128, "id": 64}
# Clients of older servers send it as a placeholder, which the server replaced by the PIN.
_PLACEHOLDER = "password"
_FROM_ELSEWHERE = {"pin-source", "module-name", "module-path"}


@dataclass(frozen=True, slots=True)
class KeyUri:
    """A certificate on a token. `token` is always set, and so is `object` or `id`."""

    token: str
    object: str | None = None
    id: bytes | None = None
    serial: str | None = None
    manufacturer: str | None = None
    model: str | None = None

    @classmethod
    def parse(cls, text: str, place: Place) -> KeyUri:
        """Read a URI as a client sends it. Raises `CsfSyntaxError` or `CsfPolicyError`, each at `place`."""
        found: dict[str, bytes] = {}
        path, _, query = text.removeprefix(SCHEME).partition("?")
        parts = path.split(";") + query.split("&")
        for part in parts:
            if not part:
                continue
            name, equals, escaped = part.partition("=")
            if not equals or not _VALUE.fullmatch(escaped):
                raise CsfSyntaxError(f"{quoted(part)} is not an attribute of a PKCS #11 URI", *place)
            value = _unescaped(escaped)
            if name == "pin-value" and value == _PLACEHOLDER.encode():
                continue
            _check_name(name, place)
            if name in found:
                raise CsfSyntaxError(f"the PKCS #11 URI has {name} twice", *place)
            found[name] = value
        if found.pop("type", b"cert") != b"cert":
            raise CsfPolicyError("the PKCS #11 URI does not name a certificate", *place, hint="type=cert")
        texts = {name: _text(name, value, place) for name, value in found.items() if name != "id"}
        if "id" in found and not 0 < len(found["id"]) <= _LONGEST["id"]:
            raise CsfSyntaxError(f"the id of a PKCS #11 URI must have 1 to {_LONGEST['id']} bytes", *place)
        if "token" not in texts:
            raise CsfPolicyError("the PKCS #11 URI has no token", *place, hint="write pkcs11:token=NAME;object=LABEL")
        if "object" not in texts and "id" not in found:
            raise CsfPolicyError(
                "the PKCS #11 URI has no object or id", *place, hint="write pkcs11:token=NAME;object=LABEL"
            )
        return cls(id=found.get("id"), **texts)

    def __str__(self) -> str:
        """Return the normalized URI: all but letters, digits and `-._~` is escaped."""
        values = {
            "token": self.token, "manufacturer": self.manufacturer, "model": self.model, "serial": self.serial,
            "object": self.object,
        }  # fmt: skip
        parts = [f"{name}={_escaped(value.encode())}" for name, value in values.items() if value is not None]
        if self.id is not None:
            parts.append("id=" + "".join(f"%{byte:02x}" for byte in self.id))
        return SCHEME + ";".join([*parts, "type=cert"])


def is_uri(name: str) -> bool:
    """Return whether the value of a `File` is a PKCS #11 URI."""
    return name.startswith(SCHEME)


def _check_name(name: str, place: Place) -> None:
    if name in _FROM_ELSEWHERE:
        raise CsfPolicyError(
            f"the PKCS #11 URI has {name}: the signing host configures modules and PINs", *place, hint="leave it out"
        )
    if name == "pin-value":
        raise CsfPolicyError(
            "the PKCS #11 URI has a PIN: the signing host has the PIN, and clients must not send one", *place,
            hint="leave pin-value out",
        )  # fmt: skip
    if name != "type" and name not in _LONGEST:
        known = ", ".join([*_LONGEST, "type"])
        raise CsfPolicyError(f"the PKCS #11 URI has {quoted(name)}; known are {known}", *place)


def _text(name: str, value: bytes, place: Place) -> str:
    try:
        text = value.decode()
    except UnicodeDecodeError:
        raise CsfSyntaxError(f"{name} of the PKCS #11 URI is not UTF-8", *place) from None
    if not text or not text.isprintable() or len(value) > _LONGEST[name]:
        raise CsfSyntaxError(
            f"{name} of the PKCS #11 URI must have 1 to {_LONGEST[name]} bytes, and no control characters", *place
        )
    return text


def _unescaped(text: str) -> bytes:
    return re.sub(rb"%([0-9A-Fa-f]{2})", lambda match: bytes([int(match[1], 16)]), text.encode("latin-1", "replace"))


def _escaped(value: bytes) -> str:
    return "".join(chr(b) if _PLAIN.fullmatch(chr(b)) else f"%{b:02x}" for b in value)
