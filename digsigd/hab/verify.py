"""Whether the boot ROM accepts a CSF blob: SRK table, certificates, and signatures over commands and data.

The checks are those of the HABv4 API Reference Manual ("CSF commands") and of NXP's application note AN4581 on the
chain from the fuses to the data. Where the ROM is known to be lax (it has no clock, so dates mean nothing to it), that
is a note; where it is not known to accept something that cst would never make, that is refused.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.hashes import Hash
from cryptography.x509.oid import NameOID

from digsigd.hab import csf
from digsigd.hab.chain import ACCEPTED, UNREADABLE
from digsigd.hab.cms import HASHES, CmsSignature, verifies
from digsigd.hab.csf import Authenticate, Command, CsfBlob, InstallKey, OtherCommand
from digsigd.hab.errors import FormatError, HabError, VerificationError
from digsigd.hab.ivt import Block
from digsigd.hab.srk import SHA256, PublicKey, SrkRecord, SrkTable, why_not_hab

SRK_INDEX, CSFK_INDEX = 0, 1  # HAB_IDX_SRK, HAB_IDX_CSFK
LAST_INDEX = 5


@dataclass(frozen=True, slots=True)
class DataDigest:
    """What the digest that `verify` asks for goes over: (address, length) of each block, and by which algorithm."""

    algorithm: str
    blocks: tuple[tuple[int, int], ...]


@dataclass(frozen=True, slots=True)
class InstalledCertificate:
    """A certificate of the blob that the chain vouches for."""

    index: int
    subject: str
    serial: int
    not_after: datetime


@dataclass(frozen=True, slots=True)
class Verified:
    """What was proven. `srk` counts from 1, `notes` are remarks that are no reason to refuse."""

    srk: int
    fuse_value: bytes
    certificates: tuple[InstalledCertificate, ...]
    bytes_covered: int
    blocks: int
    notes: tuple[str, ...]

    @property
    def fast_authentication(self) -> bool:
        """Whether the SRK itself signed, with no certificates below it."""
        return not self.certificates

    def __str__(self) -> str:
        keys = ", ".join(one.subject for one in self.certificates) or "the SRK itself (fast authentication)"
        blocks = "1 block" if self.blocks == 1 else f"{self.blocks} blocks"
        return (
            f"SRK {self.srk} of the table with fuse value {self.fuse_value.hex()} -> {keys} -> commands and"
            f" {self.bytes_covered} bytes of data in {blocks}"
        )


@dataclass(frozen=True, slots=True)
class _Key:
    """A key in the ROM's key store. `certificate` is None for the SRK."""

    public: PublicKey
    may_certify: bool
    certificate: x509.Certificate | None


def wanted(blob: bytes) -> tuple[DataDigest, ...]:
    """What to digest for `verify`, one for each Authenticate Data command. Raises `FormatError`."""
    parsed = CsfBlob.parse(blob)
    return tuple(
        DataDigest(CmsSignature.parse(parsed.object_at(command)[4:]).digest_algorithm, command.blocks)
        for command in parsed.commands
        if isinstance(command, Authenticate) and command.blocks
    )


def verify(
    blob: bytes,
    *,
    srk_table: bytes,
    expected_blocks: Sequence[Sequence[Block]],
    source_index: int,
    digests: Sequence[bytes],
    fuse_value: bytes | None = None,
    now: datetime | None = None,
    digest_algorithm: str = "sha256",
) -> Verified:
    """Prove a blob against the table of the machine's SRKs, and against what was to be signed.

    `expected_blocks` and `digests` have one entry for each Authenticate Data command, in order: its blocks, and the
    digest by `digest_algorithm` over their contents one after the other. `source_index` is the SRK's, from 0.
    `fuse_value` is what the boards' fuses hold, where known. `now` is for notes on dates.

    Raises `FormatError` or `VerificationError`.
    """
    return _Verification(CsfBlob.parse(blob), srk_table, source_index, fuse_value, digest_algorithm, now).run(
        expected_blocks, digests
    )


