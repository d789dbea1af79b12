"""Images for i.MX RT, as SPSDK and others make them of pieces: what is between them is empty, and said to be."""

from __future__ import annotations

import struct
from functools import partial

import pytest

from digsigd import hab
from digsigd.image.chips import find
from tests.helpers import golden_kinds as kinds
from tests.helpers.signed_images import Maker, signed
from tests.image.kinds_judged import at, blocks, is_good, planned, refused, report_of, why_not

RT = kinds.rt()
CSF = kinds.csf_offset(RT, 0x1000)
APP = 0x2000
USED = APP + 8 + 0x8123  # where the application ends
ALL = {
    "RT1050": partial(kinds.rt),
    "RT1010": partial(kinds.rt, front="fcb400"),
    "with DCD": partial(kinds.rt, piece="dcd"),
    "RT1064": partial(kinds.rt, 0x70000000),
    "RT1170 with XMCD": partial(kinds.rt, 0x30000000, front="fcb400", piece="xmcd"),
    "on SD": partial(kinds.rt, 0x20200000, at=0x400, app_at=0x1000, front="none"),
    "in DTCM, for SDP": partial(kinds.rt, 0x20000000, at=0x0, app_at=0x1000, front=""),
    "erased flash in front": partial(kinds.rt, front="ones"),
    "by its vectors": partial(kinds.rt, odd=False),
    "nothing in front": partial(kinds.rt, front=""),
}


def spsdk(found: hab.Ivt, front: int, app: int, end: int, piece: int = 0) -> list[hab.Block]:
    """The blocks of _get_signed_blocks: IVT with boot data, DCD or XMCD, the application padded to 16 bytes."""
    pieces = [(front, 0x40), *([(front + 0x40, piece)] if piece else []), (app, end - app)]
    return [hab.Block(found.base + place, place, length) for place, length in pieces]


@pytest.mark.parametrize("name", ALL)
def test_every_piece_is_signed_and_what_is_between_is_told(name: str) -> None:
    """IVT with boot data, DCD or XMCD, and all from the application to the CSF."""
    data = ALL[name]()
    found = planned(data)
    (part,) = found.signings
    place = part.ivt.offset
    assert blocks(found)[0][1:] == (place, 0x40)
    assert part.blocks[-1].end == part.csf_offset
    assert found.must == tuple((block.offset, block.length) for block in part.least)
    assert part.csf_room == 0x2000
    assert any("between IVT and application, is padding that no signature covers" in note for note in found.notes)
    assert all(block.address - block.offset == part.ivt.base for block in part.blocks)
    is_good(signed(data))


@pytest.mark.parametrize("name", ALL)
def test_what_spsdk_signs_holds(name: str) -> None:
    """Its application's block ends before the CSF: behind it there is nothing."""
    data = ALL[name]()
    part = planned(data).signings[0]
    app = part.blocks[-1].offset
    piece = {"with DCD": 0x1C, "RT1170 with XMCD": 0xC}.get(name, 0)
    end = app + (8 + 0x8123 + 15) // 16 * 16
    maker = Maker(blocks=lambda one: spsdk(one.ivt, one.ivt.offset, app, end, piece))
    report = is_good(signed(data, makers={"image": maker}))
    assert any("no signature covers" in note for note in report.plan.notes)


def test_an_image_signed_as_a_whole_holds() -> None:
    """As with U-Boot: one block from the IVT to the CSF."""
    whole = Maker(blocks=lambda part: [hab.Block(part.ivt.self_address, 0x1000, CSF - 0x1000)])
    is_good(signed(RT, makers={"image": whole}))


@pytest.mark.parametrize("place", [0x1040, 0x1800, 0x1FFF])
def test_anything_between_ivt_and_application_belongs_to_what_is_signed(place: int) -> None:
    """It is no padding then, and where a CSF leaves it out the image does not hold."""
    data = signed(RT)
    found = report_of(at(data, place, b"\x13"))
    assert isinstance(found, str) or not found.holds


