"""The cases of a benchmark: one cell of the matrix each, the standard run, the whole matrix, and cells by a text."""

from __future__ import annotations

import re
from dataclasses import dataclass, fields, replace
from itertools import product

KINDS = ("rsa2048", "rsa3072", "rsa4096", "p256", "p384")
# Keys of AHAB, with a file of containers in place of an image.
AHAB = ("ahab-p384", "ahab-rsa4096")
SIZES = (64 << 10, 4 << 20, 32 << 20, 256 << 20)
CLIENTS = (1, 2, 4, 16, 64)
STORES = ("file", "http")
BACKENDS = ("ssl", "pkcs11")
CAGES = ("on", "off")
WIRES = ("tcp", "tls")
RECORDS = ("off", "sqlite", "postgresql")
_UNITS = {"": 0, "K": 10, "M": 20}


class CaseError(Exception):
    """A text that does not name cases: what is wrong with it."""


@dataclass(frozen=True, slots=True)
class Case:
    """One cell: the key, bytes of the artifact, clients at a time, and how the daemon is configured."""

    keys: str = "rsa2048"
    size: int = 64 << 10
    clients: int = 4
    store: str = "file"
    backend: str = "ssl"
    cage: str = "on"
    wire: str = "tcp"
    record: str = "off"

    @property
    def name(self) -> str:
        """The case as `parse` reads it, without what is as in the base case: `rsa2048,64K,4,cage=off`."""
        base = Case()
        parts = [self.keys, size_text(self.size), str(self.clients)]
        for field in fields(self)[3:]:
            if (value := getattr(self, field.name)) != getattr(base, field.name):
                parts.append(f"{field.name}={value}")
        return ",".join(parts)

    @property
    def ahab(self) -> str:
        """The kind of the keys for AHAB; empty for HAB."""
        return self.keys.removeprefix("ahab-") if self.keys in AHAB else ""

    @property
    def machine(self) -> str:
        """The machine in the key store with the keys of this case."""
        return f"bench-{self.keys}-{self.backend}"

    @property
    def requests(self) -> int:
        """Requests in a round: about as long for all sizes, and at least two for each client."""
        usual = max(4, min(120, (320 << 20) // self.size))
        return max(usual, 2 * self.clients) if self.size <= 4 << 20 else max(usual, self.clients)


_AXES: dict[str, tuple[str, ...]] = {
    "store": STORES,
    "backend": BACKENDS,
    "cage": CAGES,
    "wire": WIRES,
    "record": RECORDS,
}


def size_text(size: int) -> str:
    """Return a size as `64K` or `32M`."""
    return f"{size >> 20}M" if size >= 1 << 20 else f"{size >> 10}K"


def parse_size(text: str) -> int:
    """Return the bytes that `64K` or `32M` means. Raises `CaseError`."""
    found = re.fullmatch(r"(\d+)([KM]?)", text)
    if not found:
        raise CaseError(f"{text!r} is not a size such as 64K or 32M")
    size = int(found[1]) << _UNITS[found[2]]
    if size % 0x40 or size < 0x2080:
        raise CaseError(f"an artifact has a multiple of 64 bytes, and at least 8320, not {size}")
    return size


def parse(text: str) -> list[Case]:
    """Return the cases that a text names. Raises `CaseError`.

    `KEYS,SIZE,CLIENTS[,NAME=VALUE...]` is a cell. Each part may have several values with `/` between them, or be `*`
    for all: `rsa2048/p256,64K,*,cage=on/off`. Parts that are missing are as in the base case. Cells are separated by
    blanks. `standard` and `all` are the standard run and the whole matrix.
    """
    cases: list[Case] = []
    for word in text.split():
        if word in {"standard", "all"}:
            cases += standard() if word == "standard" else whole()
        else:
            cases += _cells(word)
    if not cases:
        raise CaseError("no case is named")
    return list(dict.fromkeys(cases))


def _cells(word: str) -> list[Case]:
    chosen: dict[str, list[object]] = {}
    places = iter(("keys", "size", "clients"))
    for part in word.split(","):
        name, equals, value = part.partition("=")
        if not equals:
            name, value = next(places, ""), part
        if name not in {field.name for field in fields(Case)}:
            raise CaseError(f"{part!r} in {word!r} is no part of a case; see `make bench ARGS=--help`")
        chosen[name] = [_value(name, one) for one in (_all(name) if value == "*" else value.split("/"))]
    names = list(chosen)
    if set(chosen.get("keys", ())) & set(AHAB):
        if "pkcs11" in chosen.get("backend", ()):
            raise CaseError(f"{word!r}: keys of AHAB are in files, not on a token")
        if any(size % 0x400 or size < 64 << 10 for size in chosen.get("size", ()) if isinstance(size, int)):
            raise CaseError(f"{word!r}: a file for AHAB has a multiple of 1 KiB, and at least 64 KiB")
    return [replace(Case(), **dict(zip(names, values, strict=True))) for values in product(*chosen.values())]  # type: ignore[arg-type]


def _all(name: str) -> list[str]:
    many: tuple[object, ...] = {"keys": KINDS, "size": SIZES, "clients": CLIENTS}.get(name) or _AXES[name]
    return [str(one) for one in many]


def _value(name: str, text: str) -> object:
    if name == "size":
        return parse_size(text)
    if name == "clients":
        if not re.fullmatch(r"[1-9]\d{0,3}", text):
            raise CaseError(f"{text!r} is not a number of clients")
        return int(text)
    known = (*KINDS, *AHAB) if name == "keys" else _AXES[name]
    if text not in known:
        raise CaseError(f"{name} is one of {', '.join(known)}, not {text!r}")
    return text


def standard() -> list[Case]:
    """Return the standard run: the cells of the targets, and each axis around the base case."""
    small, large = SIZES[0], SIZES[2]
    targets = [Case(keys, small, clients) for clients in (4, 16, 1) for keys in ("rsa4096", "rsa2048", "p256")]
    targets += [Case("rsa4096", large, 4), Case("rsa2048", large, 4)]
    kinds = [Case(keys) for keys in KINDS]
    sizes = [Case(size=size) for size in SIZES]
    clients = [Case(clients=clients) for clients in CLIENTS]
    rest = [
        Case(store="http"),
        Case(backend="pkcs11"),
        Case(cage="off"),
        Case(wire="tls"),
        Case(record="sqlite"),
        Case("rsa4096", cage="off"),
        Case("rsa4096", record="sqlite"),
    ]
    containers = [Case(keys, size) for size in (small, large) for keys in AHAB]
    return list(dict.fromkeys([*targets, *kinds, *sizes, *clients, *rest, *containers]))


def whole() -> list[Case]:
    """Return the whole matrix, without PostgreSQL, which needs a server's URL."""
    records = tuple(one for one in RECORDS if one != "postgresql")
    return [Case(*one) for one in product(KINDS, SIZES, CLIENTS, STORES, BACKENDS, CAGES, WIRES, records)]
