"""Signed AHAB containers of every kind of key and both versions, made with cryptography alone: good and bad ones.

The keys are made once for a run. Sizes are the same each time, as those of keys and signatures are.
"""

from __future__ import annotations

import fcntl
import os
import struct
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import cache
from pathlib import Path
from typing import Any, Literal, TypeAlias

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature
from cryptography.x509.oid import NameOID

from digsigd import ahab
from digsigd.ahab import build, write
from digsigd.hab.der import SEQUENCE, elements
from tests.helpers.keys import FOLDER

try:
    from cryptography.hazmat.primitives.asymmetric import mldsa
except ImportError:  # an older cryptography
    mldsa = None  # type: ignore[assignment]

Kind: TypeAlias = Literal[
    "p256", "p384", "p521", "rsa2048", "rsa3072", "rsa4096", "pss2048", "pss3072", "pss4096", "mldsa65", "mldsa87"
]
KINDS: tuple[Kind, ...] = (
    "p256", "p384", "p521", "rsa2048", "rsa3072", "rsa4096", "pss2048", "pss3072", "pss4096",
)  # fmt: skip
HAS_ML_DSA = mldsa is not None
# The hash of signatures that NXP's scripts have for each kind.
DIGESTS = {"p384": "sha384", "p521": "sha512", "rsa4096": "sha512", "pss4096": "sha512", "mldsa65": "sha384"}
_CURVES: dict[str, ec.EllipticCurve] = {"p256": ec.SECP256R1(), "p384": ec.SECP384R1(), "p521": ec.SECP521R1()}
_HASHES: dict[str, hashes.HashAlgorithm] = {
    "sha256": hashes.SHA256(), "sha384": hashes.SHA384(), "sha512": hashes.SHA512(), "sha3-256": hashes.SHA3_256(),
    "sha3-384": hashes.SHA3_384(), "sha3-512": hashes.SHA3_512(),
}  # fmt: skip
Edit: TypeAlias = Callable[[bytearray], None]
# DER of the key of a certificate: RFC 8017, A.1 and A.2.3.
RSA_OID, PSS_OID = bytes.fromhex("06092a864886f70d0101010500"), bytes.fromhex("06092a864886f70d01010a")


@cache
def private_key(kind: Kind, number: int = 0) -> Any:
    """The key with this number of this kind; those of RSA-PSS are RSA keys of their own."""
    folder = os.environ.get(FOLDER)
    if folder is None:
        return _made(kind)
    with (Path(folder) / f"ahab-{kind}-{number}").open("a+b") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        file.seek(0)
        if data := file.read():
            return serialization.load_pem_private_key(data, None)
        made = _made(kind)
        file.write(
            made.private_bytes(
                serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
            )
        )
        return made


def _made(kind: Kind) -> Any:
    if kind in _CURVES:
        return ec.generate_private_key(_CURVES[kind])
    if kind.startswith("mldsa"):
        return (mldsa.MLDSA65PrivateKey if kind == "mldsa65" else mldsa.MLDSA87PrivateKey).generate()
    return rsa.generate_private_key(65537, int(kind[3:]))


def digest_of(kind: Kind) -> str:
    """The hash that signatures of this kind have, if nothing else is said."""
    return DIGESTS.get(kind, "sha256")


def sign(kind: Kind, number: int, data: bytes, digest: str, *, salt: int | None = None) -> bytes:
    """A raw signature as containers have it. `salt` of RSA-PSS is in bytes, as long as it can be without it."""
    key = private_key(kind, number)
    algorithm = _HASHES[digest]
    if kind in _CURVES:
        size = (key.curve.key_size + 7) // 8
        return b"".join(n.to_bytes(size, "big") for n in decode_dss_signature(key.sign(data, ec.ECDSA(algorithm))))
    if kind.startswith("mldsa"):
        hashed = hashes.Hash(algorithm)
        hashed.update(data)
        return bytes(key.sign(hashed.finalize()))
    if kind.startswith("pss"):
        length = padding.PSS.MAX_LENGTH if salt is None else salt
        scheme: Any = padding.PSS(padding.MGF1(algorithm), length)
    else:
        scheme = padding.PKCS1v15()
    return bytes(key.sign(data, scheme, algorithm))


def srk_of(kind: Kind, number: int, *, ca: bool = False, digest: str | None = None) -> ahab.SrkKey:
    """The key with this number as a record has it."""
    public = private_key(kind, number).public_key()
    return ahab.srk_key(public, digest or digest_of(kind), ca=ca, pss=kind.startswith("pss"))


