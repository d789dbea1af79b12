"""Digests of a container's images, taken while their file arrives."""

from __future__ import annotations

import hashlib
import os
import random
import struct
from collections.abc import Iterator
from typing import Any

import pytest
from twisted.internet import reactor as installed
from twisted.python.threadpool import ThreadPool

from digsigd import ahab
from digsigd.signing.ahab_sums import ContainerSum, expected
from digsigd.signing.block_sums import LONGEST
from digsigd.signing.hashing import Hashing
from tests.helpers.ahab_cases import CASES, description, image

OFFSET = 0x400
reactor: Any = installed


def sums(data: bytes, offset: int, sizes: Iterator[int]) -> dict[tuple[str, int, int], bytes]:
    """What is taken of a file that arrives in pieces of these sizes."""
    made = ContainerSum(offset)
    place = 0
    while place < len(data):
        piece = data[place : place + next(sizes)]
        made.update(place, memoryview(piece))
        place += len(piece)
    return made.digests()


def images_of(data: bytes, offset: int) -> dict[tuple[str, int, int], bytes]:
    """The same from the whole file."""
    found = {}
    for one in ahab.read_header(data, offset).images:
        start = offset + one.offset
        if one.size:
            name = one.hash_name
            found[name, start, one.size] = hashlib.new(name, data[start : start + one.size]).digest()
    return found


def pieces(seed: int, most: int) -> Iterator[int]:
    chosen = random.Random(seed)
    while True:
        yield chosen.randint(1, most)


@pytest.mark.parametrize("most", [7, 400, 5000, 1 << 20])
@pytest.mark.parametrize("case", ["good-93-sd-spl", "good-os-container", "good-qxp-spl-sgk", "good-v2-p384"])
def test_they_are_those_of_the_whole_file(case: str, most: int) -> None:
    """Whatever the pieces are: header and images end inside of them."""
    offset = 0 if case in ("good-os-container", "good-v2-p384") else OFFSET
    found = sums(image(case), offset, pieces(1, most))
    assert found == images_of(image(case), offset)
    assert found


def container(*places: tuple[int, int], size: int = 0x4000) -> bytes:
    """A file of random bytes with a container whose images have these offsets and sizes, whatever that means."""
    parts = [ahab.ContainerImage(bytes(0x10), 0x1000) for _ in places]
    data = bytearray(os.urandom(size))
    header = ahab.build_container(parts)
    data[OFFSET : OFFSET + len(header)] = header
    for number, (offset, length) in enumerate(places):
        struct.pack_into("<II", data, OFFSET + 0x10 + 0x80 * number, offset, length)
    return bytes(data)


def test_images_that_overlap_are_hashed_once() -> None:
    """A hostile header cannot make a byte cost more than one hash; nor do images in front of it."""
    many = container(*[(0x1800, 0x2000)] * 32)
    assert len(sums(many, OFFSET, pieces(2, 999))) == 1
    chained = container((0x1000, 0x1000), (0x1800, 0x1000), (0x2000, 0x800), (0x27FF, 0x10))
    assert [part[1:] for part in sums(chained, OFFSET, pieces(3, 999))] == [
        (OFFSET + 0x1000, 0x1000),
        (OFFSET + 0x2000, 0x800),
    ]
    assert sums(container((0x20, 0x100)), OFFSET, pieces(4, 999)) == {}


def test_what_has_not_arrived_has_no_digest() -> None:
    """The file ends in the header, or in an image."""
    data = container((0x1000, 0x1000), (0x2000, 0x7FFFFFFF))
    assert len(sums(data, OFFSET, pieces(5, 999))) == 1
    for end in (OFFSET, OFFSET + 5, OFFSET + 0x10, OFFSET + 0x80):
        assert sums(data[:end], OFFSET, pieces(6, 999)) == {}


@pytest.mark.parametrize(("place", "value"), [(3, 0), (0, 1), (11, 0), (11, 255), (12, 0)])
def test_what_is_no_container_has_no_digest(place: int, value: int) -> None:
    """It is told later, with the line of the description."""
    data = bytearray(container((0x1000, 0x1000)))
    data[OFFSET + place] = value
    assert sums(bytes(data), OFFSET, pieces(7, 999)) == {}


