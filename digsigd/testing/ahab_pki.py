"""Throw-away AHAB keys: a PKI in the layout of NXP's scripts with a well-known pass phrase."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from typing import Literal

from digsigd.pki import Protection, Validity, pack
from digsigd.pki_ahab import VERSIONS, AhabKind, AhabPki

__all__ = ["AhabKind", "TrialAhabPki"]
_PASS_PHRASE = "trial-pass-phrase"  # noqa: S105 - protects nothing


@dataclass(frozen=True)
class TrialAhabPki:
    """A throw-away PKI. SRKs, and with SGKs those, are numbered from 1. Its repr shows no keys."""

    made: AhabPki

    @classmethod
    def make(
        cls,
        kind: AhabKind = "p384",
        *,
        sgk: bool = False,
        encrypted: bool = True,
        versions: Collection[int] = VERSIONS,
        valid_days: int = 3650,
    ) -> TrialAhabPki:
        """Generate all keys and certificates. `versions` are those of the containers that tables are made for."""
        return cls(
            AhabPki.make(
                kind,
                Validity.of_days(valid_days),
                Protection(_PASS_PHRASE if encrypted else None),
                sgk=sgk,
                # Only the CA's signatures are needed, so use the fastest kind of key.
                ca_kind="p256",
                versions=versions,
            )
        )

    @property
    def files(self) -> dict[str, bytes]:
        """Key and certificate files by their path in the key tarball, and the SRK tables."""
        return self.made.files

    @property
    def pass_phrase(self) -> str:
        """The pass phrase of the private keys."""
        return _PASS_PHRASE

    def srk_table(self, version: int = 0) -> bytes:
        """Return the SRK table for containers of this version."""
        return self.made.tables[version]

    def fuse_value(self, hash_name: Literal["sha256", "sha512"] = "sha256", version: int = 0) -> bytes:
        """Return what boards that hash their SRK table with `hash_name` have in their SRK fuses."""
        return self.made.fuse_value(hash_name, version)

    def certificate(self, role: Literal["SRK", "SGK"] = "SRK", number: int = 1) -> str:
        """Return the path in the tarball of the SRK certificate with this number, or of the SGK's below it."""
        return next(name for name in self.files if name.startswith(f"crts/{role}{number}_") and "_crt." in name)

    def tarball(self) -> bytes:
        """Return the gzip-compressed key tarball."""
        return pack(self.files, level=1)

    def csf(self, name: str, header: int, block: int, *, srk: int = 1, version: int = 0, prefix: str = "") -> str:
        """Return a CSF description as builds write it, for one container of the file `name`.

        `header` and `block` are the places in the file of the container and of its signature block, as imx-mkimage
        prints them. `prefix` is put before the names of key files. With SGKs, the one below SRK number `srk` signs.
        """
        head = [
            "[Header]",
            "    Target = AHAB",
            f"    Version = {'1.0' if version == 0 else '2.0'}",
            "",
            "[Install SRK]",
            f'    File = "{prefix}{self.made.table_name(version)}"',
            f'    Source = "{prefix}{self.certificate("SRK", srk)}"',
            f"    Source index = {srk - 1}",
            "    Source set = OEM",
            "    Revocations = 0x0",
            "",
        ]
        if self.made.sgk:
            head += [
                "[Install Certificate]",
                f'    File = "{prefix}{self.certificate("SGK", srk)}"',
                "    Permissions = 0x1",
                "",
            ]
        data = ["[Authenticate Data]", f'    File = "{name}"', f"    Offsets = {header:#x} {block:#x}"]
        return "\n".join([*head, *data]) + "\n"
