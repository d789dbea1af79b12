"""`digsign verify` of files with AHAB containers."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from digsigd import ahab
from tests.helpers import golden
from tests.helpers.ahab_forge import table_of
from tests.helpers.ahab_samples import all_signed, changed, flash
from tests.helpers.commands import Digsign

GOOD = all_signed(flash("good-93-sd-spl"))
TABLE = ahab.parse_table(table_of("p384"))
SHA256, SHA512 = TABLE.hash("sha256").hex(), TABLE.hash("sha512").hex()


@pytest.fixture
def digsign(capsys: pytest.CaptureFixture[str]) -> Digsign:
    return Digsign(capsys)


@pytest.fixture
def image(tmp_path: Path) -> Path:
    path = tmp_path / "flash.bin"
    path.write_bytes(GOOD)
    return path


@pytest.fixture
def table(tmp_path: Path) -> Path:
    path = tmp_path / "SRK_1_2_3_4_table.bin"
    path.write_bytes(TABLE.raw)
    return path


def test_what_holds_ends_with_0(digsign: Digsign, image: Path) -> None:
    """Each container with its key, NXP's as NXP's; and for which boards."""
    ended = digsign("verify", image, "--soc", "imx93", "--fuses", SHA256)
    assert (ended.code, ended.err) == (0, "")
    assert f"Everything that can be checked here holds for boards with the fuse value {SHA256}." in ended.out
    assert "FAILS" not in ended.out
    for text in ("NXP container at 0x0", "OEM container at 0x4000", "by SRK 1 (ECDSA P-384)", "i.MX 93"):
        assert text in ended.out
    assert "signed by NXP" in ended.out


def test_what_is_not_signed_ends_with_1(digsign: Digsign, image: Path) -> None:
    """And says which container, and what that means."""
    image.write_bytes(all_signed(flash("good-93-sd-spl"), skip=0x4000))
    ended = digsign("verify", image, "--soc", "mx93")
    assert ended.code == 1
    assert "not proven: OEM container at 0x4000" in ended.out
    assert "a closed board would not boot this image" in ended.out


def test_what_is_not_known_is_told(digsign: Digsign, image: Path) -> None:
    """Without fuses the keys are anybody's, without a chip they may be of a kind that it refuses."""
    ended = digsign("verify", image)
    assert ended.code == 0
    assert "Pass --fuses or --srk-table" in ended.out
    assert "Pass --soc" in ended.out


def test_other_keys_end_with_1(digsign: Digsign, image: Path, table: Path) -> None:
    """By the fuse value of the chip's hash, by the table, or both."""
    assert digsign("verify", image, "--srk-table", table).code == 0
    assert digsign("verify", image, "--srk-table", table, "--fuses", SHA512).code == 0
    assert digsign("verify", image, "--soc", "imx8qm", "--fuses", SHA512).code == 0
    assert digsign("verify", image, "--soc", "imx8qm", "--fuses", SHA256).code == 1
    assert digsign("verify", image, "--fuses", "00" * 32).code == 1
    differs = digsign("verify", image, "--srk-table", table, "--fuses", "00" * 64)
    assert differs.code == 2
    assert "which differ from --fuses" in differs.err
    table.write_bytes(b"no table")
    assert "is not an SRK table of AHAB" in digsign("verify", image, "--srk-table", table).err
    assert "64 hexadecimal digits" in digsign("verify", image, "--fuses", "00" * 33).err


def test_the_report_for_programs(digsign: Digsign, image: Path) -> None:
    """With the same keys as that of a HAB image where they mean the same."""
    values = json.loads(digsign("verify", image, "--json", "--soc", "mx93").out)
    assert (values["holds"], values["fails"], values["meaning"], values["soc"]) == (True, False, None, "mx93")
    assert values["fuse_value"] == SHA256
    assert [(one["owner"], one["offset"], one["block"], one["srk"]) for one in values["containers"]] == [
        ("NXP", 0, 0x90, 1), ("OEM", 0x400, 0x490, 1), ("OEM", 0x4000, 0x4190, 1),
    ]  # fmt: skip
    assert values["containers"][1]["images"][0] == {
        "number": 0, "type": "code", "core": 2, "offset": 0x2800, "size": 0x1800, "load": 0x2049A000,
        "entry": 0x2049A000, "hash": "sha384", "encrypted": False,
    }  # fmt: skip
    assert sum(one["length"] for one in values["spans"]) == values["size"] == len(GOOD)
    image.write_bytes(changed(GOOD, 0x2800, b"\xff\xff"))
    ended = digsign("verify", image, "--json")
    assert (ended.code, json.loads(ended.out)["meaning"]) == (1, "refused")


def test_chips_and_images_of_different_kinds_do_not_go_together(digsign: Digsign, image: Path) -> None:
    """Nothing is verified then."""
    for soc in ("imx8mp", "imx6ull"):
        ended = digsign("verify", image, "--soc", soc)
        assert (ended.code, ended.out) == (2, "")
        assert "is for chips with AHAB, but --soc names" in ended.err
    image.write_bytes(golden.flash("mp", "u-boot"))
    ended = digsign("verify", image, "--soc", "imx93")
    assert (ended.code, ended.out) == (2, "")
    assert "is for chips with HAB4, but --soc names the i.MX 93, a chip with AHAB" in ended.err


@pytest.mark.parametrize(
    "option", [("--sdp", "0x910000"), ("--load-address", "0"), ("--configuration", "x"), ("--fit-fdt", "required")]
)
def test_options_for_hab_are_refused(digsign: Digsign, image: Path, option: tuple[str, str]) -> None:
    """They would change nothing."""
    ended = digsign("verify", image, *option)
    assert (ended.code, ended.out) == (2, "")
    assert f"{option[0]} is for HAB images" in ended.err


def test_messages_are_not_verified(digsign: Digsign, image: Path) -> None:
    """They are no images."""
    head = bytes.fromhex("00600089020000000000000048000000")
    image.write_bytes(head.ljust(0x4B, b"\0") + b"\x90" + bytes(0x20))
    ended = digsign("verify", image)
    assert (ended.code, "is a signed message" in ended.err) == (1, True)


def test_a_fuse_value_of_the_other_hash_is_no_value_of_the_chip(digsign: Digsign, image: Path) -> None:
    """It was copied from another line; nothing is verified then."""
    ended = digsign("verify", image, "--soc", "imx93", "--fuses", "00" * 64)
    assert (ended.code, ended.out) == (1, "")
    assert "--fuses has 128 digits, but i.MX 93 has a sha256 in its fuses: 64 digits" in ended.err
