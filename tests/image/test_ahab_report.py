"""Whether a closed board boots a file with AHAB containers, and why not."""

from __future__ import annotations

import struct
from typing import Any

import pytest

from digsigd import ahab
from digsigd.ahab import ContainerImage, build_container, build_file
from digsigd.image.ahab_plan import plan_ahab
from digsigd.image.ahab_report import AhabReport, report_ahab
from digsigd.image.report import cells_of, verdict_of
from tests.helpers.ahab_forge import nxp_container, signed_container, table_of
from tests.helpers.ahab_samples import all_signed, changed, flash, signed

SD = flash("good-93-sd-spl")
BOTH = all_signed(SD)
CODE = bytes(range(256)) * 4


def judged(data: bytes, soc: str | None = None, **options: Any) -> AhabReport:
    return report_ahab(data, plan_ahab(data, ahab.chip(soc) if soc else None), **options)


def failing(report: AhabReport) -> list[tuple[str, str]]:
    """The containers or "the file", and what fails of them."""
    found = [("the file", check.what) for check in report.checks if check.holds is False]
    return found + [
        (one.planned.name, check.what) for one in report.containers for check in one.checks if check.holds is False
    ]


def test_a_file_holds_if_all_its_containers_do() -> None:
    """NXP's by itself, ours for boards with the fuse value."""
    report = judged(BOTH, "mx93")
    assert (report.holds, report.fails, report.meaning, failing(report)) == (True, False, None, [])
    value = ahab.parse_table(table_of("p384")).hash("sha256")
    assert report.fuse_value == value
    assert verdict_of(report) == (
        f"Everything that can be checked here holds for boards with the fuse value {value.hex()}."
    )


def test_of_nxps_container_the_chip_knows_the_key() -> None:
    """No fuse value of ours is compared with it."""
    report = judged(BOTH, "mx93", fuse_value=ahab.parse_table(table_of("p384")).hash("sha256"))
    nxp = report.containers[0]
    assert nxp.holds
    assert "whether the key is NXP's, only the chip knows" in nxp.checks[1].detail
    assert report.partly
    os_container = judged(all_signed(flash("good-os-container"), "p521"))
    assert os_container.holds
    assert not os_container.partly
    assert verdict_of(os_container) == "Everything holds."


@pytest.mark.parametrize("place", [0x400, 0x4000])
def test_an_unsigned_container_fails(place: int) -> None:
    """The one that the ROM loads, and the one that SPL loads; the others still hold."""
    report = judged(all_signed(SD, skip=place), "mx93")
    assert (report.holds, report.meaning) == (False, "refused")
    assert (f"OEM container at {place:#x}", "signed") in failing(report)
    (check,) = [one for one in report.checks if one.holds is False]
    assert f"OEM container at {place:#x}" in check.detail
    assert [one.holds for one in report.containers].count(False) == 1
    assert ("CONFIG_AHAB_BOOT" in report.containers[-1].checks[0].detail) == (place == 0x4000)


def test_every_sample_of_cst_is_judged_as_it_is() -> None:
    """One container is signed in each, and holds; another one behind it is not."""
    for case, holds in (("good-93-sd-spl", [True, True, False]), ("good-qxp-spl-sgk", [True, True, False])):
        assert [one.holds for one in judged(signed(case)).containers] == holds, case
    v2 = judged(signed("good-v2-p384"), "mx95")
    assert v2.holds
    assert v2.fuse_value == v2.fuse_values["sha512"]


def test_without_a_chip_the_fuse_value_is_not_known_for_version_0() -> None:
    """Chips have different hashes of the same table; those of version 2 have one."""
    report = judged(BOTH)
    assert report.holds
    assert report.fuse_value is None
    assert set(report.fuse_values) == {"sha256", "sha512"}
    assert judged(BOTH, "mx8dxl").fuse_value is None
    assert judged(BOTH, "mx8qm").fuse_value == report.fuse_values["sha512"]


def test_keys_that_are_not_in_the_fuses_fail() -> None:
    """By the fuse value of the chip, or by the table."""
    right = ahab.parse_table(table_of("p384"))
    for options in ({"fuse_value": right.hash("sha256")}, {"srk_table": right.raw}):
        assert judged(BOTH, "mx93", **options).holds
    other = ahab.parse_table(table_of("p256"))
    for options in ({"fuse_value": other.hash("sha256")}, {"srk_table": other.raw}):
        report = judged(BOTH, "mx93", **options)
        assert not report.holds
        assert [name for name, _ in failing(report)].count("NXP container at 0x0") == 0
    assert judged(BOTH, "mx8qm", fuse_value=right.hash("sha512")).holds
    assert not judged(BOTH, "mx8qm", fuse_value=right.hash("sha256")).holds


def test_a_container_of_ours_that_claims_nxps_keys_fails() -> None:
    """Nobody but NXP has them: a board refuses it, whatever the fuses are."""
    spl = ahab.find(SD)[2]
    fake = signed_container(SD[spl.offset : spl.offset + spl.header_length], "p256", srk_set=1)
    value = ahab.parse_table(table_of("p384")).hash("sha256")
    report = judged(changed(all_signed(SD, skip=spl.offset), spl.offset, fake), "mx93", fuse_value=value)
    assert (report.holds, report.meaning) == (False, "refused")
    assert "says that NXP has signed it" in report.containers[2].checks[0].detail


@pytest.mark.parametrize(("place", "holds"), [(0x400, True), (0x800, False), (0x1000, False)])
def test_a_container_where_the_rom_does_not_look_fails(place: int, holds: bool) -> None:
    """Behind NXP's at 0 it is at 0x400."""
    image = ContainerImage(CODE, 0x2000)
    data = build_file([(0, *nxp_container()), (place, build_container([image]), [image])], 0)
    report = judged(all_signed(data), "mx93")
    assert report.holds == holds
    assert holds or f"{place:#x} is not where the ROM looks for it, at 0x400" in report.checks[0].detail


