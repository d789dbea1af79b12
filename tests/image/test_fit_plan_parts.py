"""A FIT part by part: what its tree, its images and its IVT are called, where they end, and what is no part of it."""

from __future__ import annotations

import struct
from dataclasses import replace

import pytest

from digsigd.image.errors import ImageError
from digsigd.image.fit import Fit
from digsigd.image.fit_plan import FitOptions, FitPlan, label, plan_fit, read_plain_ivt
from digsigd.image.regions import RegionMap
from tests.helpers import golden
from tests.image.kinds_judged import at
from tests.image.test_fdt_reader import node
from tests.image.test_fit_bounds import fit, has

LIMIT = 1 << 32
U_BOOT = 0x40200000
EMBEDDED = golden.itb("mm", external=None)
SIZE = golden.aligned(len(EMBEDDED), 0x1000)
EXTERNAL = golden.itb("mm", external=0x3000)
FIRST = Fit.read(EXTERNAL).images[0]
CONFIGURATION = node(b"one", has("description", b"a\0"), has("firmware", b"u-boot\0"))


def tried(data: bytes, offset: int = 0, options: FitOptions | None = None) -> tuple[FitPlan, RegionMap] | str:
    """The plan and what is where, or what is wrong."""
    regions = RegionMap(bytes(offset) + data)
    try:
        return plan_fit(regions, offset, FitOptions() if options is None else options), regions
    except ImageError as error:
        return error.what


def planned(data: bytes, offset: int = 0, options: FitOptions | None = None) -> tuple[FitPlan, RegionMap]:
    found = tried(data, offset, options)
    assert not isinstance(found, str), found
    return found


def image(name: bytes, *more: bytes, load: int = U_BOOT) -> bytes:
    return node(name, has("load", load), has("type", b"standalone\0"), *more)


def made(*images: bytes, data: bytes = b"", base: int = 0x401F8000, position: int = 0x3000) -> bytes:
    """A FIT whose external data begin there, with its IVT."""
    tree = fit(list(images), [CONFIGURATION])
    whole = bytearray(tree.ljust(position, b"\0") + data)
    whole[0x1000:0x1020] = golden.ivt(base, base + 0x1000, base + 0x1020)
    return bytes(whole)


def test_images_are_called_what_people_call_them() -> None:
    """By how their names begin, in whatever letters."""
    for name, text in (
        ("uboot-1", "U-Boot (uboot-1)"), ("u-boot", "U-Boot (u-boot)"), ("U-Boot_2", "U-Boot (U-Boot_2)"),
        ("atf-1", "ATF (atf-1)"), ("bl31", "ATF (bl31)"), ("BL31", "ATF (BL31)"), ("tee-1", "TEE (tee-1)"),
        ("optee_os", "TEE (optee_os)"), ("OPTEE", "TEE (OPTEE)"), ("my-uboot", "my-uboot"), ("firmware", "firmware"),
    ):  # fmt: skip
        assert label(replace(FIRST, name=name)) == text
    assert label(replace(FIRST, name="u-boot", kind="flat_dt")) == "DTB (u-boot)"


def test_nothing_is_asked_for_where_nothing_is_said() -> None:
    """No signature of the tree, no configuration; and no SPL of i.MX 8M that tells where the FIT is loaded."""
    assert FitOptions() == FitOptions(None, None, fdt_signature=False, spl=False)
    assert not FitOptions().fdt_signature
    assert not FitOptions().spl
    assert not planned(golden.with_fit_ivt(EXTERNAL, signed_tree=False))[0].fdt_signed
    assert "so the address where SPL or U-Boot loads it is unknown" in str(tried(EMBEDDED))


def test_an_spl_of_i_mx_8m_has_a_fit_with_embedded_data_at_one_place() -> None:
    """Others, and one with external data, have it elsewhere."""
    for offset in (0, 0x58000):
        found, _ = planned(EMBEDDED, offset, FitOptions(spl=True))
        assert found.signings[0].blocks[0].address == 0x44000000
        assert not found.fdt_signed
        assert "so the address where SPL or U-Boot loads it is unknown" in str(
            tried(EXTERNAL, offset, FitOptions(spl=True))
        )


def test_all_of_a_fit_is_something() -> None:
    """Its tree, with the images in it, up to its end."""
    data = golden.binman_fit(EMBEDDED)
    _, regions = planned(data)
    read = Fit.read(EMBEDDED)
    expected, place = [], 0
    for one in read.images:
        expected += [(place, one.offset - place, "FIT tree"), (one.offset, one.size, label(one))]
        place = one.end
    expected += [(place, read.size - place, "FIT tree"), (SIZE, 0x20, "IVT of the FIT")]
    expected.append((SIZE + 0x20, 0x1FE0, "room for the CSF of the FIT"))
    assert [(one.offset, one.length, one.name) for one in regions.found] == expected


def test_images_of_no_size_are_no_part() -> None:
    """However they are kept, and also a key."""
    payload = golden.filler("u-boot", 0x1000)
    here = (has("data-position", 0x3000), has("data-size", 0x1000))
    for empty in (
        image(b"tee", has("data", b"")),
        image(b"dek_blob", has("data", b"")),
        image(b"a-first", has("data-position", 0x100), has("data-size", 0)),
        image(b"dek_blob", has("data-position", 0x100), has("data-size", 0)),
    ):
        found, regions = planned(made(empty, image(b"u-boot", *here), data=payload))
        assert regions.encrypted == []
        assert [one.length for one in found.signings[0].blocks] == [0x1020, 0x1000]
        assert regions.found[-1].name == "U-Boot (u-boot)"
        inside = fit([image(b"u-boot", has("data", payload)), empty], [CONFIGURATION])
        if b"tee" in empty:
            _, drawn = planned(golden.binman_fit(inside))
            assert [one.name for one in drawn.found[:4]] == [
                "FIT tree",
                "U-Boot (u-boot)",
                "FIT tree",
                "IVT of the FIT",
            ]
    nothing = fit([image(b"u-boot", has("data", b"")), image(b"tee", has("data", b""))], [CONFIGURATION])
    assert str(tried(nothing)) == "all images of the FIT at 0x0 are empty"


