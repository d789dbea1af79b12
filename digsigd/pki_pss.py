"""RSA-PSS keys: certificates and private keys with the algorithm identifier that `openssl genpkey` gives them.

cst tells RSA-PSS from RSA by this identifier, id-RSASSA-PSS without parameters (RFC 4055, section 3.1). The
cryptography library reads it, but does not write it.
"""

from __future__ import annotations

import base64
import secrets
from collections.abc import Callable

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from cryptography.hazmat.primitives.kdf.pbkdf2 import PBKDF2HMAC
from cryptography.hazmat.primitives.padding import PKCS7

from digsigd.hab import der

_OID_RSA_PSS = bytes.fromhex("06092a864886f70d01010a")  # RFC 4055, 3.1
_OID_PBES2 = bytes.fromhex("06092a864886f70d01050d")  # RFC 8018, A.4
_OID_PBKDF2 = bytes.fromhex("06092a864886f70d01050c")  # RFC 8018, A.2
_OID_HMAC_SHA256 = bytes.fromhex("06082a864886f70d02090500")  # RFC 8018, B.1.2, with NULL
_OID_AES256_CBC = bytes.fromhex("060960864801650304012a")  # RFC 8018, B.2.5
_BIT_STRING = 0x03
# As the cryptography library encrypts other keys; cst derives the key anew in each run.
_ITERATIONS = 20_000


def rsa_pss_certificate(certificate: x509.Certificate, sign: Callable[[bytes], bytes]) -> x509.Certificate:
    """Return the certificate with its RSA key marked as an RSA-PSS key, signed anew by `sign`.

    `sign` must use the signature algorithm that the certificate names.
    """
    fields = der.elements(der.take(certificate.tbs_certificate_bytes, der.SEQUENCE)[0].content)
    # TBSCertificate (RFC 5280, 4.1): version, serial number, signature, issuer, validity, subject, the key.
    _, key = der.take(fields[6].content, der.SEQUENCE, _BIT_STRING)
    marked = _sequence(_sequence(_OID_RSA_PSS), key.whole)
    body = _sequence(*(one.whole for one in fields[:6]), marked, *(one.whole for one in fields[7:]))
    signature = _encoded(_BIT_STRING, b"\0" + sign(body))
    return x509.load_der_x509_certificate(_sequence(body, fields[2].whole, signature))


def rsa_pss_private_key(key: rsa.RSAPrivateKey, pass_phrase: str | None) -> bytes:
    """Return the key as PKCS #8 in DER, marked as an RSA-PSS key.

    With a pass phrase it is encrypted with PBES2: PBKDF2 with HMAC-SHA256, and AES-256-CBC.
    """
    plain = key.private_bytes(
        serialization.Encoding.DER, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    version, _, content = der.take(
        der.take(plain, der.SEQUENCE)[0].content, der.INTEGER, der.SEQUENCE, der.OCTET_STRING
    )
    marked = _sequence(version.whole, _sequence(_OID_RSA_PSS), content.whole)
    if pass_phrase is None:
        return marked
    salt, iv = secrets.token_bytes(16), secrets.token_bytes(16)
    secret = PBKDF2HMAC(hashes.SHA256(), 32, salt, _ITERATIONS).derive(pass_phrase.encode())
    padder, encryptor = PKCS7(128).padder(), Cipher(algorithms.AES(secret), modes.CBC(iv)).encryptor()
    hidden = encryptor.update(padder.update(marked) + padder.finalize()) + encryptor.finalize()
    iterations = _encoded(der.INTEGER, _ITERATIONS.to_bytes(2, "big"))
    derivation = _sequence(_encoded(der.OCTET_STRING, salt), iterations, _sequence(_OID_HMAC_SHA256))
    scheme = _sequence(_sequence(_OID_PBKDF2, derivation), _sequence(_OID_AES256_CBC, _encoded(der.OCTET_STRING, iv)))
    return _sequence(_sequence(_OID_PBES2, scheme), _encoded(der.OCTET_STRING, hidden))


def as_pem(encoded: bytes, title: str) -> bytes:
    """Return DER as PEM with this title, in lines of 64 characters (RFC 7468)."""
    text = base64.b64encode(encoded).decode()
    lines = (text[start : start + 64] for start in range(0, len(text), 64))
    return "\n".join((f"-----BEGIN {title}-----", *lines, f"-----END {title}-----", "")).encode()


def _sequence(*parts: bytes) -> bytes:
    return _encoded(der.SEQUENCE, b"".join(parts))


def _encoded(tag: int, content: bytes) -> bytes:
    """Return DER: tag, shortest length, content."""
    size = len(content)
    digits = size.to_bytes((size.bit_length() + 7) // 8, "big")
    length = bytes((size,)) if size < 0x80 else bytes((0x80 | len(digits),)) + digits
    return bytes((tag,)) + length + content
