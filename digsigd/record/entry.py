"""Entries of the record, as canonical JSON (RFC 8785). Pure."""

from __future__ import annotations

import json
import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, TypeAlias

from digsigd.record.errors import RecordError

Value: TypeAlias = Any
# The form of entries. A reader must expect further members, but none with another meaning.
FORM = 1
# Longer texts are shortened: nothing that a client sends makes an entry large. In characters.
_LONGEST = 1000


@dataclass(frozen=True, slots=True)
class Entry:
    """What is known of one decision. `values` are texts, whole numbers, truth values, lists and tables of these.

    `id` is random, to find the entry after a commit whose outcome is unknown.
    """

    id: str
    time: str
    values: Mapping[str, Value]

    @classmethod
    def new(cls, values: Mapping[str, Value], *, now: datetime | None = None) -> Entry:
        """Make an entry with a new id and the present time."""
        time = (now or datetime.now(UTC)).astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
        return cls(secrets.token_hex(16), time, values)

    def data(self) -> bytes:
        """Return the entry as canonical JSON: the content of its leaf."""
        return canonical({"form": FORM, "id": self.id, "time": self.time, **self.values})


@dataclass(frozen=True, slots=True)
class Columns:
    """What entries are searched by. Everything here is in the entry's data, too."""

    id: str
    time: str
    outcome: str
    caller: str
    machine: str
    request: str
    client_request: str
    blob: str
    artifact: str


def columns_of(values: Mapping[str, Value]) -> Columns:
    """Return the columns for an entry's members, as `read` returns them."""
    artifacts = values.get("artifacts") or [{}]
    return Columns(
        id=str(values.get("id", "")),
        time=str(values.get("time", "")),
        outcome=str(values.get("outcome", "")),
        caller=str(values.get("caller", "")),
        machine=str(values.get("machine", "")),
        request=str(values.get("request", "")),
        client_request=str(values.get("client_request", "")),
        blob=str((values.get("blob") or {}).get("sha256", "")),
        artifact=str(artifacts[0].get("sha256", "")),
    )


def canonical(values: Mapping[str, Value]) -> bytes:
    """Return JSON by RFC 8785: members sorted, no spaces. Values that are None or empty are left out.

    Names are ASCII and numbers are whole, so Python's order and digits are those of the RFC.
    """
    return json.dumps(_clean(values), sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()


def read(data: bytes) -> dict[str, Value]:
    """Return the members of an entry. Raises `RecordError` if it is not a table of JSON."""
    try:
        found = json.loads(data)
    except ValueError:
        raise RecordError("an entry is not JSON") from None
    if not isinstance(found, dict):
        raise RecordError("an entry is not a table of JSON")
    return found


def _clean(value: Value) -> Value:
    """Return a value without empty parts. Texts are shortened, and lone surrogates, which UTF-8 has not, replaced."""
    if isinstance(value, str):
        if len(value) > _LONGEST:
            value = value[: _LONGEST - 1] + "…"
        return value if value.isascii() else value.encode("utf-8", "replace").decode()
    if value is None or isinstance(value, int):
        return value
    if isinstance(value, dict):
        # Numbers and truth values are never empty.
        return {name: one for name, given in value.items() if (one := _clean(given)) or isinstance(one, int)}
    if isinstance(value, list | tuple):
        return [_clean(one) for one in value]
    if isinstance(value, bytes):
        return value.hex()
    return _clean(dict(value)) if isinstance(value, Mapping) else value
