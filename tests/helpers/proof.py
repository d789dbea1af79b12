"""Whether a blob is the signature of a trial image by trial keys."""

from __future__ import annotations

from digsigd import hab
from digsigd.testing import TrialImage, TrialPki


def proven(pki: TrialPki, image: TrialImage, blob: bytes) -> None:
    """Raise unless it is."""
    block = hab.Block(image.address, 0, image.signed_size)
    hab.verify(
        blob,
        srk_table=pki.srk_table,
        expected_blocks=[[block]],
        source_index=0,
        digests=[hab.digest_blocks("sha256", [block], [hab.File.of(image.data)])],
        fuse_value=pki.fuse_value,
        now=None,
    )
