"""Trees that are no FITs, configurations that are taken, and images that reading others writes over."""

from __future__ import annotations

import pytest

from digsigd.image.errors import ImageError
from digsigd.image.fit import Fit
from digsigd.image.fit_loads import Choice, choose, embedded, read_over, u_boots
from tests.image.test_fdt_reader import node, prop, tree
from tests.image.test_fit_bounds import IMAGE, STRINGS, fit, has

U_BOOT, ATF, DTB = 0x40200000, 0x920000, 0x43000000


def test_a_device_tree_of_a_board_has_neither_images_nor_configurations() -> None:
    """With either of them it is a FIT, and what is missing is named."""
    images, configurations = node(b"images", IMAGE), node(b"configurations", node(b"one", has("firmware", b"a\0")))
    board = prop(len(STRINGS), b"fsl,imx8mm\0")

    def what(*inside: bytes) -> str:
        try:
            Fit.read(tree(node(b"", *inside), STRINGS + b"compatible\0"))
        except ImageError as error:
            return error.what
        return ""

    assert "is for a board, it is not a FIT" in what(board)
    assert "is for a board, it is not a FIT" in what(board, node(b"cpus"))
    assert "is not a FIT: it has no node /images" in what(node(b"cpus"))
    assert "is not a FIT: it has no node /images" in what(board, configurations)
    assert "is not a FIT: it has no node /configurations" in what(board, images)
    assert "is not a FIT: it has no node /configurations" in what(images)
    assert what(board, images, configurations) == what(images, configurations) == ""


def test_images_are_compressed_as_they_say() -> None:
    """Or not at all."""
    for value, text in ((b"gzip\0", "gzip"), (b"none\0", "none"), (b"\0", "none")):
        (image,) = Fit.read(
            fit([node(b"a", has("data", b"1234"), has("compression", value))], [node(b"one", has("firmware", b"a\0"))])
        ).images
        assert image.compression == text


def image(name: bytes, load: int, position: int, size: int, *more: bytes) -> bytes:
    return node(name, has("load", load), has("data-position", position), has("data-size", size), *more)


def configuration(name: bytes, firmware: bytes, *loadables: bytes, fdt: bytes | None = b"dtb") -> bytes:
    properties = [has("description", b"a\0"), has("firmware", firmware + b"\0")]
    if loadables:
        properties.append(has("loadables", b"".join(one + b"\0" for one in loadables)))
    if fdt is not None:
        properties.append(has("fdt", fdt + b"\0"))
    return node(name, *properties)


def over(
    atf: int, *, dtb: int = DTB, u_boot: int = U_BOOT, position: int = 0x4000, size: int = 0x800, offset: int = 0
) -> tuple[str, str] | None:
    """The names of what is read over what: U-Boot, its device tree, and then the ATF, which is at this position."""
    made = fit(
        [
            image(b"u-boot", u_boot, 0x3000, 0x800, has("os", b"u-boot\0")),
            image(b"dtb", dtb, 0x3800, 0x1F0, has("type", b"flat_dt\0")),
            image(b"atf", atf, position, size, has("os", b"arm-trusted-firmware\0")),
        ],
        [configuration(b"one", b"u-boot", b"atf")],
    )
    read = Fit.read(bytes(offset) + made.ljust(0x8000, b"\x13"), offset)
    found = read_over(read, choose(read, None))
    return None if found is None else (found[0].image.name, found[1].image.name)


@pytest.mark.parametrize("offset", [0, 0x80, 0x400])
@pytest.mark.parametrize("address", [ATF, ATF + 0x20, ATF + 0x30, ATF + 0x3C])
def test_spl_reads_whole_blocks_to_a_line_of_the_cache(address: int, offset: int) -> None:
    """spl_fit.c, load_simple_fit: from where the block begins that the image is in, to the end of its last."""
    for position in (0x4000, 0x4004, 0x4100, 0x41FC):
        for size in (0x800, 0x7FC, 0x704, 0x604):
            line = -(-address // 0x40) * 0x40
            end = line + -(-(position % 0x200 + size) // 0x200) * 0x200
            for u_boot in (address + size, end - 4, end, end + 4):
                if u_boot < address + size:
                    continue
                found = over(address, u_boot=u_boot, position=position, size=size, offset=offset)
                assert found == (("atf", "u-boot") if u_boot < end else None), f"{position:#x} {size:#x} {u_boot:#x}"


def test_a_device_tree_is_read_right_behind_u_boot() -> None:
    """Before what is loaded after that."""
    assert over(DTB - 0x704, size=0x704) == ("atf", "dtb")
    assert over(ATF, dtb=ATF - 0x1F0) is None
    assert over(ATF, dtb=U_BOOT - 0x1F0) == ("dtb", "u-boot")
    assert over(U_BOOT - 0x704, size=0x704) == ("atf", "u-boot")
    assert over(ATF) is None


def test_u_boot_is_that_of_the_configuration_that_was_chosen() -> None:
    """Where they differ."""
    made = fit(
        [
            image(b"u-boot", U_BOOT, 0x3000, 0x800, has("os", b"u-boot\0")),
            image(b"other", U_BOOT, 0x4000, 0x800, has("os", b"u-boot\0")),
        ],
        [configuration(b"one", b"u-boot", fdt=None), configuration(b"two", b"other", fdt=None)],
    )
    read = Fit.read(made.ljust(0x8000, b"\x13"))
    for name, firmware in (("one", "u-boot"), ("two", "other")):
        choice = choose(read, name)
        assert choice.configuration == name
        assert [load.image.name for load in choice.loads] == [firmware]
        assert [load.image.name for load in u_boots(read, choice)] == [firmware]
    assert [load.image.name for load in u_boots(read, Choice((), None))] == ["u-boot"]
    alone = fit(
        [image(b"u-boot", U_BOOT, 0x3000, 0x800, has("os", b"u-boot\0"))], [configuration(b"one", b"u-boot", fdt=None)]
    )
    assert choose(Fit.read(alone.ljust(0x8000, b"\x13")), "one").configuration is None
    with pytest.raises(ImageError, match="loads u-boot with its configuration 'one', but other with 'two'"):
        choose(read, None)


def test_a_device_tree_without_an_address_is_behind_u_boot_on_a_multiple_of_8() -> None:
    """In FITs with embedded data."""
    for size in range(0x100, 0x111):
        boot = node(b"u-boot", has("data", bytes(size)), has("load", U_BOOT), has("os", b"u-boot\0"))
        dtb = node(b"dtb", has("data", bytes(0x40)), has("type", b"flat_dt\0"))
        _, found = embedded(Fit.read(fit([boot, dtb], [configuration(b"one", b"u-boot")])))
        assert (found.image.name, found.address) == ("dtb", U_BOOT + (size + 7) // 8 * 8)
