"""HDMI and DisplayPort firmware of i.MX 8M Quad, which runs under a signature that only boards can check."""

from __future__ import annotations

import pytest

from digsigd.image.plan import plan
from digsigd.image.report import Report
from tests.helpers import golden
from tests.helpers.signed_images import holds, judged, signed

# The IVT once more, 0x18c00 behind the first, as in NXP's files.
FIRMWARE = golden.signed_hdmi().ljust(0x19000, b"\0") + golden.signed_hdmi()[0x400:0x440]
SPL = golden.spl("mq")


def behind(front: int, place: int) -> bytes:
    """An SPL with its IVT at `place`, behind firmware whose IVT is at `front`."""
    return FIRMWARE[0x400 - front :].ljust(place, b"\0") + SPL


@pytest.mark.parametrize(
    ("front", "place"),
    [(0, 0x1A000), (0x400, 0x1A400), (0, 0x34000), (0x400, 0x1B400), (0, 0x19800), (0x400, 0x34400)],
)
def test_the_spl_is_found_wherever_it_is_behind_it(front: int, place: int) -> None:
    """imx-mkimage and binman put it at different places, and firmware has different sizes."""
    data = behind(front, place)
    found = plan(data)
    (part,) = found.signings
    assert (part.ivt.offset, part.blocks[0].offset) == (place, place)
    assert found.soc == "mq"
    assert found.regions[0].length == place
    assert holds(signed(data))


def test_it_is_told_of_and_has_a_state_of_its_own() -> None:
    """It runs, so it is not unused; nobody here knows whether it is NXP's, so it is not signed."""
    data = signed(golden.flash("mq", "nxp-new", hdmi=True))
    report = judged(data)
    assert isinstance(report, Report)
    assert report.holds
    assert (report.spans[0].offset, report.spans[0].state, report.spans[0].must) == (0, "foreign", False)
    assert "also runs, under a signature by NXP that cannot be checked here" in " ".join(report.plan.notes)
    changed = bytearray(data)
    changed[0x2000] ^= 1
    again = judged(bytes(changed))
    assert isinstance(again, Report)
    assert again.plan.foreign == report.plan.foreign


def test_firmware_without_a_csf_is_said_not_to_be_nxps() -> None:
    """Plain code in front of the SPL, say: the ROM looks for NXP's signature."""
    assert "not signed by NXP" in " ".join(plan(behind(0, 0x1A000)).notes)
    own = bytearray(behind(0, 0x1A000))
    own[0x18C40:0x18C44] = b"\xd4\0\x60\x42"
    assert "not signed by NXP" not in " ".join(plan(bytes(own)).notes)


def test_what_stands_in_for_the_spl_is_refused() -> None:
    """A second one behind the first is no padding."""
    data = behind(0, 0x1A000) + bytes(0x1000) + SPL
    assert isinstance(judged(data), str)
