"""The golden images are those of a real tool, where there is one: U-Boot's mkimage makes flash.bin in the older layout.

Its `-T imx8mimage` (tools/imx8mimage.c) prints the blocks to sign, and those have to be the planner's.
"""

from __future__ import annotations

import os
import re
import subprocess
from dataclasses import dataclass
from pathlib import Path

import pytest

from digsigd.image.plan import plan
from tests.helpers import golden

CASES = [
    pytest.param(soc, boot, hdmi, id=f"{soc}-{boot}{'-hdmi' * hdmi}")
    for soc in golden.SOCS
    for boot in ("sd", "fspi")
    for hdmi in (False, True)
    if not hdmi or (soc, boot) == ("mq", "sd")
]


@dataclass(frozen=True)
class Made:
    """What mkimage wrote, and what it said."""

    data: bytes
    said: str

    def numbers(self, name: str) -> list[int]:
        found = re.search(rf"^ {name}:? *\t+(.*)$", self.said, re.MULTILINE)
        assert found, (name, self.said)
        return [int(word, 16) for word in found[1].split()]


def made(folder: Path, soc: str, boot: str, *, hdmi: bool, fit: bool = True) -> Made:
    """flash.bin as mkimage makes it."""
    load, rom = golden.ADDRESSES[soc][boot == "fspi"], golden.ADDRESSES[soc][4]
    (folder / "spl.bin").write_bytes(golden.spl_code(padded=False))
    (folder / "u-boot.itb").write_bytes(golden.itb(soc, external=0x3000))
    (folder / "hdmi.bin").write_bytes(golden.signed_hdmi())
    lines = ["FIT", f"ROM_VERSION v{rom}", f"BOOT_FROM {boot}", f"LOADER spl.bin {load:#x}"]
    lines += ["SIGNED_HDMI hdmi.bin"] if hdmi else []
    lines += ["SECOND_LOADER u-boot.itb 0x40200000 0x60000"] if fit else []
    (folder / "flash.cfg").write_text("\n".join(lines) + "\n")
    command = ["mkimage", "-n", "flash.cfg", "-T", "imx8mimage", "-e", hex(load), "-d", "spl.bin", "flash.bin"]
    path = os.environ["PATH"] + ":/usr/sbin"
    ran = subprocess.run(
        command, cwd=folder, check=True, capture_output=True, timeout=60, text=True, env={"PATH": path}
    )
    return Made((folder / "flash.bin").read_bytes(), ran.stdout)


@pytest.mark.parametrize(("soc", "boot", "hdmi"), CASES)
def test_the_blocks_are_those_that_mkimage_prints(tmp_path: Path, soc: str, boot: str, hdmi: bool) -> None:
    """For SPL and FIT, with the offsets of their CSFs. Numbers of FlexSPI are without the device's configuration."""
    flash = made(tmp_path, soc, boot, hdmi=hdmi)
    spl, fit = plan(flash.data).signings
    for part, name in ((spl, "spl hab block"), (fit, "sld hab block")):
        first = part.blocks[0]
        assert [first.address, first.offset, first.length] == flash.numbers(name)
    assert [spl.csf_offset, fit.csf_offset] == flash.numbers("csf_off") + flash.numbers("sld_csf_off")


@pytest.mark.parametrize(("soc", "boot", "hdmi"), CASES)
def test_the_builder_makes_what_mkimage_makes(tmp_path: Path, soc: str, boot: str, hdmi: bool) -> None:
    """Byte by byte, but for the word that tells where the second loader is, which not every mkimage writes."""
    flash = bytearray(made(tmp_path, soc, boot, hdmi=hdmi).data)
    name = {"sd": "sd", "fspi": "flexspi"}[boot]
    head = golden.spl(soc, boot=name, hdmi=hdmi, dek=0)
    fit = golden.with_fit_ivt(golden.itb(soc, external=0x3000), signed_tree=False)
    first, start = golden.boot_offsets(soc, name)
    # mkimage knows no offset of FlexSPI's for ROMs of version 2.
    place = golden.SECOND_LOADER - first - (0 if boot == "fspi" else start)
    at = 0x1A000 * hdmi + 8
    flash[at : at + 4] = bytes(4)
    assert flash == head.ljust(place, b"\0") + fit


def test_images_are_the_same_each_time() -> None:
    """The timestamp of mkimage is a fixed one."""
    first = golden.itb("mm", external=None)
    golden.mkimage.cache_clear()
    assert golden.itb("mm", external=None) == first


@pytest.mark.parametrize("soc", golden.SOCS)
def test_an_spl_by_mkimage_is_planned(tmp_path: Path, soc: str) -> None:
    """Without a second loader."""
    flash = made(tmp_path, soc, "sd", hdmi=False, fit=False)
    (spl,) = plan(flash.data).signings
    assert [spl.blocks[0].address, spl.blocks[0].offset, spl.blocks[0].length] == flash.numbers("spl hab block")
    assert flash.data == golden.spl(soc, dek=0)
