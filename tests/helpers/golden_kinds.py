"""Images for i.MX 6, 7, 7ULP and RT, of barebox, and 32-bit kernels, made field by field after their makers' tools.

Sources, by file and function:

- U-Boot: tools/imximage.c (set_imx_hdr_v2, imximage_set_header, imximage_generate), tools/mkimage.c and
  tools/default_image.c (IH_TYPE_FIRMWARE_IVT), arch/arm/mach-imx/Makefile (u-boot-nand.imx, u-boot-with-spl.imx,
  u-boot-nand-spl.imx), board/*/*/imximage.cfg (DCDs);
- barebox: scripts/imx/imx-image.c (add_header_v2, add_flexspi_header, hab_sign), scripts/imx/imx.c;
- SPSDK: image/hab/hab_image.py and its segments; data/devices/*/database.yaml;
- Linux: arch/arm/boot/compressed/head.S (a zImage's header).

What boards run is made up.
"""

from __future__ import annotations

import struct
import zlib

from tests.helpers.golden import FCFB, Config, Part, aligned, filler, ivt, mkimage

CSF_SIZE = 0x2060
# What DCDs of these boards write to, as (address, value): mx6ullevk, mx6sabresd, mx6sxsabresd, mx7dsabresd, mx7ulp_evk.
DCDS = {
    "ul": [(0x020E04B4, 0x000C0000), (0x020E0490, 0x30), (0x020E027C, 0x28), (0x021B0800, 0xA1390003)],
    "q": [(0x020E05A8, 0x30), (0x020E0588, 0x30), (0x020E0594, 0x30), (0x021B0800, 0xA1390003)],
    "dl": [(0x020E04BC, 0x30), (0x020E0470, 0x30), (0x020E0464, 0x30), (0x021B0800, 0xA1390003)],
    "sx": [(0x020E05F4, 0x30), (0x020E032C, 0x30), (0x020E0300, 0x30), (0x021B0800, 0xA1390003)],
    "sl": [(0x020E05AC, 0x30), (0x020E0344, 0x30), (0x021B0800, 0xA1390003)],
    "7": [(0x30340004, 0x4F400005), (0x307A0000, 0x01040001), (0x307A01A0, 0x80400003)],
    "rt": [(0x402F0000, 0x10000004), (0x402F0008, 0x00030524)],
    "7ulp": [(0x403F00DC, 0), (0x40AB000C, 0x40), (0x40AB0800, 0xA1390003)],
}


def dcd(name: str) -> bytes:
    """A header, and one command that writes words: set_dcd_val_v2."""
    pairs = b"".join(struct.pack(">2I", address, value) for address, value in DCDS[name])
    command = struct.pack(">BHB", 0xCC, len(pairs) + 4, 4) + pairs
    return struct.pack(">BHB", 0xD2, len(command) + 4, 0x40) + command


def imximage(
    entry: int = 0x87800000,
    *,
    size: int = 0x7D123,
    dcd_of: str | None = "ul",
    boot_from: str = "sd",
    csf: int = CSF_SIZE,
    plugin: int = 0,
    name: str = "u-boot",
) -> bytes:
    """u-boot.imx, u-boot-dtb.imx or SPL as mkimage -T imximage makes it; for QSPI its CSF is 0x8e8 behind the end."""
    distance, init = {"sd": (0x400, 0x1000), "qspi": (0x1000, 0x1718), "nor": (0x1000, 0x1718)}[boot_from]
    # One without commands is not pointed at.
    commands = dcd(dcd_of) if dcd_of else b"\xd2\x00\x04\x40"
    code = filler(name, size).ljust(aligned(size, 0x1000), b"\0")
    start = entry - init
    self_address = start + distance
    length = aligned(entry - self_address + len(code) + distance, 0x1000)
    head = ivt(
        entry,
        self_address,
        start + length if csf else 0,
        boot_data=self_address + 0x20,
        dcd=self_address + 0x2C if dcd_of else 0,
    )
    head += struct.pack("<3I", start, length + csf, plugin) + commands
    return head.ljust(entry - self_address, b"\0") + code


def csf_offset(image: bytes, place: int = 0) -> int:
    """Where the CSF of the IVT there belongs in the file."""
    own, csf = struct.unpack_from("<2I", image, place + 0x14)
    return int(place + csf - own)


