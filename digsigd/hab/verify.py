"""Verifies that the boot ROM accepts a CSF blob: SRK table, certificates, and signatures over commands and data.

The checks are those of the HABv4 API Reference Manual ("CSF commands") and of NXP's application note AN4581 on the
chain from the fuses to the data. What the ROM is known to accept (it has no clock, so dates mean nothing to it) is a
note. What cst would never make is refused, unless the ROM is known to accept it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from cryptography.hazmat.primitives.hashes import Hash

from digsigd.hab import certificate, csf_blob, engines
from digsigd.hab.certificate import Certificate
from digsigd.hab.cms import HASHES, CmsSignature
from digsigd.hab.csf_blob import Authenticate, Command, CsfBlob, InstallKey, OtherCommand
from digsigd.hab.errors import FormatError, HabError, VerificationError
from digsigd.hab.ivt import Block
from digsigd.hab.keystore import CSFK_INDEX, SRK_INDEX, InstalledCertificate, KeyStore, load
from digsigd.hab.srk import PublicKey, SrkTable

# Wrapped keys of encrypted images: indices of the store of secret keys, and HAB_SNVS_* to unwrap them with.
_SECRET_KEYS, _MASTER_KEYS = range(4), range(4)


@dataclass(frozen=True, slots=True)
class DataDigest:
    """A digest that `verify` needs: its algorithm, and (address, length) of the blocks that it is over."""

    algorithm: str
    blocks: tuple[tuple[int, int], ...]


@dataclass(frozen=True, slots=True)
class Verified:
    """What was verified. `srk` counts from 1, `notes` are remarks that are not a reason to refuse.

    `encrypted` are (address, length) of the blocks of Decrypt Data, which are not verified here.
    """

    srk: int
    fuse_value: bytes
    certificates: tuple[InstalledCertificate, ...]
    bytes_covered: int
    blocks: int
    notes: tuple[str, ...]
    encrypted: tuple[tuple[int, int], ...] = ()

    @property
    def fast_authentication(self) -> bool:
        """Whether the SRK signed commands and data, without certificates."""
        return not self.certificates

    def __str__(self) -> str:
        keys = ", ".join(one.subject for one in self.certificates) or "the SRK itself (fast authentication)"
        blocks = "1 block" if self.blocks == 1 else f"{self.blocks} blocks"
        return (
            f"SRK {self.srk} of the table with fuse value {self.fuse_value.hex()} -> {keys} -> commands and"
            f" {self.bytes_covered} bytes of data in {blocks}"
        )


def wanted(blob: bytes) -> tuple[DataDigest, ...]:
    """Return the digests that `verify` needs, one for each Authenticate Data command. Raises `FormatError`."""
    parsed = CsfBlob.parse(blob)
    return tuple(
        DataDigest(CmsSignature.parse(parsed.object_at(command)[4:]).digest_algorithm, command.blocks)
        for command in parsed.commands
        if isinstance(command, Authenticate) and command.blocks and command.protocol != csf_blob.AEAD
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
    encrypted_ok: bool = False,
) -> Verified:
    """Verify a CSF blob against the machine's SRK table, and against the blocks that had to be signed.

    `expected_blocks` and `digests` have one entry for each Authenticate Data command, in order: its blocks, and the
    digest with `digest_algorithm` over their contents one after the other. `source_index` is the SRK's, from 0.
    `fuse_value` are the 32 bytes of the boards' fuses, if known. `now` is for notes on dates. With `encrypted_ok`
    commands of encrypted images are accepted, and `Verified.encrypted` has their blocks: only the chip with the key can
    verify them.

    Raises `FormatError` for a damaged blob, `VerificationError` for one that the ROM refuses, and `ValueError` if
    `expected_blocks` and `digests` differ in length.
    """
    parsed = CsfBlob.parse(blob)
    walk = _Verification(parsed, srk_table, source_index, fuse_value, digest_algorithm, now, encrypted_ok=encrypted_ok)
    return walk.run(expected_blocks, digests)


class _Verification:
    """Runs through the commands once, like the ROM."""

    def __init__(
        self,
        blob: CsfBlob,
        srk_table: bytes,
        source_index: int,
        fuse_value: bytes | None,
        digest_algorithm: str,
        now: datetime | None,
        *,
        encrypted_ok: bool,
    ) -> None:
        self._blob = blob
        self._table = SrkTable.parse(srk_table)
        self._source_index = source_index
        self._fuse_value = fuse_value
        self._digest_algorithm = digest_algorithm
        self._keys = KeyStore(self._table, now)
        self._csf_authenticated = False
        self._engine = engines.ANY
        self._encrypted_ok = encrypted_ok
        self._secret_keys: set[int] = set()
        self._encrypted: list[tuple[int, int]] = []

    def run(self, expected: Sequence[Sequence[Block]], digests: Sequence[bytes]) -> Verified:
        if len(expected) != len(digests):
            raise ValueError("there must be one digest for each command's blocks")
        done = 0
        for number, command in enumerate(self._blob.commands):
            try:
                done += self._step(command, done, expected, digests)
            except HabError as error:
                error.command = number
                raise
        if SRK_INDEX not in self._keys:
            raise VerificationError("srk-table", "the CSF installs no SRK")
        if not self._csf_authenticated:
            raise VerificationError("csf-signature", "the CSF's commands are not authenticated")
        if done < len(expected) or not done:
            raise VerificationError(
                "blocks", f"the CSF has {done} Authenticate Data commands; it must have {max(len(expected), 1)}"
            )
        return Verified(
            srk=self._source_index + 1,
            fuse_value=self._table.fuse_value,
            certificates=tuple(self._keys.certificates),
            bytes_covered=sum(block.length for blocks in expected for block in blocks),
            blocks=sum(len(blocks) for blocks in expected),
            notes=tuple(self._keys.notes),
            encrypted=tuple(self._encrypted),
        )

    def _step(
        self,
        command: Command,
        done: int,
        expected: Sequence[Sequence[Block]],
        digests: Sequence[bytes],
    ) -> int:
        """Check one command. Return 1 for Authenticate Data, else 0; `done` is their number before this command."""
        if isinstance(command, InstallKey):
            if command.protocol == csf_blob.SRK_TABLE:
                self._keys.install_srk(
                    command,
                    self._blob.object_at(command),
                    source_index=self._source_index,
                    fuse_value=self._fuse_value,
                )
            elif command.protocol == csf_blob.BLOB and self._encrypted_ok:
                self._install_secret_key(command)
            else:
                if command.protocol != csf_blob.X509:
                    raise VerificationError(
                        "certificate", f"the CSF installs a key with the protocol {command.protocol:#x}"
                    )
                certificate_der = self._blob.object_at(command)[4:]
                self._keys.install(command, certificate_der, csf_authenticated=self._csf_authenticated)
        elif isinstance(command, Authenticate) and not command.blocks:
            self._authenticate_csf(command)
        elif isinstance(command, Authenticate) and command.protocol == csf_blob.AEAD and self._encrypted_ok:
            self._decrypt_data(command)
        elif isinstance(command, Authenticate):
            if done == len(expected):
                raise VerificationError(
                    "blocks", f"the CSF has more than the {done} Authenticate Data commands that it must have"
                )
            self._authenticate_data(command, expected[done], digests[done])
            return 1
        else:
            self._other(command)
        return 0

    def _srk_certificate(self, srk: PublicKey) -> Certificate | None:
        """Return the SRK's certificate, which cst adds to a CSF with fast authentication, or None.

        The ROM does not read it.
        """
        if not self._blob.loose:
            return None
        found = load(self._blob.loose[0][4:], "the SRK")
        if len(self._blob.loose) > 1 or found.public_key != srk:
            raise VerificationError("certificate", "the CSF has a certificate that is not the chosen SRK's")
        return found

    def _install_secret_key(self, command: InstallKey) -> None:
        """Check the command for the wrapped key of an encrypted image, which is somewhere in memory."""
        if not self._csf_authenticated:
            raise VerificationError("order", "a secret key is installed before the commands are authenticated")
        if command.flags != csf_blob.INSTALL_ABSOLUTE_FLAG or command.hash_algorithm:
            raise VerificationError("secret-key", f"a secret key is installed with the flags {command.flags:#x}")
        if command.source not in _MASTER_KEYS or command.target not in _SECRET_KEYS:
            raise VerificationError(
                "secret-key", f"a secret key is installed as {command.target}, with the master key {command.source}"
            )
        self._secret_keys.add(command.target)

    def _decrypt_data(self, command: Authenticate) -> None:
        """Check the form of Decrypt Data. Only the chip can check the data, with a MAC and its own key."""
        if not self._csf_authenticated:
            raise VerificationError("order", "data is decrypted before the commands are authenticated")
        if command.flags or command.key not in self._secret_keys:
            raise VerificationError(
                "secret-key", f"data is decrypted by the secret key {command.key}, which is not installed"
            )
        if command.engine not in {engines.ANY, engines.CAAM}:
            raise VerificationError("secret-key", f"data is decrypted with {engines.name(command.engine)}, not CAAM")
        engines.check_hashing(command.engine, command.configuration, "secret-key")
        engines.check_blocks(engines.CAAM, [length for _, length in command.blocks], "blocks")
        # A key of counter mode is gone once it was used: 4.3.8.
        self._secret_keys.discard(command.key)
        self._encrypted += command.blocks

    def _authenticate_csf(self, command: Authenticate) -> None:
        if self._csf_authenticated:
            raise VerificationError("order", "the CSF's commands are authenticated twice")
        if command.key != CSFK_INDEX:
            raise VerificationError(
                "csf-signature", f"the CSF's commands are authenticated with key {command.key}, not 1"
            )
        # Fast authentication has no CSF key: the SRK takes its place.
        index = CSFK_INDEX if CSFK_INDEX in self._keys else SRK_INDEX
        digest = Hash(HASHES[self._digest_algorithm])
        digest.update(self._blob.data[: self._blob.header_length])
        self._check_signature(command, index, digest.finalize(), "csf-signature", "the commands")
        if self._blob.loose and index != SRK_INDEX:
            raise VerificationError("certificate", "the CSF has a certificate that no command installs")
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
                        f"block {number} is {has[0]:#x}+{has[1]:#x}, expected {must[0]:#x}+{must[1]:#x}",
                    )
            raise VerificationError(
                "blocks", f"the command has {len(command.blocks)} blocks, but must have {len(pairs)}"
            )
        index = command.key
        if index == CSFK_INDEX or index not in self._keys:
            raise VerificationError("data-signature", f"data is authenticated by key {index}, which cannot sign data")
        if index == SRK_INDEX and CSFK_INDEX in self._keys:
            raise VerificationError("data-signature", "data is authenticated with the SRK, although there is a CSF key")
        self._check_signature(command, index, digest, "data-signature", "the data")
        engine, lengths = command.engine or self._engine, [length for _, length in command.blocks]
        engines.check_blocks(engine, lengths, "blocks")
        if remark := engines.remark(engine, lengths):
            self._keys.notes.append(remark)

    def _check_signature(self, command: Authenticate, index: int, digest: bytes, check: str, what: str) -> None:
        if command.protocol != csf_blob.CMS or command.flags:
            raise VerificationError(check, f"the signature over {what} has the protocol {command.protocol:#x}, not CMS")
        key = self._keys.get(index)
        if key is None:
            raise VerificationError(check, f"the signature over {what} is for key {index}, which is not installed")
        if key.certificate is None and key.may_certify:
            raise VerificationError(
                "ca-flag",
                "the SRK has the CA flag and can sign only certificates; fast authentication needs an SRK without it",
            )
        if key.may_certify:
            # 4.3.8: HAB_INV_KEY.
            raise VerificationError(
                "ca-flag",
                f"the signature over {what} is for key {index}, whose certificate has the CA flag: HAB refuses it",
            )
        engines.check_hashing(command.engine, command.configuration, check)
        signature = CmsSignature.parse(self._blob.object_at(command)[4:])
        if signature.digest_algorithm not in engines.ALGORITHMS:
            raise VerificationError(
                check, f"the signature over {what} uses {signature.digest_algorithm}, not {engines.ALGORITHMS[0]}"
            )
        if signature.digest != digest:
            raise VerificationError(
                check,
                f"the signature over {what} is for the digest {signature.digest.hex()}, but it is {digest.hex()}",
            )
        holder = key.certificate or self._srk_certificate(key.public)
        if holder is not None and not signature.names(holder):
            raise VerificationError(check, f"the signature over {what} does not name the certificate of key {index}")
        if not signature.is_by(key.public):
            raise VerificationError(check, f"the signature over {what} was not made with key {index}")

    def _other(self, command: OtherCommand) -> None:
        name = csf_blob.NAMES[command.tag]
        if command.tag in {csf_blob.UNLOCK, csf_blob.INIT}:
            if not self._csf_authenticated:
                raise VerificationError("order", f"{name} is before Authenticate CSF")
            known = engines.UNLOCKS if command.tag == csf_blob.UNLOCK else engines.INITS
            engines.check_features(name, command.parameter, command.body, known)
        elif command.tag == csf_blob.SET and command.parameter == csf_blob.SET_ENGINE:
            self._engine = engines.set_engine(command.body)
        elif command.tag == csf_blob.SET and command.parameter == csf_blob.SET_MID:
            self._keys.notes.append("U-Boot refuses images whose CSF has Set MID")
        elif command.tag == csf_blob.SET:
            raise VerificationError("command", f"Set of the unknown item {command.parameter:#x}")
        elif command.tag == csf_blob.NOP and command.body:
            raise VerificationError("command", f"a NOP has {4 + len(command.body)} bytes, not 4")
        elif command.tag == csf_blob.WRITE_DATA and not self._csf_authenticated:
            raise VerificationError("order", f"{name} is before Authenticate CSF")
        elif command.tag in {csf_blob.WRITE_DATA, csf_blob.CHECK_DATA}:
            self._keys.notes.append(f"U-Boot refuses images whose CSF has {name}")


def subject_of(der: bytes) -> str:
    """Return the subject's name in a certificate, or a text that says that it cannot be read. Raises nothing."""
    try:
        return certificate.load(der).name
    except FormatError:
        return "a certificate that cannot be read"
