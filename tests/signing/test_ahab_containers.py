"""What is checked of the containers of a file, before cst sees them and after it has signed them."""

from __future__ import annotations

import struct
from collections.abc import Callable

import pytest

from digsigd import ahab
from digsigd.ahab.images import hashing
from digsigd.errors import Refused
from digsigd.signing.ahab_containers import (
    check_fuse_versions,
    check_places,
    chosen,
    misplaced,
    overwritten,
    placed,
)
from tests.helpers.ahab_forge import forge, signed_container

OFFSET, BLOCK = 0x400, 0x510


def changed(data: bytes, place: int, new: bytes) -> bytes:
    return data[:place] + new + data[place + len(new) :]


@pytest.mark.parametrize("version", [0, 2])
def test_the_containers_at_the_offsets_are_chosen(version: int) -> None:
    """Among all of the file, in the order of the description."""
    made = forge(version=version)
    everything, found = chosen(made.unsigned, [(made.offset, made.offset + 0x110)], [14], version)
    assert [one.offset for one in everything] == [0, made.offset]
    assert [one.offset for one in found] == [made.offset]


def test_a_container_at_another_place_is_one_of_the_file_s() -> None:
    """A search looks at multiples of 0x400 only; between all, it is in its order."""
    images = [ahab.ContainerImage(b"", 0)]
    raw = ahab.build_container(images)
    data = changed(changed(bytes(0x2000), 0x204, raw), 0x400, raw)
    everything, found = chosen(data, [(0x204, 0x294)], [3], 0)
    assert [one.offset for one in everything] == [0x204, 0x400]
    assert [one.offset for one in found] == [0x204]
    assert "is at no multiple of 0x400 bytes" in misplaced(found[0])
    assert misplaced(everything[1]) == ""


def encrypted(data: bytes, number: int) -> bytes:
    """With the flag for it in the entry of an image."""
    return changed(data, OFFSET + 0x28 + 0x80 * number, struct.pack("<I", 1 << 11 | 0x123))


@pytest.mark.parametrize(
    ("edit", "offsets", "version", "word", "hint"),
    [
        (lambda d: d, (0x800, 0x910), 0, "no container at 0x800", "Offsets 0x0 0x90, 0x400 0x510"),
        (lambda d: bytes(len(d)), (0x400, 0x510), 0, "no container at 0x400", "is it the right file?"),
        (lambda d: d, (0x400, 0x490), 0, "is at 0x510, not at 0x490", ""),
        (lambda d: changed(d, 0x403, b"\x82"), (0x400, 0x510), 0, "the tag 0x82", ""),
        (lambda d: d, (0x400, 0x510), 2, "has the version 0", "write Version = 1.0"),
        (lambda d: d, (0, 0x90), 0, "is signed by NXP", "sign the one behind it"),
        (lambda d: encrypted(d, 0), (0x400, 0x510), 0, "image 0 of .* is encrypted", ""),
        (lambda d: encrypted(d, 1), (0x400, 0x510), 0, "image 1 of .* is encrypted", ""),
    ],
)  # fmt: skip
def test_what_no_oem_signs_is_refused(
    edit: Callable[[bytes], bytes], offsets: tuple[int, int], version: int, word: str, hint: str
) -> None:
    """With the line of the description, and what to do."""
    data = edit(forge().unsigned)
    with pytest.raises(Refused, match=f"csf: line 14: .*{word}") as raised:
        chosen(data, [offsets], [14], version)
    assert raised.value.line == 14
    assert hint in raised.value.hint
    assert bool(raised.value.hint) == bool(hint)


def test_version_2_says_which_version_to_write() -> None:
    """The description was for version 0."""
    made = forge(version=2)
    with pytest.raises(Refused, match="has the version 2, but the description is for version 0") as raised:
        chosen(made.unsigned, [(made.offset, made.offset + 0x110)], [2], 0)
    assert "Version = 2.0" in raised.value.hint


