"""Throw-away HAB4 keys: a PKI in the layout of NXP's scripts with a well-known pass phrase."""

from __future__ import annotations

import tarfile
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal

from digsigd.hab.srk import SrkTable
from digsigd.pki import KeyKind, Pki, Protection, Validity, pack

__all__ = ["KeyKind", "TrialPki"]
_PASS_PHRASE = "trial-pass-phrase"  # noqa: S105 - protects nothing


@dataclass(frozen=True)
class TrialPki:
    """A throw-away PKI: key and certificate files by their path in the key tarball, and the SRK table.

    SRK number N, from 1, has `crts/CSFN_1_..._crt.pem` and `crts/IMGN_1_..._crt.pem`. With `fast_auth` there are only
    the SRKs, which sign data themselves. Its repr shows no keys.
    """

    files: dict[str, bytes] = field(repr=False)
    kind: KeyKind
    fast_auth: bool
    srk_table: bytes = field(repr=False)

    @classmethod
    def make(
        cls,
        kind: KeyKind = "rsa2048",
        *,
        fast_auth: bool = False,
        srks: int = 4,
        encoding: Literal["pem", "der"] = "pem",
        encrypted: bool = True,
        valid_days: int = 3650,
    ) -> TrialPki:
        """Generate all keys and certificates. A negative `valid_days` makes certificates that expired so long ago.

        Raises `ValueError` unless an SRK table can hold `srks` keys.
        """
        made = Pki.make(
            kind,
            Validity.of_days(valid_days),
            Protection(_PASS_PHRASE if encrypted else None, encoding),
            fast_auth=fast_auth,
            srks=srks,
            # Only the CA's signatures are needed, so use the fastest kind of key.
            ca_kind="p256",
        )
        return cls(made.files, kind, fast_auth, made.srk_table)

    @property
    def pass_phrase(self) -> str:
        """The pass phrase of the private keys."""
        return _PASS_PHRASE

    @property
    def fuse_value(self) -> bytes:
        """The 32 bytes that a board with these keys has in its SRK fuses."""
        return SrkTable.parse(self.srk_table).fuse_value

    def certificate(self, role: Literal["SRK", "CSF", "IMG"], srk: int = 1) -> str:
        """Return the path in the tarball of the SRK certificate number `srk`, or of the CSF or IMG one under it."""
        start = f"crts/{role}{srk}_"
        return next(name for name in self.files if name.startswith(start) and "_crt." in name)

    def table(self) -> str:
        """Return the path of the SRK table in the tarball."""
        return next(name for name in self.files if name.endswith("_table.bin"))

    def tarball(
        self, *, top: str = "", flat: bool = False, extra: Sequence[tuple[tarfile.TarInfo, bytes]] = ()
    ) -> bytes:
        """Return the gzip-compressed key tarball. For the arguments see `digsigd.pki.pack`."""
        return pack(self.files, top=top, flat=flat, extra=extra, level=1)

    def csf(
        self, *blocks: str, srk: int = 1, image_srk: int | None = None, unlock: bool = True, prefix: str = ""
    ) -> str:
        """Return a CSF description as builds write it, with one `[Authenticate Data]` over all `blocks`.

        `prefix` is put before every file name. `image_srk` selects the IMG certificate of another SRK.
        """
        head = [
            "[Header]",
            "    Version = 4.3",
            "    Hash Algorithm = sha256",
            "    Engine = CAAM",
            "    Engine Configuration = 0",
            "    Certificate Format = X509",
            "    Signature Format = CMS",
            "",
            "[Install SRK]",
            f'    File = "{prefix}{self.table()}"',
            f"    Source index = {srk - 1}",
            "",
        ]
        if self.fast_auth:
            keys = ["[Install NOCAK]", f'    File = "{prefix}{self.certificate("SRK", srk)}"', ""]
        else:
            keys = ["[Install CSFK]", f'    File = "{prefix}{self.certificate("CSF", srk)}"', ""]
        keys += ["[Authenticate CSF]", ""]
        if unlock:
            keys += ["[Unlock]", "    Engine = CAAM", "    Features = MID", ""]
        index = 0
        if not self.fast_auth:
            index = 2
            keys += [
                "[Install Key]",
                "    Verification index = 0",
                "    Target index = 2",
                f'    File = "{prefix}{self.certificate("IMG", image_srk or srk)}"',
                "",
            ]
        data = ["[Authenticate Data]", f"    Verification index = {index}"]
        data.append("    Blocks = " + ", \\\n             ".join(blocks))
        return "\n".join([*head, *keys, *data]) + "\n"
