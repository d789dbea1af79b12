"""The table of chips, and the names that people have for them."""

from __future__ import annotations

from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import pytest

from digsigd.image import imx8m
from digsigd.image.chips import (
    CHIPS,
    AmbiguousChipError,
    Chip,
    ChipError,
    Hab,
    NotConfirmedError,
    Unconfirmed,
    find,
    find_compatible,
)
from tests.image import chip_tables


@pytest.mark.parametrize("name", [
    "imx6ull", "mx6ull", "6ULL", "i.MX 6ULL", "i.MX6ULL", "IMX6ULL", "iMX-6ull", "i.mx_6ull", "MCIMX6ULL",
    "fsl,imx6ull", " imx6ull ",
])  # fmt: skip
def test_chip_is_found_by_any_spelling_of_its_name(name: str) -> None:
    """People write a chip's name in many ways, and each is the same chip."""
    assert find(name).name == "imx6ull"


@pytest.mark.parametrize(("name", "chip"), [
    ("imx6ul", "imx6ul"), ("i.MX 6UltraLite", "imx6ul"), ("6ulz", "imx6ulz"), ("imx6s", "imx6s"),
    ("i.MX 6Solo", "imx6s"), ("imx6solox", "imx6sx"), ("imx6sl", "imx6sl"), ("imx6sll", "imx6sll"),
    ("imx6dl", "imx6dl"), ("imx6d", "imx6d"), ("imx6qp", "imx6qp"), ("imx7d", "imx7d"), ("mx7s", "imx7s"),
    ("7ulp", "imx7ulp"), ("mm", "imx8mm"), ("8mm", "imx8mm"), ("MIMX8MM", "imx8mm"), ("i.MX 8M Plus", "imx8mp"),
    ("mq", "imx8mq"), ("mn", "imx8mn"), ("rt1064", "imxrt1064"), ("MIMXRT1064", "imxrt1064"),
    ("MIMXRT1062DVL6A", "imxrt1060"), ("RT1176", "imxrt1170"), ("VF6xx", "vf610"),
])  # fmt: skip
def test_chip_is_found_whatever_else_begins_with_its_name(name: str, chip: str) -> None:
    """A whole name is that chip's, though others' names begin with it."""
    assert find(name).name == chip


@pytest.mark.parametrize(("name", "choices"), [
    ("imx8m", ("imx8mq", "imx8mm", "imx8mn", "imx8mp")),
    ("imx7", ("imx7d", "imx7s", "imx7ulp")),
    ("imx6qdl", ("imx6q", "imx6d", "imx6dl", "imx6s")),
    ("rt11", ("imxrt1160", "imxrt1170")),
])  # fmt: skip
def test_name_of_several_chips_lists_them(name: str, choices: tuple[str, ...]) -> None:
    """Chips that differ in their fuses or engines are not guessed from a family's name."""
    with pytest.raises(AmbiguousChipError) as caught:
        find(name)
    assert caught.value.choices == choices
    assert all(one in caught.value.hint for one in choices)


@pytest.mark.parametrize("name", ["", "imx", "mx", "i.mx", "foo", "imx6x", "imx6ulll", "imx53", "ull", "x" * 1000])
def test_name_of_no_chip_lists_all(name: str) -> None:
    """What is no chip's name is refused, with the names that are."""
    with pytest.raises(ChipError, match="is not a known chip") as caught:
        find(name)
    assert all(chip.name in caught.value.hint for chip in CHIPS)


def test_name_without_end_is_shown_in_part() -> None:
    """64 characters of it."""
    with pytest.raises(ChipError) as caught:
        find("x" * 1000)
    assert caught.value.what == f"'{'x' * 64}' is not a known chip"


@pytest.mark.parametrize("name", ["imx93", "i.MX 8ULP", "imx8qxp", "imx8qm", "imx8dxl", "imx95", "RT1189"])
def test_chip_with_ahab_is_said_to_be_one(name: str) -> None:
    """A chip with another kind of secure boot is told from a name that nobody has."""
    with pytest.raises(ChipError, match="with AHAB, not HAB"):
        find(name)


