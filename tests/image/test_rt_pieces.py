"""Images for i.MX RT: where the ROM may load them to, and where each of their pieces begins and ends.

Sources: SPSDK, spsdk/image/hab (segments); NXP's reference manuals of i.MX RT, "Program image" and "Memory map".
"""

from __future__ import annotations

import struct

import pytest

from digsigd import hab
from digsigd.image.chips import CHIPS, find
from digsigd.image.errors import ImageError
from digsigd.image.rom import Header
from digsigd.image.rt import is_rt
from tests.helpers import golden_kinds as kinds
from tests.image.kinds_judged import at, planned, refused

BASE = 0x60000000
RT = kinds.rt()
CSF = kinds.csf_offset(RT, 0x1000)
APP = 0x2000
SOC = "imxrt1050"


def header(start: int, entry: int, distance: int = 0x1000) -> Header:
    own = start + distance
    return Header(hab.Ivt(0x1000, entry, 0, own + 0x20, own, own + 0x4000), start, 0x8000, 0)


def names(data: bytes, soc: str | None = SOC) -> list[tuple[int, int, str]]:
    """All that an image consists of but for padding, up to the room for its CSF."""
    found = planned(data, soc)
    return [(one.offset, one.length, one.name) for one in found.regions[:-1] if one.name != "padding"]


def application(data: bytes) -> tuple[int, int]:
    """Where it begins and where a signature has to end."""
    block = planned(data, SOC).signings[0].least[-1]
    return block.offset, block.end


def notes(data: bytes) -> str:
    return " ".join(planned(data, SOC).notes)


def test_flash_has_the_ivt_behind_its_configuration() -> None:
    """Of a chip that is not told; the image starts behind where it is."""
    for start in (0x30000000, 0x60000000, 0x70000000):
        assert is_rt(header(start, start + 0x2001), "", None)
        assert is_rt(header(start, start + 1), "FlexSPI", None)
        assert not is_rt(header(start, start + 0x2001, 0x400), "FlexSPI", None)
        assert not is_rt(header(start, start), "FlexSPI", None)
        assert not is_rt(header(start, start - 0x100), "FlexSPI", None)
    for start in (0x30001000, 0x50000000, 0x60001000, 0x80000000):
        assert not is_rt(header(start, start + 0x2001), "FlexSPI", None)


def test_memory_on_the_chip_is_that_of_other_chips_too() -> None:
    """From 0 on it is theirs as well, where nothing but FlexSPI or code for a Cortex-M tells."""
    inside = (0, 0x400, 0x7FFFF, 0x20000000, 0x20200000, 0x203FFFFF)
    outside = (0x80000, 0x900000, 0x1FFFFFFF, 0x20400000, 0x877FF000)
    for start in (*inside, *outside):
        assert is_rt(header(start, 0x2000), "FlexSPI", None) is (start in inside), f"{start:#x}"
        for entry in range(0x2000, 0x200C):
            for front in ("", "QSPI", "NAND"):
                own = start in inside and (start >= 0x20000000 or entry % 2 == 1)
                assert is_rt(header(start, entry), front, None) is own, f"{start:#x} {entry:#x}"
        for name in ("imxrt1050", "imx6ull"):
            assert is_rt(header(start, 0x2000), "", find(name)) is (name == "imxrt1050")


@pytest.mark.parametrize(("start", "good"), [
    (0, True), (0x7FFFF, True), (0x80000, False), (0x1FFFFFFF, False), (0x20000000, True), (0x203FFFFF, True),
    (0x20400000, False), (0x7FFFFFFF, False), (0x80000000, True), (0xDFFFFFFF, True), (0xE0000000, False),
    (0x60000000, True), (0x60000001, False), (0x30000000, True), (0x70000000, True),
])  # fmt: skip
def test_the_rom_loads_to_flash_to_memory_on_the_chip_or_at_the_semc(start: int, good: bool) -> None:
    """With a chip that is told; elsewhere there is none."""
    try:
        planned(at(RT, 0x1020, start), SOC)
        text = ""
    except ImageError as error:
        text = error.what
    assert ("has no memory for images" in text) is not good
    if start == 0x80000000:
        assert planned(kinds.rt(start, at=0x400, app_at=0x1000, front=""), SOC).layout == "image for i.MX RT"


