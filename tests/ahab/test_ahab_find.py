"""All containers of a file are found, and nothing else."""

from __future__ import annotations

import gzip
from pathlib import Path

import pytest

from digsigd import ahab
from digsigd.ahab.find import MOST_FOUND, MOST_PLACES
from tests.helpers.ahab_forge import forge

SAMPLES = Path(__file__).parents[1] / "samples" / "ahab"


def header(version: int = 0, *, image: tuple[int, int] = (0x2000, 0x400), tag: int = 0x87) -> bytes:
    """A container with one image, which is not there."""
    data = bytearray(ahab.build_container([ahab.ContainerImage(b"", image[0])], version=version, tag=tag))
    data[0x14:0x18] = image[1].to_bytes(4, "little")
    return bytes(data)


def file_of(*parts: tuple[int, bytes], size: int) -> bytes:
    """These parts at their places, zeros between."""
    data = bytearray(size)
    for place, part in parts:
        data[place : place + len(part)] = part
    return bytes(data)


def places(data: bytes) -> list[int]:
    return [one.offset for one in ahab.find(data)]


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("good-93-sd-spl", [0, 0x400, 0x4000]),
        ("good-qxp-spl-sgk", [0, 0x400, 0x4C00]),
        ("good-93-pss", [0, 0x400, 0x4000]),
        ("good-v2-p384", [0]),
        ("good-os-container", [0]),
    ],
)
def test_containers_of_nxp_s_tools(name: str, expected: list[int]) -> None:
    """NXP's, ours, and the third one that is appended behind both."""
    data = gzip.decompress((SAMPLES / f"{name}.bin.gz").read_bytes())
    assert places(data) == expected
    # Files for FlexSPI have 4 KiB in front.
    assert places(bytes(0x1000) + data) == [0x1000 + place for place in expected]


def test_places_of_a_set() -> None:
    """In steps of 0x400, or of 0x4000 in version 2; V2X firmware is a container, too."""
    three = file_of((0, header()), (0x400, header(tag=0x82)), (0x800, header()), size=0x4000)
    assert [(one.offset, one.tag) for one in ahab.find(three)] == [(0, 0x87), (0x400, 0x82), (0x800, 0x87)]
    assert places(file_of((0, header()), (0x800, header()), size=0x4000)) == [0, 0x800]
    # Each of them once, also without images.
    assert places(file_of((0, header()), (0x400, header()), (0x800, header()), size=0x1000)) == [0, 0x400, 0x800]
    # Up to the third one, even where an image of the first one claims to be; a fourth one only beside images.
    inside = [(place, header()) for place in (0x400, 0x800, 0xC00)]
    assert places(file_of((0, header(image=(0x400, 0x1000))), *inside, size=0x4000)) == [0, 0x400, 0x800]
    assert places(file_of((0, header()), (0xC00, header()), size=0x4000)) == [0, 0xC00]
    assert places(file_of((0x400, header()), size=0x4000)) == [0x400]
    new = [(place, header(2, image=(0x10000 - place, 0x400))) for place in (0, 0x4000, 0x8000)]
    assert places(file_of(*new, size=0x20000)) == [0, 0x4000, 0x8000]
    assert places(file_of(*new[::2], size=0x20000)) == [0, 0x8000]
    assert places(file_of(new[2], size=0x20000)) == [0x8000]


def test_sets_follow_each_other() -> None:
    """At any multiple of 0x400 behind the images of the one before: 4 and 16 KiB on NAND."""
    first = (0, header(image=(0x2000, 0x1000)))
    for place in (0x3000, 0x3400, 0x4000, 0x8000):
        assert places(file_of(first, (place, header()), size=0x10000)) == [0, place]
    assert places(file_of(first, (0x3200, header()), size=0x10000)) == [0]
    assert places(file_of(first, (0x3001, header()), size=0x10000)) == [0]


