"""FITs as mkimage makes them, whichever way it keeps the data, and what is wrong with others."""

from __future__ import annotations

import re
import struct
from dataclasses import replace

import pytest

from digsigd.image.errors import ImageError
from digsigd.image.fit import Fit
from tests.helpers import golden

PARTS = (
    golden.Part("a", golden.filler("a", 0x101), "standalone", 0x40200000, description="the first"),
    golden.Part("b", golden.filler("b", 0x203), "firmware", 0x920000, 0x920040, os="tee"),
    golden.Part("c", golden.filler("c", 0x77), "flat_dt"),
)
CONFIGS = (golden.Config("one", "a", ("b",), ("c",)), golden.Config("two", None, ("a", "b"), (), kernel="b"))


def refused(parts: tuple[golden.Part, ...] = PARTS, configs: tuple[golden.Config, ...] = CONFIGS) -> str:
    with pytest.raises(ImageError) as caught:
        Fit.read(golden.mkimage(parts, configs, 0x8000))
    return caught.value.what


def replaced(data: bytes, name: str, value: int) -> bytes:
    """The FIT with another number in the first property of this name."""
    strings = struct.unpack_from(">I", data, 12)[0]
    offset = data.index(name.encode() + b"\0", strings) - strings
    place = data.index(struct.pack(">3I", 3, 4, offset)) + 12
    return data[:place] + struct.pack(">I", value) + data[place + 4 :]


@pytest.mark.parametrize(
    ("external", "options", "kept"),
    [(None, (), "data"), (0x1000, (), "data-position"), (None, ("-E",), "data-offset")],
)
def test_images_are_found_whichever_way_they_are_kept(
    external: int | None, options: tuple[str, ...], kept: str
) -> None:
    """Their bytes, and all that the tree says of them."""
    data = golden.mkimage(PARTS, CONFIGS, external, *options)
    for before in (b"", bytes(0x600)):
        fit = Fit.read(before + data, len(before))
        assert [image.name for image in fit.images] == ["a", "b", "c"]
        for image, part in zip(fit.images, PARTS, strict=True):
            assert image.kept == kept
            assert (before + data)[image.offset : image.end] == part.data
            assert (image.kind, image.os, image.load, image.entry) == (part.kind, part.os, part.load, part.entry)
            assert (image.description, image.compression) == (part.description, "none")
        assert fit.default == "one"
        one, two = fit.configurations
        assert (one.firmware, one.kernel, one.loadables, one.fdt) == ("a", None, ("b",), ("c",))
        assert (two.firmware, two.kernel, two.loadables, two.fdt) == (None, "b", ("a", "b"), ())
        assert fit.image("b") is fit.images[1]
        assert fit.end == fit.offset + golden.tree_size(data)


def test_images_outside_of_the_file_are_refused() -> None:
    """The file is truncated, or the tree is hostile."""
    data = golden.mkimage(PARTS, CONFIGS, 0x1000)
    with pytest.raises(ImageError, match=r"the image 'c' .* is outside the file"):
        Fit.read(data[:0x1310])
    for name in ("data-position", "data-size"):
        with pytest.raises(ImageError, match="is outside the file"):
            Fit.read(replaced(data, name, 0xFFFFFFF0))


@pytest.mark.parametrize("text", ["Ger\u00e4t", "one\0two", "\x1b[2J", "x" * 300])
def test_descriptions_are_for_people(text: str) -> None:
    """Whatever is in them; nothing of it draws on a terminal."""
    parts = (replace(PARTS[0], description="DESCRIBED" + "x" * 400), *PARTS[1:])
    data = golden.mkimage(parts, CONFIGS, 0x8000)
    place = data.index(b"DESCRIBED")
    found = Fit.read(data[:place] + text.encode().ljust(409, b"\0") + data[place + 409 :]).images[0].description
    assert found.isprintable()
    assert found[:3] == text[:3].replace("\x1b", "?")


def test_a_tree_that_is_no_fit_is_refused() -> None:
    """Such as a board's own device tree."""
    empty = (golden.Part("a", b"x", "firmware", 0),)
    data = golden.mkimage(empty, (golden.Config("one", "a", (), ()),), 0x1000)
    for old, new in ((b"images", b"imagez"), (b"configurations", b"configurationz")):
        with pytest.raises(ImageError, match=rf"is not a FIT: it has no node /{old.decode()}"):
            Fit.read(data.replace(old, new, 1))


def test_names_must_be_there() -> None:
    """Of images in configurations, and of the default configuration."""
    for config in (
        golden.Config("one", "zz", (), ()),
        golden.Config("one", "a", ("zz",), ()),
        golden.Config("one", "a", (), ("zz",)),
        golden.Config("one", "a", (), (), kernel="zz"),
    ):
        assert "has no image 'zz', which its configuration 'one' uses" in refused(configs=(config,))
    data = golden.mkimage(PARTS, CONFIGS, 0x1000)
    with pytest.raises(ImageError, match="does not have its default configuration 'onf'"):
        Fit.read(re.sub(rb"(\0\0\0\x04.{4})one\0", rb"\1onf\0", data, count=1, flags=re.DOTALL))


def test_one_way_to_keep_data_is_enough() -> None:
    """Two, or none, or half of one are refused."""
    data = golden.mkimage(PARTS, CONFIGS, 0x1000)
    for old, new, says in (
        (b"data-position\0", b"data-positioo\0", "has no data"),
        (b"data-size\0", b"data-sizf\0", "data-position without data-size"),
    ):
        with pytest.raises(ImageError, match=says):
            Fit.read(data.replace(old, new, 1))
    with pytest.raises(ImageError, match="has data and data-position"):
        Fit.read(data.replace(b"\0load\0", b"\0data\0", 1))


def test_there_are_not_any_number_of_images() -> None:
    """As many as a FIT for boards ever has."""
    parts = tuple(golden.Part(f"i{n}", b"x", "firmware", n) for n in range(65))
    assert "has 65 images" in refused(parts, (golden.Config("one", "i0", (), ()),))
    configs = tuple(golden.Config(f"c{n}", "a", (), ()) for n in range(65))
    assert "has 65 configurations" in refused(configs=configs)
