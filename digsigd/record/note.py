"""Signed notes with Ed25519 keys, as in C2SP's signed-note. Pure.

https://c2sp.org/signed-note: a text of whole lines, an empty line, and a line for each signature: an em dash, the key's
name, and in base64 the first four bytes of the key's hash followed by the signature.
"""

from __future__ import annotations

import re
from base64 import b64decode, b64encode
from dataclasses import dataclass, field
from hashlib import sha256

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from digsigd.record.errors import ProofError, RecordError

_ED25519 = 1
_NAME = re.compile(r"[^\s+]+")
_LINE = re.compile(r"— ([^\s+]+) ([A-Za-z0-9+/]+={0,2})")


@dataclass(frozen=True, slots=True)
class VerifierKey:
    """The public half of a key: its name and the 32 bytes of Ed25519."""

    name: str
    public: bytes

    @property
    def hash(self) -> bytes:
        """The four bytes that identify the key beside its name."""
        return sha256(self.name.encode() + b"\n" + bytes([_ED25519]) + self.public).digest()[:4]

    @classmethod
    def parse(cls, text: str) -> VerifierKey:
        """Read NAME+HASH+KEY, the form of Go's `note` package. Raises `RecordError` if it is malformed."""
        name, *rest = text.strip().split("+", 2)
        try:
            stated, key = bytes.fromhex(rest[0]), b64decode(rest[1], validate=True)
        except (IndexError, ValueError):
            raise RecordError("a verifier key has the form NAME+HASH+KEY") from None
        if not _NAME.fullmatch(name) or len(key) != 33 or key[0] != _ED25519:
            raise RecordError("the verifier key is not an Ed25519 key with a name")
        found = cls(name, key[1:])
        if found.hash != stated:
            raise RecordError("the hash in the verifier key is wrong: a character was changed")
        return found

    def __str__(self) -> str:
        return f"{self.name}+{self.hash.hex()}+{b64encode(bytes([_ED25519]) + self.public).decode()}"

    def check(self, text: str, signature: bytes) -> None:
        """Check the 64 bytes of a signature of a note's text. Raises `ProofError` if they are wrong."""
        try:
            Ed25519PublicKey.from_public_bytes(self.public).verify(signature, text.encode())
        except InvalidSignature:
            raise ProofError(f"the signature by {self.name} is wrong") from None


@dataclass(frozen=True, slots=True)
class SigningKey:
    """A private key with its name."""

    name: str
    private: Ed25519PrivateKey = field(repr=False)

    @classmethod
    def new(cls, name: str) -> SigningKey:
        """Make a key. Raises `ValueError` for a name that is empty, or has spaces or a plus sign."""
        if not _NAME.fullmatch(name):
            raise ValueError(f"{name!r} cannot be the name of a key")
        return cls(name, Ed25519PrivateKey.generate())

    @classmethod
    def parse(cls, text: str) -> SigningKey:
        """Read PRIVATE+KEY+NAME+HASH+KEY, the form of Go's `note` package. Raises `RecordError` if it is malformed."""
        try:
            begin, middle, name, stated, encoded = text.strip().split("+", 4)
            key = b64decode(encoded, validate=True)
            if (begin, middle) != ("PRIVATE", "KEY") or len(key) != 33 or key[0] != _ED25519:
                raise ValueError
            found = cls(name, Ed25519PrivateKey.from_private_bytes(key[1:]))
            if found.verifier.hash.hex() != stated:
                raise ValueError
        except ValueError:
            raise RecordError("the key file does not hold one line PRIVATE+KEY+NAME+HASH+KEY") from None
        return found

    @property
    def verifier(self) -> VerifierKey:
        """The public half."""
        return VerifierKey(self.name, self.private.public_key().public_bytes_raw())

    def secret(self) -> str:
        """Return the private key in the form that `parse` reads."""
        key = b64encode(bytes([_ED25519]) + self.private.private_bytes_raw()).decode()
        return f"PRIVATE+KEY+{self.name}+{self.verifier.hash.hex()}+{key}"


def note_of(text: str, key: VerifierKey, signature: bytes) -> str:
    """Return the signed note of a text that ends with a newline."""
    return f"{text}\n— {key.name} {b64encode(key.hash + signature).decode()}\n"


def open_note(note: str, key: VerifierKey) -> str:
    """Return a note's text. Signatures by other keys, of witnesses for example, are ignored.

    Raises `ProofError` if it is not a note, or has no valid signature by `key`.
    """
    text, empty, signatures = note.rpartition("\n\n")
    text += "\n"
    if not empty or not signatures.endswith("\n"):
        raise ProofError("it is not a signed note: a text, an empty line, and lines with signatures")
    for line in signatures.splitlines():
        found = _LINE.fullmatch(line)
        if found is None:
            raise ProofError("a signature line of the note is malformed")
        signature = _decoded(found[2])
        if found[1] == key.name and signature[:4] == key.hash:
            key.check(text, signature[4:])
            return text
    raise ProofError(f"the note has no signature by {key.name}")


def _decoded(text: str) -> bytes:
    try:
        return b64decode(text, validate=True)
    except ValueError:
        raise ProofError("a signature line of the note is malformed") from None
