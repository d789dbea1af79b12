"""Finds the files that a description names: members of the key tarball, certificates on a token, artifacts."""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from typing import Literal

from digsigd.csf import cst_files
from digsigd.csf.errors import CsfKeyError, CsfNameError, CsfPolicyError, quoted
from digsigd.csf.lexer import MAX_STRING
from digsigd.csf.members import CERTIFICATE, KEY_PASS, Members, base_of, is_key
from digsigd.csf.model import Place
from digsigd.csf.uri import KeyUri, is_uri

_LISTED = 8


@dataclass(frozen=True, slots=True)
class FileNeeded:
    """A file of the key tarball (`member`) that cst needs, and its `name` in the work directory.

    A certificate is written in the format of the ending of `name`, which is that of its key.
    """

    member: str
    name: str
    kind: Literal["srk-table", "certificate", "key", "key-pass"]


class Finder:
    """Gives the files of one description their new names, and remembers what belongs to these.

    `files` are the members that cst needs, `client_names` the client's names by the new names, `token` and `uris` the
    token with all keys and their certificates; None and empty for keys from the tarball. The arguments are those of
    `digsigd.csf.resolve`.
    """

    def __init__(
        self,
        members: Collection[str],
        artifacts: Mapping[str, int],
        *,
        repeated: Collection[str],
        from_token: bool,
        identity: Callable[[str], object] | None,
        decrypts: Callable[[str, str, str | None], bool] | None,
    ) -> None:
        self._names = members
        self._decrypts = decrypts
        self._members = Members(members, identity)
        self._artifacts = artifacts
        # The description's names for artifacts that were uploaded several times.
        self._called = dict.fromkeys(repeated, "")
        self._ours = {name: cst_files.artifact(number) for number, name in enumerate(artifacts)}
        self._from_token = from_token
        self._certificates: dict[str, str] = {}
        self.token: str | None = None
        self.uris: list[KeyUri] = []
        self.files: list[FileNeeded] = []
        self.client_names: dict[str, str] = {}

    def artifacts_named(self) -> tuple[int, ...]:
        """Return the numbers of the artifacts that the description has named so far, from 0."""
        return tuple(number for number, one in enumerate(self._ours.values()) if one in self.client_names)

    def table(self, name: str, place: Place) -> str:
        """Return the member that is the SRK table. Raises `CsfNameError` or `CsfPolicyError`."""
        self._no_uri(name, place)
        candidates = [one for one in self._names if one.endswith(".bin")]
        member = self._member(name, place, "tables", self._members.named(name), candidates)
        if is_key(member) or CERTIFICATE.fullmatch(member):
            raise CsfPolicyError(f"{quoted(name)} is not an SRK table", *place)
        self._need(member, cst_files.SRK_TABLE, "srk-table", name)
        return member

    def certificate(self, name: str, place: Place, label: str = "File") -> str:
        """Return the new name of a certificate whose key is there: a path, or a normalized URI.

        `label` is that of the argument with the name. Raises `CsfNameError`, `CsfKeyError`, `CsfPolicyError`, or
        `CsfSyntaxError` for an invalid URI.
        """
        if self._from_token:
            return self._on_token(name, place, label)
        self._no_uri(name, place)
        base = base_of(name)
        if not CERTIFICATE.fullmatch(base):
            raise CsfPolicyError(
                f"{quoted(name)} is not a certificate: its name must end with _crt.pem or _crt.der", *place
            )
        candidates = [one for one in self._names if CERTIFICATE.fullmatch(one)]
        member = self._member(name, place, "certificates", self._members.certificate(name), candidates)
        if member in self._certificates:
            return self._certificates[member]
        key = self._members.key_of(member)
        if key is None:
            raise CsfKeyError(f"the key tarball has no private key for {quoted(name)}", *place, member=member)
        key_pass = self._members.beside(key, KEY_PASS)
        plain = self._decrypts is not None and self._decrypts(member, key, key_pass)
        ending, folder = "pem" if plain else key[-3:], cst_files.key_folder(len(self._certificates))
        ours = cst_files.certificate(folder, ending)
        self._need(member, ours, "certificate", name)
        self._need(key, cst_files.key(folder, ending), "key", f"the key of {base}")
        if key_pass is not None and not plain:
            self._need(key_pass, cst_files.key_pass(folder), "key-pass", f"the pass phrase of {base}")
        self._certificates[member] = ours
        return ours

    def certificate_member(self, ours: str | None) -> str | None:
        """Return the member that has become the certificate `ours`; None for none, and for one on a token."""
        return next((member for member, name in self._certificates.items() if name == ours), None)

    def artifact(self, name: str, place: Place, who: str, they: str) -> tuple[str, int]:
        """Return the new name and the size in bytes of the artifact that the description calls `name`.

        Errors say `who` and `they` as in "the block names" and "the blocks name". Raises `CsfNameError`.
        """
        base = base_of(name)
        ours = self._ours.get(base)
        if ours is None:
            there = " and ".join(quoted(one) for one in self._artifacts)
            what = f"the uploaded artifact is {there}" if len(self._ours) == 1 else f"the artifacts are {there}"
            raise CsfNameError(
                f"{who} {quoted(name)}, but {what}",
                *place,
                hint="upload it with that name (curl: -F 'artifact=@PATH;filename=NAME')",
            )
        if base in self._called:
            called = self._called[base] = self._called[base] or _plain(name)
            if called != _plain(name):
                raise CsfNameError(
                    f"{they} {quoted(called)} and {quoted(name)}, but several artifacts are called {quoted(base)}",
                    *place,
                    hint="upload each under a different name (curl: -F 'artifact=@PATH;filename=NAME')",
                )
        self.client_names[ours] = name
        return ours, self._artifacts[base]

    def _member(self, name: str, place: Place, what: str, matching: list[str], candidates: list[str]) -> str:
        """Return the only member in `matching`. Raises `CsfNameError` if there is none, or more than one."""
        if len(matching) == 1:
            return matching[0]
        if matching:
            raise CsfNameError(
                f"{quoted(name)} matches {len(matching)} files of the key tarball",
                *place,
                hint="use its whole path in the tarball",
            )
        names = sorted({base_of(one) for one in candidates})
        listed = ", ".join(names[:_LISTED]) or "none"
        if len(names) > _LISTED:
            listed += f" and {len(names) - _LISTED} more"
        raise CsfNameError(
            f"{quoted(name)} is not in the machine's key tarball", *place, hint=f"{what} in it: {listed}"
        )

    def _no_uri(self, name: str, place: Place) -> None:
        if is_uri(name):
            what = "the SRK table is a file" if self._from_token else "with backend=ssl keys are in the key tarball"
            raise CsfPolicyError(f"{what}, not on a token", *place)

    def _on_token(self, name: str, place: Place, label: str) -> str:
        """Return the normalized URI of a certificate."""
        if not is_uri(name):
            raise CsfPolicyError(
                f"{quoted(name)} is a file; with backend=pkcs11 certificates and keys are on a token",
                *place,
                hint=f'write {label} = "pkcs11:token=NAME;object=LABEL"',
            )
        uri = KeyUri.parse(name, place)
        if self.token not in {None, uri.token}:
            raise CsfPolicyError(f"the keys are on different tokens, {quoted(self.token or '')} and another", *place)
        self.token = uri.token
        ours = str(uri)
        if len(ours) > MAX_STRING:
            raise CsfPolicyError(f"the PKCS #11 URI has {len(ours)} bytes; cst accepts at most {MAX_STRING}", *place)
        self.client_names[ours] = name
        self.uris.append(uri)
        return ours

    def _need(
        self, member: str, name: str, kind: Literal["srk-table", "certificate", "key", "key-pass"], client: str
    ) -> None:
        self.files.append(FileNeeded(member, name, kind))
        self.client_names[name] = client


def _plain(name: str) -> str:
    return re.sub(r"^(\./)+", "", name)