def test_layouts_tell_what_is_in_front_and_where_it_runs() -> None:
    """Flash is executed in place."""
    for data, layout in (
        (RT, "image for i.MX RT, executed in place, FlexSPI"),
        (kinds.rt(front=""), "image for i.MX RT, executed in place"),
        (kinds.rt(0x20000000, at=0, app_at=0x1000, front=""), "image for i.MX RT"),
        (kinds.rt(0x20200000, front="fcb0"), "image for i.MX RT, FlexSPI"),
    ):
        assert planned(data).layout == layout


def test_a_load_address_or_a_configuration_is_refused() -> None:
    """The image has the one and not the other."""
    assert "no FIT in this image" in refused(RT, SOC, configuration="conf-1")
    assert "Leave out the load address" in refused(RT, SOC, load_address=BASE + 0x1000)
    assert planned(RT, SOC, load_address=BASE).signings == planned(RT, SOC).signings


def test_chips_are_told_by_the_dcd_or_the_flash() -> None:
    """All of i.MX RT where neither tells."""
    family = {chip.name for chip in CHIPS if chip.family == "i.MX RT"}
    assert {chip.name for chip in planned(RT).possible} == family
    with_dcd = kinds.rt(piece="dcd")
    other = at(with_dcd, 0x1040, kinds.dcd("ul"))
    assert refused(other, SOC).startswith("according to its DCD, the image is for i.MX 6")
    larger = kinds.rt(0x30000000, front="fcb400")
    assert refused(larger, SOC).startswith("the image is for i.MX RT1160 or i.MX RT1170")


@pytest.mark.parametrize("room", [0x400, 0x1000, 0x1FFF, 0x2000, 0x2001, 0x4000])
def test_a_csf_has_what_is_loaded_of_it_and_0x2000_bytes_at_most(room: int) -> None:
    """seg_csf.py."""
    assert planned(at(RT, 0x1024, CSF + room), SOC).signings[0].csf_room == min(room, 0x2000)


def test_all_of_an_image_is_something() -> None:
    """With DCD, XMCD, or neither."""
    front = (0, 0x1000, "FlexSPI configuration, not signed")
    ivt, app = (0x1000, 0x2C, "IVT and boot data"), (APP, 0x8130, "application")
    assert names(RT) == [front, ivt, app]
    assert names(kinds.rt(piece="dcd")) == [front, ivt, (0x1040, 0x18, "DCD"), app]
    assert names(kinds.rt(piece="xmcd")) == [front, ivt, (0x1040, 0xC, "XMCD"), app]


def test_what_is_empty_before_the_application_is_told_with_its_bounds() -> None:
    """From the end of what is signed; the boot data are filled up to 0x40 behind the IVT's start."""
    assert "from 0x1040 to 0x2000, between IVT and application" in notes(RT)
    assert "from 0x1058 to 0x2000, between IVT and application" in notes(kinds.rt(piece="dcd"))
    assert "from 0x104c to 0x2000, between IVT and application" in notes(kinds.rt(piece="xmcd"))
    close = at(kinds.rt(app_at=0x1100), 0x102C, b"\x13")
    assert application(close)[0] == 0x102C
    assert "between IVT and application" not in notes(close)


@pytest.mark.parametrize("size", [0, 3, 4, 5, 0xD, 0xFF, 0x100, 0x3FF, 0x400, 0x401, 0xFFF])
@pytest.mark.parametrize("tag", [0x0, 0xB, 0xC, 0xD])
def test_an_xmcd_has_its_tag_and_4_to_0x400_bytes(size: int, tag: int) -> None:
    """seg_xmcd.py; anything else there belongs to the application."""
    data = at(RT, 0x1040, struct.pack("<I", tag << 28 | 0x10000 | size))
    found = [one for one in names(data) if one[2] == "XMCD"]
    assert found == ([(0x1040, size, "XMCD")] if tag == 0xC and 4 <= size <= 0x400 else [])


def test_an_xmcd_ends_before_the_csf() -> None:
    """Where nothing is left for the application it is none, unless it ends right there."""
    data = at(at(RT[:0x2000], 0x1040, 0xC0010400), 0x1004, BASE + 0x1101)
    for csf, said in ((0x143C, ""), (0x1440, "no application"), (0x1444, "no application")):
        image = at(at(data[:csf], 0x1018, BASE + csf), 0x1024, csf + 0x2000)
        if said:
            assert said in refused(image, SOC)
        else:
            assert not any(name == "XMCD" for _, _, name in names(image))
    whole = at(at(at(data[:0x1500], 0x1440, b"\x13"), 0x1018, BASE + 0x1500), 0x1024, 0x3500)
    assert (0x1040, 0x400, "XMCD") in names(at(whole, 0x1004, BASE + 0x1481))


