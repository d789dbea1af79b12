"""What is signed of a file with AHAB containers, and what is wrong with it before anything is sent."""

from __future__ import annotations

import re

import pytest

from digsigd import ahab
from digsigd.ahab import ContainerImage, build_container, build_file, place_images
from digsigd.image.ahab_model import AhabPlan, block_length
from digsigd.image.ahab_plan import plan_ahab
from digsigd.image.ahab_report import report_ahab
from digsigd.image.errors import ImageError
from tests.helpers.ahab_forge import signed_container
from tests.helpers.ahab_samples import all_signed, changed, signed

CODE = bytes(range(256)) * 4

SD = signed("good-93-sd-spl")
QXP = signed("good-qxp-spl-sgk")
# NXP's container of the sample with its image, as it is in front of the OEM's.
NXP = SD[:0x400]
NXP_IMAGE = SD[0x2000:0x2800]


def made(
    *offsets: int, images: int = 2, behind: int = 0x2000, nxp: bool = False, version: int = 0, **options: int
) -> bytes:
    """A file with unsigned containers at these offsets: the images of all follow from `behind` on."""
    parts: list[tuple[int, bytes, tuple[ContainerImage, ...]]] = []
    place = behind
    for offset in offsets:
        placed = place_images([CODE] * images, start=place - offset)
        place += 0x400 * images
        parts.append((offset, build_container(placed, version=version, **options), placed))
    data = bytearray(build_file(parts, 0))
    if nxp:
        data[: len(NXP)] = NXP
        data[0x2000:0x2800] = NXP_IMAGE
    return bytes(data)


def offsets(plan: AhabPlan) -> list[tuple[int, int]]:
    """What goes into `Offsets` of the descriptions."""
    return [(one.offset, one.block) for one in plan.to_sign]


def why_not(data: bytes, length: int = 0) -> str:
    with pytest.raises(ImageError) as caught:
        plan_ahab(data).check_signable(length)
    assert caught.value.hint
    return caught.value.what


def test_nxps_container_is_left_alone_and_ours_are_signed() -> None:
    """Also the one behind the first images, which SPL loads."""
    plan = plan_ahab(SD)
    plan.check_signable(block_length("p384"))
    assert plan.layout == "AHAB image (container version 0): NXP's firmware and 2 OEM containers"
    assert [(one.offset, one.owner, one.first, one.must_sign) for one in plan.containers] == [
        (0, "NXP", True, False), (0x400, "OEM", True, True), (0x4000, "OEM", False, True),
    ]  # fmt: skip
    assert offsets(plan) == [(0x400, 0x490), (0x4000, 0x4190)]
    assert (plan.version, plan.faults) == (0, ())


def test_what_is_signed_is_told_with_its_key() -> None:
    """The SRK from 1, and a certificate; what signing replaces is a note."""
    nxp, ours, third = plan_ahab(SD).containers
    assert (nxp.signed, nxp.key) == (True, "SRK 1 (ECDSA P-384)")
    assert (ours.signed, ours.key) == (True, "SRK 1 (ECDSA P-384)")
    assert (third.signed, third.key) == (False, "")
    assert plan_ahab(QXP).containers[1].key == "SRK 2 (ECDSA P-384), through an SGK (ECDSA P-384)"
    assert plan_ahab(SD).replaced == (
        "the OEM container at 0x400 is already signed, which signing replaces (by SRK 1 (ECDSA P-384))",
    )


def test_images_are_where_their_container_says() -> None:
    """Their offsets count from its header."""
    ours = plan_ahab(SD).containers[1]
    assert [(one.offset, one.size, one.entry.load, one.name) for one in ours.images] == [
        (0x2800, 0x1800, 0x2049A000, "image 0 (code)")
    ]


@pytest.mark.parametrize(
    ("places", "version", "first"),
    [
        ((0,), 0, [True]),
        ((0, 0x400), 0, [True, True]),
        ((0x1000, 0x1400), 0, [True, True]),
        ((0x8000, 0x8400), 0, [True, True]),
        ((0, 0x4000, 0x8000), 2, [True, True, True]),
        ((0x8000, 0xC000), 2, [True, True]),
    ],
    ids=["alone", "two", "FlexSPI", "eMMC", "version 2", "version 2 on eMMC"],
)
def test_containers_are_found_on_every_medium(places: tuple[int, ...], version: int, first: list[bool]) -> None:
    """Those of version 2 are 16 KiB apart."""
    plan = plan_ahab(made(*places, behind=places[-1] + 0x10000, version=version))
    plan.check_signable(block_length("p384", version=version))
    assert [one.offset for one in plan.to_sign] == list(places)
    assert [one.first for one in plan.containers] == first
    assert plan.version == version