def test_what_is_revoked_is_told() -> None:
    """It is for good, and not always meant."""
    report = judged(all_signed(SD, revoke=0x6), "mx93")
    assert report.holds
    details = [check.detail for one in report.containers for check in one.checks if check.what == "revoke mask"]
    assert details == ["ahab_commit revokes SRK 2, SRK 3 for good"] * 2
    assert "revoke mask" not in [check.what for one in judged(BOTH, "mx93").containers for check in one.checks]


def test_containers_with_different_tables_fail() -> None:
    """A board has fuses for one."""
    mixed = changed(all_signed(SD, skip=0x4000), 0x4000, all_signed(SD, "p256")[0x4000:0x6000])
    report = judged(mixed)
    assert ("the file", "one SRK table") in failing(report)
    assert report.fuse_values == {}


def test_keys_that_the_chip_does_not_accept_fail() -> None:
    """RSA with PKCS #1 v1.5 on an ELE; what is not confirmed is noted."""
    data = all_signed(flash("good-os-container"), "rsa2048")
    assert judged(data).holds
    assert judged(data, "mx8qm").holds
    report = judged(data, "mx93")
    assert ("OEM container at 0x0", "algorithm") in failing(report)


CHANGES = {
    "a byte of an image": (0x2800, "OEM container at 0x400", "container"),
    "a byte of NXP's firmware": (0x2000, "NXP container at 0x0", "container"),
    "the load address": (0x400 + 0x18, "OEM container at 0x400", "signature"),
    "the software version": (0x400 + 8, "OEM container at 0x400", "signature"),
    "a signature": (0x400 + 0x2A0, "OEM container at 0x400", "signature"),
    "NXP's header": (8, "NXP container at 0x0", "signature"),
}


@pytest.mark.parametrize("change", CHANGES)
def test_what_was_changed_afterwards_fails(change: str) -> None:
    """Whatever it is, and whosever."""
    place, name, what = CHANGES[change]
    report = judged(changed(BOTH, place, bytes([BOTH[place] ^ 0x10])))
    assert not report.holds
    assert (name, what) in failing(report)


def test_any_bit_of_what_is_signed_counts() -> None:
    """Of headers, blocks and images, some hundred places."""
    for place in [*range(0x400, 0x6B0, 7), *range(0x2800, 0x4000, 0x333), *range(0x4000, 0x41A0, 11)]:
        assert not judged(changed(BOTH, place, bytes([BOTH[place] ^ 4]))).holds, hex(place)


def test_unknown_data_are_not_signed() -> None:
    """A closed board that runs them runs what nobody signed."""
    report = judged(BOTH + b"\xd0\x0d\xfe\xed" + bytes(12))
    assert (report.holds, report.meaning) == (False, "unsigned")
    assert failing(report) == [("the file", "only known data")]


def test_nxps_firmware_alone_is_nothing_of_ours() -> None:
    """Its container holds, and there is nothing to verify."""
    report = judged(SD[:0x400] + bytes(0x1C00) + SD[0x2000:0x2800])
    assert report.containers[0].holds
    assert failing(report) == [("the file", "an OEM container")]


def test_encrypted_images_neither_hold_nor_fail() -> None:
    """Only a board can unwrap their key; NXP's chips have the key of NXP's."""
    image = ContainerImage(CODE, 0x2000, encrypted=True, iv=bytes(32))
    unsigned = build_container([image])
    blob = struct.pack("<BHBBBBB", 0, 8 + 48 + 16, 0x81, 1, 16, 3, 0x55) + bytes(64)
    report = judged(build_file([(0, signed_container(unsigned, "p256", blob=blob), (image,))]))
    assert (report.holds, report.fails) == (False, False), failing(report)
    assert "only a board can check what is encrypted" in verdict_of(report)
    assert {span.state for span in report.spans} == {"signed", "csf", "secret", "open"}
    assert ("OEM container at 0x0", "blob") in failing(
        judged(build_file([(0, signed_container(unsigned, "p256"), (image,))]))
    )
    nxp = signed_container(build_container([ContainerImage(CODE, 0x2000, kind=6, encrypted=True)]), "p256", srk_set=1)
    assert judged(build_file([(0, nxp, (image,))])).containers[0].holds


def test_a_container_of_v2x_is_nxps() -> None:
    """i.MX 95 has one behind the ELE's; the same tag on ours is refused."""
    image = ContainerImage(CODE, 0x2000, kind=0xB)
    unsigned = build_container([image], tag=0x82)
    assert judged(build_file([(0, signed_container(unsigned, "p256", srk_set=1), (image,))])).containers[0].holds
    ours = judged(build_file([(0, signed_container(unsigned, "p256"), (image,))]))
    assert ("OEM container at 0x0", "tag") in failing(ours)


def test_the_map_shows_every_byte() -> None:
    """What is NXP's, ours, in blocks, or nothing; what is not signed and used is wrong."""
    report = judged(BOTH)
    assert sum(span.length for span in report.spans) == report.size == len(BOTH)
    states = {(span.offset, span.state) for span in report.spans}
    assert {(0, "foreign"), (0x2000, "foreign"), (0x400, "signed"), (0x490, "csf"), (0x2800, "signed")} <= states
    assert set(report.states.values()) >= {"signature block", "signed by NXP"}
    _, cells = cells_of(report, 64)
    assert "wrong" not in cells
    _, cells = cells_of(judged(SD), 64)
    assert "wrong" in cells
    assert (cells[0], cells[1]) == ("foreign", "wrong")
