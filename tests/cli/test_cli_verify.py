"""`digsign verify` as a person or a build reads it."""

from __future__ import annotations

import json
import os
import stat
from pathlib import Path

import pytest

from tests.helpers import golden
from tests.helpers.blobs import IMAGE, Signing
from tests.helpers.commands import Run
from tests.helpers.signed_images import signed as signed_image
from tests.image.test_encrypted import encrypted
from tests.image.test_verdict import SHORT


@pytest.fixture
def signed(signing: Signing, tmp_path: Path) -> Path:
    """A signed SPL."""
    path = tmp_path / "signed.bin"
    path.write_bytes(IMAGE.with_csf(signing.plain("rsa2048", "4.0.1", False).blob))
    return path


def test_what_holds_ends_with_0(digsign: Run, signed: Path, signing: Signing) -> None:
    """And tells for which boards."""
    fuses = signing.pki("rsa2048", False).fuse_value.hex()
    done = digsign("verify", signed.name, "--fuses", fuses)
    assert (done.returncode, done.stderr) == (0, "")
    assert f"Everything holds for boards with the fuse value {fuses}." in done.stdout
    assert "FAILS" not in done.stdout
    assert "CAAM MID" in done.stdout


def test_without_fuses_it_says_what_is_not_known(digsign: Run, signed: Path) -> None:
    """That the keys are anybody's."""
    assert "Pass --fuses or --srk-table" in digsign("verify", signed.name).stdout


def test_what_does_not_hold_ends_with_1(digsign: Run, signed: Path, tmp_path: Path) -> None:
    """And shows what and where."""
    data = bytearray(signed.read_bytes())
    data[0x80] ^= 1
    signed.write_bytes(data)
    done = digsign("verify", signed.name)
    assert done.returncode == 1
    assert "FAILS  Authenticate Data" in done.stdout
    assert "a closed board would not boot this image" in done.stdout


def test_what_boots_and_is_not_all_signed_is_not_said_to_be_refused(digsign: Run, tmp_path: Path) -> None:
    """A board runs it, and some of it is anybody's."""
    (tmp_path / "image").write_bytes(signed_image(golden.flash("mm", "u-boot"), makers={"SPL": SHORT}))
    done = digsign("verify", "image")
    assert done.returncode == 1
    assert "a board boots this image and runs bytes that no signature covers" in done.stdout
    assert "would not boot" not in done.stdout
    assert "✗" in done.stdout
    assert json.loads(digsign("verify", "image", "--json").stdout)["meaning"] == "unsigned"


def test_other_fuses_end_with_1(digsign: Run, signed: Path, signing: Signing, tmp_path: Path) -> None:
    """As given, or by their table."""
    other = signing.pki("p256", False)
    assert digsign("verify", signed.name, "--fuses", other.fuse_value.hex()).returncode == 1
    (tmp_path / "table.bin").write_bytes(other.srk_table)
    assert digsign("verify", signed.name, "--srk-table", "table.bin").returncode == 1
    (tmp_path / "table.bin").write_bytes(signing.pki("rsa2048", False).srk_table)
    assert digsign("verify", signed.name, "--srk-table", "table.bin").returncode == 0


def test_the_report_for_machines(digsign: Run, signed: Path, tmp_path: Path) -> None:
    """The same, good or bad."""
    told = json.loads(digsign("verify", signed.name, "--json").stdout)
    assert told["holds"] is True
    assert told["csfs"][0]["srk"] == 1
    assert [check["what"] for check in told["csfs"][0]["checks"]][:3] == ["CSF", "Install SRK", "Install CSFK"]
    (tmp_path / "bare.bin").write_bytes(IMAGE.data)
    done = digsign("verify", "bare.bin", "--json")
    assert (done.returncode, json.loads(done.stdout)["holds"]) == (1, False)


def test_the_map_suits_the_terminal(digsign: Run, signed: Path) -> None:
    """Blocks where it has them, else ASCII; colours only on a terminal."""
    assert "█" in digsign("verify", signed.name).stdout
    plain = digsign("verify", signed.name, PYTHONIOENCODING="ascii").stdout
    assert plain.isascii()
    assert "####" in plain
    assert "\x1b" not in plain


