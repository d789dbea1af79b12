"""cst gets a stub of one container, and what it makes of it is put back into the file."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest

from digsigd import ahab
from tests.helpers.ahab_cst import description, files_of, run_cst
from tests.helpers.ahab_forge import Forged, Kind, forge, signed_container
from tests.helpers.blobs import Signing, changed_at, written_at

CST_AND_CONTAINER = [("3.4.1", 0), ("4.0.1", 0), ("4.0.1", 2)]


@pytest.mark.parametrize(("cst", "version"), CST_AND_CONTAINER)
@pytest.mark.parametrize("sgk", [False, True], ids=["srk", "sgk"])
@pytest.mark.parametrize("kind", ["rsa2048", "rsa4096"])
def test_a_stub_gives_the_container_of_the_whole_file(
    signing: Signing, kind: Kind, sgk: bool, cst: str, version: int
) -> None:
    """Byte for byte: signatures of RSA are the same every time."""
    made = forge("p256", version=version, alone=True)
    container = ahab.read_header(made.unsigned)
    files = files_of(kind, version=version, sgk=kind if sgk else None)
    text = description(
        f"0x0 {container.block_offset:#x}", version="2.0" if version == 2 else "1.0", source=2, index=1, sgk=sgk
    )
    whole = run_cst(signing, cst, {**files, "flash.bin": made.unsigned}, text)
    stub = ahab.stub(made.unsigned, container)
    assert len(stub) < len(made.unsigned)
    signed = ahab.spliced(container, run_cst(signing, cst, {**files, "flash.bin": stub}, text), made.unsigned)
    data = signed + made.unsigned[len(signed) :]
    assert data == whole
    ahab.verify(data, srk_table=files["crts/table.bin"], original=made.unsigned)


@pytest.mark.parametrize(("cst", "version"), CST_AND_CONTAINER)
def test_a_container_in_the_middle_is_signed_by_a_stub(signing: Signing, cst: str, version: int) -> None:
    """Its offsets in the description are those of the stub; the rest of the file does not reach cst."""
    made = forge("p384", version=version)
    container = ahab.read_header(made.unsigned, made.offset)
    stub = ahab.stub(made.unsigned, container)
    text = description(f"0x0 {container.block_offset:#x}", version="2.0" if version == 2 else "1.0")
    files = {**files_of("p384", version=version), "flash.bin": stub}
    signed = ahab.spliced(container, run_cst(signing, cst, files, text), made.unsigned)
    ahab.check_room(made.unsigned, container, len(signed))
    data = made.unsigned[: made.offset] + signed + made.unsigned[made.offset + len(signed) :]
    made.verify(data, original=made.unsigned)


def test_a_stub_has_nothing_but_the_header() -> None:
    """An old block is not in it, nor anything behind."""
    signed = forge("p521", sgk="p256")
    container = signed.container
    stub = ahab.stub(signed.data, container)
    assert stub[: container.block_offset] == signed.data[0x400 : 0x400 + container.block_offset]
    empty = bytes([0, 0x10, 0, 0x90]) + bytes(12)
    assert stub[container.block_offset :] == empty.ljust(len(stub) - container.block_offset, b"\0")
    again = ahab.spliced(container, signed_container(stub, "p256").ljust(len(stub), b"\0"), signed.data)
    assert again == signed_container_of(again)


def signed_container_of(data: bytes) -> bytes:
    """The bytes of the container at the start."""
    return data[: ahab.parse(data).length]


@pytest.mark.parametrize("place", [0x8, 0xA, 0x10, 0x30, 0x8F, 0x10F])
def test_what_comes_back_has_the_file_s_header(place: int) -> None:
    """Everything but the length and the flags, which the signer writes."""
    made = forge("p256")
    container = ahab.read_header(made.unsigned, made.offset)
    output = signed_container(ahab.stub(made.unsigned, container), "p256")
    assert ahab.spliced(container, output, made.unsigned) == output
    assert ahab.spliced(container, output + b"more", made.unsigned) == output
    changed = bytearray(output)
    changed[place] ^= 1
    with pytest.raises(ahab.VerificationError, match="header: the signed container has another header"):
        ahab.spliced(container, bytes(changed), made.unsigned)
    with pytest.raises(ahab.FormatError):
        ahab.spliced(container, output[:0x110], made.unsigned)
    other = signed_container(ahab.build_container([ahab.ContainerImage(b"", 0)]), "p256")
    with pytest.raises(ahab.VerificationError, match="header"):
        ahab.spliced(container, other, made.unsigned)


def test_tag_and_flags_of_what_comes_back() -> None:
    """The tag is the file's; the flags are the signer's, all 32 bits."""
    made = forge("p256")
    container = ahab.read_header(made.unsigned, made.offset)
    head = ahab.stub(made.unsigned, container)
    output = signed_container(head, "p256", flags=0xFF000000)
    assert ahab.spliced(container, output, made.unsigned) == output
    output = signed_container(written_at(head, 3, b"\x82"), "p256")
    with pytest.raises(ahab.VerificationError, match="header"):
        ahab.spliced(container, output, made.unsigned)


@pytest.fixture(scope="module")
def signed() -> Forged:
    """NXP's container, ours, two images of ours at 0x2400, NXP's at 0x1C00."""
    return forge("p256")


def test_what_signing_may_change(signed: Forged) -> None:
    """Length, flags, block: every other byte of the file is as it was."""
    container = signed.container
    ahab.check_unchanged(signed.unsigned, signed.data, container)
    start, block, end = 0x400, 0x510, container.end
    may = {start + 1, start + 2, *range(start + 4, start + 8), *range(block, end)}
    places = [*range(0x420), *range(0x500, 0x520), *range(end - 0x10, end + 0x10), 0x1C00, 0x2400, len(signed.data) - 1]
    for place in places:
        data = changed_at(signed.data, place)
        if place in may:
            ahab.check_unchanged(signed.unsigned, data, container)
            continue
        with pytest.raises(ahab.VerificationError, match=rf"unchanged: the byte at {place:#x} of the file"):
            ahab.check_unchanged(signed.unsigned, data, container)
    for data in (signed.data + b"\0", signed.data[:-1], b""):
        with pytest.raises(ahab.VerificationError, match="unchanged: the file had"):
            ahab.check_unchanged(signed.unsigned, data, container)


def test_large_files_are_compared_in_parts(signed: Forged) -> None:
    """So that little of them is in memory; the last byte counts, too."""
    tail = bytes(0x300000)
    before, after = signed.unsigned + tail, signed.data + tail
    ahab.check_unchanged(before, after, signed.container)
    for place in (len(signed.data), 0x100000, 0x1FFFFF, len(after) - 1):
        with pytest.raises(ahab.VerificationError, match=f"byte at {place:#x} "):
            ahab.check_unchanged(before, changed_at(after, place), signed.container)


def test_signing_again_leaves_the_rest_of_a_longer_block(signed: Forged) -> None:
    """As cst does: it is behind the container's end, and nobody's."""
    longer = forge("p521")
    head = longer.data[0x400:]
    shorter = signed_container(head, "p256")
    data = longer.data[:0x400] + shorter + longer.data[0x400 + len(shorter) :]
    signed.verify(data, original=longer.data)


@pytest.mark.parametrize(
    ("room", "match"),
    [
        (0x1800, ""),
        (0x1801, "overwrites image 0 of the container at 0x0, which begins at 0x1c00"),
        (0x2001, "overwrites image 0 of the container at 0x0|overwrites image 0 of the container at 0x400"),
        (0x2800, "overwrites"),
        (0x2801, "ends at 0x2c01, the file at 0x2c00"),
    ],
)
def test_room_for_the_second_container(signed: Forged, room: int, match: str) -> None:
    """Up to the first image of any container, and never over the end of the file."""
    container = ahab.read_header(signed.unsigned, 0x400)
    judge(lambda: ahab.check_room(signed.unsigned, container, room), match)


@pytest.mark.parametrize(
    ("room", "match"), [(0x400, ""), (0x401, "overwrites the one at 0x400"), (0x800, "overwrites the one at 0x400")]
)
def test_room_for_the_first_container(signed: Forged, room: int, match: str) -> None:
    """Up to the second one."""
    first = ahab.read_header(signed.unsigned)
    judge(lambda: ahab.check_room(signed.unsigned, first, room), match)
    judge(lambda: ahab.check_room(signed.unsigned, first, room, containers=ahab.find(signed.unsigned)), match)


def judge(check: Callable[[], None], match: str) -> None:
    """Either nothing is raised, or the error for the room."""
    if not match:
        check()
        return
    with pytest.raises(ahab.VerificationError, match=match) as raised:
        check()
    assert raised.value.check == "room"


def test_room_up_to_its_own_images(signed: Forged) -> None:
    """And those without bytes are nowhere."""
    images = [ahab.ContainerImage(b"\1" * 0x400, 0x800), ahab.ContainerImage(b"", 0x10)]
    made = forge("p256", images=images, alone=True)
    container = ahab.read_header(made.unsigned)
    judge(lambda: ahab.check_room(made.unsigned, container, 0x800), "")
    judge(lambda: ahab.check_room(made.unsigned, container, 0x801), "overwrites image 0 of the container at 0x0")


def test_room_beside_others(signed: Forged) -> None:
    """A container that ends where this one begins; one that reaches into it; an image over all of it."""
    container = ahab.read_header(signed.unsigned, 0x400)
    beside = ahab.Container(0, 0, 0x400, 0x87, 0, 0, 0, (), 0x90, None)
    judge(lambda: ahab.check_room(signed.unsigned, container, 0x400, containers=[beside]), "")
    into = replace(beside, length=0x401)
    judge(lambda: ahab.check_room(signed.unsigned, container, 0x400, containers=[into]), "overwrites the one at 0x0")
    image = ahab.ImageEntry(0, 0x200, 0x1000, 0, 0, 3, 0, bytes(64), bytes(32), 0)
    over = replace(beside, images=(image,))
    judge(lambda: ahab.check_room(signed.unsigned, container, 0x400, containers=[over]), "overwrites image 0 of")
    until = replace(over, images=(replace(image, size=0x200),))
    judge(lambda: ahab.check_room(signed.unsigned, container, 0x400, containers=[until]), "")


def test_images_in_front_do_not_matter() -> None:
    """Those of the container before end where this one begins."""
    first = [ahab.ContainerImage(b"\1" * 0x400, 0x800)]
    third = [ahab.ContainerImage(b"\2" * 0x400, 0x800)]
    headers = [ahab.build_container(images) for images in (first, third)]
    data = ahab.build_file([(0, headers[0], first), (0xC00, headers[1], third)])
    assert [one.offset for one in ahab.find(data)] == [0, 0xC00]
    judge(lambda: ahab.check_room(data, ahab.read_header(data, 0xC00), 0x800), "")
    judge(lambda: ahab.check_room(data, ahab.read_header(data, 0xC00), 0x801), "overwrites image 0")


def test_files_are_built_without_overlaps() -> None:
    """For trials: what would overwrite something is refused."""
    images = [ahab.ContainerImage(b"\1" * 0x400, 0x80)]
    with pytest.raises(ahab.AhabError, match="what is at 0x80 of the file begins before the end"):
        ahab.build_file([(0, ahab.build_container(images), images)])
    placed = ahab.place_images([b"a" * 0x401, b"b"], start=0x1000, padding=0x200)
    assert [(one.offset, len(one.data)) for one in placed] == [(0x1000, 0x600), (0x1600, 0x200)]
    assert placed[0].data[0x401:] == bytes(0x1FF)