def spl(entry: int = 0x908000, *, size: int = 0xB123, **options: object) -> bytes:
    """SPL."""
    return imximage(entry, size=size, name="spl", **{"dcd_of": None, **options})  # type: ignore[arg-type]


def uimage(data: bytes, *, load: int, kind: int = 2, arch: int = 2, entry: int = 0, more: int = 0) -> bytes:
    """A legacy uImage: image_set_header. `more` is what the size counts beyond the data."""
    head = struct.pack(
        ">7I4B32s", 0x27051956, 0, 1700000000, len(data) + more, load, entry, zlib.crc32(data), 17, arch, kind, 0,
        b"an image",
    )  # fmt: skip
    return head[:4] + struct.pack(">I", zlib.crc32(head)) + head[8:] + data


def u_boot_ivt_img(load: int = 0x17800000, *, size: int = 0x6D123, kind: int = 32) -> bytes:
    """u-boot-ivt.img: padded with bytes that count up, then the IVT; the size counts a CSF."""
    data = filler("u-boot", size)
    end = aligned(0x40 + size, 0x1000)
    data += bytes(at & 0xFF for at in range(0x40 + size, end))
    place = load + end - 0x40
    data += ivt(load, place, place + 0x20)
    return uimage(data, load=load, kind=kind, more=CSF_SIZE - 0x20)


def with_spl(*, pad_to: int = 0x11000, second: bytes | None = None) -> bytes:
    """u-boot-with-spl.imx: objcopy --pad-to, gaps filled with ff."""
    return spl().ljust(pad_to, b"\xff") + (u_boot_ivt_img() if second is None else second)


def nand_spl() -> bytes:
    """u-boot-nand-spl.imx."""
    return b"\0\0\0\0FCB \x01".ljust(0x400, b"\0") + spl()


def nand_u_boot() -> bytes:
    """u-boot-nand.imx."""
    return bytes(0x400) + imximage() + bytes(0x2800)


def qspi(image: bytes) -> bytes:
    """With the configuration that the ROM reads at 0x400: its tag is the last word."""
    table = bytes(0x1FC) + struct.pack("<I", 0xC0FFEE01)
    return (bytes(0x400) + table).ljust(0x1000, b"\0") + image


def barebox_header(size: int, *, is_8m: bool) -> bytes:
    """bb_header_aarch32 and bb_header_aarch64."""
    branch = 0x14000000 if is_8m else 0xEAFFFFFE
    words = [branch | 0x3FE, *[branch] * 7]
    return struct.pack("<8I", *words) + b"barebox\0" + struct.pack("<2I", 0, size) + b"\x55" * 32


def barebox(
    load: int = 0x10000000, *, dcd_of: str | None = "q", size: int = 0x5A123, csf: bytes = b"\xd4\0\x04\x40"
) -> bytes:
    """A signed image, *.simximg: a CSF is there, padded with 5a."""
    length = aligned(0x1000 + size, 0x1000)
    commands = dcd(dcd_of) if dcd_of else b""
    own = load + 0x400
    head = ivt(load + 0x1000, own, load + length, boot_data=own + 0x20, dcd=own + 0x2C if commands else 0)
    head += struct.pack("<3I", load, length + 0x2000, 0) + commands
    data = barebox_header(length, is_8m=False).ljust(0x400, b"\0") + head
    data = data.ljust(0x1000, b"\0") + filler("barebox", size)
    return data.ljust(length, b"\x5a") + csf.ljust(0x2000, b"\x5a")


