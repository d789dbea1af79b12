"""What an image tells of its chip, what is asked for, and whether a CSF is for it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial

import pytest

from digsigd import csf
from digsigd.client._internal.image_signing.description import describe
from digsigd.client._internal.image_signing.key_names import KeyNames
from digsigd.csf import model
from digsigd.hab import Block
from digsigd.image.chip_clues import chips_of
from digsigd.image.chips import NotConfirmedError, find
from tests.helpers import golden
from tests.helpers import golden_kinds as kinds
from tests.helpers.forge import authenticate, cms, forge, install, install_srk
from tests.helpers.signed_images import KEYS
from tests.image.kinds_judged import is_good, planned, refused, why_not

NAMES = KeyNames("table", "csf", "img")


@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("ul", {"imx6ul", "imx6ull", "imx6ulz"}),
        ("q", {"imx6q", "imx6d", "imx6qp", "imx6dp"}),
        ("dl", {"imx6dl", "imx6s"}),
        ("sx", {"imx6sx"}),
        ("sl", {"imx6sl"}),
        ("7", {"imx7d", "imx7s"}),
        ("7ulp", {"imx7ulp"}),
        ("rt", set()),
    ],
)
def test_a_dcd_tells_by_the_registers_that_it_writes_to(name: str, told: set[str]) -> None:
    """Pins of the memory are elsewhere on each chip."""
    assert set(chips_of(kinds.dcd(name))) == told


def test_a_dcd_that_does_not_tell_is_no_error() -> None:
    """Nor one that is none: the chip is asked for then."""
    assert chips_of(b"\xd2\x00\x04\x40") == ()
    assert chips_of(b"\xd2\x01\xe8\x40" + b"\xa5" * 0x1E4) == ()
    for length in range(40):
        chips_of(kinds.dcd("q")[:length])
    contradicting = kinds.dcd("q") + kinds.dcd("7")[4:]
    assert chips_of(contradicting) == ()


@pytest.mark.parametrize(
    ("make", "boards"),
    [
        (partial(kinds.imximage, dcd_of="q"), "i.MX 6Quad or i.MX 6Dual or i.MX 6QuadPlus or i.MX 6DualPlus"),
        (partial(kinds.imximage, dcd_of="dl"), "i.MX 6DualLite or i.MX 6Solo"),
        (partial(kinds.imximage, dcd_of="7"), "i.MX 7Dual or i.MX 7Solo"),
        (partial(kinds.imximage, dcd_of="7ulp"), "i.MX 7ULP"),
        (kinds.barebox, "i.MX 6Quad or i.MX 6Dual or i.MX 6QuadPlus or i.MX 6DualPlus"),
    ],
)
def test_chips_that_are_signed_for_alike_need_not_be_told_apart(make: Callable[[], bytes], boards: str) -> None:
    """The DCD tells enough."""
    found = planned(make())
    assert (found.boards, found.ask) == (boards, "")
    assert found.chip is not None


@pytest.mark.parametrize("make", [kinds.imximage, kinds.spl, kinds.u_boot_ivt_img, kinds.with_spl, kinds.rt])
def test_what_the_image_does_not_tell_is_asked_for(make: Callable[[], bytes]) -> None:
    """6UltraLite from 6ULL above all: one has CAAM, the other must not use its DCP."""
    found = planned(make())
    assert found.chip is None
    assert "different ways" in found.ask


def test_another_chip_than_the_image_tells_is_refused() -> None:
    """One of the two is wrong."""
    assert (
        "according to its DCD, the image is for i.MX 6UltraLite or i.MX 6ULL or i.MX 6ULZ, but i.MX 6Quad"
        in refused(kinds.imximage(), "imx6q")
    )
    assert "i.MX 8M Mini was given" in refused(kinds.imximage(), "imx8mm")
    assert "i.MX 8M Mini was given" in refused(kinds.spl(), "imx8mm")
    for soc in ("imx6ull", "imx7d", "imx8mn", "rt1060"):
        assert f"{find(soc).title} was given" in refused(golden.flash("mm"), soc)
    assert planned(golden.flash("mm"), "imx8mm").chip is find("imx8mm")


def test_a_fit_of_32_bits_asks_and_one_of_64_bits_does_not() -> None:
    """arm64 with HAB is i.MX 8M."""
    assert planned(golden.fit_ivt("mm")).ask == ""
    arm = kinds.fit32().replace(b"arm64\0", b"arm32\0")
    assert "different ways" in planned(golden.binman_fit(arm)).ask
    assert planned(golden.binman_fit(arm), "imx6ull").ask == ""


def test_a_device_tree_in_the_image_is_a_hint() -> None:
    """U-Boot's own may be of another board: it decides nothing."""
    tree = b"\0fsl,imx6ull-14x14-evk\0fsl,imx6ull\0"
    data = kinds.imximage().replace(golden.filler("u-boot", 0x7D123)[0x5000 : 0x5000 + len(tree)], tree)
    assert tree in data
    found = planned(data)
    assert found.chip is None
    assert any("for fsl,imx6ull: a hint" in note for note in found.notes)
    assert not any("fsl,imx6ull" in note for note in planned(data, "imx6ull").notes)
    other = kinds.spl().replace(golden.filler("spl", 0xB123)[0x5000 : 0x5000 + len(tree)], tree)
    assert any("signed for i.MX 6Quad" in note for note in planned(other, "imx6q").notes)


def described(data: bytes, soc: str | None, number: int = 0) -> csf.Description:
    found = planned(data, soc)
    return describe(found.signings[number], NAMES, srk=1, artifact_name="image", chip=found.chip)


