"""The public keys that a CSF installs: each is verified with a key before it, the first with the fuses.

HABv4 API Reference Manual, 4.3.7, "Install Key".
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from digsigd.hab import certificate, csf_blob, engines
from digsigd.hab.certificate import Certificate
from digsigd.hab.cms import issued
from digsigd.hab.csf_blob import InstallKey
from digsigd.hab.errors import FormatError, VerificationError
from digsigd.hab.srk import SHA256, PublicKey, SrkRecord, SrkTable, why_not_hab

# HAB_IDX_SRK0 and HAB_IDX_CSFK0; 5 and 6 are those of a second set of SRKs, which is NXP's.
SRK_INDEX, CSFK_INDEX = 0, 1
LAST_INDEX = 4
# The extension that some boot ROMs do not accept, by its object identifier's DER: extKeyUsage, RFC 5280, 4.2.1.12.
_EXTENDED_KEY_USAGE = bytes.fromhex("0603551d25")
# The first word of the names in certificates of throw-away keys: `digsign pki new --trial`.
TRIAL = "TRIAL"


@dataclass(frozen=True, slots=True)
class InstalledCertificate:
    """A certificate of the CSF blob that was verified. `index` is its slot in the key store."""

    index: int
    subject: str
    serial: int
    not_after: datetime


@dataclass(frozen=True, slots=True)
class Key:
    """A key in the ROM's key store. `certificate` is None for the SRK."""

    public: PublicKey
    may_certify: bool
    certificate: Certificate | None


class KeyStore:
    """The installed keys by their indices. `certificates` and `notes` are for the report."""

    def __init__(self, table: SrkTable, now: datetime | None) -> None:
        self._table = table
        self._now = now
        self._keys: dict[int, Key] = {}
        self.certificates: list[InstalledCertificate] = []
        self.notes: list[str] = []

    def __contains__(self, index: int) -> bool:
        return index in self._keys

    def get(self, index: int) -> Key | None:
        """Return the key at this index, or None."""
        return self._keys.get(index)

    def install_srk(self, command: InstallKey, table: bytes, *, source_index: int, fuse_value: bytes | None) -> None:
        """Install the SRK, which must be number `source_index`, from 0, of the machine's table.

        Raises `VerificationError`, also for a table without `fuse_value`, if that is given.
        """
        if self._keys or command.target != SRK_INDEX or command.flags or command.hash_algorithm != SHA256:
            raise VerificationError("srk-table", "the SRK must be installed first, as key 0, with SHA-256")
        if table != self._table.data:
            raise VerificationError("srk-table", "the SRK table in the CSF is not the machine's")
        fuses = self._table.fuse_value
        if fuse_value is not None and fuses != fuse_value:
            raise VerificationError("fuses", f"the SRK table has the fuse value {fuses.hex()}, not {fuse_value.hex()}")
        if command.source != source_index:
            raise VerificationError("srk-index", f"it uses SRK {command.source + 1}, not {source_index + 1}")
        if command.source >= len(self._table.records):
            raise VerificationError(
                "srk-index", f"it uses SRK {command.source + 1} of a table with {len(self._table.records)}"
            )
        record: SrkRecord = self._table.records[command.source]
        if record.key is None:
            raise VerificationError("srk-index", f"the table has only a hash of SRK {command.source + 1}, not the key")
        if why := why_not_hab(record.key):
            raise VerificationError("srk-table", f"SRK {command.source + 1} is {why}")
        self._keys[SRK_INDEX] = Key(record.key, record.ca, None)

    def install(self, command: InstallKey, der: bytes, *, csf_authenticated: bool) -> None:
        """Install the key of a certificate. Raises `VerificationError`, or `FormatError` for a damaged certificate."""
        is_csfk = command.target == CSFK_INDEX
        name = "the CSF key" if is_csfk else f"key {command.target}"
        if is_csfk != (command.flags == csf_blob.INSTALL_CSFK_FLAG) or (not is_csfk and command.flags):
            raise VerificationError("certificate", f"{name} is installed with the flags {command.flags:#x}")
        if not SRK_INDEX < command.target <= LAST_INDEX or command.hash_algorithm:
            raise VerificationError("certificate", f"{name} cannot be installed there")
        if is_csfk == csf_authenticated:
            raise VerificationError(
                "order", f"{name} must be installed {'before' if is_csfk else 'after'} Authenticate CSF"
            )
        issuer = self._keys.get(command.source)
        if issuer is None or command.source == CSFK_INDEX:
            raise VerificationError(
                "certificate", f"{name} is verified by key {command.source}, which is not installed"
            )
        if not issuer.may_certify:
            raise VerificationError(
                "ca-flag", f"{name} is verified by key {command.source}, which has no CA flag, so it can sign only data"
            )
        installed = load(der, name, command.data_offset)
        _check_issued(installed, issuer.public, name, command.source)
        if installed.public_key is None:
            raise VerificationError("certificate", f"{name} is neither RSA nor ECDSA")
        if why := why_not_hab(installed.public_key):
            raise VerificationError("certificate", f"{name} is {why}")
        before = self._keys.get(command.target)
        if before is not None:
            # 4.3.7: a slot is not written twice, but the same key again is ignored.
            if before.public != installed.public_key or before.may_certify != installed.is_ca:
                raise VerificationError(
                    "certificate", f"{name} cannot be installed: a different key is installed there already"
                )
            return
        self._keys[command.target] = Key(installed.public_key, installed.is_ca, installed)
        self._note(installed, name)
        self.certificates.append(
            InstalledCertificate(command.target, installed.name, installed.serial, installed.not_after)
        )

    def _note(self, installed: Certificate, name: str) -> None:
        self.notes += notes_on(installed, f"the certificate of {name}", self._now)