class _Verification:
    """One walk through the commands, as the ROM takes it."""

    def __init__(
        self,
        blob: CsfBlob,
        srk_table: bytes,
        source_index: int,
        fuse_value: bytes | None,
        digest_algorithm: str,
        now: datetime | None,
    ) -> None:
        self._blob = blob
        self._table = SrkTable.parse(srk_table)
        self._source_index = source_index
        self._fuse_value = fuse_value
        self._digest_algorithm = digest_algorithm
        self._now = now
        self._keys: dict[int, _Key] = {}
        self._csf_authenticated = False
        self._certificates: list[InstalledCertificate] = []
        self._notes: list[str] = []

    def run(self, expected: Sequence[Sequence[Block]], digests: Sequence[bytes]) -> Verified:
        if len(expected) != len(digests):
            raise ValueError("there must be one digest for each command's blocks")
        done = 0
        for number, command in enumerate(self._blob.commands):
            try:
                done += self._step(command, number, done, expected, digests)
            except HabError as error:
                error.command = number
                raise
        if SRK_INDEX not in self._keys:
            raise VerificationError("srk-table", "it installs no SRK")
        if not self._csf_authenticated:
            raise VerificationError("csf-signature", "its commands are not authenticated")
        if done < len(expected) or not done:
            raise VerificationError("blocks", f"it has {done} Authenticate Data, where {max(len(expected), 1)} must be")
        return Verified(
            srk=self._source_index + 1,
            fuse_value=self._table.fuse_value,
            certificates=tuple(self._certificates),
            bytes_covered=sum(block.length for blocks in expected for block in blocks),
            blocks=sum(len(blocks) for blocks in expected),
            notes=tuple(self._notes),
        )

    def _step(
        self,
        command: Command,
        number: int,
        done: int,
        expected: Sequence[Sequence[Block]],
        digests: Sequence[bytes],
    ) -> int:
        """Take one command; the result is how many Authenticate Data it was, `done` how many went before it."""
        if isinstance(command, InstallKey):
            if command.protocol == csf.SRK_TABLE:
                self._install_srk(command, first=number == 0)
            else:
                self._install_certificate(command)
        elif isinstance(command, Authenticate) and not command.blocks:
            self._authenticate_csf(command)
        elif isinstance(command, Authenticate):
            if done == len(expected):
                raise VerificationError("blocks", f"it has more than the {done} Authenticate Data asked for")
            self._authenticate_data(command, expected[done], digests[done])
            return 1
        else:
            self._other(command)
        return 0

    def _install_srk(self, command: InstallKey, *, first: bool) -> None:
        if not first or command.target != SRK_INDEX or command.flags or command.hash_algorithm != SHA256:
            raise VerificationError("srk-table", "the SRK is not installed first, with SHA-256, as key 0")
        if self._blob.object_at(command) != self._table.data:
            raise VerificationError("srk-table", "its SRK table is not the machine's")
        fuses = self._table.fuse_value
        if self._fuse_value is not None and fuses != self._fuse_value:
            raise VerificationError(
                "fuses", f"its SRK table has the fuse value {fuses.hex()}, not {self._fuse_value.hex()}"
            )
        if command.source != self._source_index:
            raise VerificationError("srk-index", f"it takes SRK {command.source + 1}, not {self._source_index + 1}")
        if command.source >= len(self._table.records):
            raise VerificationError(
                "srk-index", f"it takes SRK {command.source + 1} of a table with {len(self._table.records)}"
            )
        record: SrkRecord = self._table.records[command.source]
        if record.key is None:
            raise VerificationError("srk-index", f"the table has only a hash of SRK {command.source + 1}, no key")
        if why := why_not_hab(record.key):
            raise VerificationError("srk-table", f"SRK {command.source + 1} is {why}")
        self._keys[SRK_INDEX] = _Key(record.key, record.ca, None)

    def _install_certificate(self, command: InstallKey) -> None:
        if command.protocol != csf.X509:
            raise VerificationError("certificate", f"it installs a key by the protocol {command.protocol:#x}")
        is_csfk = command.target == CSFK_INDEX
        name = "the CSF key" if is_csfk else f"key {command.target}"
        if is_csfk != (command.flags == csf.INSTALL_CSFK_FLAG) or (not is_csfk and command.flags):
            raise VerificationError("certificate", f"{name} is installed with the flags {command.flags:#x}")
        if not SRK_INDEX < command.target <= LAST_INDEX or command.target in self._keys or command.hash_algorithm:
            raise VerificationError("certificate", f"{name} cannot be installed there, or is there already")
        if is_csfk == self._csf_authenticated:
            raise VerificationError("order", f"{name} is installed on the wrong side of Authenticate CSF")
        issuer = self._keys.get(command.source)
        if issuer is None or command.source == CSFK_INDEX:
            raise VerificationError("certificate", f"{name} is to be verified by key {command.source}, which is none")
        if not issuer.may_certify:
            raise VerificationError(
                "ca-flag", f"{name} is verified by key {command.source}, which lacks the CA flag and may sign only data"
            )
        certificate = self._certificate(command, name)
        _check_issued(certificate, issuer.public, name, command.source)
        key = certificate.public_key()
        if not isinstance(key, rsa.RSAPublicKey | ec.EllipticCurvePublicKey):
            raise VerificationError("certificate", f"{name} is neither RSA nor ECDSA")
        if why := why_not_hab(key):
            raise VerificationError("certificate", f"{name} is {why}")
        self._keys[command.target] = _Key(key, _is_ca(certificate), certificate)
        self._note_dates(certificate, name)
        self._certificates.append(
            InstalledCertificate(
                command.target, _subject(certificate), certificate.serial_number, certificate.not_valid_after_utc
            )
        )

    def _srk_certificate(self) -> x509.Certificate | None:
        """The SRK's own certificate, which cst puts into a CSF with fast authentication. The ROM does not read it."""
        if not self._blob.loose:
            return None
        certificate = self._load(self._blob.loose[0][4:], "the SRK", 0)
        if len(self._blob.loose) > 1 or certificate.public_key() != self._keys[SRK_INDEX].public:
            raise VerificationError("certificate", "it holds a certificate that is not the chosen SRK's")
        return certificate

    def _certificate(self, command: InstallKey, name: str) -> x509.Certificate:
        return self._load(self._blob.object_at(command)[4:], name, command.data_offset)

    def _load(self, der: bytes, name: str, offset: int) -> x509.Certificate:
        try:
            certificate = x509.load_der_x509_certificate(der)
            certificate.public_key()
        except UNREADABLE as error:
            raise FormatError(f"the certificate of {name} is none: {error}", offset) from None
        # The algorithm stands in the certificate twice, only once under its signature: RFC 5280, 4.1.1.2.
        body = certificate.tbs_certificate_bytes
        behind = der[der.find(body) + len(body) :]
        if behind[: 2 + behind[1]] not in body or der[-len(certificate.signature) - 1]:
            raise FormatError(f"the certificate of {name} names two algorithms, or has bits to spare", offset)
        return certificate

    def _note_dates(self, certificate: x509.Certificate, name: str) -> None:
        if self._now is None:
            return
        after, before = certificate.not_valid_after_utc, certificate.not_valid_before_utc
        if after < self._now:
            self._notes.append(f"the certificate of {name} ({_subject(certificate)}) expired on {after:%Y-%m-%d}")
        if before > self._now:
            self._notes.append(
                f"the certificate of {name} ({_subject(certificate)}) is not valid before {before:%Y-%m-%d}"
            )

    def _authenticate_csf(self, command: Authenticate) -> None:
        if self._csf_authenticated:
            raise VerificationError("order", "its commands are authenticated twice")
        if command.key != CSFK_INDEX:
            raise VerificationError("csf-signature", f"its commands are authenticated by key {command.key}, not 1")
        # Fast authentication has no CSF key: the SRK stands in for it.
        index = CSFK_INDEX if CSFK_INDEX in self._keys else SRK_INDEX
        digest = Hash(HASHES[self._digest_algorithm])
        digest.update(self._blob.data[: self._blob.header_length])
        self._check_signature(command, index, digest.finalize(), "csf-signature", "its commands")
        if self._blob.loose and index != SRK_INDEX:
            raise VerificationError("certificate", "it holds a certificate that no command installs")
        self._csf_authenticated = True

    def _authenticate_data(self, command: Authenticate, expected: Sequence[Block], digest: bytes) -> None:
        if not self._csf_authenticated:
            raise VerificationError("order", "data is authenticated before the commands are")
        pairs = tuple((block.address, block.length) for block in expected)
        if command.blocks != pairs:
            for number, (has, must) in enumerate(zip(command.blocks, pairs, strict=False), 1):
                if has != must:
                    raise VerificationError(
                        "blocks",
                        f"block {number} is {has[0]:#x}+{has[1]:#x}, where {must[0]:#x}+{must[1]:#x} was asked for",
                    )
            raise VerificationError("blocks", f"it has {len(command.blocks)} blocks, where {len(pairs)} were asked for")
        index = command.key
        if index == CSFK_INDEX or index not in self._keys:
            raise VerificationError("data-signature", f"data is authenticated by key {index}, which is none for data")
        if index == SRK_INDEX and CSFK_INDEX in self._keys:
            raise VerificationError("data-signature", "data is authenticated by the SRK beside a CSF key")
        self._check_signature(command, index, digest, "data-signature", "the data")

    def _check_signature(self, command: Authenticate, index: int, digest: bytes, check: str, what: str) -> None:
        if command.protocol != csf.CMS or command.flags:
            raise VerificationError(
                check, f"the signature over {what} is by the protocol {command.protocol:#x}, not CMS"
            )
        key = self._keys.get(index)
        if key is None:
            raise VerificationError(check, f"the signature over {what} is by key {index}, which is not installed")
        if key.certificate is None and key.may_certify:
            raise VerificationError(
                "ca-flag",
                "the SRK has the CA flag and may sign only certificates; fast authentication needs one without",
            )
        signature = CmsSignature.parse(self._blob.object_at(command)[4:])
        if signature.digest_algorithm != self._digest_algorithm or signature.digest_algorithm not in ACCEPTED:
            raise VerificationError(
                check, f"the signature over {what} uses {signature.digest_algorithm}, not {self._digest_algorithm}"
            )
        if signature.digest != digest:
            raise VerificationError(
                check, f"the signature over {what} is for the digest {signature.digest.hex()}, but it is {digest.hex()}"
            )
        certificate = key.certificate or self._srk_certificate()
        if certificate is not None and not signature.names(certificate):
            raise VerificationError(check, f"the signature over {what} names another certificate than key {index}'s")
        if not signature.is_by(key.public):
            raise VerificationError(check, f"the signature over {what} is not by key {index}")

    def _other(self, command: OtherCommand) -> None:
        name = csf.NAMES[command.tag]
        if command.tag in {csf.WRITE_DATA, csf.CHECK_DATA}:
            self._notes.append(f"U-Boot refuses images whose CSF holds {name}")
        if command.tag == csf.SET and command.parameter == csf.SET_MID:
            self._notes.append("U-Boot refuses images whose CSF holds Set MID")


