"""Make a HAB4 public key infrastructure in the layout of NXP's scripts: CA, SRKs, CSF and IMG keys, SRK table.

File names, subjects and extensions are those of hab4_pki_tree.sh in the Code Signing Tool (CST User Guide,
"Generating HAB4 Keys and Certificates"), for example `crts/SRK1_sha256_2048_65537_v3_ca_crt.pem`. Two weaknesses of the
script are avoided: serial numbers start at a random number, and keys are encrypted with AES-256.
"""

from __future__ import annotations

import io
import secrets
import tarfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Literal, TypeAlias, cast, get_args

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from cryptography.x509.oid import NameOID

from digsigd.hab.srk import MAX_RECORDS, SrkTable, build_srk_table
from digsigd.pki_pss import as_pem, rsa_pss_certificate, rsa_pss_private_key

KeyKind: TypeAlias = Literal["rsa2048", "rsa3072", "rsa4096", "p256", "p384", "p521"]
Encoding: TypeAlias = Literal["pem", "der"]
KINDS: tuple[KeyKind, ...] = get_args(KeyKind)
PASS_PHRASE_FILE = "keys/key_pass.txt"  # noqa: S105 - a name
PrivateKey: TypeAlias = rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey
Digest: TypeAlias = hashes.SHA256 | hashes.SHA384 | hashes.SHA512
CURVES: dict[str, type[ec.SECP256R1 | ec.SECP384R1 | ec.SECP521R1]] = {
    "p256": ec.SECP256R1,
    "p384": ec.SECP384R1,
    "p521": ec.SECP521R1,
}


def label(kind: KeyKind) -> str:
    """Return the part of a file name that stands for the kind of key, as in NXP's scripts."""
    if kind in CURVES:
        return f"sha256_{CURVES[kind]().name}_v3"
    return f"sha256_{kind.removeprefix('rsa')}_65537_v3"


@dataclass(frozen=True, slots=True)
class Protection:
    """The encoding of keys and certificates, and the pass phrase. With None, private keys are not encrypted."""

    pass_phrase: str | None = field(default=None, repr=False)
    encoding: Encoding = "pem"

    def key(self, key: PrivateKey, *, pss: bool = False) -> bytes:
        """Return a private key as PKCS #8, encrypted with PBES2 (AES-256-CBC), which cst 3.4.1 and 4.0.1 read.

        With `pss` it is an RSA key, and marked as an RSA-PSS key.
        """
        if pss:
            encoded = rsa_pss_private_key(cast(rsa.RSAPrivateKey, key), self.pass_phrase)
            title = "PRIVATE KEY" if self.pass_phrase is None else "ENCRYPTED PRIVATE KEY"
            return encoded if self.encoding == "der" else as_pem(encoded, title)
        encryption: serialization.KeySerializationEncryption = serialization.NoEncryption()
        if self.pass_phrase is not None:
            encryption = serialization.BestAvailableEncryption(self.pass_phrase.encode())
        return key.private_bytes(self._form, serialization.PrivateFormat.PKCS8, encryption)

    def certificate(self, certificate: x509.Certificate) -> bytes:
        """Return an encoded certificate, without the text that openssl puts before it."""
        return certificate.public_bytes(self._form)

    @property
    def _form(self) -> serialization.Encoding:
        return serialization.Encoding.PEM if self.encoding == "pem" else serialization.Encoding.DER


@dataclass(frozen=True, slots=True)
class Validity:
    """The validity period of certificates. Boot ROMs have no clock and do not check it."""

    begin: datetime
    end: datetime

    @classmethod
    def of_days(cls, days: int) -> Validity:
        """Return a period from yesterday, because clocks can differ, until `days` from now.

        With negative `days` it ended so long ago.
        """
        now = datetime.now(UTC).replace(microsecond=0)
        end = now + timedelta(days=days)
        return cls(min(now, end) - timedelta(days=1), end)

    @classmethod
    def of_years(cls, years: int) -> Validity:
        """Return a period from yesterday until today's date in `years` years."""
        days = Validity.of_days(0)
        try:
            return cls(days.begin, days.end.replace(year=days.end.year + years))
        except ValueError:  # the 29th of February
            return cls(days.begin, days.end.replace(year=days.end.year + years, day=28))


