"""No bit of a signed container can be changed without its being noticed."""

from __future__ import annotations

import gzip
import hashlib
from collections.abc import Callable, Iterable
from functools import cache
from pathlib import Path

import pytest

from digsigd import ahab
from tests.helpers import ahab_forge
from tests.helpers.ahab_forge import forge
from tests.helpers.blobs import changed_at

SAMPLES = Path(__file__).parents[1] / "samples" / "ahab"
# Signed by cst 4.0.1; what the containers load is cut out.
SIGNED_BY_CST = {
    "good-93-sd-spl": 0x400,
    "good-qxp-spl-sgk": 0x400,
    "good-93-pss": 0x400,
    "good-os-container": 0,
    "good-v2-p384": 0,
}


@cache
def sample(name: str) -> bytes:
    """A file of NXP's tools."""
    return gzip.decompress((SAMPLES / f"{name}.bin.gz").read_bytes())


def unnoticed(data: bytes, offset: int, places: Iterable[int], bits: Iterable[int], digest: ahab.Digest) -> list[str]:
    """Where a changed bit is accepted. Any error but AHAB's own fails."""
    containers = ahab.find(data)
    chosen = list(bits)
    accepted = []
    for place in places:
        for bit in chosen:
            try:
                ahab.verify(changed_at(data, place, 1 << bit), offset, digest=digest, containers=containers)
            except ahab.AhabError:
                continue
            accepted.append(f"{place:#x} bit {bit}")
    return accepted


def by_entry(container: ahab.Container) -> ahab.Digest:
    """What the images' entries have, for files that are without the images."""
    known = {(one.hash_name, container.offset + one.offset, one.size): one.digest for one in container.images}
    return lambda *asked: known.get(asked, b"")


@pytest.mark.parametrize("bits", [range(4), range(4, 8)], ids=["low bits", "high bits"])
@pytest.mark.parametrize("name", SIGNED_BY_CST)
def test_every_bit_of_what_cst_signed_counts(name: str, bits: range) -> None:
    """Header, entries, block, table, padding, certificate, and the headers of signatures too."""
    data, offset = sample(name), SIGNED_BY_CST[name]
    container = ahab.parse(data, offset)
    digest = by_entry(container)
    ahab.verify(data, offset, digest=digest)
    assert unnoticed(data, offset, range(offset, container.end), bits, digest) == []


FORGED: dict[str, Callable[[], ahab_forge.Forged]] = {
    "v2 with a certificate": lambda: forge("p256", version=2, sgk="p521", number=3),
    "v0 with a certificate of RSA": lambda: forge("p256", sgk="rsa2048", number=1),
    "v2 of RSA-PSS": lambda: forge("pss2048", version=2, number=2),
}
if ahab_forge.HAS_ML_DSA:
    FORGED["hybrid"] = lambda: forge("p256", version=2, second="mldsa65")


@pytest.mark.parametrize("name", FORGED)
def test_every_byte_of_what_is_forged_counts(name: str) -> None:
    """One bit of each byte, another one each time; of long signatures every fifth byte."""
    signed = FORGED[name]()
    container = signed.container
    digest = by_entry(container)
    long = container.length > 0x1000
    places = range(signed.offset, container.end, 5 if long else 1)
    for bit in (0, 7):
        assert unnoticed(signed.data, signed.offset, places, [bit], digest) == []


@pytest.mark.parametrize("version", [0, 2])
def test_every_byte_of_the_images_counts(version: int) -> None:
    """The first, the last, those of their padding."""
    signed = forge(version=version)
    for image in signed.container.images:
        start = signed.offset + image.offset
        for place in (start, start + 1, start + image.size // 2, start + image.size - 1):
            with pytest.raises(ahab.VerificationError, match="image-hash"):
                signed.verify(changed_at(signed.data, place))
    # What is between is nobody's.
    signed.verify(changed_at(signed.data, signed.container.end + 3))


@pytest.mark.parametrize("version", [0, 2])
def test_a_container_that_is_cut_off_is_refused(version: int) -> None:
    """At every length, with nothing said but that."""
    signed = forge("p256", version=version, sgk="p256", alone=True)
    for length in range(0, signed.container.end, 3):
        with pytest.raises(ahab.AhabError):
            signed.verify(signed.data[:length])
    with pytest.raises(ahab.VerificationError, match="image-place"):
        signed.verify(signed.data[: signed.container.end])


def test_an_ecdsa_signature_has_exactly_its_length() -> None:
    """With zeros in front of each half it would be the same numbers."""
    signed = forge("p256")
    block = signed.container.block
    assert block is not None
    place = signed.offset + block.signature_offset
    r, s = block.signatures[0][:32], block.signatures[0][32:]
    longer = bytes(4) + r + bytes(4) + s
    header = bytes([0, 8 + len(longer), 0, 0xD8, 0, 0, 0, 0])
    container = bytearray(signed.data[signed.offset : place] + header + longer)
    container[1:3] = len(container).to_bytes(2, "little")
    start = signed.container.block_offset
    container[start + 1 : start + 3] = (len(container) - start).to_bytes(2, "little")
    data = signed.data[: signed.offset] + bytes(container) + signed.data[signed.offset + len(container) :]
    with pytest.raises(ahab.VerificationError, match="has 72 bytes; one of ECDSA P-256 has 64"):
        signed.verify(data)


def test_digests_are_those_of_the_file() -> None:
    """So that what is left out above is not left out of verification."""
    signed = forge()
    image = signed.container.images[0]
    start = signed.offset + image.offset
    assert hashlib.sha384(signed.data[start : start + image.size]).digest() == image.digest
