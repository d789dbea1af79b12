"""The bytes that SPSDK wants signed: one container up to its signature, and nothing else."""

from __future__ import annotations

import struct
from dataclasses import dataclass, field

from digsigd import ahab
from digsigd.spsdk.errors import ProviderError

# AHAB container, "header" and "signature block" (i.MX 8, 8ULP, 9x): both are 16 bytes, little-endian.
_HEADER = struct.Struct("<BHBIHBBHH")
_BLOCK = struct.Struct("<BHBHHHHI")
_IMAGE_LENGTH = 0x80
_CONTAINER, _SIGNED_MESSAGE, _V2X, _BLOCK_TAG, _CERTIFICATE = 0x87, 0x89, 0x82, 0x90, 0xAF
_SIGNATURE_HEADER = 8
_VERSION_2 = 2
# In bytes: SHA-1, SHA-224, SHA-256, SHA-384, SHA-512.
_DIGESTS = frozenset({20, 28, 32, 48, 64})
_WHOLE = "sign the whole file instead: digsign sign"


@dataclass(frozen=True, slots=True)
class Region:
    """The signed bytes of one container, from its header to its signature, whose length in bytes is `signature_length`.

    `container` is what the bytes say, with a signature of zeros; `table` is its SRK table.
    """

    data: bytes = field(repr=False)
    container: ahab.Container
    table: bytes = field(repr=False)
    signature_length: int

    @property
    def flags_above(self) -> int:
        """The flags that no description can express: bits 16 to 31, in place."""
        return self.container.flags & 0xFFFF0000


def parse_region(data: bytes) -> Region:
    """Return the container that `data` is, up to its signature.

    Raises `ProviderError` for a bare digest, for whatever is not exactly one container that OEM keys are to sign, and
    for containers whose bytes cst does not make: of version 2, with a certificate, a blob, or a block that is not
    padded to 8 bytes.
    """
    length, images, block_offset = _header(data)
    end = block_offset + _BLOCK.size
    if block_offset != _HEADER.size + images * _IMAGE_LENGTH or end > len(data):
        raise _odd(f"its signature block is at {block_offset:#x}, with {images} images, of {len(data)} bytes")
    _, block_length, tag, certificate, _, signature, blob, _ = _BLOCK.unpack_from(data, block_offset)
    if tag != _BLOCK_TAG:
        raise _odd(f"at {block_offset:#x} is no signature block")
    if certificate:
        raise ProviderError("the container has a certificate (SGK): this signer signs with SRKs alone", hint=_WHOLE)
    if blob:
        raise ProviderError(
            "the container has a blob, for encrypted images: they are not signed here",
            hint="remove the blob from SPSDK's configuration, or sign with the keys in files",
        )
    if block_offset + signature != len(data):
        raise _odd(f"its signature is to be at {block_offset + signature:#x}, but there are {len(data)} bytes")
    if length != block_offset + block_length:
        raise _odd(f"its length is {length:#x}, its signature block ends at {block_offset + block_length:#x}")
    signature_length = block_length - signature - _SIGNATURE_HEADER
    if block_length % 8 or signature % 8:
        raise ProviderError(
            f"SPSDK does not pad the signature block, which has {block_length} bytes; cst, which signs on the host,"
            " pads it to a multiple of 8, so the signed bytes cannot be the same",
            hint=f"it is always so with P-521 keys; {_WHOLE}",
        )
    if signature_length <= 0:
        raise _odd(f"its signature block of {block_length} bytes has no room for a signature at {signature}")
    # With a signature of zeros in place of the one to be made, it must be a whole container.
    empty = struct.pack("<BHBI", 0, _SIGNATURE_HEADER + signature_length, 0xD8, 0) + bytes(signature_length)
    try:
        container = ahab.parse(data + empty)
    except ahab.AhabError as error:
        raise ProviderError(f"SPSDK asks for a signature over a container with a fault: {error.summary()}") from None
    if container.srk_set != ahab.SrkSet.OEM:
        raise ProviderError("the container is not for OEM keys", hint="set srk_set: oem in SPSDK's configuration")
    block = container.block
    srks = block.srk if block is not None else None
    if not isinstance(srks, ahab.SrkTable):
        raise _odd("it has no SRK table")
    if (expected := srks.records[container.srk_index].signature_size) != signature_length:
        raise _odd(f"its signature has {signature_length} bytes, its key makes {expected}")
    return Region(bytes(data), container, srks.raw, signature_length)


def _header(data: bytes) -> tuple[int, int, int]:
    """Return length, number of images and the offset of the signature block of a container's header."""
    if len(data) in _DIGESTS or len(data) < _HEADER.size:
        raise ProviderError(
            f"SPSDK asks for a signature over {len(data)} bytes, such as a bare digest: the host signs containers whose"
            " images it has, and no digests",
            hint="use this signer for AHAB containers only, and without prehash",
        )
    version, length, tag, _, _, _, images, block_offset, _ = _HEADER.unpack_from(data)
    others = {
        _SIGNED_MESSAGE: "a signed message",
        _V2X: "a container of V2X",
        _CERTIFICATE: "a certificate (SGK)",
    }
    if tag != _CONTAINER or version not in {0, _VERSION_2}:
        what = others.get(tag, "bytes that are no AHAB container")
        raise ProviderError(
            f"SPSDK asks for a signature over {what}: this signer signs AHAB containers only",
            hint="make certificates with cst or SPSDK and keys in files, where the SRKs are kept"
            if tag == _CERTIFICATE
            else "",
        )
    if version == _VERSION_2:
        raise ProviderError(
            "the container is of version 2 (i.MX 94, 95 B0, 952): cst, which signs on the host, pads its SRKs to a"
            " multiple of 8 bytes, and SPSDK does not, so the signed bytes cannot be the same",
            hint=_WHOLE,
        )
    return length, images, block_offset


def _odd(what: str) -> ProviderError:
    return ProviderError(
        f"SPSDK asks for a signature over something other than one container up to its signature: {what}"
    )
