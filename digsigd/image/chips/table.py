"""The chips with HAB4 in their ROM, and where each value comes from.

Sources, by the names that the comments use:

- U-Boot: U-Boot 2026.07; its guides are in doc/imx/habv4/guides. NXP's: uboot-imx lf_v2023.04, the same folder.
- AN4581: NXP, "i.MX Secure Boot on HABv4 Supported Devices", rev. 2, with the versions of HAB in appendix A.
- SPSDK: NXP, spsdk/data/devices/*/database.yaml and fuses.json, and the images of its tests.
- barebox: include/mach/imx/ocotp-fusemap.h, drivers/hab/hab.c.
- HAB4 API: NXP, "High Assurance Boot Version 4 API Reference Manual"; CST UG: "Code Signing Tool User's Guide", 3.4.1.
- Events: the version in the first word of HAB's events, as users of boards show them on community.nxp.com.

A value that only one source gives, or that sources disagree about, is `Unconfirmed`.
"""

from __future__ import annotations

from collections.abc import Iterator

from digsigd.image import imx8m
from digsigd.image.chips.model import Chip, Crypto, Engine, FuseBits, FuseWord, Hab, Loads, Unconfirmed


def _bank(bank: int, words: range) -> tuple[FuseWord, ...]:
    return tuple(FuseWord(bank, word) for word in words)


def _indexes(words: range) -> tuple[FuseWord, ...]:
    return tuple(FuseWord(None, word) for word in words)


# U-Boot, mx6_mx7_secure_boot.txt, 1.5 (SRK_HASH), 1.7 (SEC_CONFIG), 1.8 (SRK_LOCK); barebox, OCOTP_SRK_HASH, _SRK_LOCK
# and _SEC_CONFIG_1. SRK_REVOKE: AN4581, appendix B.
_SRK_6 = _bank(3, range(8))
_CLOSE_6 = FuseBits(FuseWord(0, 6), 0x2)
_LOCK_6 = FuseBits(FuseWord(0, 0), 0x4000)
_REVOKE_6 = FuseBits(FuseWord(5, 7), 0x7)
# The same guide, and mx8m_secure_boot.txt, 1.7 and 1.8; barebox, MX8M_OCOTP_SRK_LOCK and _SEC_CONFIG_1.
_SRK_7 = _bank(6, range(4)) + _bank(7, range(4))
_CLOSE_7 = FuseBits(FuseWord(1, 3), 0x2000000)
_LOCK_7 = FuseBits(FuseWord(0, 0), 0x200)
_REVOKE_7 = FuseBits(FuseWord(9, 3), 0x7)
# barebox, MX8M_OCOTP_SRK_REVOKE: four bits, which others have for the Nano and the Plus only.
_REVOKE_8M_NEW = FuseBits(FuseWord(9, 3), 0xF)

# U-Boot, board configurations (CONFIG_SPL_TEXT_BASE, CONFIG_TEXT_BASE): an IVT is 0xC00 before the code.
_SPL_6 = Loads(0x907400, 0x908000)
_U_BOOT_6Q = Loads(0x177FF400, 0x17800000)
_U_BOOT_6UL = Loads(0x877FF400, 0x87800000)
# U-Boot v2022.01, include/configs/imx6_spl.h and imx7_spl.h: OCRAM that the ROM leaves free, by the reference manuals.
_OCRAM_256 = (0x907000, 0x938000)
_OCRAM_128 = (0x907000, 0x918000)
_OCRAM_7 = (0x910000, 0x946C00)
# U-Boot, CONFIG_IMX_DCD_ADDR.
_DCD_6 = (0x910000,)

_NO_SL_SCRIPT = (
    "no build is known that signs for it, and a user found that DCP, ANY and SW all failed; check that your signed"
    " image shows no HAB events before you trust an engine"
)


def _imx6(
    name: str,
    title: str,
    hab: Hab | Unconfirmed,
    *,
    crypto: Crypto = "CAAM",
    engine: Engine | Unconfirmed = "CAAM",
    names: tuple[str, ...] = (),
    spl: tuple[Loads, ...] = (_SPL_6,),
    u_boot: Loads = _U_BOOT_6UL,
    ocram: tuple[int, int] | None = None,
    notes: tuple[str, ...] = (),
) -> Chip:
    return Chip(
        name, title, "i.MX 6", crypto, engine, hab, _SRK_6, _CLOSE_6, _LOCK_6, _REVOKE_6,
        names=names, spl=spl, u_boot_cell=u_boot, ocram=ocram, dcd=_DCD_6, notes=notes,
    )  # fmt: skip