def test_with_a_dcd_there_is_no_xmcd() -> None:
    """The ROM takes one of them; what else is there would not be signed."""
    data = at(at(RT, 0x1100, kinds.dcd("rt")), 0x100C, BASE + 0x1100)
    assert [one[2] for one in names(data)][-2:] == ["DCD", "application"]
    assert "unknown data at 0x1040" in refused(at(data, 0x1040, struct.pack("<I", 0xC001000C)), SOC)


@pytest.mark.parametrize("size", [1, 2, 3, 4])
def test_a_file_that_ends_where_an_xmcd_would_begin_has_no_application(size: int) -> None:
    """However much of its first word is there."""
    data = at(at(RT[: 0x1040 + size], 0x1018, BASE + 0x1800), 0x1024, 0x3800)
    data = at(at(data, 0x1004, BASE + 0x1031), 0x1040, bytes(size))
    assert "no application" in refused(data, SOC)


@pytest.mark.parametrize("fill", [b"\0", b"\xff", b"\0\xff"])
@pytest.mark.parametrize("end", [0x2FFF, 0x3000, 0x3001, 0x3002, 0x300F, 0x3010, CSF - 0x10, CSF - 1, CSF])
def test_the_application_ends_with_its_last_byte_on_a_multiple_of_16(end: int, fill: bytes) -> None:
    """SPSDK fills it up to that; padding behind it is nothing."""
    padding = (fill * CSF)[: CSF - end]
    data = RT[: end - 1] + b"\x13" + padding + RT[CSF:]
    assert application(data) == (APP, -(-end // 16) * 16)


def test_the_entry_point_belongs_to_the_application() -> None:
    """Also where nothing but padding stands there: 4 bytes are fetched."""
    data = RT[:0x3000] + bytes(CSF - 0x3000) + RT[CSF:]
    for entry in (0x2241, 0x2FFD, 0x3001, 0x4001, 0x4003):
        assert application(at(data, 0x1004, BASE + entry)) == (APP, max(0x3000, entry + 4))


@pytest.mark.parametrize(("reset", "good"), [
    (APP, False), (APP + 1, True), (APP - 1, False), (APP + 2, False), (APP + 3, True), (APP + 0x240, False),
    (APP + 0x242, False), (CSF - 4, False), (CSF - 3, True), (CSF - 2, False), (CSF - 1, True), (CSF, False),
    (CSF + 1, False),
])  # fmt: skip
def test_the_core_starts_in_the_application_in_thumb(reset: int, good: bool) -> None:
    """At an odd address of at least one instruction."""
    data = at(kinds.rt(odd=False), APP + 4, BASE + reset)
    if good:
        assert planned(data, SOC).signings
    else:
        assert f"makes the core start at {BASE + reset:#x}" in refused(data, SOC)


def test_of_an_encrypted_image_no_vectors_can_be_read() -> None:
    """Its CSF says that it is one."""
    command = b"\xca\0\x0c\0\0\xa3\0\0" + bytes(4)
    data = at(at(kinds.rt(odd=False), APP + 4, b"\x12\x34\x56\x78"), CSF, b"\xd4\0\x10\x40" + command)
    assert planned(data, SOC).encrypted == (f"the CSF at {CSF:#x} has the command Decrypt Data",)
    assert "makes the core start at" in refused(at(data, CSF + 9, b"\xc5"), SOC)


@pytest.mark.parametrize("there", [4, 5, 6, 7, 8])
def test_vectors_that_are_not_all_in_the_file_end_with_zeros(there: int) -> None:
    """Which are written: a reset handler in the memory from 0 on has its highest byte there."""
    data = kinds.rt(0, at=0x400, app_at=0x1000, front="", odd=False)
    own = data[:0x400] if data[:3] != b"\xd1\0\x20" else b""
    table = 0x2000
    image = at(at(data, len(own) + 0x04, table), len(own) + 0x18, 0x2800)
    place = table - 0x400 + len(own)
    image = image[:place] + struct.pack("<2I", 0x20020000, 0x1241)[:there]
    if there < 6:
        assert "makes the core start at" in refused(image, SOC)
    else:
        assert planned(image, SOC).signings