@dataclass(frozen=True)
class Pki:
    """A generated PKI: its files by their path in the folder and in the key tarball. Its repr shows no keys.

    `files` are the files that a signing host needs. `ca_files` are the CA's key and certificate; keep the key offline.
    Each SRK, numbered from 1, has signed a CSF and an IMG certificate. With `fast_auth` there are only SRKs, which sign
    data themselves. `next_serial` is the first unused serial number.
    """

    files: dict[str, bytes] = field(repr=False)
    ca_files: dict[str, bytes] = field(repr=False)
    kind: KeyKind
    fast_auth: bool
    srk_table: bytes = field(repr=False)
    next_serial: int

    @classmethod
    def make(
        cls,
        kind: KeyKind,
        validity: Validity,
        protection: Protection,
        *,
        fast_auth: bool = False,
        srks: int = MAX_RECORDS,
        prefix: str = "",
        ca_kind: KeyKind | None = None,
        on_key: Callable[[str], None] | None = None,
    ) -> Pki:
        """Generate all keys and certificates. `on_key` is called with each key's name before it is made.

        `prefix` is put before the names in the certificates, but not before file names. Blocks: an RSA key of 4096 bits
        takes seconds. Raises `ValueError` unless an SRK table can hold `srks` keys.
        """
        if not 1 <= srks <= MAX_RECORDS:
            raise ValueError(f"an SRK table holds 1 to {MAX_RECORDS} keys, not {srks}")
        making = Making(validity, protection, prefix, on_key)
        ca = making.issue(f"CA1_{label(ca_kind or kind)}_ca", ca_kind or kind, None, ca=True)
        ca_files, making.files = making.files, {}
        certificates: list[x509.Certificate] = []
        for number in range(1, srks + 1):
            name = f"SRK{number}_{label(kind)}_{'usr' if fast_auth else 'ca'}"
            srk = making.issue(name, kind, ca, ca=not fast_auth)
            certificates.append(srk.certificate)
            for role in () if fast_auth else ("CSF", "IMG"):
                making.issue(f"{role}{number}_1_{label(kind)}_usr", kind, srk, ca=False)
        table = build_srk_table(certificates)
        numbers = "_".join(str(number) for number in range(1, srks + 1))
        making.files[f"crts/SRK_{numbers}_table.bin"] = table
        if protection.pass_phrase is not None:
            making.files[PASS_PHRASE_FILE] = f"{protection.pass_phrase}\n{protection.pass_phrase}\n".encode()
        return cls(making.files, ca_files, kind, fast_auth, table, making.serial)

    @property
    def fuse_value(self) -> bytes:
        """The 32 bytes that a board with these keys has in its SRK fuses."""
        return SrkTable.parse(self.srk_table).fuse_value

    @property
    def table_name(self) -> str:
        """The file name of the SRK table."""
        return next(name for name in self.files if name.endswith("_table.bin"))

    @property
    def fuse_name(self) -> str:
        """The name of the file with the fuse value, as in NXP's examples for srktool."""
        return self.table_name.replace("_table.bin", "_fuse.bin")


@dataclass(frozen=True, slots=True)
class Issued:
    """A private key and its certificate. With `pss` it is an RSA key that signs with RSA-PSS only."""

    key: PrivateKey = field(repr=False)
    certificate: x509.Certificate
    pss: bool = False

    def sign(self, data: bytes, digest: Digest) -> bytes:
        """Sign data as `certificate` says that this key signs."""
        if isinstance(self.key, ec.EllipticCurvePrivateKey):
            return self.key.sign(data, ec.ECDSA(digest))
        return self.key.sign(data, self.padding(digest) or padding.PKCS1v15(), digest)

    def padding(self, digest: Digest) -> padding.PSS | None:
        """Return the padding of the signatures, or None for ECDSA and for RSA with PKCS #1 v1.5."""
        return padding.PSS(padding.MGF1(digest), digest.digest_size) if self.pss else None


