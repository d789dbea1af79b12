"""What the daemon says of a case: the only place here that calls `digsigd`."""

from __future__ import annotations

import hashlib

from digsigd import hab
from tests.model.shapes import BASE, SIZE, Case


def refused(case: Case, blob: bytes) -> str | None:
    """Why a CSF is refused for its image, as the signing host and `digsign verify` do it; None where it is not."""
    image = bytes(case.image)
    try:
        wanted = hab.wanted(blob)
        blocks = [[hab.Block(address, address - BASE, length) for address, length in one.blocks] for one in wanted]
        file = image + blob.ljust(0x2000, b"\0")
        layout = hab.check_layout(blocks, [hab.File.of(file)])
        hab.check_room(layout, len(blob))
        digests = [
            hashlib.new(one.algorithm, b"".join(image[block.offset : block.end] for block in of)).digest()
            for one, of in zip(wanted, blocks, strict=True)
        ]
        hab.verify(
            blob,
            srk_table=case.table,
            expected_blocks=blocks,
            source_index=case.source,
            digests=digests,
            fuse_value=case.fuses,
        )
    except hab.HabError as error:
        return str(error)
    return None


__all__ = ["SIZE", "refused"]