def notes_on(installed: Certificate, what: str, now: datetime | None) -> list[str]:
    """Return remarks on a certificate that are not reasons to refuse it. `now` is for those on dates."""
    notes = general_notes_on(installed, what, now)
    if _EXTENDED_KEY_USAGE in installed.tbs:
        notes.append(f"{what} ({installed.name}) has an extended key usage, which some i.MX 6 are reported to refuse")
    return notes


def general_notes_on(installed: Certificate, what: str, now: datetime | None) -> list[str]:
    """Return the remarks of `notes_on` that do not depend on the boot ROM."""
    whose, notes = f"{what} ({installed.name})", []
    if installed.name.startswith(f"{TRIAL} "):
        notes.append(f"{whose} is of trial keys, which must not be burnt into boards for real use")
    if now is not None and installed.not_after < now:
        notes.append(f"{whose} expired on {installed.not_after:%Y-%m-%d}")
    if now is not None and installed.not_before > now:
        notes.append(f"{whose} is not valid before {installed.not_before:%Y-%m-%d}")
    return notes


def load(der: bytes, name: str, offset: int | None = None) -> Certificate:
    """Read the certificate of the key `name`. Raises `FormatError`, with the `offset` in the blob if given."""
    try:
        return certificate.load(der)
    except FormatError as error:
        raise FormatError(f"the certificate of {name}: {error}", offset) from None


def _check_issued(installed: Certificate, issuer: PublicKey, name: str, index: int) -> None:
    """Raise `VerificationError` unless the issuer's key signed the certificate, in a way that HAB4 checks."""
    if installed.version != 3:
        raise VerificationError(
            "certificate", f"{name} ({installed.name}) is an X.509 certificate of version {installed.version}, not 3"
        )
    if installed.algorithm not in engines.ALGORITHMS:
        how = installed.algorithm or "an unknown algorithm"
        raise VerificationError(
            "certificate", f"{name} ({installed.name}) is signed with {how}; the engines of HAB4 support sha256 only"
        )
    if not issued(installed, issuer):
        who = "the chosen SRK" if index == SRK_INDEX else f"key {index}"
        raise VerificationError("certificate", f"{name} ({installed.name}) is not signed by {who}")