def keys_of(kind: Kind, *, ca: bool = False, digest: str | None = None) -> list[ahab.SrkKey]:
    """The four SRKs of a kind."""
    return [srk_of(kind, number, ca=ca, digest=digest) for number in range(4)]


def table_of(kind: Kind, *, version: int = 0, ca: bool = False, second: Kind | None = None) -> bytes:
    """The SRK table, or the array with zeros as SRK data, as srktool writes it."""
    if version == 0:
        return build.write_table(keys_of(kind, ca=ca))
    return build.write_array([keys_of(one, ca=ca) for one in (kind, second) if one is not None])


@dataclass(frozen=True, slots=True)
class Forged:
    """A file with a signed container at `offset`, its SRK table as srktool writes it, and the file before signing."""

    data: bytes
    offset: int
    table: bytes
    unsigned: bytes

    @property
    def container(self) -> ahab.Container:
        """The container, read."""
        return ahab.parse(self.data, self.offset)

    def verify(self, data: bytes | None = None, **options: Any) -> ahab.Verified:
        """Verify the file, or another one in its place."""
        return ahab.verify(self.data if data is None else data, self.offset, **options)


def nxp_container(version: int = 0) -> tuple[bytes, Sequence[ahab.ContainerImage]]:
    """A container in the place of NXP's: a firmware image, signed with keys that stand for NXP's."""
    start = 0x14000 if version == 2 else 0x1C00
    images = (ahab.ContainerImage(b"\x5e" * 0x400, start, kind=6, core=6),)
    unsigned = ahab.build_container(images, version=version)
    return signed_container(unsigned, "p256", version=version, number=3, srk_set=1), images


def forge(
    kind: Kind = "p256",
    *,
    version: int = 0,
    number: int = 0,
    sgk: Kind | None = None,
    second: Kind | None = None,
    images: Sequence[ahab.ContainerImage] | None = None,
    alone: bool = False,
    before: Callable[[bytes, int], bytes] | None = None,
    **options: Any,
) -> Forged:
    """A signed file: NXP's container at 0, ours behind it (at 0 with `alone`), images behind both.

    `images` replace the two that it has, with offsets from our container. `before` changes the unsigned file before it
    is signed, given the place of our container. The rest is as in `signed_container`.
    """
    step = 0x4000 if version == 2 else 0x400
    offset = 0 if alone else step
    if images is None:
        start = 0x8000 if version == 2 else 0x2000
        images = ahab.place_images([b"\xa5" * 0x3F0, b"\x3c" * 0x400], start=start)
    unsigned = ahab.build_container(images, version=version)
    others = () if alone else ((0, *nxp_container(version)),)
    # What is behind the containers of imx-mkimage is padded: room for blocks of any size.
    file = ahab.build_file([*others, (offset, unsigned, images)], 0x8000 if alone else 0)
    if before is not None:
        file = before(file, offset)
    head = file[offset : offset + len(unsigned)]
    signed = signed_container(head, kind, version=version, number=number, sgk=sgk, second=second, **options)
    data = file[:offset] + signed + file[offset + len(signed) :]
    table = table_of(kind, version=version, ca=options.get("ca", sgk is not None), second=second)
    return Forged(data, offset, table, file)


