"""Chips with HAB4 and with AHAB are found by the same names."""

from __future__ import annotations

import pytest

from digsigd.ahab import AhabChip
from digsigd.ahab import chip as ahab_chip
from digsigd.image.chips import CHIPS, AmbiguousChipError, ChipError, find
from digsigd.image.chips.every import ahab_chips, find_any


@pytest.mark.parametrize("chip", CHIPS, ids=lambda chip: chip.name)
def test_chips_with_hab_keep_their_names(chip: object) -> None:
    """All of them: no chip with AHAB has one of these."""
    named = find(getattr(chip, "name", ""))
    for name in (named.name, named.title, *named.names, *filter(None, [named.short])):
        assert find_any(name) is named


@pytest.mark.parametrize("chip", ahab_chips(), ids=lambda chip: chip.name)
def test_chips_with_ahab_have_the_usual_forms_of_names(chip: AhabChip) -> None:
    """As U-Boot, people and device trees write them."""
    short = chip.name.removeprefix("mx")
    for name in (chip.name, f"i{chip.name}", f"i.MX {short}", f"I.MX{short.upper()}", f"fsl,i{chip.name}", *chip.names):
        assert find_any(name) is chip, name


@pytest.mark.parametrize(("name", "found"), [
    ("imx8qxp", "mx8x"), ("imx8qm", "mx8"), ("8dxl", "mx8dxl"), ("imx943", "mx94"), ("i.MX 95 B0", "mx95"),
    ("imx95-a1", "mx95-a0"),
])  # fmt: skip
def test_names_of_variants_lead_to_their_chip(name: str, found: str) -> None:
    """Those of silicon too."""
    assert find_any(name) is ahab_chip(found)
    assert find_any(name, certain=True) is ahab_chip(found)


@pytest.mark.parametrize("name", ["mx8", "imx8", "i.MX 8", "mx95", "imx95", "95"])
def test_names_of_several_chips_do_not_burn_fuses(name: str) -> None:
    """The chips and the silicon that have one differ in their fuses."""
    assert isinstance(find_any(name), AhabChip)
    with pytest.raises(AmbiguousChipError, match="whose fuses differ") as caught:
        find_any(name, certain=True)
    for choice in caught.value.choices:
        find_any(choice, certain=True)


@pytest.mark.parametrize("name", ["imx6", "8m", "rt", "imx8m"])
def test_names_of_several_chips_with_hab_stay_ambiguous(name: str) -> None:
    """With the names to choose from."""
    with pytest.raises(AmbiguousChipError):
        find_any(name)


def test_the_name_of_no_chip_lists_both_kinds() -> None:
    """With what they are called."""
    with pytest.raises(ChipError) as caught:
        find_any("imx53")
    assert "imx8mm" in caught.value.hint
    assert "With AHAB: mx8, mx8x" in caught.value.hint