@pytest.mark.parametrize("chip", CHIPS, ids=lambda chip: chip.name)
def test_every_name_of_a_chip_finds_it(chip: Chip) -> None:
    """Names, titles and the short names of plans lead to the chip, so no two chips share one."""
    for name in (chip.name, chip.title, chip.name.upper(), *chip.names, *filter(None, [chip.short])):
        assert find(name) is chip


def test_device_tree_names_its_chip() -> None:
    """The first `compatible` that is a chip counts: a ULZ says that it is compatible with a ULL."""
    ulz = find_compatible(("toradex,board", "fsl,imx6ulz", "fsl,imx6ull"))
    assert ulz is not None
    assert ulz.name == "imx6ulz"
    assert find_compatible(("vendor,imx6ull", "fsl,imx8", "fsl,mm", "mm")) is None


def test_chips_of_plans_are_those_of_the_table() -> None:
    """What a plan calls its chip finds that chip, with the same title and places for its SPL."""
    for soc in imx8m.SOCS:
        chip = find(soc.name)
        assert chip.short == soc.name
        assert chip.title == soc.title
        assert tuple(loads.entry for loads in chip.spl) == soc.spl


@pytest.mark.parametrize("cell", [one.name for one in fields(Chip) if one.name.endswith("_cell")])
def test_what_is_not_confirmed_cannot_be_used(cell: str) -> None:
    """Using a value that is not known for certain raises an error with the reason."""
    values: dict[str, Any] = {cell: Unconfirmed("two sources disagree")}
    chip = replace(find("imx8mm"), **values)
    with pytest.raises(NotConfirmedError, match=r"of i.MX 8M Mini is not confirmed: two sources disagree"):
        getattr(chip, cell.removesuffix("_cell"))


@pytest.mark.parametrize(("name", "first", "last", "close"), [
    ("imx6q", "bank 3 word 0", "bank 3 word 7", "bit 1 of bank 0 word 6"),
    ("imx6ull", "bank 3 word 0", "bank 3 word 7", "bit 1 of bank 0 word 6"),
    ("imx7d", "bank 6 word 0", "bank 7 word 3", "bit 25 of bank 1 word 3"),
    ("imx7ulp", "bank 5 word 0", "bank 5 word 7", "bit 31 of bank 29 word 6"),
    ("imx8mp", "bank 6 word 0", "bank 7 word 3", "bit 25 of bank 1 word 3"),
    ("imxrt1064", "index 24", "index 31", "bit 1 of index 6"),
    ("imxrt1176", "index 48", "index 55", "bit 1 of index 22"),
])  # fmt: skip
def test_fuses_are_where_nxp_has_them(name: str, first: str, last: str, close: str) -> None:
    """The places of the SRK hash and of SEC_CONFIG[1] are those of NXP's guides."""
    chip = find(name)
    assert (str(chip.srk[0]), str(chip.srk[-1]), str(chip.close)) == (first, last, close)
    assert len(set(chip.srk)) == 8


def test_fuses_of_i_mx_7_and_8m_go_over_two_banks() -> None:
    """Four words each: the fifth word is the first of bank 7."""
    assert [(word.bank, word.word) for word in find("imx7s").srk[3:5]] == [(6, 3), (7, 0)]


@pytest.mark.parametrize(("name", "engine", "most", "multiple"), [
    ("imx6q", "CAAM", 8, 1), ("imx6ul", "CAAM", 8, 1), ("imx6ull", "SW", None, 1), ("imx6ulz", "SW", None, 1),
    ("imx7d", "CAAM", 8, 1), ("imx8mn", "CAAM", 8, 1), ("imxrt1050", "DCP", 6, 64), ("imxrt1170", "ANY", 8, 1),
])  # fmt: skip
def test_engine_bounds_the_blocks_of_a_command(name: str, engine: str, most: int | None, multiple: int) -> None:
    """Each engine takes its number of blocks at most, and DCP whole multiples of 64 bytes."""
    chip = find(name)
    assert (chip.engine, chip.block_max, chip.block_multiple) == (engine, most, multiple)


