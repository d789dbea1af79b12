"""Images in the published layouts, made field by field; the FITs by the real mkimage of u-boot-tools.

Sources, by file and function:

- NXP imx-mkimage: iMX8M/mkimage_imx8.c (main, generate_ivt_for_fit; with LFU-573-1 calc_fitimage_hash and append_data,
  with LFU-573-2 the second IVT), iMX8M/soc.mak (addresses, DDR firmware, options of mkimage), iMX8M/mkimage_fit_atf.sh
  (the FIT's source), scripts/fspi_packer.sh (FlexSPI);
- U-Boot: tools/imx8mimage.c (build_image), tools/binman/etype/nxp_imx8mcst.py (BuildSectionData),
  arch/arm/dts/imx8mm-u-boot.dtsi (where binman puts SPL and FIT), doc/imx/habv4/csf_examples/mx8m/csf.sh;
- Linux: Documentation/arch/arm64/booting.rst, 4 (header of a kernel);
- uboot-imx: doc/imx/habv4/guides/mx8m_secure_boot.txt, 3 (IVT behind a kernel).

What boards run is made up. Sizes are those of real images, roughly.
"""

from __future__ import annotations

import functools
import hashlib
import os
import random
import struct
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path

LAYOUTS = ("nxp-old", "nxp-hash", "nxp-new", "u-boot", "binman")
SOCS = ("mm", "mn", "mp", "mq")
BOOTS = ("sd", "emmc_fastboot", "flexspi")

U_BOOT = 0x40200000  # mkimage_fit_atf.sh; CONFIG_TEXT_BASE
FIT_ADDRESS = 0x44000000  # CONFIG_SPL_LOAD_FIT_ADDRESS of U-Boot's boards
SECOND_LOADER = 0x60000  # soc.mak: -second_loader u-boot.itb 0x40200000 0x60000
CSF_SIZE = 0x2000
DEK_BLOB_MAX_SIZE = 0x60
SIGNED_HDMI = 0x1A000 - 0x1C00  # signed_hdmi_imx8m.bin is shorter than what it is aligned to
# uboot-imx, arch/arm/mach-imx/cmd_qspihdr.c: fspi_safe_config and qspi_safe_config, their tags first and last.
FCFB = struct.pack("<4sI", b"FCFB", 0x56010000).ljust(0x200, b"\0")
QSPI = struct.pack("<10I", *(0,) * 8, 3, 3).ljust(0x1FC, b"\0") + struct.pack("<I", 0xC0FFEE01)

# soc.mak: SPL_LOAD_ADDR, SPL_FSPI_LOAD_ADDR, ATF_LOAD_ADDR, TEE_LOAD_ADDR, VERSION, where fspi_packer.sh puts the
# configuration. The Quad has QSPI, and no address of its own for it.
ADDRESSES = {
    "mm": (0x7E1000, 0x7E2000, 0x920000, 0xBE000000, 1, 0),
    "mn": (0x912000, 0x912000, 0x960000, 0x56000000, 2, 0x400),
    "mp": (0x920000, 0x920000, 0x970000, 0x56000000, 2, 0x400),
    "mq": (0x7E1000, 0x7E1000, 0x910000, 0xFE000000, 1, 0x400),
}


@dataclass(frozen=True)
class Part:
    """An image of a FIT: its node, file, and what the node says of it."""

    name: str
    data: bytes
    kind: str
    load: int | None = None
    entry: int | None = None
    compression: str = "none"
    os: str | None = None
    description: str = "an image"

    def source(self, file: str) -> str:
        """The node in an image tree source."""
        lines = [f'description = "{self.description}";', f'data = /incbin/("{file}");', f'type = "{self.kind}";']
        lines += ['arch = "arm64";'] if self.kind != "flat_dt" else []
        lines += [f'compression = "{self.compression}";']
        lines += [f'os = "{self.os}";'] if self.os else []
        lines += [f"load = <{self.load:#x}>;"] if self.load is not None else []
        lines += [f"entry = <{self.entry:#x}>;"] if self.entry is not None else []
        return f"{self.name} {{ {' '.join(lines)} }};"