@pytest.mark.parametrize(
    ("data", "soc", "version", "engine", "unlocks"),
    [
        (kinds.imximage(), "imx6ul", (4, 2), "CAAM", ("MID",)),
        (kinds.imximage(), "imx6ull", (4, 2), "SW", ()),
        (kinds.imximage(), "imx6ulz", (4, 2), "SW", ()),
        (kinds.spl(), "imx6q", (4, 2), "CAAM", ("MID", "RNG")),
        (kinds.imximage(dcd_of="7"), None, (4, 2), "CAAM", ("MID",)),
        (kinds.rt(), "rt1050", (4, 2), "DCP", ()),
        (kinds.rt(0x30000000), "rt1170", (4, 2), "ANY", ()),
        (golden.spl("mm"), None, (4, 3), "CAAM", ("MID",)),
        (golden.spl("mm"), "imx8mm", (4, 3), "CAAM", ("MID",)),
        (kinds.barebox_8m(), None, (4, 3), "CAAM", ("MID",)),
        (kinds.u_boot_ivt_img(), "imx6q", (4, 2), "CAAM", ()),
        (kinds.with_ivt(kinds.zimage(), 0x80800000), "imx6ull", (4, 2), "SW", ()),
    ],
)
def test_descriptions_are_for_the_chip(
    data: bytes, soc: str | None, version: tuple[int, int], engine: str, unlocks: tuple[str, ...]
) -> None:
    """Version and Engine of the header, and what the ROM's CSF leaves unlocked."""
    commands = described(data, soc).commands
    header = commands[0]
    assert isinstance(header, model.Header)
    assert (header.version, header.engine) == (version, engine)
    found = [one.features for one in commands if isinstance(one, model.Unlock)]
    assert found == ([unlocks] if unlocks else [])


@pytest.mark.parametrize(("soc", "most"), [("imx6ul", 8), ("imx6ull", 40), ("rt1050", 6), (None, 8)])
def test_commands_have_no_more_blocks_than_the_engine_takes(soc: str | None, most: int) -> None:
    """CAAM 8, DCP 6; software any number."""
    part = planned(kinds.spl()).signings[0]
    many = replace(part, blocks=tuple(Block(0x1000 * n, 0x1000 * n, 0x40) for n in range(20)))
    chip = find(soc) if soc else None
    commands = describe(many, NAMES, srk=1, artifact_name="image", chip=chip).commands
    counts = [len(one.blocks) for one in commands if isinstance(one, model.AuthenticateData)]
    assert sum(counts) == 20
    assert max(counts) == min(most, 20)


def test_blocks_that_dcp_takes_only_at_the_end_end_their_command() -> None:
    """HAB4 API, 5.2: all but the last are multiples of 64 bytes."""
    found = planned(kinds.rt(piece="dcd"), "rt1060")
    commands = described(kinds.rt(piece="dcd"), "rt1060").commands
    counts = [len(one.blocks) for one in commands if isinstance(one, model.AuthenticateData)]
    assert [block.length for block in found.signings[0].blocks][:2] == [0x40, len(kinds.dcd("rt"))]
    assert counts == [2, 1]


@pytest.mark.parametrize("soc", ["imx6sl", "imx6sll", "vf610"])
def test_a_chip_whose_engine_is_not_confirmed_is_refused(soc: str) -> None:
    """With the reason."""
    with pytest.raises(NotConfirmedError, match="is not confirmed"):
        described(kinds.spl(), soc)


def signed_by(engine: int) -> bytes:
    """u-boot.imx with a CSF whose commands ask for this engine."""
    data = kinds.imximage()
    (block,) = planned(data).signings[0].blocks
    blob = forge(
        install_srk(KEYS.table, 0),
        install(KEYS.csf.der, 0, 1, flags=2),
        authenticate(1, lambda area: cms(area, KEYS.csf), engine=engine),
        install(KEYS.img.der, 0, 2),
        authenticate(
            2, lambda _: cms(data[: block.end], KEYS.img), (block.address, block.length), engine=engine
        ),
    )  # fmt: skip
    return data + blob.ljust(0x2060, b"\0")


CAAM, DCP, SW, ANY = 0x1D, 0x1B, 0xFF, 0x00


@pytest.mark.parametrize(
    ("soc", "engine", "says"),
    [
        ("imx6ull", CAAM, "uses the engine CAAM, but the chip has DCP"),
        ("imx6ull", DCP, "it must be SW"),
        ("imx6ull", ANY, "it must be SW"),
        ("imx6ul", DCP, "uses the engine DCP, but the chip has CAAM"),
    ],
)
def test_an_engine_that_the_chip_has_not_does_not_hold(soc: str, engine: int, says: str) -> None:
    """Where the chip is known, or none of those that the image can be for has it."""
    data = signed_by(engine)
    if engine == DCP:
        assert "engine DCP" in why_not(data)
    else:
        is_good(data)
    assert says in why_not(data, soc)
    is_good(signed_by(SW), soc)


@pytest.mark.parametrize(
    ("soc", "size", "says"),
    [
        ("imx6ul", 0x9000, ""),
        ("imx6ul", 0xE123, "from SD, in pieces of 0x200"),
        ("imx6ul", 0xC000, "from NAND, in pieces of 0x4800"),
        ("imx6q", 0xE123, ""),
        ("imx6ull", 0xE123, ""),
    ],
)
def test_bounds_of_newer_silicon_are_told(soc: str, size: int, says: str) -> None:
    """A warning: older silicon boots it."""
    data = kinds.spl(size=size)
    notes = " ".join(planned(data, soc).notes)
    assert says in notes
    assert ("INV_ADDRESS" in notes) == bool(says)
