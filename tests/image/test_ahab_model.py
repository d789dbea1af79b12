"""How long cst's signature blocks are."""

from __future__ import annotations

import gzip
from pathlib import Path

import pytest

from digsigd import ahab
from digsigd.image.ahab_model import block_length

SAMPLES = Path(__file__).parents[1] / "samples" / "ahab"
# What cst 3.4.1 and 4.0.1 wrote: bytes of the block, and what a certificate adds (its key of the same kind).
MEASURED = {
    "p256": (0x190, 0xA0), "p384": (0x230, 0xE0), "p521": (0x2E8, 0x128), "rsa2048": (0x558, 0x220),
    "rsa3072": (0x7D8, 0x320), "rsa4096": (0xA58, 0x420),
}  # fmt: skip


@pytest.mark.parametrize("kind", MEASURED)
def test_blocks_are_as_long_as_cst_makes_them(kind: str) -> None:
    """For each kind of keys, with a certificate and without."""
    plain, more = MEASURED[kind]
    assert block_length(kind) == plain
    assert block_length(kind, sgk=kind) == plain + more


def block_of(name: str, offset: int) -> int:
    """The bytes of the block of a container in a sample."""
    found = ahab.parse(gzip.decompress((SAMPLES / name).read_bytes()), offset)
    assert found.block is not None
    return found.block.length


def test_blocks_of_samples_have_the_length() -> None:
    """Of both versions."""
    assert block_of("good-93-sd-spl.bin.gz", 0x400) == block_length("p384")
    assert block_of("good-qxp-spl-sgk.bin.gz", 0x400) == block_length("p384", sgk="p384")
    assert block_of("good-v2-p384.bin.gz", 0) == block_length("p384", version=2)


def test_the_key_of_a_certificate_may_be_of_another_kind() -> None:
    """The container's signature is as long as that key's, the certificate's as long as the SRK's."""
    assert block_length("p384", sgk="p256") == 0x230 - 0x20 + 0x58 + 0x68
    with pytest.raises(KeyError):
        block_length("ml-dsa")