@dataclass(frozen=True)
class Config:
    """A configuration of a FIT."""

    name: str
    firmware: str | None
    loadables: tuple[str, ...]
    fdt: tuple[str, ...]
    kernel: str | None = None

    def source(self) -> str:
        """The node in an image tree source."""
        lines = ['description = "a configuration";']
        for name, value in (("firmware", self.firmware), ("kernel", self.kernel)):
            lines += [f'{name} = "{value}";'] if value else []
        for name, values in (("loadables", self.loadables), ("fdt", self.fdt)):
            quoted = ", ".join(f'"{value}"' for value in values)
            lines += [f"{name} = {quoted};"] if values else []
        return f"{self.name} {{ {' '.join(lines)} }};"


@functools.cache
def filler(name: str, size: int) -> bytes:
    """Bytes that stand for code. The first are never 0, so that nothing is taken for padding."""
    return b"\x5a" + random.Random(name).randbytes(size - 1)


def aligned(value: int, to: int) -> int:
    return -(-value // to) * to


def ivt(
    entry: int, self_address: int, csf: int, *, boot_data: int = 0, dcd: int = 0, second: int = 0, version: int = 0x40
) -> bytes:
    """flash_header_v2_t."""
    return bytes([0xD1, 0, 0x20, version]) + struct.pack("<7I", entry, second, dcd, boot_data, self_address, csf, 0)


@functools.cache
def mkimage(parts: tuple[Part, ...], configs: tuple[Config, ...], external: int | None, *options: str) -> bytes:
    """A FIT by the real mkimage, with data outside of the tree from `external` on."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        nodes = []
        for n, part in enumerate(parts):
            (folder / f"part{n}").write_bytes(part.data)
            nodes.append(part.source(f"part{n}"))
        source = '/dts-v1/;\n/ {\n description = "Configuration to load ATF before U-Boot"; #address-cells = <1>;\n'
        source += f" images {{ {' '.join(nodes)} }};\n"
        source += (
            f' configurations {{ default = "{configs[0].name}"; {" ".join(c.source() for c in configs)} }};\n}};\n'
        )
        (folder / "u-boot.its").write_text(source)
        arguments = ["-E", "-p", hex(external)] if external is not None else []
        subprocess.run(
            ["mkimage", *arguments, *options, "-f", "u-boot.its", "u-boot.itb"],
            cwd=folder,
            check=True,
            capture_output=True,
            timeout=60,
            env={"PATH": os.environ["PATH"] + ":/usr/sbin", "SOURCE_DATE_EPOCH": "1700000000"},
        )
        return (folder / "u-boot.itb").read_bytes()


def parts(
    soc: str, *, dtbs: int = 1, tee: bool = True, names: str = "nxp"
) -> tuple[tuple[Part, ...], tuple[Config, ...]]:
    """What mkimage_fit_atf.sh puts into the FIT, in its order; with `names` "u-boot" what imx8m?-u-boot.dtsi does."""
    _, _, atf, tee_load, _, _ = ADDRESSES[soc]
    dash = "-1" if names == "nxp" else ""
    device_trees = [Part(f"fdt-{n}", filler(f"dtb{n}", 0x6DC0 + 0x51 * n), "flat_dt") for n in range(1, dtbs + 1)]
    u_boot = Part(f"uboot{dash}", filler("u-boot", 0x9AAC8), "standalone", U_BOOT, description="U-Boot (64-bit)")
    firmware = [Part(f"atf{dash}", filler("atf", 0x9139), "firmware", atf, atf, description="ARM Trusted Firmware")]
    if tee:
        firmware.append(Part(f"tee{dash}", filler("tee", 0x4D268), "firmware", tee_load, tee_load))
    loadables = tuple(part.name for part in firmware)
    configs = tuple(Config(f"config-{n}", u_boot.name, loadables, (f"fdt-{n}",)) for n in range(1, dtbs + 1))
    order = [u_boot, *device_trees, *firmware] if names == "nxp" else [u_boot, *firmware, *device_trees]
    return tuple(order), configs


def itb(
    soc: str = "mm", *, external: int | None = 0x5000, dtbs: int = 1, tee: bool = True, names: str = "nxp"
) -> bytes:
    """u-boot.itb, without an IVT."""
    return mkimage(*parts(soc, dtbs=dtbs, tee=tee, names=names), external)


def tree_size(fit: bytes) -> int:
    """fdt_totalsize."""
    return int(struct.unpack_from(">I", fit, 4)[0])


def with_fit_ivt(fit: bytes, ep: int = U_BOOT, *, signed_tree: bool = True) -> bytes:
    """generate_ivt_for_fit: the IVT behind the tree, and since LFU-573-2 the one for the tree's signature."""
    data = bytearray(fit)
    size = aligned(aligned(tree_size(fit), 4), 0x1000)
    load = (ep - (size + CSF_SIZE * (2 if signed_tree else 1)) - 512 - 63) & ~63
    data[size : size + 32] = ivt(load, load + size, load + size + 0x20)
    if signed_tree:
        at = size + CSF_SIZE
        data[at : at + 32] = ivt(load, load + at, load + at + 0x20)
    return bytes(data)


def fit_ivt(soc: str = "mm", *, signed_tree: bool = True, dtbs: int = 1, tee: bool = True) -> bytes:
    """What `mkimage_imx8 -fit_ivt u-boot.itb 0x40200000 0x0` makes."""
    fit = itb(soc, external=0x5000 if signed_tree else 0x3000, dtbs=dtbs, tee=tee)
    return with_fit_ivt(fit, signed_tree=signed_tree)


def spl_code(*, padded: bool, code: int = 0x12345) -> bytes:
    """u-boot-spl-ddr.bin by soc.mak. Since LFU-573-1 the last part of the DDR firmware is padded as well."""
    data = filler("spl", code)
    data = data.ljust(aligned(code, 4), b"\0")
    for name, size, slot in (("1d_imem", 0x7F00, 0x8000), ("1d_dmem", 0x5FA, 0x4000), ("2d_imem", 0x7E40, 0x8000)):
        data += filler(name, size).ljust(slot, b"\0")
    last = filler("2d_dmem", 0x4FA)
    return data + (last.ljust(0x4000, b"\0") if padded else last)


def boot_offsets(soc: str, boot: str) -> tuple[int, int]:
    """(ivt_offset, rom_image_offset) of main."""
    first, start = {"sd": (0x400, 0x8000), "emmc_fastboot": (0x400, 0), "flexspi": (0x1000, 0)}[boot]
    if ADDRESSES[soc][4] == 2:
        return 0, 0x1000 if boot == "flexspi" else start
    return first, start


def spl(
    soc: str = "mm",
    *,
    boot: str = "sd",
    code: bytes | None = None,
    second: int = 0,
    hdmi: bool = False,
    dek: int = DEK_BLOB_MAX_SIZE,
    header: int = 0x40,
) -> bytes:
    """What main makes of -loader: HDMI firmware if asked for, IVT, boot data, SPL, and 0x2000 bytes for the CSF.

    `second` is sld_src_off where there is a second loader; `dek` is 0 for U-Boot's imx8mimage.c, `header` 0x30 in the
    examples of mx8m_secure_boot.txt.
    """
    load, flexspi, _, _, rom, _ = ADDRESSES[soc]
    start = flexspi if boot == "flexspi" else load
    ivt_offset, rom_image_offset = boot_offsets(soc, boot)
    code = spl_code(padded=False) if code is None else code
    file_off = aligned(SIGNED_HDMI, 0x1A000) if hdmi else 0
    header_image_off = file_off + ivt_offset
    self_address = start - header
    size = aligned(len(code) + header + ivt_offset, 0x200)
    csf = self_address - ivt_offset + size
    reserved = second - rom_image_offset - header_image_off if second and rom == 1 else 0
    head = ivt(start, self_address, csf, boot_data=self_address + 0x20, second=reserved, version=0x41)
    head += struct.pack("<3I", self_address - ivt_offset, size + CSF_SIZE + dek, 0)
    data = bytearray(signed_hdmi()[0x400:].ljust(file_off, b"\0") if hdmi else b"")
    data += (head.ljust(header, b"\0") + code).ljust(size - ivt_offset, b"\0") + bytes(CSF_SIZE)
    return bytes(data)


def signed_hdmi() -> bytes:
    """signed_hdmi_imx8m.bin as main makes it of -hdmi: IVT at 0x400, and another one behind the firmware."""
    address, size = 0x32C10000, 0x17000
    head = ivt(address, address + size, address + size + 0x40, boot_data=address + size + 0x20, version=0x41)
    head += struct.pack("<3I", address, size + 0x1000, 2)
    data = bytes(0x400) + head.ljust(0x2000 - 0x400, b"\0") + filler("hdmi", 0x16000)
    return data.ljust(SIGNED_HDMI, b"\0")


def packed_for_flexspi(soc: str, data: bytes) -> bytes:
    """fspi_packer.sh."""
    header = QSPI if soc == "mq" else FCFB
    return (bytes(ADDRESSES[soc][5]) + header).ljust(0x1000, b"\0") + data


def flash(
    soc: str = "mm",
    layout: str = "nxp-new",
    dtbs: int = 1,
    tee: bool = True,
    boot: str = "sd",
    hdmi: bool = False,
    signed_room: bool = True,
) -> bytes:
    """flash.bin, in one of these layouts.

    - "nxp-old": imx-mkimage before LFU-573; "nxp-hash": with LFU-573-1; "nxp-new": with LFU-573-2 too;
    - "u-boot": U-Boot's, FIT with external data whose IVT csf.sh made;
    - "binman": U-Boot's with nxp_imx8mcst, FIT with data embedded; `signed_room` tells whether there was a cst, which
      has the room for the CSF written.
    """
    if layout == "binman":
        return _binman(soc, dtbs, tee, boot, signed_room)
    if layout == "u-boot":
        fit = with_fit_ivt(itb(soc, external=0x3000, dtbs=dtbs, tee=tee, names="u-boot"), signed_tree=False)
        head = spl(soc, dek=0)
        return head.ljust(fit_offset(soc, boot), b"\0") + fit
    new = layout == "nxp-new"
    fit = itb(soc, external=0x5000 if new else 0x3000, dtbs=dtbs, tee=tee)
    code = spl_code(padded=layout != "nxp-old")
    if layout != "nxp-old":
        code += hashlib.sha256(fit[: tree_size(fit)]).digest()
    head = spl(soc, boot=boot, code=code, second=SECOND_LOADER, hdmi=hdmi)
    ivt_offset, rom_image_offset = boot_offsets(soc, boot)
    place = SECOND_LOADER - rom_image_offset - ivt_offset
    if len(head) > place:
        raise ValueError(f"the SPL ends at {len(head):#x}, behind the FIT's place {place:#x}")
    data = head.ljust(place, b"\0") + with_fit_ivt(fit, signed_tree=new)
    return packed_for_flexspi(soc, data) if boot == "flexspi" else data


def fit_offset(soc: str, boot: str = "sd") -> int:
    """Where the FIT is in flash.bin."""
    ivt_offset, rom_image_offset = boot_offsets(soc, boot)
    return SECOND_LOADER - rom_image_offset - ivt_offset + (0x1000 if boot == "flexspi" else 0)


def _binman(soc: str, dtbs: int, tee: bool, boot: str, signed_room: bool) -> bytes:
    """imx8mm-u-boot.dtsi: nxp-imx8mcst@0 around the SPL, nxp-imx8mcst@1 around the FIT."""
    head = spl(soc, boot=boot, dek=0)[:-CSF_SIZE]  # the etype cuts off the padding, and pads the CSF to 0x2000 - 0x20
    room = bytes(CSF_SIZE - 0x20) if signed_room else b""
    fit = itb(soc, external=None, dtbs=dtbs, tee=tee, names="u-boot")
    if boot == "flexspi":
        data = FCFB.ljust(0x1000, b"\0") + head + room
        place = 0x58C00
    else:
        data = head + room
        place = 0x57C00 if ADDRESSES[soc][4] == 1 else 0x58000
    return data.ljust(place, b"\0") + binman_fit(fit) + room


def binman_fit(fit: bytes, address: int = FIT_ADDRESS) -> bytes:
    """BuildSectionData with a FIT: padded to 4 KiB, then the IVT, which has itself for an entry point."""
    size = aligned(len(fit), 0x1000)
    place = address + size
    return fit.ljust(size, b"\0") + ivt(place, place, place + 0x20, version=0x41)


def kernel(image_size: int = 0x210000, size: int = 0x1F2345) -> bytes:
    """An arm64 Image: code0 and code1, text_offset, image_size, flags, magic at 0x38."""
    head = struct.pack("<2I3Q", 0x91005A4D, 0x1485BFFF, 0, image_size, 0x0A)
    head = head.ljust(0x38, b"\0") + b"ARM\x64" + struct.pack("<I", 0x40)
    return head + filler("kernel", size - len(head))


def kernel_with_ivt(load: int = 0x40480000, image_size: int = 0x210000) -> bytes:
    """mx8m_secure_boot.txt, 3.1 and 3.2: padded to the size in its header, then genIVT."""
    data = kernel(image_size).ljust(image_size, b"\0")
    return data + ivt(load, load + image_size, load + image_size + 0x20, version=0x41)
