"""Takes the signature out of the file that the host returns, if it is one over exactly the bytes that SPSDK has."""

from __future__ import annotations

from pathlib import Path

from digsigd import ahab
from digsigd.client._internal.files import mapped
from digsigd.spsdk.errors import ProviderError
from digsigd.spsdk.place import Place
from digsigd.spsdk.region import Region

# Offsets of the fields of a container's header, and the offset behind each. AHAB container, "header".
_FIELDS = (
    ("version", 0, 1),
    ("length", 1, 3),
    ("tag", 3, 4),
    ("flags", 4, 8),
    ("software version", 8, 10),
    ("fuse version", 10, 11),
    ("number of images", 11, 12),
    ("offset of the signature block", 12, 14),
    ("reserved field", 14, 16),
)
_ENTRY = 0x80


def signature_of(signed: Path, place: Place, region: Region, chip: ahab.AhabChip | None = None) -> bytes:
    """Return the raw signature of the container at `place` in the file `signed`.

    Its signed bytes must be those of `region`, byte by byte, and all of it must hold: the signature, with the key of
    the SRK table in `region`, which `chip` accepts, and the images. Raises `ProviderError` otherwise, and `ClientError`
    if the file cannot be read.
    """
    with mapped(signed) as answer:
        return _signature(answer, place, region, chip)


def _signature(answer: ahab.Buffer, place: Place, region: Region, chip: ahab.AhabChip | None) -> bytes:
    made = answer[place.offset : place.offset + len(region.data)]
    if made != region.data:
        what, hint = _difference(region, made)
        raise ProviderError(f"the host has signed a container that is not the one that SPSDK makes: {what}", hint=hint)
    try:
        verified = ahab.verify(answer, place.offset, chip=chip)
    except ahab.AhabError as error:
        raise ProviderError(
            f"the container that the host has signed fails verification: {error.summary()}",
            hint="check that the signing host can be trusted",
        ) from None
    block = verified.container.block
    if block is None or len(block.signatures) != 1 or len(block.signatures[0]) != region.signature_length:
        # Not with signed bytes that are SPSDK's; but what is returned here goes into SPSDK's container as it is.
        raise ProviderError(f"the host's container does not have one signature of {region.signature_length} bytes")
    return block.signatures[0]


def _difference(region: Region, made: bytes) -> tuple[str, str]:
    """Return the first field in which the host's container differs, and what to do about it."""
    asked = region.data
    if len(made) != len(asked):
        return "the host's file ends before its signature", "check that the signing host can be trusted"
    for name, start, end in _FIELDS:
        if asked[start:end] == made[start:end]:
            continue
        values = [int.from_bytes(one[start:end], "little") for one in (asked, made)]
        return f"its {name} is {values[1]:#x}, SPSDK's is {values[0]:#x}", ""
    at = next(at for at, (ours, theirs) in enumerate(zip(asked, made, strict=True)) if ours != theirs)
    block = region.container.header_length
    if at < block:
        return f"the entry of image {(at - 0x10) // _ENTRY} differs at {at:#x}", ""
    if at < block + 0x10:
        return f"the header of its signature block differs at {at:#x}", ""
    return (
        f"its SRK table differs at {at:#x}",
        "compare the keys and the hash_algorithm of srk_table in SPSDK's configuration with the machine's table",
    )
