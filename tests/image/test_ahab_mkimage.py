"""Files that U-Boot's mkimage makes are planned as it says: it prints the offsets to sign (tools/imx8image.c)."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest

from digsigd.image.ahab_plan import plan_ahab
from digsigd.image.ahab_report import report_ahab
from tests.helpers.ahab_samples import all_signed, flash

SD = flash("good-93-sd-spl")
# NXP's container with its firmware, as mkimage's APPEND takes it.
NXP = SD[:0x400] + bytes(0x1C00) + SD[0x2000:0x2800]


def made(folder: Path, lines: list[str]) -> tuple[bytes, str]:
    """What mkimage writes for such a configuration, and what it says."""
    (folder / "spl.bin").write_bytes(bytes(range(256)) * 190 + b"tail")
    (folder / "u-boot.bin").write_bytes(bytes(range(255, -1, -1)) * 300)
    (folder / "nxp.img").write_bytes(NXP)
    (folder / "flash.cfg").write_text("\n".join(lines) + "\n")
    done = subprocess.run(
        ["mkimage", "-T", "imx8image", "-n", "flash.cfg", "-d", "spl.bin", "flash.bin"],
        cwd=folder, capture_output=True, text=True, check=True, timeout=60,
    )  # fmt: skip
    return (folder / "flash.bin").read_bytes(), done.stdout + done.stderr


def said(text: str) -> list[tuple[int, int]]:
    """The offsets of containers and of their blocks, as it prints them for CST."""
    headers = re.findall(r"CST: CONTAINER \d+ offset: (0x[0-9a-f]+)", text)
    blocks = re.findall(r"Signature Block: offset is at (0x[0-9a-f]+)", text)
    return [(int(header, 16), int(block, 16)) for header, block in zip(headers, blocks, strict=True)]


CONFIGURATIONS = {
    "SPL behind NXP's": ["SOC_TYPE IMX9", "APPEND nxp.img", "CONTAINER", "IMAGE A55 spl.bin 0x2049A000"],
    "alone, two images": [
        "SOC_TYPE IMX8QX", "CONTAINER", "IMAGE A35 spl.bin 0x80000000", "IMAGE A35 u-boot.bin 0x80020000",
    ],
    "two containers": [
        "SOC_TYPE IMX8QX", "APPEND nxp.img", "CONTAINER", "IMAGE A35 spl.bin 0x100000", "CONTAINER",
        "IMAGE A35 u-boot.bin 0x80020000",
    ],
}  # fmt: skip


@pytest.mark.parametrize("name", CONFIGURATIONS)
@pytest.mark.parametrize("medium", ["SD 0x400", "FSPI 0x1000"])
def test_what_mkimage_makes_is_signed_where_it_says(tmp_path: Path, name: str, medium: str) -> None:
    """Nothing is wrong with it, and all of it holds once it is signed."""
    data, text = made(tmp_path, [f"BOOT_FROM {medium}", *CONFIGURATIONS[name]])
    plan = plan_ahab(data)
    plan.check_signable()
    assert [(one.offset, one.block) for one in plan.to_sign] == said(text)
    assert (plan.containers[0].owner == "NXP") == ("APPEND nxp.img" in CONFIGURATIONS[name])
    ready = all_signed(data)
    assert report_ahab(ready, plan_ahab(ready)).holds
    assert not report_ahab(data, plan).holds