def _chips_6() -> Iterator[Chip]:
    # AN4581, appendix A. It gives no third number for the first silicon of the Quad and the Dual.
    quad = Hab((4, 1, 0), (4, 2, 7), "4.1, and 4.2.7 from silicon 1.6 (QuadPlus: 1.1)")
    old = Hab((4, 1, 1), (4, 2, 7), "4.1.1, and 4.2.7 from silicon 1.4")
    yield _imx6("imx6q", "i.MX 6Quad", quad, names=("imx6quad",), u_boot=_U_BOOT_6Q, ocram=_OCRAM_256)
    yield _imx6("imx6d", "i.MX 6Dual", quad, names=("imx6dual",), u_boot=_U_BOOT_6Q, ocram=_OCRAM_256)
    yield _imx6("imx6qp", "i.MX 6QuadPlus", quad, names=("imx6quadplus",), u_boot=_U_BOOT_6Q, ocram=_OCRAM_256)
    yield _imx6("imx6dp", "i.MX 6DualPlus", quad, names=("imx6dualplus",), u_boot=_U_BOOT_6Q, ocram=_OCRAM_256)
    yield _imx6("imx6dl", "i.MX 6DualLite", old, names=("imx6duallite",), u_boot=_U_BOOT_6Q, ocram=_OCRAM_128)
    yield _imx6("imx6s", "i.MX 6Solo", old, names=("imx6solo",), u_boot=_U_BOOT_6Q, ocram=_OCRAM_128)
    yield _imx6(
        "imx6sx", "i.MX 6SoloX", Hab((4, 1, 2), (4, 2, 7), "4.1.2, and 4.2.7 from silicon 1.4"), names=("imx6solox",)
    )
    # U-Boot, arch/arm/mach-imx/mx6/Kconfig and device trees: DCP, no CAAM, on SL, SLL, ULL and ULZ.
    engine = Unconfirmed(_NO_SL_SCRIPT)
    yield _imx6("imx6sl", "i.MX 6SoloLite", old, crypto="DCP", engine=engine, names=("imx6sololite",))
    yield _imx6(
        "imx6sll", "i.MX 6SLL", Hab((4, 2, 3), (4, 2, 6), "4.2.3, and 4.2.6 from silicon 1.1"),
        crypto="DCP", engine=engine,
    )  # fmt: skip
    yield _imx6(
        "imx6ul", "i.MX 6UltraLite", Hab((4, 2, 0), (4, 2, 6), "4.2.0, and 4.2.6 from silicon 1.2"),
        names=("imx6ultralite",), spl=(_SPL_6, Loads(0x908400, 0x909000)), ocram=_OCRAM_128,
    )  # fmt: skip
    # ERR010449: the DCP hashes what is in memory, not what is in the cache. AN4581, 3.5; barebox, imx6ull-gencsf.h;
    # meta-toradex-security.
    cache = ("The DCP bypasses the cache (erratum ERR010449): CSF descriptions have Engine = SW.",)
    yield _imx6(
        "imx6ull", "i.MX 6ULL", Hab((4, 2, 2), (4, 2, 6), "4.2.2, and 4.2.6 from silicon 1.1"),
        crypto="DCP", engine="SW", notes=cache,
    )  # fmt: skip
    unseen = Unconfirmed("AN4581 does not list it")
    yield _imx6("imx6ulz", "i.MX 6ULZ", unseen, crypto="DCP", engine="SW", notes=cache)


def _chips_7() -> Iterator[Chip]:
    hab = Hab((4, 2, 0), (4, 2, 5), "4.2.0 to 4.2.2, and 4.2.5 from silicon 1.3")  # AN4581, appendix A
    for name, title, more in (("imx7d", "i.MX 7Dual", "imx7dual"), ("imx7s", "i.MX 7Solo", "imx7solo")):
        yield Chip(
            name, title, "i.MX 7", "CAAM", "CAAM", hab, _SRK_7, _CLOSE_7, _LOCK_7, _REVOKE_7,
            names=(more,), spl=(Loads(0x911400, 0x912000),), u_boot_cell=_U_BOOT_6UL, ocram=_OCRAM_7,
            # The ROM of silicon 1.3 keeps the first 4 KiB for itself: AN4581, appendix F; uuu, rominfo.cpp.
            dcd=(0x911000, 0x910000),
        )  # fmt: skip
    # U-Boot, mx6_mx7_secure_boot.txt, 1.5 and 1.7; lmp-tools, security/imx7ulp/gen_fuse.sh.
    yield Chip(
        "imx7ulp", "i.MX 7ULP", "i.MX 7ULP", "CAAM", "CAAM",
        Unconfirmed("only one source gives it, 4.3.6"),
        _bank(5, range(8)), FuseBits(FuseWord(29, 6), 0x80000000),
        Unconfirmed("only U-Boot's guide gives it, bit 7 of bank 1 word 1"),
        Unconfirmed("no source gives it"),
        spl=(Loads(0x2F010400, 0x2F011000),), u_boot_cell=Loads(0x677FF400, 0x67800000), dcd=(0x2F010000,),
        second_core_cell=Unconfirmed("only one script burns them, bank 6 words 0 to 7, with the keys of the A7"),
        written_once=True,  # U-Boot, drivers/misc/mxc_ocotp.c, fuse_prog: all banks but 0 and 1
        notes=("The M4 has a separate HAB and separate SRK fuses: its images are not supported.",),
    )  # fmt: skip


