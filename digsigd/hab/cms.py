"""The CMS signatures of a CSF: SignedData (RFC 5652) with one signer, signed attributes and detached content."""

from __future__ import annotations

from dataclasses import dataclass, field

from asn1crypto import algos, cms, core
from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, padding

from digsigd.hab.errors import FormatError
from digsigd.hab.srk import PublicKey

HASHES: dict[str, hashes.HashAlgorithm] = {
    "sha1": hashes.SHA1(),  # noqa: S303 -- HAB4 has it; whether it is accepted is for the verifier to say
    "sha256": hashes.SHA256(),
    "sha384": hashes.SHA384(),
    "sha512": hashes.SHA512(),
}


@dataclass(frozen=True, slots=True)
class CmsSignature:
    """What a signature says: over a digest by `digest_algorithm`, by the holder of certificate (issuer, serial)."""

    digest_algorithm: str
    digest: bytes
    issuer: bytes = field(repr=False)
    serial: int
    signed: bytes = field(repr=False)
    signature: bytes = field(repr=False)
    kind: str

    @classmethod
    def parse(cls, data: bytes) -> CmsSignature:
        """Read the DER of a ContentInfo. Raises `FormatError` for anything but the one form that HAB4 has."""
        try:
            return cls._parse(data)
        except FormatError:
            raise
        except (ValueError, TypeError, KeyError, AttributeError, IndexError, OverflowError, RecursionError) as error:
            # asn1crypto raises what its parts happen to raise on bytes that are none of its own.
            raise FormatError(f"a signature that is no CMS: {type(error).__name__}") from None

    @classmethod
    def _parse(cls, data: bytes) -> CmsSignature:
        info = cms.ContentInfo.load(data, strict=True)
        if info["content_type"].native != "signed_data":
            raise FormatError("a signature that is no CMS SignedData")
        signed_data = info["content"]
        signers = signed_data["signer_infos"]
        if len(signers) != 1:
            raise FormatError(f"a CMS signature with {len(signers)} signers; it must have 1")
        signer = signers[0]
        algorithm = _algorithm(signer["digest_algorithm"])
        attributes = signer["signed_attrs"]
        if isinstance(attributes, core.Void) or not len(attributes):
            raise FormatError("a CMS signature without signed attributes")
        values = {}
        for attribute in attributes:
            name = attribute["type"].native
            if name in values or len(attribute["values"]) != 1:
                raise FormatError(f"a CMS signature with more than one {name}")
            values[name] = attribute["values"][0]
        if "content_type" not in values or values["content_type"].native != "data":
            raise FormatError("a CMS signature over something else than data")
        if "message_digest" not in values:
            raise FormatError("a CMS signature without the digest of what it signs")
        if signer["sid"].name != "issuer_and_serial_number":
            raise FormatError("a CMS signature that does not name its signer's certificate by issuer and serial number")
        rest_is_plain = (
            signed_data["version"].native == "v1"
            and signer["version"].native == "v1"
            and [_algorithm(one) for one in signed_data["digest_algorithms"]] == [algorithm]
            and signed_data["encap_content_info"]["content_type"].native == "data"
            and isinstance(signed_data["encap_content_info"]["content"], core.Void)
            and isinstance(signed_data["certificates"], core.Void)
            and isinstance(signed_data["crls"], core.Void)
            and isinstance(signer["unsigned_attrs"], core.Void)
        )
        if not rest_is_plain or info.dump(force=True) != data:
            raise FormatError("a CMS signature with more or other parts than HAB4's have")
        sid = signer["sid"].chosen
        # What is signed is the DER of the SET, not of the [0] that stands in the message: RFC 5652, 5.4.
        signed = attributes.untag().dump()
        kind = signer["signature_algorithm"].signature_algo
        if kind not in {"rsassa_pkcs1v15", "ecdsa"}:
            raise FormatError(f"a CMS signature of the kind {kind}, which HAB4 does not have")
        own_hash = signer["signature_algorithm"]["algorithm"].native
        if own_hash not in {"rsassa_pkcs1v15", f"{algorithm}_rsa", f"{algorithm}_ecdsa"}:
            raise FormatError(f"a CMS signature by {own_hash} over attributes with {algorithm}")
        if not isinstance(signer["signature_algorithm"]["parameters"], core.Null | core.Void):
            raise FormatError("a CMS signature whose algorithm has parameters")
        return cls(
            digest_algorithm=algorithm,
            digest=values["message_digest"].native,
            issuer=sid["issuer"].dump(),
            serial=sid["serial_number"].native,
            signed=signed,
            signature=signer["signature"].native,
            kind=kind,
        )

    def is_by(self, key: PublicKey) -> bool:
        """Whether the holder of this key made it."""
        algorithm = HASHES[self.digest_algorithm]
        return verifies(key, self.signature, self.signed, algorithm, "ecdsa" if self.kind == "ecdsa" else "rsa")

    def names(self, certificate: x509.Certificate) -> bool:
        """Whether it says that it was made with this certificate's key."""
        try:
            return self.serial == certificate.serial_number and self.issuer == certificate.issuer.public_bytes()
        except ValueError:
            return False  # it has no issuer that could be read


def verifies(key: PublicKey, signature: bytes, data: bytes, algorithm: hashes.HashAlgorithm, kind: str) -> bool:
    """Whether a signature of the kind "rsa" (PKCS #1 v1.5) or "ecdsa" over the data is by this key."""
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


def _algorithm(identifier: algos.DigestAlgorithm) -> str:
    name = str(identifier["algorithm"].native)
    if name not in HASHES or not isinstance(identifier["parameters"], core.Null | core.Void):
        raise FormatError(f"a CMS signature with the digest algorithm {name}, which HAB4 does not have")
    return name
