"""barebox: an IVT behind its header, and of i.MX 8M a first part that checks the rest."""

from __future__ import annotations

import struct

import pytest

from digsigd import hab
from tests.helpers import golden_kinds as kinds
from tests.helpers.signed_images import Maker, signed
from tests.image.kinds_judged import at, blocks, is_good, planned, refused, report_of, why_not

SIX = kinds.barebox()
EIGHT = kinds.barebox_8m()
BOTH = kinds.barebox_8m(flexspi="mm")


@pytest.mark.parametrize("load", [0x10000000, 0x20000000, 0x80000000, 0x4FC00000])
def test_its_block_begins_at_the_ivt(load: int) -> None:
    """do_hab_blocks: loadaddr + 0x400, 0x400, all the rest."""
    data = kinds.barebox(load)
    found = planned(data)
    csf = len(data) - 0x2000
    assert blocks(found) == [(load + 0x400, 0x400, csf - 0x400)]
    assert found.must == ((0x400, csf - 0x400),)
    assert (found.signings[0].csf_offset, found.signings[0].csf_room) == (csf, 0x2000)
    assert any("already holds a CSF" in text for text in found.replaced)
    assert any("they are not signed" in note for note in found.notes)


def test_what_is_signed_of_i_mx_8m_is_its_first_part() -> None:
    """imx8m_get_offset_size: up to the room that the linker script keeps."""
    found = planned(EIGHT)
    assert blocks(found) == [(0x7E1400, 0x8400, 0x1BC00)]
    assert found.signings[0].unlock
    assert "barebox proper" in found.regions[-1].name
    assert found.foreign == ((found.regions[-1].offset, found.regions[-1].length),)
    assert any("HAB does not check" in note for note in found.notes)
    nano = planned(kinds.barebox_8m(0x912000, at=0))
    assert blocks(nano) == [(0x912000, 0x8000, 0x1C000)]


def test_an_image_for_sd_and_flexspi_has_two_csfs() -> None:
    """CONFIG_HABV4_QSPI: both IVTs sign what is before the first CSF."""
    found = planned(BOTH)
    first, second = found.signings
    assert blocks(found, 0) == [(0x7E1400, 0x8400, 0x1CC00)]
    assert blocks(found, 1) == [(0x7E2000, 0x9000, 0x1C000)]
    assert (first.csf_offset, second.csf_offset) == (0x25000, 0x27000)
    assert (first.csf_room, second.csf_room) == (0x2000, 0x2000)
    plus = planned(kinds.barebox_8m(0x920000, at=0, flexspi="mp"))
    assert blocks(plus, 0) == [(0x920000, 0x8000, 0x1D000)]
    assert blocks(plus, 1) == [(0x920000, 0x9000, 0x1C000)]
    assert [one.csf_offset for one in plus.signings] == [0x25000, 0x27000]
    is_good(signed(BOTH))
    is_good(signed(kinds.barebox_8m(0x920000, at=0, flexspi="mp")))
    for name in ("barebox", "barebox for FlexSPI"):
        assert why_not(signed(BOTH, makers={name: None}))


@pytest.mark.parametrize(("load", "at_", "soc"), [(0x7E1000, 0x400, "mm"), (0x920000, 0, "mp")])
def test_built_without_a_csf_for_flexspi_it_is_signed_for_sd_and_that_is_said(load: int, at_: int, soc: str) -> None:
    """CONFIG_HABV4 alone: the IVT for FlexSPI points behind the one CSF, and its boot data end there."""
    data = kinds.barebox_8m(load, at=at_, flexspi=soc, qspi=False)
    found = planned(data)
    assert blocks(found) == [(load + at_, 0x8000 + at_, 0x1D000 - at_)]
    assert [one.csf_offset for one in found.signings] == [0x25000]
    assert any("the IVT at 0x9000, for FlexSPI, has no CSF" in note for note in found.notes)
    good = signed(data)
    is_good(good)
    for place in (0x8000 + at_, 0x9004, 0x24FFF):
        assert why_not(at(good, place, bytes([good[place] ^ 1])))


@pytest.mark.parametrize("data", [SIX, EIGHT, BOTH], ids=["6", "8M", "8M and FlexSPI"])
def test_no_changed_byte_holds(data: bytes) -> None:
    """Of what is signed; its own header and barebox proper are not, and are told of."""
    good = signed(data)
    report = is_good(good)
    for part in report.plan.signings:
        for block in part.blocks:
            for place in (block.offset, block.offset + 0x20, block.end - 1):
                found = report_of(at(good, place, bytes([good[place] ^ 1])))
                assert isinstance(found, str) or not found.holds, f"{place:#x}"
    is_good(at(good, 0x70, b"\x13"))
    if data is not SIX:
        is_good(at(good, len(good) - 1, b"\x13"))


def test_hdmi_firmware_in_front_is_nxps() -> None:
    """PLUGIN_HDMI_SIZE: the IVT of the first part is behind it."""
    own = 0x32C00400
    head = b"\xd1\0\x20\x41" + struct.pack("<7I", 0x32C10000, 0, 0, own + 0x20, own, own + 0x40, 0)
    head += struct.pack("<3I", own - 0x400, 0x18000, 2)
    firmware = (bytes(0x400) + head).ljust(0x1A000, b"\x17")
    data = EIGHT[:0x8000] + firmware + EIGHT[0x8000:]
    found = planned(data)
    assert blocks(found) == [(0x7E1400, 0x8400 + 0x1A000, 0x1BC00)]
    assert (0x8000, 0x1A000) in found.foreign
    is_good(signed(data))


def test_an_image_that_was_not_built_for_hab_is_refused_with_how_to_build_it() -> None:
    """Its IVT has no CSF pointer."""
    assert "CONFIG_HABV4" in refused(at(SIX, 0x418, 0))
    assert "CONFIG_HABV4" in refused(at(EIGHT, 0x8418, 0))
    assert "no IVT with boot data" in refused(at(SIX, 0x400, 0))


def test_boot_data_that_leave_the_csf_out_are_refused() -> None:
    """As ever."""
    length = len(SIX) - 0x2000
    assert "right where the CSF begins" in refused(at(SIX, 0x424, length))
    assert f"write {length + 0x2000:#x} instead of {length:#x}" in refused(at(SIX, 0x424, length))


def test_a_valid_csf_over_its_header_alone_does_not_hold() -> None:
    """Cst signs any blocks."""
    some = Maker(blocks=lambda part: [hab.Block(part.ivt.self_address, 0x400, 0x1000)])
    assert "not covered" in why_not(signed(SIX, makers={"barebox": some}))


def test_a_chip_that_its_dcd_does_not_write_to_is_refused() -> None:
    """And the architecture of its code."""
    assert "i.MX 6ULL was given" in refused(SIX, "imx6ull")
    assert "i.MX 6ULL was given" in refused(EIGHT, "imx6ull")
    assert "i.MX 8M Mini was given" in refused(kinds.barebox(dcd_of=None), "imx8mm")


def test_a_load_address_or_a_configuration_is_refused() -> None:
    """The image has the one and not the other."""
    assert "Leave out the load address" in refused(SIX, load_address=0x20000000)
    assert planned(SIX, load_address=0x10000000).signings == planned(SIX).signings
    assert "no FIT" in refused(SIX, configuration="conf-1")
    assert "no DCD" in refused(EIGHT, sdp=0x910000)
