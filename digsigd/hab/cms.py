"""The CMS signatures of a CSF: SignedData (RFC 5652) with one signer, signed attributes and detached content."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import lru_cache

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat, load_der_public_key

from digsigd.hab.certificate import SIGNATURES, Certificate, load
from digsigd.hab.der import CONTEXT_0, INTEGER, NULL, OCTET_STRING, OID, SEQUENCE, SET, Element, elements, integer, take
from digsigd.hab.errors import FormatError
from digsigd.hab.srk import PublicKey

HASHES: dict[str, hashes.HashAlgorithm] = {
    "sha1": hashes.SHA1(),  # noqa: S303 -- HAB4 has it; the verifier decides whether it is accepted
    "sha256": hashes.SHA256(),
    "sha384": hashes.SHA384(),
    "sha512": hashes.SHA512(),
}

# Object identifiers, DER without tag and length. RFC 5652 (CMS), RFC 5754 and RFC 8017 (algorithms).
_SIGNED_DATA = bytes.fromhex("2a864886f70d010702")
_DATA = bytes.fromhex("2a864886f70d010701")
_CONTENT_TYPE = bytes.fromhex("2a864886f70d010903")
_MESSAGE_DIGEST = bytes.fromhex("2a864886f70d010904")
_DIGEST_ALGORITHMS = {
    bytes.fromhex("2b0e03021a"): "sha1",
    bytes.fromhex("608648016503040201"): "sha256",
    bytes.fromhex("608648016503040202"): "sha384",
    bytes.fromhex("608648016503040203"): "sha512",
}
# The kind of signature, and the hash it is bound to; None where the signer's digest algorithm gives it.
_SIGNATURE_ALGORITHMS: dict[bytes, tuple[str, str | None]] = {
    bytes.fromhex("2a864886f70d010101"): ("rsa", None),
    **SIGNATURES,
}


@dataclass(frozen=True, slots=True)
class CmsSignature:
    """A signature over a digest with `digest_algorithm`, by the key of the certificate with `issuer` and `serial`.

    `signed` are the bytes that `signature` signs, `kind` is "rsa" (PKCS #1 v1.5) or "ecdsa".
    """

    digest_algorithm: str
    digest: bytes
    issuer: bytes = field(repr=False)
    serial: int
    signed: bytes = field(repr=False)
    signature: bytes = field(repr=False)
    kind: str

    @classmethod
    def parse(cls, data: bytes) -> CmsSignature:
        """Read the DER of a ContentInfo. Raises `FormatError` for any form other than HAB4's."""
        try:
            return cls._parse(data)
        except FormatError as error:
            raise FormatError(f"a signature that is not CMS as HAB4 requires it: {error}") from None

    @classmethod
    def _parse(cls, data: bytes) -> CmsSignature:
        (info,) = take(data, SEQUENCE)
        content_type, wrapped = take(info.content, OID, CONTEXT_0)
        if content_type.content != _SIGNED_DATA:
            raise FormatError("it is not SignedData")
        (signed_data,) = take(wrapped.content, SEQUENCE)
        # Certificates and revocation lists would be before the signers, as [0] and [1].
        version, algorithms, encapsulated, signers = take(signed_data.content, INTEGER, SET, SEQUENCE, SET)
        (encapsulated_type,) = take(encapsulated.content, OID)
        (signer,) = take(signers.content, SEQUENCE)
        # Unsigned attributes would be at the end, as [1].
        signer_version, identity, digest_algorithm, attributes, signature_algorithm, signature = take(
            signer.content, INTEGER, SEQUENCE, SEQUENCE, CONTEXT_0, SEQUENCE, OCTET_STRING
        )
        issuer, serial = take(identity.content, SEQUENCE, INTEGER)
        if encapsulated_type.content != _DATA or version.content != b"\1" or signer_version.content != b"\1":
            raise FormatError("its content type or versions are not those of plain data")
        algorithm = _DIGEST_ALGORITHMS.get(_algorithm(digest_algorithm.content))
        if algorithm is None:
            raise FormatError("HAB4 does not support its digest algorithm")
        (named,) = take(algorithms.content, SEQUENCE)
        if _DIGEST_ALGORITHMS.get(_algorithm(named.content)) != algorithm:
            raise FormatError(f"its signer's digest algorithm is {algorithm}, but the listed one is not")
        kind, bound_to = _SIGNATURE_ALGORITHMS.get(_algorithm(signature_algorithm.content), ("", None))
        if not kind:
            raise FormatError("HAB4 does not support its signature algorithm")
        if bound_to not in {None, algorithm}:
            raise FormatError(f"its signature uses {bound_to}, but its digest uses {algorithm}")
        return cls(
            digest_algorithm=algorithm,
            digest=_signed_digest(attributes.content),
            issuer=issuer.whole,
            serial=integer(serial.content),
            # The DER of the SET is signed, not that of the [0] in the message: RFC 5652, 5.4.
            signed=bytes([SET]) + attributes.whole[1:],
            signature=signature.content,
            kind=kind,
        )

    def is_by(self, key: PublicKey) -> bool:
        """Return whether the signature was made with this key."""
        algorithm = HASHES[self.digest_algorithm]
        return verifies(key, self.signature, self.signed, algorithm, self.kind)

    def names(self, certificate: Certificate) -> bool:
        """Return whether the signature names this certificate."""
        return self.serial == certificate.serial and self.issuer == certificate.issuer


def verifies(key: PublicKey, signature: bytes, data: bytes, algorithm: hashes.HashAlgorithm, kind: str) -> bool:
    """Return whether a signature of the kind "rsa" (PKCS #1 v1.5) or "ecdsa" over the data was made with this key."""
    try:
        if isinstance(key, ec.EllipticCurvePublicKey):
            if kind != "ecdsa":
                return False
            key.verify(signature, data, ec.ECDSA(algorithm))
        elif kind != "rsa":
            return False
        else:
            key.verify(signature, data, padding.PKCS1v15(), algorithm)
    except InvalidSignature:
        return False
    return True


def issued(certificate: Certificate, key: PublicKey) -> bool:
    """Return whether a key signed a certificate. SHA-1 counts: who must not accept it looks at the algorithm."""
    return _issued(certificate.der, key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo))


