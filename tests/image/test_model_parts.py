"""What a plan's parts tell of themselves."""

from __future__ import annotations

from digsigd import hab
from digsigd.image.model import Region, Signing

IVT = hab.Ivt(0, 0x40, 0, 0, 0x1000, 0x2000)


def test_a_region_ends_behind_its_last_byte() -> None:
    """One of no length where it begins."""
    assert [Region(8, length, "a part").end for length in (0, 1, 0x20)] == [8, 9, 0x28]


def test_a_signing_is_for_all_boards_unless_it_says_so() -> None:
    """And leaves nothing unlocked; its signature covers all of its blocks."""
    signing = Signing("part", IVT, (), 0, 0)
    assert (signing.unlock, signing.optional, signing.least, signing.by_rom) == (False, False, (), False)


def test_the_rom_checks_what_has_boot_data() -> None:
    """Other IVTs are U-Boot's."""
    for place, by_rom in ((0, False), (1, True), (0x1020, True)):
        assert Signing("part", hab.Ivt(0, 0x40, 0, place, 0x1000, 0x2000), (), 0, 0).by_rom is by_rom