class Making:
    """A PKI that is being made: the files so far, and the next serial number."""

    def __init__(
        self, validity: Validity, protection: Protection, prefix: str, on_key: Callable[[str], None] | None
    ) -> None:
        self.files: dict[str, bytes] = {}
        # HAB4 compares serial numbers of four bytes. They count up, as `openssl ca` does from its file `serial`.
        self.serial = 0x10000000 + secrets.randbelow(0x60000000)
        self._validity = validity
        self._protection = protection
        self._prefix = prefix
        self._on_key = on_key

    def issue(
        self,
        name: str,
        kind: str,
        issuer: Issued | None,
        *,
        ca: bool,
        digest: Digest | None = None,
        pss: bool = False,
    ) -> Issued:
        """Make a key and its certificate, signed by `issuer`, or self-signed without one.

        `kind` is a `KeyKind`. The certificate is signed with the hash `digest`, by default SHA-256. With `pss` an RSA
        key is marked as an RSA-PSS key.
        """
        if self._on_key is not None:
            self._on_key(name)
        key = _generate(kind)
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, self._prefix + name)])
        issuer_key = issuer.key if issuer else key
        builder = (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(issuer.certificate.subject if issuer else subject)
            .public_key(key.public_key())
            .serial_number(self.serial)
            .not_valid_before(self._validity.begin)
            .not_valid_after(self._validity.end)
            .add_extension(x509.BasicConstraints(ca=ca, path_length=None), critical=ca)
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
            .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(issuer_key.public_key()), critical=False)
        )
        if ca:
            builder = builder.add_extension(_CERTIFICATES_ONLY, critical=False)
        self.serial += 1
        digest = digest or hashes.SHA256()
        certificate = builder.sign(issuer_key, digest, rsa_padding=issuer.padding(digest) if issuer else None)
        if pss:
            signer = issuer or Issued(key, certificate)
            certificate = rsa_pss_certificate(certificate, lambda body: signer.sign(body, digest))
        ending = self._protection.encoding
        self.files[f"keys/{name}_key.{ending}"] = self._protection.key(key, pss=pss)
        self.files[f"crts/{name}_crt.{ending}"] = self._protection.certificate(certificate)
        return Issued(key, certificate, pss)


_CERTIFICATES_ONLY = x509.KeyUsage(
    key_cert_sign=True, digital_signature=False, content_commitment=False, key_encipherment=False,
    data_encipherment=False, key_agreement=False, crl_sign=False, encipher_only=False, decipher_only=False,
)  # fmt: skip


def _generate(kind: str) -> PrivateKey:
    if kind in CURVES:
        return ec.generate_private_key(CURVES[kind]())
    return rsa.generate_private_key(65537, int(kind.removeprefix("rsa")))


def pack(
    files: Mapping[str, bytes],
    *,
    top: str = "",
    flat: bool = False,
    extra: Sequence[tuple[tarfile.TarInfo, bytes]] = (),
    level: int = 9,
) -> bytes:
    """Return a gzip-compressed tarball of `files` and the members `extra`.

    `top` is put before every name of `files`. `flat` drops the folders of the names. `level` is the compression level.
    """
    stream = io.BytesIO()
    now = int(time.time())
    with tarfile.open(fileobj=stream, mode="w:gz", compresslevel=level) as tar:
        for name, content in files.items():
            info = tarfile.TarInfo(top + (name.rpartition("/")[2] if flat else name))
            info.size, info.mode, info.mtime = len(content), 0o600, now
            tar.addfile(info, io.BytesIO(content))
        for info, content in extra:
            tar.addfile(info, io.BytesIO(content))
    return stream.getvalue()