def test_the_configuration_of_a_flash_is_a_region_of_its_own() -> None:
    """It is in front of the file, and no signature covers it."""
    data = changed(made(0x1000, behind=0x3000), 0x400, b"FCFB" + bytes(range(1, 0x80)))
    plan = plan_ahab(data)
    assert next((one.offset, one.length, one.name) for one in plan.regions) == (0, 0x1000, "FlexSPI configuration")
    assert plan.faults == ()
    assert "unknown data at 0x400" in plan_ahab(changed(data, 0x400, b"FCFC")).faults[0]


def test_room_ends_where_something_else_begins() -> None:
    """The next header, the first image, or the end of the file."""
    near = plan_ahab(made(0, 0x400))
    assert [one.room for one in near.to_sign] == [0x400 - 0x110, 0x2000 - 0x510]
    assert [one.room for one in plan_ahab(SD).to_sign] == [0x2000 - 0x490, 0x6000 - 0x4190]
    nothing = [ContainerImage(b"", 0x2000)]
    alone = build_container(nothing).ljust(0x300, b"\0")
    assert plan_ahab(alone).to_sign[0].room == 0x300 - 0x90


def test_a_block_that_does_not_fit_is_told_before_anything_is_sent() -> None:
    """With the bytes that there are, and those that the keys need."""
    near = made(0, 0x400)
    plan_ahab(near).check_signable(block_length("p521"))
    assert why_not(near, block_length("rsa2048")) == (
        "the OEM container at 0x0 has room for a signature block of 0x2f0 bytes, but these keys need 0x558"
    )


def test_an_image_that_was_changed_is_told() -> None:
    """Its hash in the container is the old one; NXP's are checked too."""
    for place, name in ((0x2800, "image 0 (code) of the container at 0x400"), (0x2000, "SECO or ELE")):
        what = why_not(changed(SD, place, bytes([SD[place] ^ 1])))
        assert name in what
        assert "was changed after the container was made" in what
    # The unused bytes of the field are not there for anything else.
    padding = 0x4000 + 0x10 + 0x20 + 63
    assert "was changed" in why_not(changed(SD, padding, b"\1"))


def test_images_outside_of_the_file_are_told() -> None:
    """As of a header without its images, or a file that was cut."""
    assert re.search(r"ends at 0xa000, but the file has 0x9fff bytes", why_not(SD[:-1]))
    assert "only its header" in why_not(made(0)[:0x200])


def test_overlaps_are_told() -> None:
    """Of images with images, and with containers; what loads nothing overlaps nothing."""
    one, two = place_images([CODE, CODE], start=0x2000)
    for placed, place in (((one, two), 0x23FF), ((one, two), 0x100), ((one, two), 0)):
        header = build_container([placed[0], ContainerImage(placed[1].data, place)])
        data = build_file([(0, header, placed)], 0)
        assert any("overlaps" in text for text in plan_ahab(data).faults), hex(place)
    header = build_container([one, ContainerImage(b"", 0x2000), two])
    plan_ahab(build_file([(0, header, (one, two))])).check_signable()


def test_overlapping_images_are_not_hashed() -> None:
    """A file could have a thousand that are all of it."""
    images = [ContainerImage(CODE, 0x2000)] * 32
    seen = 0

    class Counted(bytes):
        def __getitem__(self, part: slice) -> bytes:  # type: ignore[override]
            nonlocal seen
            found = super().__getitem__(part)
            seen += len(found) if (part.start or 0) >= 0x2000 else 0
            return found

    data = Counted(build_file([(0, build_container(images), images[:1])]))
    assert len(plan_ahab(data).faults) > 15
    assert seen <= 3 * len(CODE)


def test_encrypted_images_are_not_signed() -> None:
    """NXP's cst removes the blob with their key."""
    image = ContainerImage(CODE, 0x2000, encrypted=True)
    what = why_not(build_file([(0, build_container([image]), (image,))]))
    assert "image 0 (code) of the container at 0x0 is encrypted" in what


def test_data_that_no_container_covers_are_told() -> None:
    """A FIT behind the containers, which an SPL without CONFIG_AHAB_BOOT loads; fillers are none."""
    plan = plan_ahab(made(0) + b"\xff" * 0x100 + bytes(0x100) + b"\xca" * 0x10)
    assert plan.faults == ()
    assert "unknown data at 0x2900: d0 0d fe ed" in why_not(made(0) + bytes(0x100) + b"\xd0\x0d\xfe\xed")


def test_what_an_older_block_left_behind_is_harmless() -> None:
    """A shorter block leaves some of it; boards do not read it."""
    place = 0x400 + 0x2C0
    plan = plan_ahab(changed(SD, place, b"old"))
    plan.check_signable()
    assert "leftovers behind a container" in [one.name for one in plan.regions]