def _chips_8m() -> Iterator[Chip]:
    # Events: MQ and MM 4.3, MN and MP 4.5. ECDSA: CST UG, and U-Boot, for the Plus alone.
    old, new = Hab((4, 3, 0), (4, 3, 99), "4.3"), Hab((4, 5, 0), (4, 5, 99), "4.5")
    ecdsa: bool | Unconfirmed
    for short, more, hab, ecdsa, revoke in (
        ("mq", "quad", old, False, _REVOKE_7),
        ("mm", "mini", old, False, _REVOKE_7),
        ("mn", "nano", new, Unconfirmed("NXP's documents only name the i.MX 8M Plus"), _REVOKE_8M_NEW),
        ("mp", "plus", new, True, _REVOKE_8M_NEW),
    ):
        soc = next(soc for soc in imx8m.SOCS if soc.name == short)
        yield Chip(
            f"imx8{short}", soc.title, "i.MX 8M", "CAAM", "CAAM", hab, _SRK_7, _CLOSE_7, _LOCK_7, revoke,
            names=(f"imx8m{more}",), short=short, csf_version=(4, 3), ecdsa_cell=ecdsa,
            # imx-mkimage, mkimage_imx8.c: the IVT is 0x40 before the code.
            spl=tuple(Loads(entry - 0x40, entry) for entry in soc.spl),
        )  # fmt: skip


def _vybrid() -> Iterator[Chip]:
    nothing = Unconfirmed("no guide or script for signing is known")
    for name, title, more in (("vf610", "Vybrid VF6xx", "vf6xx"), ("vf500", "Vybrid VF5xx", "vf5xx")):
        yield Chip(
            name, title, "Vybrid", nothing, nothing, nothing,
            Unconfirmed("only one source gives it, bank 3 words 0 to 7, and no guide"), nothing, nothing,
            nothing, names=(more,),
            u_boot_cell=Unconfirmed("only U-Boot's board configurations give it, entry 0x3F401000"),
        )  # fmt: skip


def _chips_rt() -> Iterator[Chip]:
    # SPSDK, fuses.json of RT1010, 1015, 1024, 1040, 1050, 1064 (the others are said to be as these); MCUBootUtility.
    srk, close = _indexes(range(24, 32)), FuseBits(FuseWord(None, 6), 0x2)
    lock = Unconfirmed("only MCUBootUtility gives it, bit 14 of index 0")
    revoke = Unconfirmed("only SPSDK gives them, bits 0 to 3 of index 47")
    seen = Hab((4, 3, 0), (4, 3, 99), "4.3")  # events of boards with RT1050 and RT1064
    unseen = Unconfirmed("no HAB events of this chip are known")
    families: tuple[tuple[int, Hab | Unconfirmed, tuple[int, ...]], ...] = (
        (1010, unseen, (1011,)),
        (1015, unseen, ()),
        (1020, unseen, (1021,)),
        (1024, unseen, ()),
        (1040, unseen, (1041, 1042, 1043, 1046)),
        (1050, seen, (1051, 1052)),
        (1060, unseen, (1061, 1062)),
        (1064, seen, ()),
    )
    for number, hab, more in families:
        # Engine: SPSDK's test images; flash: NXP's reference manuals, FlexSPI (RT1064: that in the package, FlexSPI2).
        yield Chip(
            f"imxrt{number}", f"i.MX RT{number}", "i.MX RT", "DCP", "DCP", hab, srk, close, lock, revoke,
            names=tuple(f"imxrt{one}" for one in more), flash=0x70000000 if number == 1064 else 0x60000000,
            notes=("With Engine = DCP the ROM can log the warning UNS_ENGINE (69 0A); it still boots.",),
        )  # fmt: skip
    large: tuple[tuple[int, tuple[int, ...]], ...] = ((1160, (1165, 1166)), (1170, (1171, 1172, 1173, 1175, 1176)))
    for number, more in large:
        # SPSDK, mimxrt1166/fuses.json; MCUBootUtility. Engine: ANY in SPSDK's template, which the ROM takes for CAAM.
        yield Chip(
            f"imxrt{number}", f"i.MX RT{number}", "i.MX RT", "CAAM", "ANY",
            Unconfirmed("only SPSDK's examples suggest it, 4.5"),
            _indexes(range(48, 56)), FuseBits(FuseWord(None, 22), 0x2),
            Unconfirmed("no source gives it"),
            Unconfirmed("only SPSDK gives them, bits 8 to 11 of index 13"),
            names=tuple(f"imxrt{one}" for one in more), flash=0x30000000,
            ecdsa_cell=Unconfirmed("only one example of SPSDK, for the RT1173, uses ECDSA keys"),
            second_core_cell=Unconfirmed("only SPSDK gives them, indexes 56 to 63"),
            written_once=True,  # SPSDK, mimxrt1166/fuses.json: the write lock "ecc"
        )  # fmt: skip


CHIPS: tuple[Chip, ...] = (*_chips_6(), *_chips_7(), *_chips_8m(), *_vybrid(), *_chips_rt())