@pytest.mark.parametrize("place", [USED + 16, CSF - 1])
def test_anything_behind_the_signed_application_does_not_hold(place: int) -> None:
    """What SPSDK leaves out behind it is empty, or not covered."""
    maker = Maker(blocks=lambda one: spsdk(one.ivt, 0x1000, APP, (USED + 15) // 16 * 16))
    data = signed(RT, makers={"image": maker})
    is_good(data)
    assert "not covered" in why_not(at(data, place, b"\x13"))


@pytest.mark.parametrize("name", ["with DCD", "RT1170 with XMCD", "RT1050"])
def test_no_changed_byte_holds(name: str) -> None:
    """In any piece; the configuration in front of the IVT is not signed, and is said to be so."""
    data = signed(ALL[name]())
    report = is_good(data)
    for block in report.plan.signings[0].least:
        for place in (block.offset, block.end - 1):
            found = report_of(at(data, place, bytes([data[place] ^ 1])))
            assert isinstance(found, str) or not found.holds, f"{place:#x}"
    assert report.plan.regions[0].name == "FlexSPI configuration, not signed"
    is_good(at(data, 0x900, b"\x13"))


@pytest.mark.parametrize("left_out", [0, 1, 2])
def test_a_valid_csf_that_leaves_a_piece_out_does_not_hold(left_out: int) -> None:
    """IVT, XMCD or application."""
    data = ALL["RT1170 with XMCD"]()
    maker = Maker(blocks=lambda part: [block for n, block in enumerate(part.blocks) if n != left_out])
    assert why_not(signed(data, makers={"image": maker}))


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ((0x1018, 0), "SPSDK and elftosb: flags = 0x08"),
        ((0x1004, 0x60001841), "the application begins at 0x2000"),
        ((0x1004, 0x60001041), "the application begins at 0x2000"),
        ((0x1004, 0x60000241), "its entry point at 0x60000241"),
        ((0x1024, 0xB000), "right where the CSF begins"),
        ((0x1020, 0x60000C00), "has no memory for images"),
        ((0x1028, 1), "is for a plugin"),
        ((0x1008, 1), "reserved words"),
    ],
)
def test_headers_that_do_not_fit_are_refused(change: tuple[int, int], says: str) -> None:
    """An entry point between the pieces would run what nobody has signed."""
    assert says in refused(at(RT, *change), "imxrt1050")


def test_boot_data_are_right_behind_the_ivt() -> None:
    """As all of NXP's tools have them; a block of SPSDK's covers no others."""
    moved = at(at(RT, 0x1010, 0x60001030), 0x1030, RT[0x1020:0x102C])
    assert "not right after it" in refused(moved, "imxrt1050")


def test_an_image_without_an_application_is_refused() -> None:
    """There is nothing to sign."""
    assert "no application" in refused(RT[:0x1040].ljust(CSF, b"\0"), "imxrt1050")


def test_the_chip_is_asked_for_and_has_to_fit_the_flash() -> None:
    """RT1010 to RT1064 have the DCP, the larger ones CAAM; nothing in most images tells."""
    assert "different ways" in planned(RT).ask
    larger = kinds.rt(0x30000000, front="fcb400")
    assert (planned(larger).ask, planned(larger).boards) == ("", "i.MX RT1160 or i.MX RT1170")
    assert planned(kinds.rt(0x70000000)).boards == "i.MX RT1064"
    assert "i.MX RT1050 was given" in refused(larger, "rt1050")
    assert "i.MX RT1060 was given" in refused(kinds.rt(0x70000000), "rt1060")
    assert planned(RT, "rt1064").chip is find("rt1064")
    for soc in ("imx6ull", "imx8mm", "imx7ulp"):
        assert refused(RT, soc)


def test_an_image_of_another_family_is_not_taken_for_one() -> None:
    """U-Boot for i.MX 6, told to be for RT."""
    assert "i.MX RT1060 was given" in refused(kinds.imximage(), "rt1060")
    assert "has no memory for images" in refused(kinds.imximage(0x17800000, dcd_of=None), "rt1060")


def test_serial_download_is_refused_with_the_reason() -> None:
    """How the ROM runs a DCD then has no second source."""
    assert "is not confirmed" in refused(kinds.rt(piece="dcd"), "rt1060", sdp=0x20208000)


def test_a_second_ivt_does_not_stand_in_for_the_first() -> None:
    """The ROM takes the one at its place, however good another one is."""
    good = signed(kinds.rt(front="ones"))
    own = 0x60000400
    head = b"\xd1\0\x20\x40" + struct.pack("<7I", 0x60000501, 0, 0, own + 0x20, own, 0x60000000 + CSF, 0)
    head += struct.pack("<3I", 0x60000000, CSF + 0x2000, 0)
    assert why_not(at(good, 0x400, head))


@pytest.mark.parametrize("reset", [0x60002000, 0x60001FF1, 0x60100001, 0x00002241, 0, 0x6000B001])
def test_a_reset_vector_that_leads_out_of_what_is_signed_is_refused(reset: int) -> None:
    """The entry point may be that of a table of vectors, which is signed itself; the core starts by it."""
    data = kinds.rt(odd=False)
    is_good(signed(data))
    assert "makes the core start at" in refused(at(data, 0x2004, reset))
    is_good(signed(at(data, 0x2004, 0x60002009)))