def test_fuse_versions_up_to_the_operators() -> None:
    """None is any; the line is that of the container."""
    images = [ahab.ContainerImage(b"", 0)]
    low, high = (ahab.read_header(ahab.build_container(images, fuse_version=one)) for one in (3, 4))
    check_fuse_versions((low, high), [5, 6], None)
    check_fuse_versions((low, high), [5, 6], 4)
    with pytest.raises(Refused, match=r"line 6: .* has the fuse version 4; the operator allows 3"):
        check_fuse_versions((low, high), [5, 6], 3)


def test_places_and_hashes_are_checked_with_the_line() -> None:
    """Nothing else than `ahab.images` does."""
    made = forge()
    container = ahab.read_header(made.unsigned, OFFSET)
    found = ahab.find(made.unsigned)
    check_places(container, 14, len(made.unsigned), found, hashing(made.unsigned))
    with pytest.raises(Refused, match="csf: line 14: image 0 of") as raised:
        check_places(container, 14, len(made.unsigned), found, lambda *_: b"")
    assert "run imx-mkimage again" in raised.value.hint


def sign(data: bytes) -> bytes:
    """The container at OFFSET as cst would sign it, in a stub."""
    head = data[OFFSET:BLOCK]
    return signed_container(head, "p256").ljust(0x4000, b"\0")


def test_what_cst_has_signed_takes_the_place_of_the_container() -> None:
    """As long as it fits, and says what it said before."""
    data = forge().unsigned
    before, everything = ahab.read_header(data, OFFSET), ahab.find(data)
    written = sign(data)
    made = placed(before, written, data, everything, 14, "4.0.1")
    assert made == written[: len(made)]
    assert len(made) == 0x110 + 0x190
    with pytest.raises(ahab.VerificationError, match="another header"):
        placed(before, changed(written, 0x10, b"\1"), data, everything, 14, "4.0.1")
    with pytest.raises(Refused, match="line 14: the signed container ends at"):
        placed(before, written, data[: OFFSET + len(made) - 1], everything, 14, "4.0.1")


@pytest.mark.parametrize(
    ("version", "flag", "hint"),
    [
        (0, 0x4, "make the container without them"),
        (0, 0x8000, "make the container without them"),
        (0, 0x10000, "cst 4.0.1 leaves them as they are"),
        (0, 0x300000, "cst 4.0.1 leaves them as they are"),
        (0, 0x10004, "make the container without them"),
        (0, 0x10, ""),
        (0, 0xF00, ""),
        (2, 0x8000, ""),
        (2, 0x70000, ""),
        (2, 0x300000, "cst 4.0.1 leaves them as they are"),
    ],
)
def test_flags_that_cst_clears_are_those_of_the_signature(version: int, flag: int, hint: str) -> None:
    """Else the file boots another way than it was built for; the hint is one that helps."""
    made = forge(version=version)
    place = made.offset + 4
    data = changed(made.unsigned, place, struct.pack("<I", flag))
    head = data[made.offset : made.offset + 0x110]
    written = signed_container(head, "p256", version=version).ljust(0x4000, b"\0")
    before, everything = ahab.read_header(data, made.offset), ahab.find(data)
    if not hint:
        assert placed(before, written, data, everything, 14, "x")
        return
    with pytest.raises(Refused, match=f"csf: line 14: cst x changes the bits {flag:#x} of the flags") as raised:
        placed(before, written, data, everything, 14, "x")
    assert raised.value.hint == hint


@pytest.mark.parametrize(
    ("place", "value", "noted"),
    [
        (0x520, b"\x5a", 0x520),
        (0x69F, b"\x5a", 0x69F),
        (0x6A0, b"\x5a", None),
        (0x51F, b"\x5a", None),
        (0x530, b"\xff\xca\0", None),
        (0x530, b"\xff\x5a\xff", 0x531),
    ],
)
def test_what_is_overwritten_behind_a_container_is_noted(place: int, value: bytes, noted: int | None) -> None:
    """Unless it fills a gap: the note says where."""
    data = changed(forge().unsigned, place, value)
    before = ahab.read_header(data, OFFSET)
    note = overwritten(before, sign(data)[: 0x110 + 0x190], data)
    assert (f"has overwritten what was at {noted:#x}" in note) if noted is not None else note == ""