def test_a_hash_that_is_not_known_has_no_digest() -> None:
    """The others have."""
    data = bytearray(container((0x1000, 0x1000), (0x2000, 0x1000)))
    data[OFFSET + 0x10 + 0x19] = 7
    assert [part[1] for part in sums(bytes(data), OFFSET, pieces(8, 999))] == [OFFSET + 0x2000]


def test_the_description_says_what_to_hash() -> None:
    """Of the artifact that it names, the containers; of others, and of what cannot be read, nothing."""
    text = description("bad-two-authenticate-data").encode()
    assert len(expected(text, "flash.bin")) == 2
    assert expected(text, "other.bin") == []
    assert expected(text.replace(b"Offsets", b"Offset"), "flash.bin") == []
    assert expected(b"# " + b"x" * (16 << 10) + b"\n" + text, "flash.bin") == []
    assert all(isinstance(one, ContainerSum) for one in expected(text, "flash.bin"))
    assert CASES


@pytest.mark.parametrize("size", [0x40000, 0x40001, 0x200000])
def test_a_stream_takes_them_in_threads(size: int) -> None:
    """From the first byte on, though the description is read when the stream turns out to be large."""
    pool = ThreadPool(2, 2)
    pool.start()
    try:
        data = container((0x1000, 0x2000), (0x3000, size - 0x4000), size=size)
        stream = Hashing(reactor, pool).stream(lambda: [ContainerSum(OFFSET)])
        for place in range(0, size, 60000):
            stream.update(data[place : place + 60000])
        known = stream.end()
        for (name, offset, length), digest in images_of(data, OFFSET).items():
            taken = known.of_image(name, offset, length)
            assert taken == (digest if size > 0x40000 else None)
        assert known.of_image("sha256", 0, 1) is None
        assert known.sha256 == hashlib.sha256(data).hexdigest()
    finally:
        pool.stop()


def test_a_description_for_hab_has_blocks() -> None:
    """Whichever comes with the file."""
    text = (
        b'[Header]\nVersion = 4.3\n[Install SRK]\nFile = "t.bin"\nSource index = 0\n[Install CSFK]\n'
        b'File = "c_crt.pem"\n[Authenticate CSF]\n[Install Key]\nVerification index = 0\nTarget index = 2\n'
        b'File = "i_crt.pem"\n[Authenticate Data]\nVerification index = 2\nBlocks = 0x0 0x10 0x400 "flash.bin"\n'
    )
    (blocks,) = expected(text, "flash.bin")
    assert not isinstance(blocks, ContainerSum)


def test_a_long_description_is_read_later() -> None:
    """What comes with the file is not worth the time of the stream."""
    text = description("good-93-sd-spl").encode()
    comment = b"#" + b"x" * (LONGEST - len(text) - 2) + b"\n"
    lines = b"#\n" * (len(comment) // 2)
    whole = text + lines + b" " * (LONGEST - len(text) - len(lines))
    assert len(whole) == LONGEST
    assert [type(one) for one in expected(whole, "flash.bin")] == [ContainerSum]
    assert list(expected(whole + b" ", "flash.bin")) == []


@pytest.mark.parametrize("name", ["sha3-256", "shake128-256", "shake256-512"])
def test_hashes_of_version_2_are_taken_too(name: str) -> None:
    """They need not be hashed again."""
    images = [ahab.ContainerImage(b"\1" * 0x400, 0x8000, hash_name=name)]
    data = ahab.build_file([(0, ahab.build_container(images, version=2), images)])
    assert sums(data, 0, pieces(2, 700)) == {(name, 0x8000, 0x400): ahab.read_header(data).images[0].digest}


def test_images_right_behind_the_header_are_taken() -> None:
    """Those too that begin in the piece with the end of the header, in any order, and no empty ones."""
    images = [ahab.ContainerImage(bytes([n]) * 0x400, place) for n, place in enumerate((0x600, 0x1A0))]
    images.append(ahab.ContainerImage(b"", 0xA00, kind=5))
    data = ahab.build_file([(OFFSET, ahab.build_container(images), images)])
    for first in (0x10, OFFSET + 1, OFFSET + 0x11, OFFSET + 0x19F, OFFSET + 0x1A0, 0x2000):
        assert sums(data, OFFSET, iter([first, 0x10000])) == images_of(data, OFFSET)
    assert len(images_of(data, OFFSET)) == 2
