"""Chips by addresses, bounds of memory on the chip, and registers that tell a chip."""

from __future__ import annotations

import struct
from dataclasses import replace

import pytest

from digsigd import hab
from digsigd.image import imx8m
from digsigd.image.chip_clues import chips_of, tree_of
from digsigd.image.chips import CHIPS, find
from digsigd.image.ocram import bounds_note
from digsigd.image.options import CHIPS_8M, CHIPS_32, settle
from digsigd.image.rom import Header

IVT = hab.Ivt.parse(b"\xd1\0\x20\x40" + bytes(28))


@pytest.mark.parametrize(
    ("seen", "name"),
    [
        ({}, None),
        ({"hdmi": True}, None),
        ({"spl": 0x912000}, "mn"),
        ({"spl": 0x7E2000}, "mm"),
        ({"spl": 0x7E1000}, None),
        ({"spl": 0x7E1000, "hdmi": True}, "mq"),
        ({"spl": 0x7E1000, "atf": 0x910000}, "mq"),
        ({"spl": 0x7E1000, "atf": 0x920000}, "mm"),
        ({"atf": 0x970000}, "mp"),
        ({"atf": 0x970000, "hdmi": True}, None),
        ({"spl": 0x912000, "atf": 0x970000}, None),
        ({"spl": 0x1000}, None),
    ],
)
def test_a_chip_is_told_by_what_only_it_has(seen: dict[str, int], name: str | None) -> None:
    """All that was seen has to fit it."""
    assert imx8m.find(**seen) == name  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("start", "length", "said"),
    [
        (0x907000, 0x8000, ""),
        (0x907000, 0xD800, ""),
        (0x907000, 0xD801, "NAND"),
        (0x907000, 0x11000, "NAND"),
        (0x907000, 0x11001, "SD"),
        (0x906FFF, 0x200, "SD"),
        (0x900000, 0x200, "SD"),
        (0x8FFFFF, 0x200, ""),
        (0x97FFFF, 0x200, "SD"),
        (0x980000, 0x200, ""),
    ],
)
def test_images_end_where_newer_silicon_leaves_memory_to_them(start: int, length: int, said: str) -> None:
    """Rounded up to what the boot device reads at once; other memory has no such bounds."""
    note = bounds_note(find("imx6ul"), Header(IVT, start, length, 0))
    assert (note is None) == (said == ""), note
    assert said in (note or "")


def test_no_bounds_are_told_of_chips_that_have_none() -> None:
    """Or where the chip is not known."""
    header = Header(IVT, 0x907000, 0x80000, 0)
    assert bounds_note(None, header) is None
    assert bounds_note(replace(find("imx6ul"), ocram=None), header) is None


def dcd(*commands: bytes) -> bytes:
    body = b"".join(commands)
    return struct.pack(">BHB", 0xD2, 4 + len(body), 0x40) + body


def write(*addresses: int) -> bytes:
    """Write Data of a word each."""
    pairs = b"".join(struct.pack(">2I", address, 0x13) for address in addresses)
    return struct.pack(">BHB", 0xCC, 4 + len(pairs), 4) + pairs


def check(address: int, *, count: bool) -> bytes:
    """Check Data: an address, a mask, and how often if that is said."""
    words = struct.pack(">2I", address, 1) + (struct.pack(">I", 0x307A0000) if count else b"")
    return struct.pack(">BHB", 0xCF, 4 + len(words), 0x14) + words


@pytest.mark.parametrize(
    ("address", "chip"),
    [
        (0x021B0000, "imx6ulz"), (0x021BFFFF, "imx6sl"), (0x021AFFFF, None), (0x021C0000, None),
        (0x020E0244, "imx6ul"), (0x020E0288, "imx6ul"), (0x020E0490, "imx6ul"), (0x020E04B4, "imx6ul"),
        (0x020E0243, None), (0x020E0289, None),
        (0x020E0294, "imx6sll"), (0x020E02C0, "imx6sll"), (0x020E052C, "imx6sll"), (0x020E0293, None),
        (0x020E02EC, "imx6sx"), (0x020E0340, "imx6sx"), (0x020E05F4, "imx6sx"), (0x020E02EB, None),
        (0x020E0300, "imx6sl"), (0x020E0350, "imx6sl"), (0x020E05AC, "imx6sl"), (0x020E0351, None),
        (0x020E0464, "imx6dl"), (0x020E04D8, "imx6s"), (0x020E0463, None), (0x020E04D9, None),
        (0x020E050C, "imx6q"), (0x020E05C4, "imx6dp"), (0x020E050B, None), (0x020E05C5, None),
        (0x307A0000, "imx7d"), (0x307AFFFF, "imx7s"), (0x3079FFFF, None), (0x307B0000, None),
        (0x40AB0000, "imx7ulp"), (0x40ABFFFF, "imx7ulp"), (0x40AAFFFF, None), (0x40AC0000, None),
        (0x400AE000, "vf610"), (0x400AEFFF, "vf500"), (0x400ADFFF, None), (0x400AF000, None),
    ],
)  # fmt: skip
def test_registers_tell_a_chip_from_the_first_to_the_last(address: int, chip: str | None) -> None:
    """Those beside them do not; whatever command names them, and wherever it stands."""
    for commands in ((write(address),), (write(0x1000, address),), (check(address, count=False),),
                     (write(0x1000), check(address, count=True))):  # fmt: skip
        told = chips_of(dcd(*commands))
        assert (chip in told) if chip else told == ()


