"""Which chip an image is signed for, of those that it can be for and the one that the user says."""

from __future__ import annotations

import pytest

from digsigd.image.chips import CHIPS, find
from digsigd.image.errors import ImageError
from digsigd.image.options import CHIPS_8M, CHIPS_32, of_families, settle


def test_families_are_told_by_their_names() -> None:
    """All chips of those that are asked for, in the order of the table."""
    assert of_families() == ()
    assert of_families("i.MX 7ULP") == ("imx7ulp",)
    assert of_families("i.MX 7ULP", "i.MX 7") == ("imx7d", "imx7s", "imx7ulp")
    assert tuple(chip.name for chip in CHIPS if chip.name.startswith("imx8m")) == CHIPS_8M
    assert tuple(chip.name for chip in CHIPS if chip.name.startswith(("imx6", "imx7", "vf"))) == CHIPS_32


@pytest.mark.parametrize(("told", "alike"), [
    (("imx8mm", "imx8mp"), True), (("imx6ull", "imx6ulz"), True), (("imx7d", "imx7ulp"), True),
    (("imx6ul",), True), (("imx6sl", "imx6sll"), True),
    # Another version of the CSF, another Unlock, another engine.
    (("imx7d", "imx8mm"), False), (("imx6q", "imx6ul"), False), (("imxrt1050", "imxrt1160"), False),
    (("imx6ul", "imx6ull"), False), (("imx6sl", "vf610"), False),
])  # fmt: skip
def test_chips_that_are_signed_for_in_different_ways_have_to_be_told_apart(told: tuple[str, ...], alike: bool) -> None:
    """By the version, the engine and what is left unlocked."""
    found = settle(None, told, "it")
    assert (found.chip == find(told[0])) is alike
    assert (found.ask == "") is alike
    assert [chip.name for chip in found.possible] == list(told)
    assert found.title == (" or ".join(find(name).title for name in told) if alike else "")


def test_another_chip_than_those_that_the_image_is_for_is_refused() -> None:
    """Four of these are listed by their names, more by their families."""
    for told, listed in (
        (("imx7d",), "i.MX 7Dual"),
        (("imx6q", "imx6d", "imx6qp", "imx6dp"), "i.MX 6Quad or i.MX 6Dual or i.MX 6QuadPlus or i.MX 6DualPlus"),
        (("imx6q", "imx6d", "imx6qp", "imx6dp", "imx7d"), "i.MX 6 or i.MX 7"),
    ):
        with pytest.raises(ImageError) as caught:
            settle(find("imx8mm"), told, "it")
        assert caught.value.what == f"it is for {listed}, but i.MX 8M Mini was given"
        assert "the chip that --soc names" in caught.value.hint
        for name in told:
            assert settle(find(name), told, "it").possible == (find(name),)
