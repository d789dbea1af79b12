"""What a plan says of an image for i.MX 8M as a whole: its layout, its chips, its size, and what cannot be signed."""

from __future__ import annotations

import struct
from dataclasses import replace

import pytest

from digsigd.image.errors import ImageError
from digsigd.image.plan import plan
from tests.helpers import golden
from tests.image.kinds_judged import at, planned, refused
from tests.image.test_fdt_reader import node
from tests.image.test_fit_bounds import fit, has

MIB = 1 << 20
SPL = golden.spl("mm", dek=0)
OWN, CSF = struct.unpack_from("<2I", SPL, 0x14)
ENTRY = struct.unpack_from("<I", SPL, 0x04)[0]
FIT_AT = 0x58000
ALL = ("imx8mq", "imx8mm", "imx8mn", "imx8mp")
DDR = 0x18000  # what the DDR firmware takes of an SPL, before its CSF


class Long:
    """A file of this size that begins with some bytes; it is not in memory."""

    def __init__(self, data: bytes, size: int) -> None:
        self._data, self._size = data, size

    def __len__(self) -> int:
        return self._size

    def __getitem__(self, part: slice, /) -> bytes:
        start, end, _ = part.indices(self._size)
        return self._data[start:end].ljust(max(0, end - start), b"\x5a")


def chips(data: bytes) -> tuple[str, ...]:
    return tuple(one.name for one in planned(data).possible)


def moved(entry: int, version: int = 0x41) -> bytes:
    """The SPL linked to another address."""
    own = entry - 0x40
    data = at(at(at(at(SPL, 4, entry), 0x10, own + 0x20), 0x14, own), 0x18, own + CSF - OWN)
    return at(at(data, 0x20, own), 3, bytes([version]))


def test_files_have_0x40_bytes_to_512_mib() -> None:
    """Anything else is no image."""
    for size, good in ((0, False), (0x3F, False), (0x40, True), (512 * MIB, True), (512 * MIB + 1, False)):
        with pytest.raises(ImageError) as caught:
            plan(Long(b"\x7fELF", size))
        assert ("an ELF file" in caught.value.what) is good
        assert (f"the file has {size:#x} bytes; an image has 0x40 to 0x20000000 bytes" in caught.value.what) is not good


def test_layouts_are_named() -> None:
    """What is in front, what the ROM loads, and what SPL does."""
    for data, layout in (
        (golden.flash("mm", "nxp-new"), "SPL and FIT with external data and signed tree"),
        (golden.flash("mm", "nxp-hash"), "SPL and FIT with external data"),
        (golden.flash("mm", "binman"), "SPL and FIT with embedded data"),
        (golden.flash("mp", "nxp-hash", boot="flexspi"), "SPL, FlexSPI and FIT with external data"),
        (golden.flash("mq", "nxp-new", hdmi=True), "SPL, HDMI and FIT with external data and signed tree"),
        (golden.fit_ivt("mm"), "FIT with external data and signed tree"),
        (golden.binman_fit(golden.itb("mm", external=None)), "FIT with embedded data"),
        (SPL, "SPL"),
        (golden.packed_for_flexspi("mp", golden.spl("mp", boot="flexspi")), "SPL, FlexSPI"),
    ):  # fmt: skip
        assert planned(data).layout == layout


def test_an_image_of_another_family_is_no_spl() -> None:
    """By an IVT that is neither i.MX 8M's nor far enough before the code for others."""
    data = at(at(SPL, 3, b"\x40"), 4, ENTRY + 0x10)
    found = planned(data)
    assert (found.layout, found.signings[0].name, found.signings[0].unlock) == ("image with an IVT", "image", False)
    assert [(one.offset, one.name) for one in found.regions] == [
        (0, "IVT"), (0x20, "image"), (CSF - OWN, "room for the CSF of the image"),
    ]  # fmt: skip
    assert [one.name for one in planned(SPL).regions] == ["IVT", "SPL with DDR firmware", "room for the CSF of the SPL"]
    assert planned(SPL).signings[0].name == "SPL"


def test_nothing_for_i_mx_8m_has_a_dcd() -> None:
    """So that nothing of it is for serial download."""
    for data in (SPL, golden.flash("mm", "nxp-new"), golden.fit_ivt("mm")):
        assert "has no DCD" in refused(data, sdp=0x910000)


def test_chips_are_those_that_have_their_spl_there() -> None:
    """All of the family, where none has it there."""
    assert chips(moved(0x7E1000)) == ("imx8mq", "imx8mm")
    assert chips(moved(0x7E2000)) == ("imx8mm",)
    assert chips(moved(0x912000)) == ("imx8mn",)
    assert chips(moved(0x920000)) == ("imx8mp",)
    assert chips(moved(0x930000)) == ALL


