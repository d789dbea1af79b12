"""Finds the container that SPSDK wants signed in the file with its images, and copies that file for the host."""

from __future__ import annotations

import struct
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from digsigd import ahab
from digsigd.client import ClientError
from digsigd.client._internal.files import mapped
from digsigd.spsdk.errors import ProviderError
from digsigd.spsdk.region import Region

# Of a container's header: flags (u32), software version (u16), fuse version (u8). The first image entry follows it.
_FLAGS, _VERSIONS, _COUNT = 4, 8, 11
_ENTRIES = 0x10
_SHOWN = 8
_PIECE = 1 << 20


@dataclass(frozen=True, slots=True)
class Place:
    """Where a container and its signature block are, in bytes from the start of the file."""

    offset: int
    block_offset: int


def copied(image: Path, copy: Path, region: Region) -> Place:
    """Copy the file `image` to `copy`, and return where in it the container of `region` is.

    The copy has the versions of `region` and those of its flags that no description can express. All else that SPSDK
    decides is said in the description. Raises `ProviderError` if the file cannot be read or written, and unless exactly
    one container in it has the images of `region`.
    """
    try:
        with mapped(image) as data:
            place = _place(data, image, region)
            own = int.from_bytes(data[place.offset + _FLAGS : place.offset + _VERSIONS], "little") & 0xFFFF
            with copy.open("xb") as file:
                for start in range(0, len(data), _PIECE):
                    file.write(data[start : start + _PIECE])
                file.seek(place.offset + _FLAGS)
                file.write(struct.pack("<I", own | region.flags_above) + region.data[_VERSIONS:_COUNT])
    except ClientError as error:
        raise ProviderError(f"image: {error.what}", hint=_NAME_IT) from None
    except OSError as error:
        raise ProviderError(f"image: {image} cannot be copied to {copy}: {error.strerror}") from None
    return place


_NAME_IT = (
    "image=FILE names the file that `nxpimage ahab sign -b` signs; for `nxpimage ahab export`, an export of the same"
    " configuration with srk_set: none"
)


def _place(data: ahab.Buffer, image: Path, region: Region) -> Place:
    wanted = region.container
    end = wanted.header_length
    entries = region.data[_ENTRIES:end]
    containers = ahab.find(data)
    same = [
        one
        for one in containers
        if one.version == wanted.version and data[one.offset + _ENTRIES : one.offset + end] == entries
    ]
    if len(same) > 1:
        places = ", ".join(f"{one.offset:#x}" for one in same[:_SHOWN])
        raise ProviderError(f"image: {image} has several containers with these images, at {places}", hint=_NAME_IT)
    if not same:
        raise ProviderError(f"image: {image} {_difference(containers, wanted)}", hint=_NAME_IT)
    return Place(same[0].offset, same[0].offset + end)


def _difference(containers: Any, wanted: ahab.Container) -> str:
    """Return in what the containers of the file differ from the one to be signed."""
    if not containers:
        return "has no AHAB containers"
    for one in containers:
        if len(one.images) != len(wanted.images):
            continue
        pairs = zip(one.images, wanted.images, strict=True)
        if all((ours.offset, ours.size) == (theirs.offset, theirs.size) for ours, theirs in pairs):
            number = next(ours.number for ours, theirs in zip(one.images, wanted.images, strict=True) if ours != theirs)
            return (
                f"was made from something else: of the container at {one.offset:#x}, the entry of image {number}"
                " differs from the one to be signed"
            )
    places = ", ".join(f"{one.offset:#x}" for one in containers[:_SHOWN])
    return f"has no container with the images of the one to be signed, but others, at {places}"
