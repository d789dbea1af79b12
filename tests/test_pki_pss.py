"""RSA-PSS keys and their certificates, read by OpenSSL as what they are."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import padding, rsa

from digsigd.pki import Making, Protection, Validity
from digsigd.pki_pss import as_pem, rsa_pss_private_key

KEY = rsa.generate_private_key(65537, 2048)
PHRASE = "a pass phrase, with ' in it"


def openssl(*arguments: str | Path, content: bytes = b"") -> str:
    done = subprocess.run(["openssl", *arguments], input=content, capture_output=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout.decode()


@pytest.mark.parametrize("phrase", [None, PHRASE])
def test_a_private_key_is_marked_as_rsa_pss(tmp_path: Path, phrase: str | None) -> None:
    """OpenSSL and cryptography read it, encrypted with AES-256 or not; it is the same key."""
    made = rsa_pss_private_key(KEY, phrase)
    given = None if phrase is None else phrase.encode()
    loaded = serialization.load_der_private_key(made, given)
    assert isinstance(loaded, rsa.RSAPrivateKey)
    assert loaded.private_numbers() == KEY.private_numbers()
    (tmp_path / "phrase").write_text(f"{phrase}\n")
    decrypted = tmp_path / "decrypted.der"
    openssl(
        "pkey",
        "-inform",
        "DER",
        "-passin",
        f"file:{tmp_path}/phrase",
        "-outform",
        "DER",
        "-out",
        decrypted,
        content=made,
    )
    assert ":rsassaPss" in openssl("asn1parse", "-inform", "DER", "-in", decrypted)
    assert (":aes-256-cbc" in openssl("asn1parse", "-inform", "DER", content=made)) is (phrase is not None)
    pem = as_pem(made, "PRIVATE KEY" if phrase is None else "ENCRYPTED PRIVATE KEY")
    assert max(len(line) for line in pem.splitlines()) == 64
    assert serialization.load_pem_private_key(pem, given).private_numbers() == KEY.private_numbers()  # type: ignore[union-attr]


def test_each_encryption_has_a_salt_of_its_own() -> None:
    """Two files of one key differ."""
    assert rsa_pss_private_key(KEY, PHRASE) != rsa_pss_private_key(KEY, PHRASE)


@pytest.mark.parametrize("authority", ["rsa2048", "p384"])
def test_a_certificate_is_marked_and_still_signed(tmp_path: Path, authority: str) -> None:
    """Below an RSA or an ECDSA key with its signature, below an RSA-PSS key with PSS; OpenSSL verifies the chain."""
    making = Making(Validity.of_days(10), Protection(), "", None)
    digest = hashes.SHA384()
    ca = making.issue("CA1_ca", authority, None, ca=True, digest=digest)
    srk = making.issue("SRK1_ca", "rsa2048", ca, ca=True, digest=digest, pss=True)
    sgk = making.issue("SGK1_1_usr", "rsa2048", srk, ca=False, digest=digest, pss=True)
    for issued, above in ((srk, ca), (sgk, srk)):
        issued.certificate.verify_directly_issued_by(above.certificate)
        assert issued.certificate.public_key() == issued.key.public_key()
    assert isinstance(sgk.certificate.signature_algorithm_parameters, padding.PSS)
    assert not isinstance(srk.certificate.signature_algorithm_parameters, padding.PSS)
    for name in ("CA1_ca", "SRK1_ca", "SGK1_1_usr"):
        (tmp_path / name).write_bytes(making.files[f"crts/{name}_crt.pem"])
    shown = openssl("x509", "-in", tmp_path / "SRK1_ca", "-noout", "-text")
    assert "Public Key Algorithm: rsassaPss" in shown
    assert "No PSS parameter restrictions" in shown
    openssl("verify", "-CAfile", tmp_path / "CA1_ca", "-untrusted", tmp_path / "SRK1_ca", tmp_path / "SGK1_1_usr")
    loaded = x509.load_pem_x509_certificate(making.files["crts/SRK1_ca_crt.pem"])
    assert loaded == srk.certificate