def test_what_is_longer_than_any_block_is_no_leftover() -> None:
    """A FIT behind a container that loads nothing is what SPL could load, and no signature covers it."""
    end = -(-len(SD) // 0x400) * 0x400
    last = build_container([ContainerImage(b"", 0x2000)]).ljust(0x400, b"\0")
    plan = plan_ahab(SD.ljust(end, b"\0") + last + b"\xd0\x0d\xfe\xed".ljust(0xA00, b"x"))
    assert plan.faults == ()
    plan = plan_ahab(SD.ljust(end, b"\0") + last + b"\xd0\x0d\xfe\xed".ljust(0x10000, b"x"))
    assert "unknown data" in plan.faults[0]


def test_the_tag_for_uuu_is_known() -> None:
    """Yocto's builds append it."""
    data = made(0)
    plan = plan_ahab(data + b"UUUBURNXXOEUZX7+A-XY5601QQWWZ" + str(len(data)).encode() + b"END\n")
    plan.check_signable()
    assert plan.regions[-1].name == "tag for UUU"


def test_a_container_within_an_image_is_a_part_of_it() -> None:
    """Its hash covers it: an updater can carry a whole flash.bin."""
    inner = made(0).ljust(0x4000, b"\0")
    (placed,) = place_images([inner], start=0x2000)
    plan = plan_ahab(build_file([(0, build_container([placed]), (placed,))]))
    assert offsets(plan) == [(0, 0x90)]
    assert plan.faults == ()


def test_containers_that_do_not_go_together_are_told() -> None:
    """One that reaches into the next, one within an image of another, and those of different versions."""
    near = changed(made(0, 0x400), 1, (0x500).to_bytes(2, "little"))
    assert any("ends at 0x500, in the container at 0x400" in text for text in plan_ahab(near).faults)
    (image,) = place_images([bytes(0x800)], start=0x400)
    inner = made(0, 0x400)[0x400:0x520]
    over = build_file([(0, build_container([image]), (image,))])
    assert any("overlaps" in text for text in plan_ahab(changed(over, 0x400, inner)).faults)
    mixed = made(0).ljust(0x4000, b"\0") + made(0, behind=0x10000, version=2)
    assert any("different versions" in text for text in plan_ahab(mixed).faults)


def test_a_damaged_signature_block_is_told() -> None:
    """With what is wrong with it."""
    block = 0x490
    assert "is damaged" in why_not(changed(SD, block + 1, b"\xff"))
    assert "has no SRK table" in why_not(made(0, flags=2))


def test_nxps_firmware_alone_is_nothing_to_sign() -> None:
    """Its container is signed, or the file is not as NXP delivers it."""
    alone = NXP + bytes(0x2000 - len(NXP)) + NXP_IMAGE
    assert why_not(alone) == "the file has no OEM container, so there is nothing to sign"
    for kind in (6, 0xB, 0xC):
        image = ContainerImage(CODE, 0x2000, kind=kind)
        assert "is not signed by NXP" in why_not(build_file([(0, build_container([image]), (image,))]))


def with_ddr_data(between: bytes = bytes(0x400), **options: int) -> bytes:
    """A container as imx-mkimage and binman make it for i.MX 94, 95 B0 and 952: -ddr_dummy, -oei, -hold, -m33, -dummy.

    The first entry loads nothing: it points behind the OEI, where a place is held for the data of the DDR.
    """
    oei = ContainerImage(CODE, 0xC000, kind=5, core=1)
    code = ContainerImage(CODE, oei.offset + len(CODE) + len(between), kind=3, core=1)
    images = (
        ContainerImage(b"", oei.offset + len(CODE), kind=0xD, core=0), oei, code,
        ContainerImage(b"", code.offset + len(CODE), kind=0xE, core=1),
    )  # fmt: skip
    data = build_file([(0, build_container(images, version=2, **options), images)])
    return changed(data, images[0].offset, between)


def test_an_entry_for_the_data_of_the_ddr_is_no_firmware_of_nxp() -> None:
    """It has the type that V2X's ROM patch has in NXP's containers."""
    plan = plan_ahab(with_ddr_data(), ahab.chip("mx95"))
    plan.check_signable()
    assert [(one.owner, one.must_sign) for one in plan.containers] == [("OEM", True)]
    assert plan.notes == ()
    assert "needs your signature (Source set = OEM)" in plan_ahab(with_ddr_data(flags=1)).faults[-1]


def test_training_data_are_known_and_told_to_be_unsigned() -> None:
    """imx-mkimage, -hold SIZE FILE: they are in the file, in no image; anywhere else they are unknown."""
    data = with_ddr_data(between=b"training".ljust(0x400, b"\0"))
    plan = plan_ahab(data, ahab.chip("mx95"))
    plan.check_signable()
    (note,) = plan.notes
    assert "the DDR training data at 0xc400, 0x400 bytes, are covered by no signature" in note
    assert [one.name for one in plan.regions if one.offset == 0xC400] == ["DDR training data"]
    ready = all_signed(data)
    report = report_ahab(ready, plan_ahab(ready, ahab.chip("mx95")))
    assert (report.holds, report.partly) == (True, True)
    assert report.checks[-1].detail == "but for the DDR training data"
    assert [(one.offset, one.state, one.must) for one in report.spans if one.offset == 0xC400] == [
        (0xC400, "open", True)
    ]
    elsewhere = changed(data, 0x10 + 0x00, (0xC000 + 0x800).to_bytes(4, "little"))
    assert any("unknown data at 0xc400" in text for text in plan_ahab(elsewhere).faults)


def test_a_container_of_nxp_with_code_gets_a_note() -> None:
    """No container of NXP is known to mix them; whether the key is NXP's, only the chip knows."""
    firmware, code = ContainerImage(CODE, 0x2000, kind=6), ContainerImage(CODE, 0x2400)
    head = signed_container(build_container((firmware, code)), "p384", srk_set=1)
    plan = plan_ahab(build_file([(0, head, (firmware, code))]))
    assert plan.containers[0].owner == "NXP"
    assert "has image 1 (code) beside firmware" in plan.notes[0]
    head = signed_container(build_container((firmware,)), "p384", srk_set=1)
    assert plan_ahab(build_file([(0, head, (firmware,))])).notes == ()


def test_containers_of_the_chips_version_only() -> None:
    """i.MX 93 has no containers of version 2."""
    assert plan_ahab(SD, ahab.chip("mx93")).faults == ()
    assert "version 0, but i.MX 95 B0 has containers of version 2" in plan_ahab(SD, ahab.chip("mx95")).faults[0]
    with pytest.raises(ImageError) as caught:
        plan_ahab(SD, ahab.chip("mx95")).check_signable()
    assert caught.value.hint == (
        "Check --soc against the marking of the chip. i.MX 95 A0 and A1 have containers of version 0: mx95-a0."
    )


def test_containers_in_odd_places_get_a_note() -> None:
    """Where another chip has them, where SPL does not look, or none for SPL; it is for people to judge."""
    assert plan_ahab(SD, ahab.chip("mx93")).notes == plan_ahab(QXP, ahab.chip("mx8x")).notes == ()
    (other,) = plan_ahab(SD, ahab.chip("mx95-a0")).notes
    assert "is 0x400 behind NXP's, where imx-mkimage has it 0x800 behind for i.MX 95 A0/A1" in other
    moved = SD[:0x4000] + bytes(0x1000) + SD[0x4000:]
    (elsewhere,) = plan_ahab(moved).notes
    assert "the OEM container at 0x5000 is not at 0x4000, where SPL looks for it" in elsewhere
    assert "finds no U-Boot in this file" in plan_ahab(SD[:0x4000]).notes[0]
    assert plan_ahab(bytes(0x8000) + SD, ahab.chip("mx93")).notes == ()


def test_no_image_is_refused() -> None:
    """With what it is."""
    assert why_not(b"") == why_not(bytes(0x2000)) == "the file has no AHAB container"
    disk = changed(bytes(0x8000) + made(0), 510, b"\x55\xaa")
    assert why_not(disk) == "the file is the image of a disk"
    head = bytes.fromhex("00600089020000000000000048000000")
    message = head.ljust(0x4B, b"\0") + b"\x90" + bytes(0x20)
    assert "is a signed message" in why_not(message)


def test_what_is_unknown_is_told() -> None:
    """An SRK set that nobody has, a hash of the other version, and a type of image."""
    assert any("the SRK set 3, which is unknown" in text for text in plan_ahab(made(0, flags=3)).faults)
    image = ContainerImage(CODE, 0x2000, hash_name="sha3-256")
    what = why_not(build_file([(0, build_container([image]), (image,))]))
    assert "sha3-256, is not one of containers of version 0" in what
    image = ContainerImage(CODE, 0xC000, hash_name="sha3-256")
    plan_ahab(build_file([(0, build_container([image], version=2), (image,))])).check_signable()
    image = ContainerImage(CODE, 0x2000, kind=0xF)
    plan = plan_ahab(build_file([(0, build_container([image]), (image,))]))
    plan.check_signable()
    assert plan.notes == ("image 0 (type 0xf) of the OEM container at 0x0 is of a type that is unknown here",)