def barebox_8m(
    load: int = 0x7E1000,
    *,
    gap: int = 0x8000,
    at: int = 0x400,
    pbl: int = 0x1A123,
    flexspi: str | None = None,
    qspi: bool = True,
) -> bytes:
    """*.psimximg: only the first part is signed; with HABV4_QSPI there are two IVTs and two CSFs.

    `flexspi` is "mm", where its IVT is 0x1000 behind the start of the one image, or "mp", where it begins another.
    Without `qspi`, there is one CSF, and nobody counts or makes that of the second IVT.
    """
    header = 0x2000 if flexspi else 0x1000
    length = aligned(pbl + header, 0x1000)
    csfs = 2 if flexspi and qspi else 1
    own = load + at
    head = ivt(load + header, own, load + length, boot_data=own + 0x20)
    head += struct.pack("<3I", load, length + csfs * 0x2000, 0)
    data = barebox_header(length if not flexspi else 2 * length - (flexspi == "mp") * 0x1000 + 0x200, is_8m=True)
    data = data.ljust(gap, b"\0")
    if flexspi:
        place = gap if flexspi == "mm" else gap + 0x400
        data = data.ljust(place, b"\0") + FCFB
    data = data[: gap + at].ljust(gap + at, b"\0") + head + data[gap + at + len(head) :]
    if flexspi:
        own = load + 0x1000 if flexspi == "mm" else load
        size = length if flexspi == "mm" else length - 0x1000
        entry = load + 0x2000 if flexspi == "mm" else load + 0x1000
        second = ivt(entry, own, load + size + 0x2000, boot_data=own + 0x20)
        second += struct.pack("<3I", load, size + 0x2000 * csfs, 0)
        data = data.ljust(gap + 0x1000, b"\0") + second
    data = data.ljust(gap + header, b"\0") + filler("pbl", pbl)
    data = data.ljust(gap + length, b"\0") + (b"\xd4\0\x04\x40".ljust(0x2000, b"\x5a")) * csfs
    return data + filler("barebox.z", 0x40123)


def rt(
    start: int = 0x60000000,
    *,
    at: int = 0x1000,
    app_at: int = 0x2000,
    size: int = 0x8123,
    front: str = "fcb0",
    piece: str = "",
    odd: bool = True,
    csf: bool = True,
    tail: int = 0,
) -> bytes:
    """A signed image of SPSDK: IVT, boot data, DCD or XMCD, application, and a CSF of 0x2000 bytes at the next page."""
    app = struct.pack("<2I", 0x20020000, start + app_at + 0x241) + filler("app", size)
    app = app.ljust(aligned(len(app), 16), b"\0") + bytes(tail)
    end = app_at + len(app)
    length = aligned(end + 16 - end % 16, 0x1000)
    own = start + at
    extra = {"": b"", "dcd": dcd("rt"), "xmcd": struct.pack("<I", 0xC0010000 | 0xC) + b"\x11" * 8}[piece]
    head = ivt(
        start + app_at + (0x241 if odd else 0),
        own,
        start + length if csf else 0,
        boot_data=own + 0x20,
        dcd=own + 0x40 if piece == "dcd" else 0,
    )
    head += struct.pack("<3I", start, (length + 0x2000) if csf else end, 0)
    data = {
        "": b"",
        "none": b"\0" * at,
        "ones": b"\xff" * at,
        "fcb0": FCFB.ljust(0x1000, b"\xff"),
        "fcb400": (b"\xff" * 0x400 + FCFB).ljust(0x1000, b"\xff"),
    }[front]
    base = len(data)
    data += head.ljust(0x40, b"\0") + extra
    data = data.ljust(base + app_at - at, b"\0") + app
    return data.ljust(base + length - at, b"\0")


def zimage(size: int = 0x5A124) -> bytes:
    """A 32-bit kernel: magic, start and end at 0x24."""
    head = struct.pack("<9I", *[0xE1A00000] * 8, 0xEA000003) + struct.pack("<4I", 0x016F2818, 0, size, 0x04030201)
    return head + filler("zImage", size - len(head))


def kernel_uimage(size: int = 0x5A124) -> bytes:
    """A 32-bit kernel as uImage."""
    return uimage(zimage(size), load=0x10008000, entry=0x10008000)


def with_ivt(image: bytes, load: int, *, entry: int = 0) -> bytes:
    """Padded to 4 KiB, and an IVT: genIVT of mx6_mx7_secure_boot.txt, 3.2; Digi's has its entry point at 0x100."""
    size = aligned(len(image), 0x1000)
    return image.ljust(size, b"\0") + ivt(load + entry, load + size, load + size + 0x20)


def fit32() -> bytes:
    """u-boot.itb of a 32-bit board, data embedded, as an SPL with HAB takes it since U-Boot v2023.07."""
    parts = (
        Part("firmware-1", filler("u-boot", 0x5AAC8), "firmware", 0x87800000, 0x87800000, os="u-boot"),
        Part("fdt-1", filler("dtb", 0x6DC0), "flat_dt"),
    )
    return mkimage(parts, (Config("conf-1", "firmware-1", (), ("fdt-1",)),), None)