# All images of a machine are signed with the same few certificates: by bytes, so that no other certificate and no other
# key can have the result of these.
@lru_cache(maxsize=256)
def _issued(der: bytes, key: bytes) -> bool:
    certificate, public = load(der), load_der_public_key(key)
    algorithm = HASHES.get(certificate.algorithm)
    if algorithm is None or not isinstance(public, rsa.RSAPublicKey | ec.EllipticCurvePublicKey):
        return False
    return verifies(public, certificate.signature, certificate.tbs, algorithm, certificate.kind)


def _algorithm(identifier: bytes) -> bytes:
    """Return the object identifier of an AlgorithmIdentifier without parameters, or with NULL for them."""
    parts = elements(identifier)
    if not parts or parts[0].tag != OID or [one.whole for one in parts[1:]] not in ([], [bytes([NULL, 0])]):
        raise FormatError("one of its algorithms has parameters")
    return parts[0].content


def _signed_digest(attributes: bytes) -> bytes:
    """Return the digest in signed attributes, which must also have the content type data."""
    found = elements(attributes)
    if {one.tag for one in found} != {SEQUENCE} or found != sorted(found, key=lambda one: one.whole):
        raise FormatError("its attributes are not valid, or not in DER order")
    values: dict[bytes, Element] = {}
    for attribute in found:
        name, one_value = take(attribute.content, OID, SET)
        value = elements(one_value.content)
        if len(value) != 1 or name.content in values:
            raise FormatError("one of its attributes does not have exactly one value")
        values[name.content] = value[0]
    content_type, digest = values.get(_CONTENT_TYPE), values.get(_MESSAGE_DIGEST)
    if content_type is None or (content_type.tag, content_type.content) != (OID, _DATA):
        raise FormatError("its attributes do not have the content type data")
    if digest is None or digest.tag != OCTET_STRING:
        raise FormatError("its attributes hold no message digest")
    return digest.content
