"""What just fits into a FIT, and what a FIT may leave out; made property by property."""

from __future__ import annotations

import struct

import pytest

from digsigd.image.errors import ImageError
from digsigd.image.fit import Fit
from tests.image.test_fdt_reader import node, prop, tree

NAMES = ("data", "data-position", "data-size", "description", "type", "os", "compression", "load", "entry", "firmware",
         "loadables", "kernel", "fdt", "fpga", "default", "ramdisk", "setup", "script", "standalone",
         "data-offset")  # fmt: skip
STRINGS = b"".join(name.encode() + b"\0" for name in NAMES)


def has(name: str, value: bytes | int = b"") -> bytes:
    """A property."""
    offset = STRINGS.index(name.encode() + b"\0") if name == "data" else (b"\0" + STRINGS).index(f"\0{name}\0".encode())
    return prop(offset, struct.pack(">I", value) if isinstance(value, int) else value)


def fit(images: list[bytes], configurations: list[bytes]) -> bytes:
    """The tree of a FIT."""
    return tree(node(b"", node(b"images", *images), node(b"configurations", *configurations)), STRINGS)


def at(position: int, size: int) -> tuple[bytes, bytes]:
    """Where the data of an image are."""
    return has("data-position", position), has("data-size", size)


IMAGE = node(b"a", has("data", b"1234"))
CONFIGURATION = node(b"one", has("firmware", b"a\0"))


def refused(data: bytes) -> str:
    with pytest.raises(ImageError) as caught:
        Fit.read(data)
    return caught.value.what


def test_what_an_image_does_not_say_is_as_u_boot_has_it() -> None:
    """Not compressed, without addresses, of no type."""
    found = Fit.read(fit([IMAGE], [CONFIGURATION]))
    (image,) = found.images
    assert (image.description, image.kind, image.os, image.compression) == ("", "", None, "none")
    assert (image.load, image.entry, image.short_entry, image.kept, image.size) == (None, None, None, "data", 4)
    (one,) = found.configurations
    assert (one.description, one.kernel, one.loadables, one.fdt, one.fpga) == (None, None, (), (), False)
    assert found.default is None


def test_addresses_have_one_cell_or_two() -> None:
    """Older versions of U-Boot read entry points of one cell only."""
    wide = struct.pack(">2I", 0, 0x920000)
    for value, short in ((wide, None), (wide[4:], 0x920000)):
        image = node(b"a", has("data", b"1234"), has("load", value), has("entry", value))
        (found,) = Fit.read(fit([image], [CONFIGURATION])).images
        assert (found.load, found.entry, found.short_entry) == (0x920000, 0x920000, short)
    for name in ("load", "entry"):
        image = node(b"a", has("data", b"1234"), has(name, bytes(12)))
        assert "has 12 bytes, not 4 or 8" in refused(fit([image], [CONFIGURATION]))


def test_data_end_with_the_file_at_most() -> None:
    """Those of an image without any are nowhere."""
    size = len(fit([node(b"a", *at(0, 0))], [CONFIGURATION]))
    for position, length, good in ((size, 8, True), (size, 9, False), (size + 1, 8, False), (0xFFFFFFFF, 0, True)):
        data = fit([node(b"a", *at(position, length))], [CONFIGURATION]) + bytes(8)
        if good:
            (found,) = Fit.read(data).images
            assert (found.offset, found.size, found.end) == (position, length, position + length)
        else:
            assert "is outside the file" in refused(data)


@pytest.mark.parametrize("count", [0, 1, 64, 65])
def test_there_are_1_to_64_images_and_configurations(count: int) -> None:
    """As many as a FIT for boards ever has."""
    images = [node(b"a%d" % number, has("data", b"1234")) for number in range(count)]
    configurations = [node(b"c%d" % number) for number in range(count)]
    whole = (fit(images, [node(b"one")]), fit([IMAGE], configurations))
    if 1 <= count <= 64:
        assert [len(Fit.read(whole[0]).images), len(Fit.read(whole[1]).configurations)] == [count, count]
    else:
        assert f"has {count} images; 1 to 64 are possible" in refused(whole[0])
        assert f"has {count} configurations; 1 to 64 are possible" in refused(whole[1])


def test_names_that_libfdt_takes_for_another_are_refused_wherever_they_stand() -> None:
    """U-Boot itself loads some that SPL does not."""
    images = [IMAGE, node(b"b@1", has("data", b"1234"))]
    for name in ("firmware", "kernel", "loadables", "fdt", "ramdisk", "setup", "fpga", "script", "standalone"):
        assert Fit.read(fit(images, [node(b"one", has(name, b"a\0"))])).configurations[0].fpga is (name == "fpga")
        assert "b@1: U-Boot takes the first of them for 'b'" in refused(fit(images, [node(b"one", has(name, b"b\0"))]))


def test_data_offsets_count_from_the_next_multiple_of_4_behind_the_tree() -> None:
    """Whatever size the tree has."""
    image = node(b"a", has("data-offset", 8), has("data-size", 4))
    parts = node(b"", node(b"images", image), node(b"configurations", CONFIGURATION))
    for more in range(4):
        data = tree(parts, STRINGS + bytes(more))
        (found,) = Fit.read(data + bytes(16)).images
        assert (found.kept, found.offset) == ("data-offset", -(-len(data) // 4) * 4 + 8)


def test_the_default_configuration_has_to_be_there() -> None:
    """Where the FIT names one."""
    assert Fit.read(fit([IMAGE], [has("default", b"one\0"), CONFIGURATION])).default == "one"
    assert "does not have its default configuration 'two'" in refused(
        fit([IMAGE], [has("default", b"two\0"), CONFIGURATION])
    )
