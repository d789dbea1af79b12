"""Keys of kinds that HAB4 has, and of those that only cst and openssl have."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Literal, TypeAlias

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa

from digsigd import hab
from tests.conftest import CST_VERSIONS
from tests.helpers.blobs import Signed, Signing
from tests.helpers.forge import certificate_of

pytestmark = pytest.mark.parametrize("version", CST_VERSIONS)
Key: TypeAlias = ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey
Role: TypeAlias = Literal["CSF", "IMG"]
ROLES: tuple[Role, ...] = ("CSF", "IMG")


def on(curve: type[ec.EllipticCurve]) -> Callable[[], Key]:
    return lambda: ec.generate_private_key(curve())


def bits(size: int, exponent: int = 65537) -> Callable[[], Key]:
    return cache(lambda: rsa.generate_private_key(exponent, size))


RSA_HAS = "HAB4 has 1024, 2048, 3072, 4096"
CURVES_HAS = "HAB4 has secp256r1, secp384r1, secp521r1"
LACKING = {
    "secp256k1": (on(ec.SECP256K1), f"an ECDSA key on secp256k1; {CURVES_HAS}"),
    "brainpoolP256r1": (on(ec.BrainpoolP256R1), f"an ECDSA key on brainpoolP256r1; {CURVES_HAS}"),
    "secp224r1": (on(ec.SECP224R1), f"an ECDSA key on secp224r1; {CURVES_HAS}"),
    "RSA-1536": (bits(1536), f"an RSA key of 1536 bits; {RSA_HAS}"),
    "RSA-5120": (bits(5120), f"an RSA key of 5120 bits; {RSA_HAS}"),
}
THERE = {
    "secp256r1": on(ec.SECP256R1),
    "secp384r1": on(ec.SECP384R1),
    "secp521r1": on(ec.SECP521R1),
    "RSA-1024": bits(1024),
    "RSA-2048 with the exponent 3": bits(2048, 3),
    "RSA-3072": bits(3072),
    "RSA-4096": bits(4096),
}


def below_p256(signing: Signing, version: str, role: Role, make: Callable[[], Key]) -> Signed:
    """What cst makes where the certificate of one role, CSF or IMG, below an SRK on P-256 is for such a key."""
    pki = signing.pki("p256")
    srk_name = pki.certificate("SRK", 1)
    srk = x509.load_pem_x509_certificate(pki.files[srk_name])
    signer = serialization.load_pem_private_key(pki.files[srk_name.replace("crt", "key")], None)
    assert isinstance(signer, ec.EllipticCurvePrivateKey)
    key = make()
    name = pki.certificate(role, 1)
    plain = x509.load_pem_x509_certificate(pki.files[name])
    certificate = (
        x509.CertificateBuilder()
        .subject_name(plain.subject)
        .issuer_name(srk.subject)
        .public_key(key.public_key())
        .serial_number(plain.serial_number)
        .not_valid_before(plain.not_valid_before_utc)
        .not_valid_after(plain.not_valid_after_utc)
        .sign(signer, hashes.SHA256())
    )
    pem = serialization.Encoding.PEM
    files = {
        name: certificate.public_bytes(pem),
        name.replace("crt", "key"): key.private_bytes(
            pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        ),
    }
    return signing.sign(pki, version, files=files)


@pytest.mark.parametrize("role", ROLES)
@pytest.mark.parametrize("name", LACKING)
def test_a_key_that_hab_lacks_is_refused(signing: Signing, version: str, role: Role, name: str) -> None:
    """Though cst signs with it, and every signature of the blob holds."""
    make, says = LACKING[name]
    who = {"CSF": "the CSF key", "IMG": "key 2"}[role]
    assert str(below_p256(signing, version, role, make).refused()) == f"certificate: {who} is {says}"


@pytest.mark.parametrize("name", THERE)
def test_a_key_that_hab_has_is_proven(signing: Signing, version: str, name: str) -> None:
    """Below an SRK of any kind."""
    for role in ROLES:
        assert below_p256(signing, version, role, THERE[name]).verify().srk == 1


def test_an_srk_that_hab_lacks_is_refused(signing: Signing, version: str) -> None:
    """Though srktool makes tables of it; only the SRK that is chosen counts."""
    pki = signing.pki("p256")
    odd = certificate_of(bits(1536)().public_key(), ca=True)
    good = x509.load_pem_x509_certificate(pki.files[pki.certificate("SRK", 1)])
    signed = signing.sign(pki, version, files={pki.table(): hab.build_srk_table([odd, good])})
    assert str(signed.refused()) == f"srk-table: SRK 1 is an RSA key of 1536 bits; {RSA_HAS}"
    assert signing.sign(pki, version, files={pki.table(): hab.build_srk_table([good, odd])}).verify().srk == 1