def _check_issued(certificate: x509.Certificate, issuer: PublicKey, name: str, index: int) -> None:
    """Raise unless this key signed the certificate."""
    try:
        algorithm = certificate.signature_hash_algorithm
        kind = "ecdsa" if "ecdsa" in certificate.signature_algorithm_oid._name else "rsa"  # noqa: SLF001
        body = certificate.tbs_certificate_bytes
    except UNREADABLE as error:
        raise VerificationError("certificate", f"{name} is signed in an unknown way: {error}") from None
    if algorithm is None or algorithm.name not in ACCEPTED:
        raise VerificationError("certificate", f"{name} is signed with {algorithm.name if algorithm else 'no hash'}")
    if not verifies(issuer, certificate.signature, body, algorithm, kind):
        who = "the chosen SRK" if index == SRK_INDEX else f"key {index}"
        raise VerificationError("certificate", f"{name} ({_subject(certificate)}) is not signed by {who}")


def _is_ca(certificate: x509.Certificate) -> bool:
    try:
        return certificate.extensions.get_extension_for_class(x509.BasicConstraints).value.ca
    except (x509.ExtensionNotFound, x509.DuplicateExtension, x509.UnsupportedGeneralNameType, *UNREADABLE):
        return False


def subject_of(der: bytes) -> str:
    """The name in a certificate, for people; one that cannot be read has none."""
    try:
        return _subject(x509.load_der_x509_certificate(der))
    except UNREADABLE:
        return "a certificate that cannot be read"


def _subject(certificate: x509.Certificate) -> str:
    try:
        names = certificate.subject.get_attributes_for_oid(NameOID.COMMON_NAME)
        text = str(names[0].value) if names else certificate.subject.rfc4514_string()
    except ValueError:
        return "a certificate without a readable subject"
    return "".join(c if c.isprintable() else "?" for c in text)[:100]
