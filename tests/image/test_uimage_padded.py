"""uImages and kernels with an IVT behind them: all of what they consist of, and what their IVTs have to say."""

from __future__ import annotations

import struct
import zlib

import pytest

from digsigd.image.errors import ImageError
from digsigd.image.options import Options
from digsigd.image.regions import RegionMap
from digsigd.image.uimage import UImage, plan_second
from tests.helpers import golden
from tests.helpers import golden_kinds as kinds
from tests.image.kinds_judged import planned, refused

IMG = kinds.u_boot_ivt_img()
LOAD = 0x17800000
IVT = 0x6E000
ZIMAGE = kinds.zimage()
SIZE = golden.aligned(len(ZIMAGE), 0x1000)


def regions(data: bytes, **options: int) -> list[tuple[int, int, str]]:
    return [(one.offset, one.length, one.name) for one in planned(data, "imx6q", **options).regions]


def why(data: bytes, offset: int = 0) -> str:
    """What is wrong with the uImage there; nothing where SPL loads it."""
    try:
        plan_second(RegionMap(data), offset, Options())
    except ImageError as error:
        return error.what
    return ""


def test_a_header_has_0x40_bytes() -> None:
    """Fewer are none, wherever the file ends."""
    for size in range(0x40):
        with pytest.raises(ImageError, match=f"the uImage at 0x8 is truncated: it has {size:#x} bytes"):
            UImage.read(bytes(8) + IMG[:size], 8)
    assert UImage.read(bytes(8) + IMG[:0x40], 8).load == LOAD


def test_all_of_u_boot_with_an_ivt_is_something() -> None:
    """Header, U-Boot, IVT, and room for a CSF; all but the last is signed."""
    assert regions(IMG) == [
        (0, 0x40, "uImage header"), (0x40, IVT - 0x40, "U-Boot"), (IVT, 0x20, "IVT of the U-Boot"),
        (IVT + 0x20, 0x2000, "room for the CSF of the U-Boot"),
    ]  # fmt: skip
    assert planned(IMG, "imx6q").must == ((0, IVT + 0x20),)


def test_u_boot_has_its_load_address_and_no_configuration() -> None:
    """By its header."""
    assert "Leave out the load address" in refused(IMG, "imx6q", load_address=LOAD + 4)
    assert planned(IMG, "imx6q", load_address=LOAD).signings == planned(IMG, "imx6q").signings
    assert "no FIT in this image" in refused(IMG, "imx6q", configuration="conf-1")


@pytest.mark.parametrize("offset", [0, 4, 0x400, 0x800, 0x1000, 0x10C00])
def test_its_ivt_is_on_a_page_counted_from_its_header(offset: int) -> None:
    """Behind that; wherever it is in the file."""
    assert why(bytes(offset) + IMG, offset) == ""
    for back in (0x20, 0x200, 0x800, 0xFE0):
        body = golden.filler("u-boot", 0x5000 - 0x40 - back)
        place = LOAD + 0x5000 - 0x40 - back
        odd = kinds.uimage(body + golden.ivt(LOAD, place, place + 0x20), load=LOAD, kind=32, more=0x2040)
        assert "but the IVT is missing there" in why(bytes(offset) + odd, offset)


def test_an_ivt_before_the_header_is_not_its_own() -> None:
    """It may be that of the SPL, by a size that is less than that of the CSF."""
    head = struct.pack(">7I4B32s", 0x27051956, 0, 0, 0x2060 - 0x1040, LOAD, 0, 0, 17, 2, 32, 0, b"")
    head = head[:4] + struct.pack(">I", zlib.crc32(head)) + head[8:]
    own = LOAD - 0x1040
    data = golden.ivt(LOAD, own, own + 0x20).ljust(0x1000, b"\0") + head + bytes(0x2000)
    assert "but the IVT is missing there" in why(data, 0x1000)


def test_its_ivt_is_for_where_it_is_loaded() -> None:
    """By both of its addresses."""
    own = LOAD - 0x40 + IVT
    for entry, address in ((LOAD, own + 4), (LOAD, own - 0x1000), (LOAD + 4, own), (LOAD - 0x40, own)):
        data = IMG[:IVT] + golden.ivt(entry, address, address + 0x20) + IMG[IVT + 0x20 :]
        assert f"its IVT at {IVT:#x} is for {address:#x} with the entry point {entry:#x}" in why(data)


def test_all_of_a_kernel_is_something() -> None:
    """Padded up to its IVT where it is shorter; the file grows by what is written."""
    found = planned(ZIMAGE, "imx6q", load_address=0x12000000)
    room = (SIZE + 0x20, 0x1FE0, "room for the CSF of the zImage")
    expected = [
        (0, len(ZIMAGE), "zImage"), (len(ZIMAGE), SIZE - len(ZIMAGE), "padding to the zImage's size"),
        (SIZE, 0x20, "IVT of the zImage"), room,
    ]  # fmt: skip
    assert [(one.offset, one.length, one.name) for one in found.regions] == expected
    assert found.must == ((0, SIZE + 0x20),)
    address = 0x12000000 + SIZE
    ivt = golden.ivt(0x12000000, address, address + 0x20, version=0x41)
    assert [(one.offset, one.data) for one in found.patches] == [
        (len(ZIMAGE), bytes(SIZE - len(ZIMAGE))), (SIZE, ivt),
    ]  # fmt: skip
    whole = ZIMAGE.ljust(SIZE, b"\0")
    assert [(one.offset, one.data) for one in planned(whole, "imx6q", load_address=0x12000000).patches] == [(SIZE, ivt)]
    assert regions(whole + ivt) == [(0, SIZE, "zImage"), (SIZE, 0x20, "IVT of the zImage"), room]


def test_the_ivt_of_a_kernel_tells_where_it_is() -> None:
    """From 0 on, with its entry point in it."""
    whole = ZIMAGE.ljust(SIZE, b"\0")
    for base, entry, good in (
        (0, 4, True), (-0x1000, 4, False), (-4, 4, False), (0x12000000, 0x12000000, True),
        (0x12000000, 0x12000100, True), (0x12000000, 0x11FFFFFC, False), (0x12000000, 0x12000000 + SIZE, False),
        (0x12000000, 0x12000000 + SIZE - 4, True),
    ):  # fmt: skip
        own = base + SIZE
        data = whole + golden.ivt(entry, own, own + 0x20)
        if good:
            assert planned(data, "imx6q").signings[0].blocks[0].address == base
        else:
            text = refused(data, "imx6q")
            assert f"which puts the zImage at {base:#x}, with the entry point {entry:#x} |" in text
    data = whole + golden.ivt(0x12000000, 0x12000000 + SIZE, 0x12000020 + SIZE)
    assert "but the load address 0x12001000 was given" in refused(data, "imx6q", load_address=0x12001000)