def signed_container(
    unsigned: bytes,
    kind: Kind,
    *,
    version: int = 0,
    number: int = 0,
    signer: tuple[Kind, int] | None = None,
    sgk: Kind | None = None,
    second: Kind | None = None,
    ca: bool | None = None,
    srk_set: int = 2,
    index: int | None = None,
    revoke: int = 0,
    flags: int = 0,
    srk: bytes | None = None,
    digest: str | None = None,
    salt: int | None = None,
    blob: bytes = b"",
    key_id: int = 0,
    block_version: int | None = None,
    permissions: int = 1,
    uuid: bytes = bytes(16),
    edit: Edit | None = None,
    edit_certificate: Edit | None = None,
    edit_after: Edit | None = None,
) -> bytes:
    """The signed form of an unsigned container, of which only header and images' entries count.

    SRK `number` signs it, or the certificate of an `sgk`; `second` is the kind of the second table's keys. `signer`
    signs in place of whoever should. `ca` is the flag of the SRKs, `index` what the header says, `srk` another table or
    array. `edit` changes the container before it is signed, `edit_certificate` the certificate, `edit_after` the whole.
    """
    digest = digest or digest_of(kind)
    ca = sgk is not None if ca is None else ca
    kinds = [one for one in (kind, second) if one is not None]
    digests = [digest, *(digest_of(one) for one in kinds[1:])]
    if srk is None:
        sets = [keys_of(one, ca=ca, digest=name) for one, name in zip(kinds, digests, strict=True)]
        srk = build.write_array(sets, number) if version == 2 else build.write_table(sets[0])
    certificate = b""
    if sgk is not None:
        certificate = _certificate(
            sgk, list(zip(kinds, digests, strict=True)), number, version, permissions, uuid, salt, edit_certificate
        )
    signers = [(one, number, name) for one, name in zip(kinds, digests, strict=True)]
    if sgk is not None:
        signers = [
            (sgk if place == 0 else one, 5, digest_of(sgk if place == 0 else one)) for place, one in enumerate(kinds)
        ]
    if signer is not None:
        signers = [(*signer, digest)]
    sizes = [len(sign(one, which, b"", name)) for one, which, name in signers]
    head = write.write_block_head(
        srk, sizes, certificate_size=len(certificate), blob=blob, key_id=key_id,
        version=(1 if version == 2 else 0) if block_version is None else block_version,
    )  # fmt: skip
    block_offset = int.from_bytes(unsigned[12:14], "little")
    length = block_offset + int.from_bytes(head[1:3], "little")
    whole = bytearray(unsigned[:block_offset] + head)
    struct.pack_into("<H", whole, 1, length)
    chosen = srk_set | (number if index is None else index) << 4 | revoke << 8 | flags
    struct.pack_into("<I", whole, 4, chosen)
    if edit is not None:
        edit(whole)
    signatures = [sign(one, which, bytes(whole), name, salt=salt) for one, which, name in signers]
    done = bytearray(
        whole[:block_offset] + write.write_block(bytes(whole[block_offset:]), signatures, certificate, blob)
    )
    if edit_after is not None:
        edit_after(done)
    return bytes(done)


def _certificate(
    sgk: Kind,
    srks: list[tuple[Kind, str]],
    number: int,
    version: int,
    permissions: int,
    uuid: bytes,
    salt: int | None,
    edit: Edit | None,
) -> bytes:
    """A certificate for a key of its own, of two the second of the kind of the second SRK."""
    keys = [srk_of(sgk if place == 0 else kind, 5) for place, (kind, _) in enumerate(srks)]
    if version == 2:
        records = [(build.write_record_v2(key, 0), build.write_data(key, 0)) for key in keys]
    else:
        records = [(build.write_record(keys[0]), b"")]
    sizes = [len(sign(kind, number, b"", digest)) for kind, digest in srks]
    head = bytearray(write.write_certificate_head(records, sizes, version=version, permissions=permissions, uuid=uuid))
    if edit is not None:
        edit(head)
    signatures = [sign(kind, number, bytes(head), digest, salt=salt) for kind, digest in srks]
    return bytes(head) + b"".join(write.write_signature(one) for one in signatures)


def certificate_of(kind: Kind, number: int = 0, *, ca: bool = False, digest: str | None = None) -> bytes:
    """A self-signed certificate in DER. A key of RSA-PSS has the identifier that only such keys have."""
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, f"SRK{number + 1}")])
    now = datetime.now(UTC)
    key = private_key(kind, number)
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(number + 1)
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(x509.BasicConstraints(ca=ca, path_length=None), critical=True)
        .sign(key, None if kind.startswith("mldsa") else _HASHES[digest or digest_of(kind)])  # type: ignore[arg-type]
        .public_bytes(serialization.Encoding.DER)
    )
    return _with_pss(made, key, _HASHES[digest or digest_of(kind)]) if kind.startswith("pss") else made


def _with_pss(certificate: bytes, key: rsa.RSAPrivateKey, algorithm: hashes.HashAlgorithm) -> bytes:
    """The same certificate with the identifier of RSA-PSS in its key, signed again."""
    body, *rest = (one.whole for one in elements(elements(certificate)[0].content))
    parts = [one.whole for one in elements(elements(body)[0].content)]
    place = next(n for n, part in enumerate(parts) if RSA_OID in part and len(part) > 100)
    info = elements(elements(parts[place])[0].content)
    parts[place] = written_der(SEQUENCE, written_der(SEQUENCE, PSS_OID) + info[1].whole)
    body = written_der(SEQUENCE, b"".join(parts))
    signature = key.sign(body, padding.PKCS1v15(), algorithm)
    return written_der(SEQUENCE, body + rest[0] + written_der(0x03, b"\0" + signature))


def written_der(tag: int, content: bytes) -> bytes:
    """A value in DER."""
    size = len(content)
    if size < 0x80:
        return bytes([tag, size]) + content
    digits = size.to_bytes((size.bit_length() + 7) // 8, "big")
    return bytes([tag, 0x80 | len(digits)]) + digits + content