def test_registers_of_several_chips_leave_those_that_have_them_all() -> None:
    """Of memory controllers all of i.MX 6, of pins one of them."""
    assert set(chips_of(dcd(write(0x021B0000, 0x020E0464)))) == {"imx6dl", "imx6s"}
    assert chips_of(dcd(write(0x307A0000, 0x020E0464))) == ()
    assert set(chips_of(dcd(write(0x020E05AC)))) == {"imx6sl", "imx6q", "imx6d", "imx6qp", "imx6dp"}
    unlock = bytes([0xB2, 0, 8, 0x1D]) + struct.pack(">I", 0x307A0000)
    assert chips_of(dcd(unlock)) == ()
    assert chips_of(dcd(unlock, write(0x307A0000))) == ("imx7d", "imx7s")


def test_a_dcd_is_read_as_far_as_it_goes() -> None:
    """A command that is longer than what is there ends it."""
    whole = dcd(write(0x1000), write(0x307A0000))
    assert chips_of(whole) == ("imx7d", "imx7s")
    assert chips_of(whole[:-1]) == ()
    assert chips_of(dcd(bytes([0xCC, 0, 3, 4]), write(0x307A0000))) == ()
    assert chips_of(dcd(bytes([0xC0, 0, 4, 0]) * 511, write(0x307A0000))) == ("imx7d", "imx7s")
    assert chips_of(dcd(bytes([0xC0, 0, 4, 0]) * 512, write(0x307A0000))) == ()


@pytest.mark.parametrize("place", [0, 4, 0xFFF0, 0xFFF8, 0xFFFF, 0x10000, 0x1FFF0])
@pytest.mark.parametrize("chip", ["imx6q", "imx6qp", "imx6dl", "imx6sx", "imx6sl", "imx6sll", "imx6ul", "imx6ull",
                                  "imx6ulz", "imx7d", "imx7s", "imx7ulp"])  # fmt: skip
def test_a_device_tree_names_its_chip_wherever_it_is(chip: str, place: int) -> None:
    """Once or several times; one chip, and a text of its own."""
    text = f"\0fsl,{chip}\0".encode()
    assert tree_of(bytes(place) + text) == f"fsl,{chip}"
    assert tree_of(bytes(place) + text + bytes(100) + text) == f"fsl,{chip}"
    assert tree_of(bytes(place) + text + b"\0fsl,imx6sx-sabreauto\0") == f"fsl,{chip}"
    assert tree_of(bytes(place) + text[:-1]) is None
    assert tree_of(bytes(place) + b"x" + text[1:]) is None
    other = b"\0fsl,imx7d\0" if chip != "imx7d" else b"\0fsl,imx7s\0"
    assert tree_of(bytes(place) + text + other) is None


def test_a_chip_that_was_asked_for_is_the_only_one_that_is_possible() -> None:
    """Unless the image tells another."""
    ull = find("imx6ull")
    assert settle(ull, (), "it") == settle(ull, CHIPS_32, "it")
    assert (settle(ull, (), "it").chip, settle(ull, (), "it").possible) == (ull, (ull,))


def test_chips_that_are_signed_for_alike_are_settled_on() -> None:
    """Their number decides how they are called; none where nothing tells."""
    found = settle(None, CHIPS_8M, "it")
    assert (found.chip, found.ask) == (find("imx8mq"), "")
    assert found.title == "i.MX 8M Quad or i.MX 8M Mini or i.MX 8M Nano or i.MX 8M Plus"
    assert [one.name for one in found.possible] == list(CHIPS_8M)
    mixed = settle(None, CHIPS_32, "it")
    assert mixed.chip is None
    assert mixed.ask.startswith("it is for i.MX 6 or i.MX 7 or i.MX 7ULP or Vybrid, which are")
    assert [one.name for one in mixed.possible] == list(CHIPS_32)
    nothing = settle(None, (), "it")
    assert (nothing.chip, nothing.title, nothing.possible) == (None, "", ())
    assert nothing.ask.startswith("it does not show")


def test_families_have_all_their_chips() -> None:
    """Of 32 and of 64 bits."""
    assert set(CHIPS_32) | set(CHIPS_8M) == {chip.name for chip in CHIPS if chip.family != "i.MX RT"}
    assert not set(CHIPS_32) & set(CHIPS_8M)
