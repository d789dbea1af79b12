"""Private keys from a key tarball, decrypted once and written as cst reads them fastest.

Decrypting a key as NXP's scripts leave it (PKCS #8, 2048 rounds of PBKDF2) costs cst 0.7 ms of CPU in each run. The
pass phrase would be in the same private directory as the key, so a decrypted key is no easier to steal.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.types import PrivateKeyTypes
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_der_private_key,
    load_pem_private_key,
)

from digsigd import hab
from digsigd.csf.members import KEY_PASS
from digsigd.errors import BadTarball
from digsigd.hab.certificate import load_file
from digsigd.keys.tarball import KeyTarball, PlainKey

_SPKI = (Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
# "RSA PRIVATE KEY" or "EC PRIVATE KEY": OpenSSL has less to parse than in PKCS #8.
_PLAIN = (Encoding.PEM, PrivateFormat.TraditionalOpenSSL, NoEncryption())


@dataclass(frozen=True, slots=True)
class KeyPair:
    """A certificate and its private key: names of tarball members and their contents."""

    certificate_member: str
    certificate: bytes = field(repr=False)
    key_member: str
    key: bytes = field(repr=False)
    phrase: bytes | None = field(repr=False)


def pair_of(tarball: KeyTarball, certificate: str, key: str, key_pass: str | None) -> KeyPair:
    """Return the pair of the named members. The pass phrase is the first line of its file, as cst reads it."""
    members = tarball.members
    phrase = members[key_pass].partition(b"\n")[0].rstrip(b"\r") if key_pass else b""
    return KeyPair(certificate, members[certificate], key, members[key], phrase or None)


class SlowError(Exception):
    """A key has to be decrypted first, which would hold up other requests."""


def plain_key(
    tarball: KeyTarball, certificate: str, key: str, key_pass: str | None, *, at_once: bool = False
) -> bytes | None:
    """Return a private key as PEM without a pass phrase; None if only cst may be able to read it.

    The key is kept with the tarball. Blocks: about a millisecond the first time. With `at_once`, raises `SlowError`
    instead.
    """
    known = (certificate, key)
    if known not in tarball.plain_keys:
        if at_once:
            raise SlowError
        tarball.plain_keys[known] = _opened(pair_of(tarball, certificate, key, key_pass))
    return tarball.plain_keys[known].pem


def check_match(tarball: KeyTarball, certificate: str, key: str) -> None:
    """Check a key that was asked of `plain_key`: that it is its certificate's, and that it has its pass phrase.

    A certificate of an unknown kind passes, and a key that only cst may be able to read. Raises `BadTarball`.
    """
    known = tarball.plain_keys[certificate, key]
    if known.lacks_phrase:
        raise BadTarball(
            f"the private key {key} in the key tarball is encrypted, but its pass phrase is missing",
            hint=f"write the pass phrase into the first line of {KEY_PASS} in the same folder",
        )
    if known.pem is not None:
        _check_same(known.public, _public(tarball.members, certificate), certificate, key)


def check_readable(pair: KeyPair) -> None:
    """Check a key that cst could not use and that is not decrypted here. Raises `BadTarball`."""
    try:
        key = _load(pair)
    except ValueError:
        raise BadTarball(
            f"the private key {pair.key_member} in the key tarball cannot be read, or its pass phrase is wrong",
            hint=f"check the pass phrase: the first line of {KEY_PASS} in the same folder",
        ) from None
    public = _public({pair.certificate_member: pair.certificate}, pair.certificate_member)
    _check_same(_spki(key), public, pair.certificate_member, pair.key_member)


def _public(members: Mapping[str, bytes], certificate: str) -> bytes | None:
    try:
        public = load_file(members[certificate]).public_key
    except hab.FormatError as error:
        raise BadTarball(f"{certificate} in the key tarball is {error}") from None
    return public.public_bytes(*_SPKI) if public is not None else None


def _check_same(key: bytes | None, certificate: bytes | None, certificate_member: str, key_member: str) -> None:
    # A key of a kind that is not supported here is not that of a certificate that is.
    if certificate is not None and key != certificate:
        raise BadTarball(f"the private key {key_member} in the key tarball does not match {certificate_member}")


def _opened(pair: KeyPair) -> PlainKey:
    try:
        key = _load(pair)
        # Kinds that HAB4 does not have are not written in the traditional form.
        pem = key.private_bytes(*_PLAIN) if key is not None else None
    except ValueError:
        # cst reads a few files that this library does not. If it cannot read this one either, `check_readable` says so.
        return PlainKey(None, None)
    except TypeError:
        return PlainKey(None, None, lacks_phrase=True)
    return PlainKey(pem, _spki(key))


def _spki(key: PrivateKeyTypes | None) -> bytes | None:
    return key.public_key().public_bytes(*_SPKI) if key is not None else None


def _load(pair: KeyPair) -> PrivateKeyTypes | None:
    """Return a private key; None for kinds that are not supported here but may be by cst.

    Raises `TypeError` if its pass phrase is missing, and `ValueError`.
    """
    load = load_pem_private_key if pair.key_member.endswith(".pem") else load_der_private_key
    try:
        return load(pair.key, pair.phrase, unsafe_skip_rsa_key_validation=True)
    except UnsupportedAlgorithm:
        return None
    except TypeError:
        if pair.phrase is None:
            raise
    # A pass phrase for a key that is not encrypted is not an error.
    return load(pair.key, None, unsafe_skip_rsa_key_validation=True)
