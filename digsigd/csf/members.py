"""The files of a machine's key tarball, found by their names in CSF descriptions."""

from __future__ import annotations

import re
from collections.abc import Callable, Collection

KEY_PASS = "key_pass.txt"  # noqa: S105 - a file name
CERTIFICATE = re.compile(r".*_crt\.(pem|der)", re.DOTALL)
_OTHER = {"pem": "der", "der": "pem"}


def base_of(name: str) -> str:
    """Return the last part of a name, after the last slash or backslash."""
    return re.split(r"[/\\]", name)[-1]


def is_key(member: str) -> bool:
    """Return whether a member has the name of a private key or of a pass phrase file."""
    base = base_of(member)
    return base == KEY_PASS or re.search(r"_key\.[^.]*$", base) is not None


class Members:
    """The names of a tarball's files.

    `identity` returns equal values for files with the same content: copies, a certificate as PEM and as DER. Without
    it all files differ.
    """

    def __init__(self, names: Collection[str], identity: Callable[[str], object] | None = None) -> None:
        self._names = names
        self._identity = identity or (lambda name: name)
        self._by_base: dict[str, list[str]] = {}
        for name in names:
            self._by_base.setdefault(base_of(name), []).append(name)
        self._only_keys: dict[str, str | None] = {}

    def named(self, name: str) -> list[str]:
        """Return the members that a client's name can mean: the exact one, else those with its last part.

        Copies count once.
        """
        plain = re.sub(r"^(\./)+", "", name)
        return [plain] if plain in self._names else self._distinct(base_of(name))

    def certificate(self, name: str) -> list[str]:
        """Return the members that a client's name of a certificate can mean; if none, those with the other ending."""
        return self.named(name) or self.named(_with_other_ending(name))

    def key_of(self, certificate: str) -> str | None:
        """Return the private key of a certificate, or None.

        It is where cst looks for it ("crt" becomes "key", the first "crts" of the path "keys"), or there with the other
        ending; else it is the only member with that name.
        """
        places = _key_places(certificate)
        beside = next((place for place in places if place in self._names), None)
        return beside or self._only_key(base_of(places[0])) or self._only_key(base_of(places[1]))

    def rank(self, certificate: str) -> tuple[int, str]:
        """Return the sort key for copies of a certificate: the best is first, its key is where cst looks for it."""
        if any(place in self._names for place in _key_places(certificate)):
            return 0, certificate
        return 2 if self.key_of(certificate) is None else 1, certificate

    def beside(self, member: str, name: str) -> str | None:
        """Return the member `name` in the folder of `member`, or None."""
        found = member[: len(member) - len(base_of(member))] + name
        return found if found in self._names else None

    def _only_key(self, base: str) -> str | None:
        if base not in self._only_keys:
            found = self._copies_once(sorted(self._by_base.get(base, [])))
            self._only_keys[base] = found[0] if len(found) == 1 else None
        return self._only_keys[base]

    def _distinct(self, base: str) -> list[str]:
        """Return the members with this last part, one of each set of copies: the best certificate, or the first."""
        names = self._by_base.get(base, [])
        return self._copies_once(sorted(names, key=self.rank if CERTIFICATE.fullmatch(base) else None))

    def _copies_once(self, names: list[str]) -> list[str]:
        if len(names) < 2:
            return names
        first: dict[object, str] = {}
        for name in names:
            first.setdefault(self._identity(name), name)
        return list(first.values())


def _key_places(certificate: str) -> tuple[str, str]:
    """Return where cst looks for the key of a certificate, and the same path with the other ending."""
    where = (certificate[:-7] + "key" + certificate[-4:]).replace("crts", "keys", 1)
    return where, _with_other_ending(where)


def _with_other_ending(name: str) -> str:
    return name[:-3] + _OTHER[name[-3:]] if name[-3:] in _OTHER else name