def test_a_key_for_encrypted_boot_is_called_one() -> None:
    """It differs from board to board, and no signature covers it."""
    keys = image(b"dek_blob-1", has("data-position", 0x4000), has("data-size", 0x60), load=0x40400000)
    boot = image(b"u-boot", has("data-position", 0x3000), has("data-size", 0x1000))
    found, regions = planned(
        made(boot, keys, data=golden.filler("u-boot", 0x1000) + b"\x81\0\x58\x43".ljust(0x60, b"\1"))
    )
    assert (0x4000, 0x60, "key for encrypted boot (dek_blob-1)") in [
        (one.offset, one.length, one.name) for one in regions.found
    ]
    assert [one.offset for one in found.signings[0].blocks] == [0, 0x3000]
    assert len(regions.encrypted) == 1


@pytest.mark.parametrize(("load", "good"), [(0x40301000, True), (0x40301001, False), (0x40301004, False)])
def test_external_data_are_at_most_1_mib_and_the_tree_behind_its_start(load: int, good: bool) -> None:
    """Byte by byte."""
    boot = image(b"u-boot", has("data-position", 0x3000), has("data-size", 0x1000), load=load)
    found = tried(made(boot, data=golden.filler("u-boot", 0x1000), base=0x40200000))
    assert ("not right before u-boot" in str(found)) is not good


@pytest.mark.parametrize("offset", [0, 0x8000])
def test_images_are_loaded_right_beside_the_fit(offset: int) -> None:
    """Wherever it is in the file: it is in memory from its start to the end of its CSF's room."""
    data = fit([image(b"u-boot", has("data", golden.filler("u-boot", 0x1004)))], [CONFIGURATION])
    size = golden.aligned(len(data), 0x1000)
    for base, good in (
        (U_BOOT - size - 0x2000, True), (U_BOOT - size - 0x1FFC, False), (U_BOOT + 0x1000, False),
        (U_BOOT + 0x1004, True),
    ):  # fmt: skip
        found = tried(golden.binman_fit(data, base), offset)
        assert ("over the FIT's tree, IVT and CSF" in str(found)) is not good, f"{base:#x}"


def test_a_fit_ends_below_4_gib_with_the_room_for_its_csf() -> None:
    """HAB knows no other addresses."""
    for base, good in (
        (LIMIT - 0x2000 - SIZE, True),
        (LIMIT - 0x2000 - SIZE + 4, False),
        (LIMIT - 0x1000 - SIZE, False),
    ):
        found = tried(golden.binman_fit(EMBEDDED, base))
        assert (found == f"the FIT's tree is loaded to {base:#x}, but HAB only has 32-bit addresses") is not good


def test_the_entry_point_of_embedded_data_is_the_fit_or_its_ivt() -> None:
    """Binman has the one, imx-mkimage the other; external data have the FIT."""
    base = 0x44000000
    for entry, good in ((base, True), (base + SIZE, True), (base + 4, False), (0, False)):
        assert isinstance(tried(at(golden.binman_fit(EMBEDDED), SIZE + 4, entry)), tuple) is good
    external = golden.with_fit_ivt(EXTERNAL, signed_tree=False)
    own = struct.unpack_from("<I", external, 0x1014)[0]
    assert "its entry point is" in str(tried(at(external, 0x1004, own)))


def test_an_ivt_before_a_csf_has_nothing_in_its_other_words() -> None:
    """In none of their bytes; and what does not begin as one is none."""
    good = golden.ivt(0x40000000, 0x40001000, 0x40001020)
    assert read_plain_ivt(good, 0).csf == 0x40001020
    for word in (8, 12, 16, 28):
        for bit in range(32):
            with pytest.raises(ImageError, match="U-Boot does not accept the IVT at"):
                read_plain_ivt(at(good, word, 1 << bit), 0)
    for word, value in ((4, 0), (0x18, 0x40001024), (0x18, 0)):
        with pytest.raises(ImageError, match="U-Boot does not accept the IVT at"):
            read_plain_ivt(at(good, word, value), 0)
    for other in (b"", good[:31], bytes(32), at(good, 0, b"\xd2"), at(good, 3, b"\x50")):
        with pytest.raises(ImageError, match=r"^the IVT at 0x0: "):
            read_plain_ivt(other, 0)


def test_an_ivt_that_is_missing_is_written_behind_the_fit() -> None:
    """With zeros before it up to its place, where the file ends before that."""
    options = FitOptions(load_address=0x48000000)
    for short in (0, 1, 0xFF, len(EMBEDDED) % 0x1000):
        whole = EMBEDDED.ljust(SIZE, b"\0")
        data = whole[: max(SIZE - short, len(EMBEDDED))]
        _, regions = planned(data, options=options)
        patches = [(one.offset, one.data) for one in regions.patches]
        address = 0x48000000 + SIZE
        expected = [(SIZE, golden.ivt(address, address, address + 0x20, version=0x41))]
        assert patches == ([(len(data), bytes(SIZE - len(data)))] if len(data) < SIZE else []) + expected
