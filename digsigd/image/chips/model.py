"""The values of a chip, and which of them are not confirmed."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, TypeAlias, TypeVar

from digsigd.image.errors import ImageError

Family: TypeAlias = Literal["i.MX 6", "i.MX 7", "i.MX 7ULP", "i.MX 8M", "Vybrid", "i.MX RT"]
Crypto: TypeAlias = Literal["CAAM", "DCP"]
Engine: TypeAlias = Literal["CAAM", "DCP", "SW", "ANY"]
Version: TypeAlias = tuple[int, int, int]

# NXP AN4581: Install NOCAK. CST User Guide, revision history and "Signature formats": ECDSA.
_NOCAK_FROM: Version = (4, 1, 2)
_ECDSA_FROM: Version = (4, 5, 0)
# NXP AN4581, 3.3.2: before it, CAAM's random numbers have to be left unlocked, or a closed board does not boot.
_RNG_FROM: Version = (4, 2, 0)


class ChipError(ImageError):
    """An unknown chip, or one that does not support what is asked of it."""


class AmbiguousChipError(ChipError):
    """A name that several chips share. `choices` are the names of these chips."""

    def __init__(self, what: str, choices: tuple[str, ...]) -> None:
        super().__init__(what, hint="Pass one of: " + ", ".join(choices) + ".")
        self.choices = choices


class NotConfirmedError(ChipError):
    """A value of a chip that is not confirmed."""


@dataclass(frozen=True, slots=True)
class Unconfirmed:
    """Takes the place of a value that is not confirmed, with the reason. Using the value raises `NotConfirmedError`."""

    why: str


_Known = TypeVar("_Known")


@dataclass(frozen=True, slots=True)
class FuseWord:
    """32 fuses: a word in a bank, as U-Boot counts them, or the word at an index, as blhost does (`bank` is None)."""

    bank: int | None
    word: int

    def __str__(self) -> str:
        return f"index {self.word}" if self.bank is None else f"bank {self.bank} word {self.word}"


@dataclass(frozen=True, slots=True)
class FuseBits:
    """Some fuses of a word."""

    word: FuseWord
    mask: int

    def __str__(self) -> str:
        bits = [str(bit) for bit in range(32) if self.mask >> bit & 1]
        named = f"bit {bits[0]}" if len(bits) == 1 else f"bits {bits[0]} to {bits[-1]}"
        return f"{named} of {self.word}"


@dataclass(frozen=True, slots=True)
class Hab:
    """The versions of HAB in the ROMs of a chip, from the first silicon to the last. `text` lists them by silicon."""

    oldest: Version
    newest: Version
    text: str


@dataclass(frozen=True, slots=True)
class Loads:
    """The default addresses of an image in memory: its IVT and its entry point. Boards can differ."""

    ivt: int
    entry: int


@dataclass(frozen=True, slots=True)
class Chip:
    """One chip, or several that do not differ here.

    `name` is the value of --soc, `title` the name to show; `names` are other names for it and its variants. `short` is
    its name in plans of i.MX 8M images. `csf_version` is the version in the header of a CSF description.
    `unlocks` lists what the CSF that the ROM runs leaves unlocked for later stages: (engine, features).
    `spl` and `u_boot` are the usual addresses in memory, `flash` is the start of a flash for execution in place.
    `ocram` is the memory on the chip that the ROM leaves to images: (first, after the last), None if no source gives
    it. `dcd` are the addresses that hosts write the DCD to over USB; the user has to select one.
    `written_once` says that the words of the SRK hash have ECC: all bits of a word are burnt together.

    If a cell is `Unconfirmed`, the property of the same name raises `NotConfirmedError`.
    """

    name: str
    title: str
    family: Family
    crypto_cell: Crypto | Unconfirmed
    engine_cell: Engine | Unconfirmed
    hab_cell: Hab | Unconfirmed
    srk_cell: tuple[FuseWord, ...] | Unconfirmed
    close_cell: FuseBits | Unconfirmed
    lock_cell: FuseBits | Unconfirmed
    revoke_cell: FuseBits | Unconfirmed
    names: tuple[str, ...] = ()
    short: str | None = None
    csf_version: tuple[int, int] = (4, 2)
    spl: tuple[Loads, ...] = ()
    u_boot_cell: Loads | Unconfirmed | None = None
    flash: int | None = None
    ocram: tuple[int, int] | None = None
    dcd: tuple[int, ...] = ()
    ecdsa_cell: bool | Unconfirmed | None = None
    second_core_cell: tuple[FuseWord, ...] | Unconfirmed | None = None
    written_once: bool = False
    notes: tuple[str, ...] = ()

    @property
    def crypto(self) -> Crypto:
        """The engine for cryptography on the chip."""
        return self._certain(self.crypto_cell, "engine for cryptography")

    @property
    def engine(self) -> Engine:
        """The value of Engine in CSF descriptions."""
        return self._certain(self.engine_cell, "Engine for CSF descriptions")

    @property
    def hab(self) -> Hab:
        """The versions of HAB."""
        return self._certain(self.hab_cell, "version of HAB")

    @property
    def srk(self) -> tuple[FuseWord, ...]:
        """The places of the SRK hash: the n-th little-endian word of the fuse file goes to the n-th of these."""
        return self._certain(self.srk_cell, "place of the SRK fuses")

    @property
    def second_core(self) -> tuple[FuseWord, ...] | None:
        """The places of the SRK hash for images of the second core; None for a chip without one."""
        return self._certain(self.second_core_cell, "place of the SRK fuses of the second core")

    @property
    def close(self) -> FuseBits:
        """The fuse that closes the board: SEC_CONFIG[1]."""
        return self._certain(self.close_cell, "place of SEC_CONFIG")

    @property
    def lock(self) -> FuseBits:
        """The fuse that locks the SRK hash: SRK_LOCK."""
        return self._certain(self.lock_cell, "place of SRK_LOCK")

    @property
    def revoke(self) -> FuseBits:
        """The fuses that revoke SRKs, the lowest bit SRK 1."""
        return self._certain(self.revoke_cell, "place of SRK_REVOKE")

    @property
    def u_boot(self) -> Loads | None:
        """The addresses of U-Boot proper in memory; None for a chip without U-Boot."""
        return self._certain(self.u_boot_cell, "load address of U-Boot")

    @property
    def block_max(self) -> int | None:
        """The most blocks of one Authenticate Data; None for any number. `ANY` leaves the engine to the ROM."""
        from digsigd.hab import engines

        engine = self.engine
        return engines.MOST_BLOCKS.get(engines.NUMBERS[self.crypto if engine == "ANY" else engine])

    @property
    def block_multiple(self) -> int:
        """The number of bytes that the length of every block but the last must be a multiple of."""
        from digsigd.hab import engines

        return engines.DCP_UNIT if self.engine == "DCP" else 1

    @property
    def unlocks(self) -> tuple[tuple[str, tuple[str, ...]], ...]:
        """What the CSF that the ROM runs leaves unlocked: (engine, features).

        uboot-imx, mx6_mx7_secure_boot.txt, 1.4, and mx8m_secure_boot.txt, 1.4.1: MID, for HAB before 4.4 (NXP's
        examples have it for all of i.MX 8M). RNG: AN4581, 3.3.2.
        """
        if self.engine != "CAAM":
            return ()
        old = not isinstance(self.hab_cell, Unconfirmed) and self.hab_cell.oldest < _RNG_FROM
        return (("CAAM", ("MID", "RNG") if old else ("MID",)),)

    @property
    def ecdsa(self) -> bool:
        """Whether the ROM accepts ECDSA keys. All accept RSA keys of 1024 to 4096 bits."""
        if self.ecdsa_cell is not None:
            return self._certain(self.ecdsa_cell, "support for ECDSA keys")
        return self.hab.newest >= _ECDSA_FROM

    @property
    def nocak(self) -> bool:
        """Whether the ROMs of all silicon support Install NOCAK (fast authentication)."""
        return self.hab.oldest >= _NOCAK_FROM

    def _certain(self, cell: _Known | Unconfirmed, what: str) -> _Known:
        if isinstance(cell, Unconfirmed):
            raise NotConfirmedError(
                f"the {what} of {self.title} is not confirmed: {cell.why}",
                hint="Check the chip's reference manuals, or ask NXP.",
            )
        return cell
