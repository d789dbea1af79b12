"""Names of several chips, and those that device trees have."""

from __future__ import annotations

import pytest

from digsigd.image.chips import AmbiguousChipError, ChipError, find, find_compatible


def several(name: str) -> tuple[str, ...]:
    """Those that it may be; a name of none is no answer."""
    with pytest.raises(AmbiguousChipError) as caught:
        find(name)
    assert all(one in caught.value.hint for one in caught.value.choices)
    return caught.value.choices


def test_names_of_groups_are_those_of_nxp_and_u_boot() -> None:
    """In any spelling."""
    for name, choices in (
        ("imx6qdl", ("imx6q", "imx6d", "imx6dl", "imx6s")), ("i.MX 6DQ", ("imx6q", "imx6d")),
        ("6dqp", ("imx6qp", "imx6dp")), ("mx6sdl", ("imx6s", "imx6dl")), ("IMX6DLS", ("imx6s", "imx6dl")),
        ("imx7sd", ("imx7s", "imx7d")), ("7ds", ("imx7s", "imx7d")), ("Vybrid", ("vf610", "vf500")),
    ):  # fmt: skip
        assert several(name) == choices


def test_the_start_of_a_name_is_that_of_all_chips_that_have_it() -> None:
    """By any of their names, also the short ones."""
    assert several("imx6quadp") == ("imx6qp",)
    assert several("m") == ("imx8mq", "imx8mm", "imx8mn", "imx8mp")
    assert several("8m") == ("imx8mq", "imx8mm", "imx8mn", "imx8mp")
    with pytest.raises(ChipError, match="is not a known chip"):
        find("6quadpx")


def test_device_trees_have_whole_names() -> None:
    """Of i.MX and Vybrid, by their maker."""
    for text, name in (
        ("fsl,imx6ull", "imx6ull"), ("fsl,vf610", "vf610"), ("fsl,imx8mm", "imx8mm"), ("fsl,6ull", None),
        ("fsl,mm", None), ("fsl,mx6ull", None), ("nxp,imx6ull", None), ("imx6ull", None), ("fsl,imx8m", None),
    ):  # fmt: skip
        found = find_compatible((text,))
        assert (found.name if found else None) == name
    first = find_compatible(("fsl,imx8m", "fsl,vf500", "fsl,imx7d"))
    assert first is not None
    assert first.name == "vf500"