@pytest.mark.parametrize(("name", "unlocks"), [
    ("imx6q", (("CAAM", ("MID", "RNG")),)), ("imx6sx", (("CAAM", ("MID", "RNG")),)), ("imx6ul", (("CAAM", ("MID",)),)),
    ("imx7ulp", (("CAAM", ("MID",)),)), ("imx8mm", (("CAAM", ("MID",)),)), ("imx6ull", ()), ("imxrt1060", ()),
    ("imxrt1170", ()),
])  # fmt: skip
def test_engine_and_version_of_hab_say_what_is_left_unlocked(
    name: str, unlocks: tuple[tuple[str, tuple[str, ...]], ...]
) -> None:
    """CAAM's MID stays unlocked, its RNG where HAB is older than 4.2.0; with SW there is nothing to unlock."""
    assert find(name).unlocks == unlocks


@pytest.mark.parametrize("name", ["imx6sl", "imx6sll", "vf610"])
def test_chip_that_nobody_signs_for_has_no_engine(name: str) -> None:
    """No Engine is guessed for the chips whose engine no source confirms."""
    with pytest.raises(NotConfirmedError, match="Engine for CSF descriptions"):
        _ = find(name).engine
    with pytest.raises(NotConfirmedError):
        _ = find(name).block_max


@pytest.mark.parametrize(("name", "ecdsa", "nocak"), [
    ("imx6q", False, False), ("imx6d", False, False), ("imx6dl", False, False), ("imx6s", False, False),
    ("imx6sx", False, True), ("imx6ull", False, True), ("imx7s", False, True), ("imx8mq", False, True),
    ("imx8mp", True, True), ("imxrt1050", False, True),
])  # fmt: skip
def test_version_of_hab_says_which_keys_the_rom_takes(name: str, ecdsa: bool, nocak: bool) -> None:
    """ECDSA comes with HAB 4.5, fast authentication with 4.1.2, and all silicon of a chip has to have it."""
    chip = find(name)
    assert (chip.ecdsa, chip.nocak) == (ecdsa, nocak)


@pytest.mark.parametrize(("newest", "ecdsa"), [((4, 4, 9), False), ((4, 5, 0), True)])
def test_ecdsa_comes_with_hab_4_5(newest: tuple[int, int, int], ecdsa: bool) -> None:
    """For chips of which nothing else is known."""
    chip = replace(find("imx8mp"), ecdsa_cell=None, hab_cell=Hab((4, 2, 0), newest, ""))
    assert chip.ecdsa is ecdsa


@pytest.mark.parametrize("name", ["imx8mn", "imxrt1170", "imx7ulp", "imx6ulz"])
def test_keys_of_a_kind_that_nobody_confirms_are_not_known(name: str) -> None:
    """Whether a ROM takes ECDSA keys is not guessed from its neighbours."""
    with pytest.raises(NotConfirmedError):
        _ = find(name).ecdsa


def test_ivt_of_an_spl_is_before_its_code() -> None:
    """The usual addresses are those of U-Boot's and imx-mkimage's images."""
    assert [(one.ivt, one.entry) for one in find("imx6ul").spl] == [(0x907400, 0x908000), (0x908400, 0x909000)]
    assert [(one.ivt, one.entry) for one in find("imx8mp").spl] == [(0x91FFC0, 0x920000)]
    u_boot = find("imx6ull").u_boot
    assert u_boot is not None
    assert (u_boot.ivt, u_boot.entry) == (0x877FF400, 0x87800000)
    assert find("imxrt1060").u_boot is None


def test_document_has_the_table() -> None:
    """The page on chips says what the table of chips does, and every reason why something is not confirmed."""
    lines = (Path(__file__).parents[2] / "docs/chips.md").read_text().splitlines()
    expected = [*chip_tables.table(chip_tables.FUSES), *chip_tables.table(chip_tables.SIGNING), *chip_tables.reasons()]
    assert [line for line in expected if line not in lines] == []
    shown = [line for line in lines if line.startswith(("| imx", "| vf", "- imx", "- vf"))]
    assert [line for line in shown if line not in expected] == []
