"""The chips with AHAB, and where each value comes from.

Sources, by the names that the comments use:

- guides: uboot-imx, doc/imx/ahab/guides; U-Boot, doc/imx/ahab.
- srktool: the help text of NXP's srktool 3.4.1 and 4.0.1, -d.
- SPSDK: NXP SPSDK 3.12, spsdk/data/devices/*/database.yaml and fuses.json.
- Toradex: Toradex, "Secure Boot on Apalis iMX8/Colibri iMX8X/Verdin iMX95", and meta-toradex-security.
- mkimage: NXP imx-mkimage lf-6.6.3, soc.mak of the chips.
- NXP support: answers on community.nxp.com.

A value that no source gives, or that sources disagree about, is `Unconfirmed`. It is never taken for true: using it
raises `NotConfirmed`, and `verify` only notes it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, TypeAlias, TypeVar

from digsigd.ahab.errors import AhabError, NotConfirmed
from digsigd.ahab.srk import ECDSA, ML_DSA, RSA, RSA_PSS, SrkArray, SrkTable


@dataclass(frozen=True, slots=True)
class Unconfirmed:
    """Takes the place of a value that is not confirmed, with the reason."""

    why: str


@dataclass(frozen=True, slots=True)
class Refused:
    """Takes the place of a yes, with the reason."""

    why: str


# True is yes.
Rule: TypeAlias = Literal[True] | Refused | Unconfirmed
# (bank, word) of U-Boot's `fuse prog`.
FuseWord: TypeAlias = tuple[int, int]
_Known = TypeVar("_Known")


@dataclass(frozen=True, slots=True)
class AhabChip:
    """One chip, or several that do not differ here.

    `name` is the value of --soc and of `soc`, `title` the name to show, `names` are others for it and its variants.
    `versions` are those of its containers. `fuse_hash_cell` is the hash of the SRK table that its fuses have,
    `fuse_cell` their (bank, word) in the order of the hash's words, `pqc_fuse_cell` those of the second table's.
    `rsa`, `rsa_pss`, `ecdsa`, `ml_dsa`, `sgk` say what its firmware accepts. `step` is the distance of containers and
    `oem_offset` the place of the owner's first one in a file that begins with NXP's, in bytes. `media` are the offsets
    at which such a file is written to a medium. If a cell is `Unconfirmed`, the property without `_cell` raises
    `NotConfirmed`.
    """

    name: str
    title: str
    names: tuple[str, ...]
    versions: tuple[int, ...]
    fuse_hash_cell: str | Unconfirmed
    fuse_cell: tuple[FuseWord, ...] | Unconfirmed
    rsa: Rule
    rsa_pss: Rule
    ecdsa: Rule
    sgk: Rule
    ml_dsa: Rule
    oem_offset: int
    media: tuple[tuple[str, int], ...]
    pqc_fuse_cell: tuple[FuseWord, ...] | Unconfirmed | None = None
    closed_life_cycle: str = ""
    notes: tuple[str, ...] = ()

    @property
    def fuse_hash(self) -> str:
        """The hash of its fuse value: "sha256" or "sha512"."""
        return self._certain(self.fuse_hash_cell, "hash of the SRK table")

    @property
    def fuse_words(self) -> tuple[FuseWord, ...]:
        """The places of its fuse value: the n-th little-endian word goes to the n-th of these (bank, word)."""
        return self._certain(self.fuse_cell, "place of the SRK fuses")

    @property
    def pqc_fuse_words(self) -> tuple[FuseWord, ...] | None:
        """The places of the second table's fuse value; None for a chip that has none."""
        return self._certain(self.pqc_fuse_cell, "place of the second table's fuses")

    @property
    def step(self) -> int:
        """The distance of the containers in a file, in bytes."""
        return 0x4000 if 2 in self.versions else 0x400

    @property
    def about_versions(self) -> str:
        """What to do with containers of another version: the name of its other silicon, or an empty text."""
        return next((note for note in self.notes if "containers of version" in note), "")

    def allows(self, algorithm: int) -> Rule:
        """Return the rule for an algorithm of an SRK record."""
        rules = {RSA: self.rsa, RSA_PSS: self.rsa_pss, ECDSA: self.ecdsa, ML_DSA: self.ml_dsa}
        return rules.get(algorithm, Unconfirmed("no tool signs with it"))

    def _certain(self, cell: _Known | Unconfirmed, what: str) -> _Known:
        if isinstance(cell, Unconfirmed):
            raise NotConfirmed(
                f"the {what} of {self.title} is not confirmed: {cell.why}",
                hint="Check the chip's security reference manual, or ask NXP.",
            )
        return cell


