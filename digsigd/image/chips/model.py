"""What is known of a chip, and what is not known for certain."""

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
    """A chip that is not known, or does not do what is asked of it."""


class AmbiguousChipError(ChipError):
    """A name that several chips have. `choices` are their names."""

    def __init__(self, what: str, choices: tuple[str, ...]) -> None:
        super().__init__(what, hint="Say one of: " + ", ".join(choices) + ".")
        self.choices = choices


class NotConfirmedError(ChipError):
    """Something of a chip that is not known for certain."""


@dataclass(frozen=True, slots=True)
class Unconfirmed:
    """Stands where a value is not known for certain, with the reason. Using the value raises `NotConfirmedError`."""

    why: str


_Known = TypeVar("_Known")


@dataclass(frozen=True, slots=True)
class FuseWord:
    """32 fuses: a word of a bank, as U-Boot counts them, or the word of an index, as blhost does (`bank` is None)."""

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
    """The versions of HAB in the ROMs of a chip, from the first silicon to the last. `text` says which has which."""

    oldest: Version
    newest: Version
    text: str


@dataclass(frozen=True, slots=True)
class Loads:
    """Where an image is in memory, as tools build it by default: its IVT, and its entry point. Boards may differ."""

    ivt: int
    entry: int


@dataclass(frozen=True, slots=True)
class Chip:
    """One chip, or several that differ in nothing that matters here.

    `name` is what --soc takes, `title` what people call it, `names` are others for it and for its variants. `short` is
    the name that plans of i.MX 8M images have for it. `csf_version` is what the header of a description says.
    `unlocks` are what the CSF that the ROM runs leaves unlocked for what comes after: (engine, features).
    `spl` and `u_boot` are the usual places in memory, `flash` is where a flash for execution in place begins.
    `ocram` is the memory on the chip that the ROM leaves to images: (first, behind the last), None where no source has
    it. `dcd` are the addresses that hosts write the DCD to over USB; the one in use has to be asked for.
    `written_once` says that the words of the SRK hash have ECC: no bit of one is burnt later than the others.

    Cells may be `Unconfirmed`; the properties of the same name raise `NotConfirmedError` then.
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
        """What descriptions of CSFs say as Engine."""
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
        """The places of the SRK hash for images of the second core; None where there is no such core."""
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
        """Where U-Boot proper is in memory; None where there is none for this chip."""
        return self._certain(self.u_boot_cell, "load address of U-Boot")

    @property
    def block_max(self) -> int | None:
        """How many blocks one Authenticate Data may have; None for any number. `ANY` leaves the engine to the ROM."""
        engine = self.engine
        from digsigd.hab import engines

        return engines.MOST_BLOCKS.get(engines.NUMBERS[self.crypto if engine == "ANY" else engine])

    @property
    def block_multiple(self) -> int:
        """All blocks of a command but the last have to be multiples of this many bytes."""
        from digsigd.hab import engines

        return engines.DCP_UNIT if self.engine == "DCP" else 1

    @property
    def unlocks(self) -> tuple[tuple[str, tuple[str, ...]], ...]:
        """What the CSF that the ROM runs leaves unlocked.

        uboot-imx, mx6_mx7_secure_boot.txt, 1.4, and mx8m_secure_boot.txt, 1.4.1: MID, for HAB before 4.4 (NXP's
        examples have it for all of i.MX 8M). RNG: AN4581, 3.3.2.
        """
        if self.engine != "CAAM":
            return ()
        old = not isinstance(self.hab_cell, Unconfirmed) and self.hab_cell.oldest < _RNG_FROM
        return (("CAAM", ("MID", "RNG") if old else ("MID",)),)

    @property
    def ecdsa(self) -> bool:
        """Whether the ROM takes ECDSA keys. RSA of 1024 to 4096 bits, all do."""
        if self.ecdsa_cell is not None:
            return self._certain(self.ecdsa_cell, "support for ECDSA keys")
        return self.hab.newest >= _ECDSA_FROM

    @property
    def nocak(self) -> bool:
        """Whether the ROMs of all silicon take Install NOCAK (fast authentication)."""
        return self.hab.oldest >= _NOCAK_FROM

    def _certain(self, cell: _Known | Unconfirmed, what: str) -> _Known:
        if isinstance(cell, Unconfirmed):
            raise NotConfirmedError(
                f"the {what} of {self.title} is not confirmed: {cell.why}",
                hint="See the chip's reference manuals, and ask NXP.",
            )
        return cell