def test_what_images_contain_is_not_searched() -> None:
    """They may have containers of their own."""
    inner = (0x2400, header())
    assert places(file_of((0, header(image=(0x2000, 0x1000))), inner, size=0x10000)) == [0]
    assert places(file_of((0, header(image=(0x2000, 0x400))), inner, size=0x10000)) == [0, 0x2400]
    assert places(file_of((0, header(image=(0x2000, 0x401))), inner, size=0x10000)) == [0]
    # Of all containers of a set.
    second = (0x400, header(image=(0x1C00, 0x1000)))
    assert places(file_of((0, header(image=(0x1800, 0x400))), second, inner, size=0x10000)) == [0, 0x400]
    # An image that the file does not contain hides nothing.
    assert places(file_of((0, header(image=(0x2000, 0x10000000))), inner, size=0x10000)) == [0, 0x2400]
    assert places(file_of((0, header(image=(0x2000, 0xE000))), inner, size=0x10000)) == [0]
    assert places(file_of((0, header(image=(0x2000, 0xE001))), inner, size=0x10000)) == [0, 0x2400]


def test_what_is_between_images_is_searched() -> None:
    """A container there must not be overwritten, and is signed alone."""
    apart = ahab.build_container([ahab.ContainerImage(bytes(0x400), place) for place in (0x2000, 0x20000)])
    assert places(file_of((0, apart), (0x10000, header()), (0x10400, header()), size=0x40000)) == [0, 0x10000, 0x10400]
    # Between two headers of a set, too.
    new = [(place, header(2, image=(0x10000 - place, 0x400))) for place in (0, 0x8000)]
    assert places(file_of(*new, (0x1000, header()), size=0x20000)) == [0, 0x1000, 0x8000]
    # Not inside the entries of a long header.
    long = bytearray(ahab.build_container([ahab.ContainerImage(b"", 0x2000)] * 32))
    long[0xC00 : 0xC00 + len(header())] = header()
    assert places(file_of((0, bytes(long)), size=0x4000)) == [0]


def test_other_files_have_none() -> None:
    """Whatever byte is where a tag would be."""
    assert places(b"") == []
    assert places(b"\x87" * 0x10000) == []
    assert places(bytes(0x10000)) == []
    assert places(header()[:0x90]) == []
    assert places(header()) == [0]
    assert places(file_of((0, header(tag=0x89)), size=0x1000)) == []


def test_what_is_looked_at_is_bounded() -> None:
    """A file full of headers, and one without an end."""
    assert MOST_PLACES == 0x40000
    assert len(ahab.find(header().ljust(0x400, b"\0") * 200)) == MOST_FOUND == 32

    class Endless:
        """Counts what is read of it."""

        read = 0

        def __len__(self) -> int:
            return 1 << 60

        def __getitem__(self, part: slice, /) -> bytes:
            self.read += 1
            return b"\0"

    endless = Endless()
    assert ahab.find(endless) == ()
    assert endless.read == MOST_PLACES


def test_the_last_set_is_cut_off_at_the_bound() -> None:
    """Not more than the bound, even if it ends inside of a set."""
    sets = b"".join(
        file_of((0, header(image=(0xC00, 0x100))), (0x400, header(image=(0x900, 0x100))),
                (0x800, header(image=(0x600, 0x100))), size=0x1000)
        for _ in range(11)
    )  # fmt: skip
    assert len(ahab.find(sets)) == MOST_FOUND


@pytest.mark.parametrize("version", [0, 2])
def test_forged_files_have_two(version: int) -> None:
    """NXP's and ours; those are given to verify, if they are known."""
    signed = forge(version=version)
    found = ahab.find(signed.data)
    assert [one.offset for one in found] == [0, signed.offset]
    assert [one.srk_set for one in found] == [ahab.SrkSet.NXP, ahab.SrkSet.OEM]
    signed.verify(containers=found)
    signed.verify(containers=())
