"""The images of these tests are those of the real mkimage, byte by byte."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from tests.helpers import golden
from tests.helpers import golden_kinds as kinds


def mkimage(folder: Path, code: bytes, *arguments: str) -> bytes:
    (folder / "code").write_bytes(code)
    subprocess.run(
        ["mkimage", *arguments, "-d", "code", "image"], cwd=folder, check=True, capture_output=True, timeout=60,
        env={"PATH": os.environ["PATH"] + ":/usr/sbin", "SOURCE_DATE_EPOCH": "1700000000"},
    )  # fmt: skip
    return (folder / "image").read_bytes()


@pytest.mark.parametrize("boot_from", ["sd", "qspi", "nor"])
@pytest.mark.parametrize("dcd_of", ["ul", "q", "7", None])
@pytest.mark.parametrize("csf", [0x2060, 0x4000])
def test_an_imximage_is_mkimages(tmp_path: Path, boot_from: str, dcd_of: str | None, csf: int) -> None:
    """u-boot.imx and SPL."""
    lines = ["IMAGE_VERSION 2", f"BOOT_FROM {boot_from}", f"CSF {csf:#x}"]
    lines += [f"DATA 4 {address:#x} {value:#x}" for address, value in kinds.DCDS[dcd_of]] if dcd_of else []
    (tmp_path / "imximage.cfg").write_text("\n".join(lines) + "\n")
    code = golden.filler("u-boot", 0x7D123)
    made = mkimage(tmp_path, code, "-n", "imximage.cfg", "-T", "imximage", "-e", "0x87800000")
    assert made == kinds.imximage(dcd_of=dcd_of, boot_from=boot_from, csf=csf)


def test_a_firmware_with_an_ivt_is_mkimages(tmp_path: Path) -> None:
    """u-boot-ivt.img, with the padding that counts up."""
    code = golden.filler("u-boot", 0x6D123)
    made = mkimage(
        tmp_path, code, "-A", "arm", "-T", "firmware_ivt", "-C", "none", "-O", "u-boot", "-a", "0x17800000", "-e", "0",
        "-n", "an image",
    )  # fmt: skip
    assert made == kinds.u_boot_ivt_img()


def test_a_kernel_is_mkimages(tmp_path: Path) -> None:
    """UImage."""
    made = mkimage(
        tmp_path, kinds.zimage(), "-A", "arm", "-T", "kernel", "-C", "none", "-O", "u-boot", "-a", "0x10008000", "-e",
        "0x10008000", "-n", "an image",
    )  # fmt: skip
    assert made == kinds.kernel_uimage()
