"""What stands in front of an image for i.MX 6 and 7, what an SPL loads behind it, and which core it is for."""

from __future__ import annotations

import pytest

from digsigd import hab
from digsigd.image import fdt, imx67
from digsigd.image.chips import find
from digsigd.image.errors import ImageError
from digsigd.image.options import Options
from digsigd.image.regions import RegionMap
from digsigd.image.rom import Header
from tests.helpers import golden
from tests.helpers import golden_kinds as kinds
from tests.image.kinds_judged import at, planned, refused

U_BOOT = kinds.imximage()
SPL = kinds.spl()
CSF = kinds.csf_offset(SPL)
M4 = "an image for the M4 of i.MX 7ULP"
CORTEX_M = "has an odd entry point"


def why(own: int, entry: int, place: int = 0x1000, chip: str | None = None) -> str:
    """Why an image with this IVT is not planned."""
    ivt = hab.Ivt(place, entry, 0, own + 0x20, own, 0)
    with pytest.raises(ImageError) as caught:
        imx67.plan(
            RegionMap(bytes(0x2000)),
            Header(ivt, own - place, 0x4000, 0),
            "",
            Options(chip=find(chip) if chip else None),
        )
    return caught.value.what


def regions(data: bytes, until: str = "IVT") -> list[tuple[int, int, str]]:
    """Up to the IVT."""
    found = [(one.offset, one.length, one.name) for one in planned(data).regions]
    return found[: [name for _, _, name in found].index(until)]


def test_the_m4_of_7ulp_is_told_by_where_its_images_are() -> None:
    """QSPI or tightly coupled memory, behind the configuration of the flash."""
    inside = (0x04000000, 0x04001000, 0x05FFFFFF, 0x1FFC0000, 0x1FFD1000, 0x1FFFFFFF)
    outside = (0x03FFFFFF, 0x06000000, 0x1FFBFFFF, 0x20000000, 0x67800000)
    for own in (*inside, *outside):
        assert (M4 in why(own, own + 0x1000)) is (own in inside), f"{own:#x}"
        assert M4 not in why(own, own + 0x1000, place=0x400)


def test_an_odd_entry_point_is_that_of_a_cortex_m() -> None:
    """Of i.MX 7ULP, where the user says that it is one."""
    for entry in range(0x67801000, 0x6780100C):
        for chip in (None, "imx6ull", "imx7d", "imx7ulp"):
            text = why(0x67800000, entry, chip=chip)
            assert (M4 in text) is (entry % 2 == 1 and chip == "imx7ulp")
            assert (CORTEX_M in text) is (entry % 2 == 1 and chip != "imx7ulp")


def test_what_is_before_the_ivt_is_named() -> None:
    """And nothing is where the file begins with it."""
    image = kinds.imximage(boot_from="qspi")
    assert regions(kinds.qspi(image)) == [(0, 0x400, "padding"), (0x400, 0xC00, "QSPI configuration, not signed")]
    for at_ in (0, 0x400):
        flexspi = (bytes(at_) + golden.FCFB).ljust(0x1000, b"\0") + image
        assert regions(flexspi) == [(0, 0x1000, "FlexSPI configuration, not signed")]
    assert regions(kinds.nand_spl()) == [(0, 0x10, "NAND marker, not signed"), (0x10, 0x3F0, "padding")]
    assert regions(at(kinds.nand_u_boot(), 0x200, b"\x13")) == [
        (0, 0x400, "other data in front of the IVT, not signed"),
    ]  # fmt: skip
    for data in (U_BOOT, kinds.nand_u_boot(), kinds.nand_spl(), kinds.qspi(image)):
        assert not any("the data before the IVT" in note for note in planned(data).notes)
    assert regions(U_BOOT) == []


def test_texts_tell_of_the_dcd_and_of_serial_download() -> None:
    """Where there is one."""
    assert refused(U_BOOT, "imx7d").startswith("according to its DCD, the image is for i.MX 6UltraLite")
    assert refused(kinds.imximage(dcd_of=None), "imx8mm").startswith("the image is for i.MX 6 or i.MX 7")
    assert planned(U_BOOT).layout == "image with an IVT"
    assert planned(U_BOOT, sdp=0x910000).layout == "image with an IVT for serial download"


def test_an_image_alone_has_its_load_address_and_no_configuration() -> None:
    """An SPL's FIT may be asked for both."""
    assert "Leave out the load address" in refused(U_BOOT, load_address=0x80800000)
    assert planned(U_BOOT, load_address=0x87800000).signings == planned(U_BOOT).signings
    assert "no FIT in this image" in refused(U_BOOT, configuration="conf-1")


def test_a_second_part_stands_behind_the_csf() -> None:
    """On a multiple of 0x400; what looks like one in the code is code."""
    code = bytearray(U_BOOT)
    csf = kinds.csf_offset(U_BOOT)
    for place in range(0x1000, csf, 0x400):
        code[place : place + 4] = fdt.MAGIC
    assert planned(bytes(code)).signings[0].csf_room == planned(U_BOOT).signings[0].csf_room
    # A CSF that begins elsewhere leaves room up to the next multiple.
    for back in (4, 0x200, 0x3FC):
        moved = at(at(SPL, 0x18, 0x907400 + CSF - back), (CSF - back) // 0x400 * 0x400, fdt.MAGIC)
        found = planned(moved[: CSF - back].ljust(CSF + 0x400, b"\0") + kinds.u_boot_ivt_img())
        assert found.signings[0].csf_room == 0x400 + back
        assert [one.name for one in found.signings] == ["SPL", "U-Boot"]


def test_a_fit_within_the_room_of_the_csf_is_what_spl_loads() -> None:
    """With its data embedded or beside it."""
    for fit, what in (
        (golden.binman_fit(kinds.fit32(), 0x84000000), "embedded"),
        (golden.with_fit_ivt(golden.itb("mm", external=0x3000), signed_tree=False), "external"),
    ):
        found = planned(SPL[:CSF].ljust(CSF + 0x1000, b"\0") + fit)
        assert found.layout == f"SPL and FIT with {what} data"
        assert (found.signings[0].csf_room, found.signings[1].blocks[0].offset) == (0x1000, CSF + 0x1000)


def test_a_device_tree_of_another_chip_is_told_of() -> None:
    """Unless the DCD allows it: of several that have it, one was asked for."""

    def told(tree: str, soc: str | None, dcd: str | None) -> list[str]:
        data = at(kinds.imximage(dcd_of=dcd), 0x8000, f"\0fsl,{tree}\0".encode())
        return [note for note in planned(data, soc).notes if "device tree in the image" in note]

    assert told("imx6ul", "imx6ull", "ul") == []
    assert told("imx6ul", "imx6ul", None) == []
    assert told("imx6ull", "imx6ul", None) == [
        "a device tree in the image is for fsl,imx6ull, but the image is signed for i.MX 6UltraLite"
    ]
    assert told("imx7d", "imx6ul", "ul") == [
        "a device tree in the image is for fsl,imx7d, but the image is signed for i.MX 6UltraLite"
    ]
    assert "a hint, if U-Boot's tree is for this board" in told("imx6ul", None, "ul")[0]