def fuse_value(table: SrkTable | SrkArray, chip: AhabChip, number: int = 0) -> bytes:
    """Return the fuse value of a table for a chip, 32 or 64 bytes. `number` 1 is the second table of an array.

    Raises `AhabError` for a table that the chip does not use, `NotConfirmed` if its hash is not known for certain.
    """
    version = 2 if isinstance(table, SrkArray) else 0
    if version not in chip.versions:
        raise AhabError(
            f"{chip.title} has containers of version {_listed(chip.versions)}, the table is of version {version}",
            hint="Make the table with srktool -a 2." if 2 in chip.versions else "Make the table with srktool -a 1.",
        )
    if isinstance(table, SrkTable):
        if number:
            raise AhabError("the table of a container of version 0 is the only one")
        return table.hash(chip.fuse_hash)
    if number >= len(table.tables):
        raise AhabError(f"the SRK array has no table {number + 1}")
    return table.tables[number].hash(chip.fuse_hash)


def fuse_words(value: bytes) -> tuple[int, ...]:
    """Return a fuse value as 32-bit words: four bytes each, little-endian, as srktool prints them.

    Raises `AhabError` for another length than 32 and 64 bytes.
    """
    if len(value) not in (32, 64):
        raise AhabError(f"a fuse value has 32 or 64 bytes, not {len(value)}")
    return tuple(int.from_bytes(value[place : place + 4], "little") for place in range(0, len(value), 4))


def chip(name: str) -> AhabChip:
    """Return the chip with this name, in any case, with or without "i.MX". Raises `AhabError` with all names."""
    wanted = _plain(name)
    for one in CHIPS:
        if wanted in {_plain(alias) for alias in (one.name, *one.names)}:
            return one
    known = ", ".join(one.name for one in CHIPS)
    raise AhabError(f"no chip with AHAB is called {name[:40]!r}", hint=f"Known are: {known}.")


def chip_with(name: str, version: int) -> AhabChip:
    """Return the chip that a name means for containers of a version, 0 or 2.

    i.MX 95 alone is the name of two: A0 and A1 have containers of version 0, B0 has those of version 2. Raises
    `AhabError` as `chip` does.
    """
    return chip("mx95-a0") if version == 0 and _plain(name) == "95" else chip(name)


def _plain(name: str) -> str:
    folded = "".join(c for c in name.lower() if c.isalnum())
    for prefix in ("imx", "mx"):
        folded = folded.removeprefix(prefix)
    return folded


def _listed(versions: tuple[int, ...]) -> str:
    return " or ".join(str(version) for version in versions)


