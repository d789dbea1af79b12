"""Where tags for UUU begin and end, and what is behind them."""

from __future__ import annotations

from dataclasses import replace

import pytest

from digsigd.image.appended import Tag, find_tag, tag
from tests.helpers import golden
from tests.image.kinds_judged import planned

SPL = golden.spl("mm")
IMAGE = b"\x13" * 0x100


@pytest.mark.parametrize("line", [True, False])
def test_tags_are_found_at_the_end(line: bool) -> None:
    """Whatever size they say, in 1 to 10 digits, and however little is before them."""
    for size in (0, 9, 0x100, 123456789, 1234567890, 9999999999):
        made = tag(size, line=line)
        for image in (b"", b"\x13", IMAGE):
            assert find_tag(image + made) == Tag(len(image), len(image + made), size, line, single=True)
            padded = image + made + bytes(0x30)
            assert find_tag(padded) == Tag(len(image), len(image + made), size, line, single=True)
    assert find_tag(IMAGE + tag(12345678901, line=line)) is None
    assert find_tag(IMAGE) is None


def test_of_several_tags_the_first_one_is_where_the_image_ends() -> None:
    """And the last one where they end."""
    one, two = tag(0x100, line=True), tag(0x200, line=False)
    found = find_tag(IMAGE + one + two + bytes(5))
    assert found == Tag(0x100, 0x100 + len(one + two), 0x100, line=True, single=False)
    assert not found.right
    assert replace(found, single=True).right
    assert not replace(found, single=True, size=0xFF).right
    apart = IMAGE + one + bytes(0x40) + two
    assert find_tag(apart) == Tag(0x100, len(apart), 0x100, line=True, single=False)


def test_what_is_behind_a_right_tag_is_padding() -> None:
    """The file stays as it is."""
    made = tag(len(SPL), line=True)
    for padding in (0, 1, 0x200):
        whole = SPL + made + bytes(padding)
        found = planned(whole)
        assert (found.size, found.tail) == (len(whole), None)
        expected = [(len(SPL), len(made), "tag for UUU"), (len(SPL + made), padding, "padding")]
        regions = [(one.offset, one.length, one.name) for one in found.regions]
        assert regions[-2:] == expected if padding else regions[-1:] == expected[:1]


def test_a_wrong_tag_is_told_of_with_what_is_wrong() -> None:
    """Another size, or a second tag."""
    (one,) = planned(SPL + tag(1, line=True)).notes
    assert one == (
        f"the tag for UUU at {len(SPL):#x} says 1 bytes, but it follows {len(SPL)} bytes: UUU does not find the image"
        " with it; boards do not read it"
    )
    (two,) = planned(SPL + tag(len(SPL), line=True) * 2).notes
    assert f"but it follows {len(SPL)} bytes, and there is more than one tag: UUU" in two