def test_encrypted_images_neither_hold_nor_fail(digsign: Run, tmp_path: Path) -> None:
    """What is encrypted only a board can check, and that is said."""
    (tmp_path / "image").write_bytes(encrypted())
    done = digsign("verify", "image")
    assert done.returncode == 1
    assert "FAILS" not in done.stdout
    assert "Install Secret Key" in done.stdout
    assert "only a board can check what is encrypted" in done.stdout
    assert "would not boot" not in done.stdout
    told = json.loads(digsign("verify", "image", "--json").stdout)
    assert (told["holds"], told["fails"]) == (False, False)
    assert "Decrypt Data" in " ".join(told["encrypted"]) or "Install Secret Key" in " ".join(told["encrypted"])


def test_firmware_of_others_is_told_of(digsign: Run, tmp_path: Path) -> None:
    """In words and in the map: not signed by anybody that is known, and not unused."""
    (tmp_path / "image").write_bytes(signed_image(golden.flash("mq", "nxp-new", hdmi=True)))
    done = digsign("verify", "image")
    assert done.returncode == 0, done.stdout
    assert "Everything that can be checked here holds" in done.stdout
    assert "◊ runs, not checked here" in done.stdout
    assert json.loads(digsign("verify", "image", "--json").stdout)["unchecked"][0]["offset"] == 0


def test_what_spl_asks_for_can_be_said(digsign: Run, tmp_path: Path) -> None:
    """FIT-FDT's CSF is missing: a note, or a failure where it is required."""
    (tmp_path / "image").write_bytes(signed_image(golden.flash("mm", "nxp-new"), makers={"FIT-FDT": None}))
    done = digsign("verify", "image")
    assert done.returncode == 0, done.stdout
    assert "note: missing" in done.stdout
    done = digsign("verify", "image", "--fit-fdt", "required")
    assert done.returncode == 1
    assert "FAILS  CSF" in done.stdout


MISTAKES = {
    "no such file": (["nothing.bin"], 1, "No such file"),
    "a folder": (["."], 1, "is not a regular file"),
    "a device": (["/dev/zero"], 1, "is not a regular file"),
    "an empty file": (["empty"], 1, "has 0x0 bytes"),
    "no image": (["text"], 1, "the data at 0x0 are unknown"),
    "fuses that are none": (["text", "--fuses", "12"], 2, "64 hexadecimal digits"),
    "a table that is none": (["signed.bin", "--srk-table", "text"], 1, "is not an SRK table"),
    "an address that is none": (["signed.bin", "--load-address", "here"], 2, "0x40480000"),
}


@pytest.mark.parametrize("name", MISTAKES)
def test_mistakes_are_told(digsign: Run, signed: Path, tmp_path: Path, name: str) -> None:
    """In words, without a traceback."""
    arguments, code, words = MISTAKES[name]
    (tmp_path / "empty").touch()
    (tmp_path / "text").write_text("This is no image. " * 20)
    done = digsign("verify", *arguments)
    assert (done.returncode, words in done.stderr, "Traceback" in done.stderr) == (code, True, False), done.stderr


def test_a_file_that_may_not_be_read_is_told(digsign: Run, signed: Path) -> None:
    """As the system says it."""
    signed.chmod(0)
    done = digsign("verify", signed.name)
    if os.geteuid() == 0:  # root reads everything
        assert (done.returncode, "Everything holds" in done.stdout) == (0, True)
    else:
        assert (done.returncode, "Permission denied" in done.stderr) == (1, True)
    assert "Traceback" not in done.stderr
    signed.chmod(stat.S_IRUSR)


def test_names_in_an_image_draw_nothing_on_the_terminal(digsign: Run, signed: Path, tmp_path: Path) -> None:
    """Nor do names of files."""
    name = "signed\x1b[2J.bin"
    (tmp_path / name).write_bytes(signed.read_bytes())
    done = digsign("verify", name)
    assert done.returncode == 0
    assert "\x1b" not in done.stdout + done.stderr
    assert r"signed\x1b[2J.bin" in done.stdout