def _places(first: int, count: int) -> tuple[FuseWord, ...]:
    """Words that follow each other, by the number of the first one: U-Boot counts 8 to a bank."""
    return tuple((word // 8, word % 8) for word in range(first, first + count))


_NO_PKCS1 = Refused("its firmware answers RSA keys with PKCS #1 v1.5 with F7 (NXP support): use ECDSA or RSA-PSS")
_NO_SGK = Refused("its firmware does not support certificates (SGK), says Toradex (2025-04): sign with the SRK")
_NO_ML_DSA = Refused("only containers of version 2 have ML-DSA, in the second table")
_PSS_8 = Unconfirmed("no source names RSA-PSS for it")
_PKCS1_V2 = Unconfirmed("SPSDK does not list RSA with PKCS #1 v1.5 for it")
_SGK_V2 = Unconfirmed("SPSDK supports certificates (SGK) for it, Toradex turns them off")
# mkimage, and the guides: SD and eMMC's user area; eMMC's boot partition; FlexSPI.
_MEDIA = (("SD card or eMMC user area", 0x8000), ("eMMC boot partition", 0), ("FlexSPI flash", 0x1000))

CHIPS: tuple[AhabChip, ...] = (
    # guides, mx8_mx8x_secure_boot.txt; srktool: SHA-512 for 8/8x.
    AhabChip(
        "mx8", "i.MX 8QuadMax", ("mx8qm", "mx8qp"), (0,), "sha512", tuple((0, word) for word in range(722, 738)),
        rsa=True, rsa_pss=_PSS_8, ecdsa=True, sgk=True, ml_dsa=_NO_ML_DSA, oem_offset=0x400, media=_MEDIA,
        closed_life_cycle="0x20 to 0x80",
    ),
    AhabChip(
        "mx8x", "i.MX 8X", ("mx8qxp", "mx8dxp", "mx8dx", "mx8qxpc0"), (0,), "sha512",
        tuple((0, word) for word in range(730, 746)),
        rsa=True, rsa_pss=_PSS_8, ecdsa=True, sgk=True, ml_dsa=_NO_ML_DSA, oem_offset=0x400,
        media=_MEDIA, closed_life_cycle="0x20 to 0x80",
        notes=(
            "8QXP B0: eMMC's boot partition is written from 0x8000 on",
            "8QXP B0: a certificate (SGK) of RSA-4096 is not supported",
        ),
    ),
    AhabChip(
        "mx8dxl", "i.MX 8DXLite", (), (0,),
        Unconfirmed("srktool's help names i.MX 8 and 8X for SHA-512, but not 8DXL"),
        Unconfirmed("neither NXP's guides nor SPSDK have them"),
        rsa=True, rsa_pss=_PSS_8, ecdsa=True, sgk=True, ml_dsa=_NO_ML_DSA, oem_offset=0x800, media=_MEDIA,
        closed_life_cycle="0x20 to 0x80",
    ),
    # guides, mx8ulp_9x_secure_boot.txt; srktool: SHA-256. SPSDK, fuses.json.
    AhabChip(
        "mx8ulp", "i.MX 8ULP", (), (0,), "sha256", _places(15 * 8, 8),
        rsa=_NO_PKCS1, rsa_pss=True, ecdsa=True, sgk=_NO_SGK, ml_dsa=_NO_ML_DSA, oem_offset=0x400, media=_MEDIA,
        closed_life_cycle="0x08 to 0x20",
    ),
    AhabChip(
        "mx91", "i.MX 91", (), (0,), "sha256", _places(16 * 8, 8),
        rsa=_NO_PKCS1, rsa_pss=True, ecdsa=True, sgk=_NO_SGK, ml_dsa=_NO_ML_DSA, oem_offset=0x400, media=_MEDIA,
        closed_life_cycle="0x08 to 0x20",
    ),
    AhabChip(
        "mx93", "i.MX 93", (), (0,), "sha256", _places(16 * 8, 8),
        rsa=_NO_PKCS1, rsa_pss=True, ecdsa=True, sgk=_NO_SGK, ml_dsa=_NO_ML_DSA, oem_offset=0x400, media=_MEDIA,
        closed_life_cycle="0x08 to 0x20",
        notes=("its SRK words are in bank 16: the bank 15 of NXP's guide of 2022 is wrong",),
    ),
    AhabChip(
        "mx95-a0", "i.MX 95 A0/A1", ("mx95-a1", "mx95a0", "mx95a1"), (0,), "sha256", _places(16 * 8, 8),
        rsa=_NO_PKCS1, rsa_pss=True, ecdsa=True, sgk=_NO_SGK, ml_dsa=_NO_ML_DSA, oem_offset=0x800, media=_MEDIA,
        closed_life_cycle="0x10 to 0x20", notes=("i.MX 95 B0 has containers of version 2: mx95-b0",),
    ),
    # srktool: SHA-512 for 95 B0 and 943. SPSDK: fuses 128-143, and 448-463 for the second table.
    AhabChip(
        "mx95", "i.MX 95 B0", ("mx95-b0", "mx95b0", "mx9596"), (2,), "sha512", _places(16 * 8, 16),
        rsa=_PKCS1_V2, rsa_pss=True, ecdsa=True, sgk=_SGK_V2, ml_dsa=True, oem_offset=0x8000, media=_MEDIA,
        pqc_fuse_cell=_places(56 * 8, 16), closed_life_cycle="0x10 to 0x20",
        notes=("i.MX 95 A0 and A1 have containers of version 0: mx95-a0",),
    ),
    # SPSDK: fuses 608-623, and 624-639 for the second table.
    AhabChip(
        "mx94", "i.MX 94", ("mx943",), (2,), "sha512", _places(76 * 8, 16),
        rsa=_PKCS1_V2, rsa_pss=True, ecdsa=True, sgk=_SGK_V2, ml_dsa=True, oem_offset=0x8000, media=_MEDIA,
        pqc_fuse_cell=_places(78 * 8, 16), closed_life_cycle="0x10 to 0x20",
        notes=("A0 has Dilithium in place of ML-DSA",),
    ),
    # SPSDK, mimx952*: as 95 B0.
    AhabChip(
        "mx952", "i.MX 952", (), (2,), "sha512", _places(16 * 8, 16),
        rsa=Unconfirmed("no source says whether its firmware accepts RSA with PKCS #1 v1.5"),
        rsa_pss=True, ecdsa=True, sgk=_SGK_V2, ml_dsa=True, oem_offset=0x8000, media=_MEDIA,
        pqc_fuse_cell=_places(56 * 8, 16), closed_life_cycle="0x10 to 0x20",
    ),
)  # fmt: skip