def test_a_fit_alone_is_for_the_family_by_the_architecture_of_its_images() -> None:
    """Or for the chip that has its ATF there; the address of the FIT itself tells nothing."""
    parts, configs = golden.parts("mm", tee=False)
    other = tuple(replace(one, load=0x938000, entry=0x938000) if one.name == "atf-1" else one for one in parts)
    data = golden.mkimage(other, configs, None)
    size = golden.aligned(len(data), 0x1000)
    assert planned(golden.binman_fit(data)).possible
    assert chips(golden.binman_fit(data)) == ALL
    assert chips(at(golden.binman_fit(data, 0x7E1000), size + 4, 0x7E1000)) == ALL
    thirty_two = golden.binman_fit(data.replace(b"arm64\0", b"armxx\0"))
    assert (planned(thirty_two).possible, planned(thirty_two).chip) == ((), None)
    assert "does not show which chip it is for" in planned(thirty_two).ask
    known = golden.binman_fit(golden.itb("mm", external=None).replace(b"arm64\0", b"armxx\0"))
    assert chips(known) == ("imx8mm",)


def test_hdmi_firmware_is_in_front_of_an_spl_for_the_quad() -> None:
    """Or one that tells no chip."""
    data = golden.flash("mq", "nxp-old", hdmi=True)
    elsewhere = data.replace(b"\0\x91\0\0", b"\0\x93\0\0")
    assert elsewhere != data
    assert chips(data) == ("imx8mq",)
    assert planned(elsewhere).signings
    mini = data.replace(b"\0\x91\0\0", b"\0\x92\0\0")
    assert "which only i.MX 8M Quad has" in refused(mini)


def test_a_key_for_encrypted_boot_behind_the_spl_is_told_of() -> None:
    """With nothing else that says so."""
    end = CSF - OWN + 0x2000
    key = b"\x81\0\x58\x43".ljust(0x58, b"\x13")
    found = planned(SPL[:end].ljust(end, b"\0") + key)
    assert found.encrypted == (f"at {end:#x} is a key for encrypted boot, wrapped by one chip",)
    assert (found.regions[-1].offset, found.regions[-1].length) == (end, 0x58)


def test_an_archive_goes_to_the_end_of_the_file() -> None:
    """And the file grows by nothing."""
    data = golden.flash("mm", "binman")
    whole = data.ljust(golden.aligned(len(data), 0x200), b"\0") + b"\x1f\x8b\x08" + b"\x13" * 100
    assert planned(whole).size == len(whole)
    assert planned(whole).regions[-1].length == 103


def loaded(address: int, size: int = 0x100, code: int = 0x30000) -> str:
    """What is wrong with an image that SPL loads there; nothing where it does. `code` bytes are behind SPL's IVT."""
    spl = golden.spl("mm", dek=0, code=golden.filler("spl", code))
    image = node(
        b"u-boot", has("data", golden.filler("u-boot", size)), has("load", address), has("type", b"standalone\0")
    )
    configuration = node(b"one", has("description", b"a\0"), has("firmware", b"u-boot\0"))
    try:
        planned(spl.ljust(FIT_AT, b"\0") + fit([image], [configuration]))
    except ImageError as error:
        return error.what
    return ""


def test_nothing_is_loaded_over_the_spl_that_runs() -> None:
    """But over its DDR firmware, which is at its end and has been used by then."""
    spl = golden.spl("mm", dek=0, code=golden.filler("spl", 0x30000))
    end = struct.unpack_from("<I", spl, 0x18)[0] - DDR
    for address, good in ((OWN - 0x100, True), (OWN - 0xFF, False), (OWN, False), (end - 1, False), (end, True)):
        assert ("over the SPL that loads it" in loaded(address)) is not good, f"{address:#x}"
        assert good is (loaded(address) == "")
    # An SPL without such firmware has an instruction at least.
    for address, good in ((ENTRY, False), (ENTRY + 3, False), (ENTRY + 4, True)):
        assert (loaded(address, code=0x1000) == "") is good, f"{address:#x}"


def test_what_the_signing_host_would_refuse_is_no_plan() -> None:
    """The first word at the entry point has to be under the signature, say."""
    assert "the SPL cannot be signed: ivt: no block covers the entry point" in refused(at(SPL, 0x04, CSF - 3))
    assert planned(at(SPL, 0x04, CSF - 4)).signings
