"""U-Boot's binman, the real one, signs by a server: its `cst` is digsign's, and nothing else of it is changed."""

from __future__ import annotations

import struct
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from digsigd import hab
from digsigd.image.plan import plan
from digsigd.image.verify import verify
from digsigd.testing import TrialPki
from tests.helpers import golden
from tests.helpers.daemons import MACHINE, Daemon
from tests.helpers.drop_in import Build, Done, proven
from tests.helpers.keys import trial_keys

BINMAN = Path(sys.executable).with_name("binman")
KINDS = ("normal", "fast")
SPL_ADDRESS, FSPI_ADDRESS, FIT_ADDRESS = 0x7E1000, 0x7E2000, 0x48000000

# As arch/arm/dts/imx8mm-u-boot.dtsi of U-Boot has them. `args` is what binman's mkimage entry asks for.
HEAD = """/dts-v1/;
/ {
    #address-cells = <1>;
    #size-cells = <1>;
    binman {
        filename = "flash.bin";
        pad-byte = <0>;
"""
SPL = """
nxp-imx8mimage {{
    args;
    nxp,boot-from = "{boot}";
    nxp,rom-version = <{rom}>;
    nxp,loader-address = <{address:#x}>;
    blob {{ filename = "u-boot-spl-ddr.bin"; }};
}};
"""
FIT = """
fit {
    description = "Configuration to load ATF before U-Boot";
    #address-cells = <1>;
    images {
        uboot {
            description = "U-Boot (64-bit)"; arch = "arm64"; compression = "none"; type = "standalone";
            load = <0x40200000>;
            blob { filename = "u-boot-nodtb.bin"; };
        };
        atf {
            description = "ARM Trusted Firmware"; arch = "arm64"; compression = "none"; type = "firmware";
            load = <0x920000>; entry = <0x920000>;
            blob { filename = "bl31.bin"; };
        };
        fdt-1 {
            description = "a board"; compression = "none"; type = "flat_dt";
            blob { filename = "u-boot.dtb"; };
        };
    };
    configurations {
        default = "config-1";
        config-1 { description = "a board"; fdt = "fdt-1"; firmware = "uboot"; loadables = "atf"; };
    };
};
"""


def signed_entry(number: int, address: int, inside: str, *, fast: bool, more: str = "") -> str:
    """An nxp-imx8mcst entry."""
    lines = ["args;", f"nxp,loader-address = <{address:#x}>;", "nxp,fast-auth;" if fast else "", more]
    return f"nxp-imx8mcst@{number} {{\n" + "\n".join(lines) + inside + "};\n"


MakeBuild = Callable[..., Build]


@pytest.fixture(scope="module")
def pkis() -> dict[str, TrialPki]:
    """Keys with the names that binman takes where its entry names none: RSA-4096, four SRKs."""
    if not BINMAN.is_file():
        pytest.fail(f"{BINMAN} is missing: `make test` gets it, or `pip install --group test`")
    return {kind: trial_keys("rsa4096", fast_auth=kind == "fast") for kind in KINDS}


@pytest.fixture(scope="module")
def daemon(tmp_path_factory: pytest.TempPathFactory, cst_base: Path, pkis: dict[str, TrialPki]) -> Iterator[Daemon]:
    """One daemon for all of this module, with a machine for each kind of keys."""
    daemon = Daemon(tmp_path_factory.mktemp("binman"), cst_base)
    for kind, pki in pkis.items():
        daemon.put_keys(f"{MACHINE}-{kind}", pki.tarball())
    yield daemon.start()
    assert daemon.left_behind() == []
    daemon.stop()


@pytest.fixture
def build_of(tmp_path: Path, daemon: Daemon, pkis: dict[str, TrialPki]) -> MakeBuild:
    """A folder with what binman packs, and a `cst` that signs with keys of one kind."""

    def make(kind: str) -> Build:
        build = Build(tmp_path / "build", daemon, pkis[kind], {"DIGSIGN_MACHINE": f"{MACHINE}-{kind}"})
        build.write("u-boot-spl-ddr.bin", golden.spl_code(padded=True))
        build.write("u-boot-nodtb.bin", golden.filler("u-boot", 0x9AAC8))
        build.write("bl31.bin", golden.filler("atf", 0x9139))
        build.write("u-boot.dtb", golden.filler("dtb", 0x6DC0))
        return build

    return make


def binman(build: Build, nodes: str, **environ: str) -> Done:
    build.write("board.dts", HEAD + nodes + "};\n};\n")
    return build.run(BINMAN, "build", "-d", "board.dts", "-O", "out", "-I", ".", **environ)


def image_of(build: Build, done: Done) -> bytes:
    assert done.returncode == 0, done.stderr
    return (build.folder / "out/flash.bin").read_bytes()


def blob_at(data: bytes, ivt: hab.Ivt) -> bytes:
    """The CSF that an IVT points to, as long as it says, as the boot ROM reads it."""
    start = ivt.offset_of(ivt.csf)
    return data[start : start + hab.csf_blob.blob_length(data[start : start + 0x2000])]


def holds(build: Build, data: bytes, ivt_offset: int, block: hab.Block) -> None:
    """The part of binman's file that an IVT is for: its CSF is over the block and by the boards' keys."""
    ivt = hab.Ivt.parse(data[ivt_offset : ivt_offset + 0x20], ivt_offset)
    assert ivt.self_address == block.address + ivt_offset - block.offset
    assert ivt.offset_of(ivt.csf) == block.end
    verified = proven(blob_at(data, ivt), build.pki, data, [block])
    assert verified.fast_authentication is build.pki.fast_auth


@pytest.mark.parametrize("kind", KINDS)
def test_an_spl(build_of: MakeBuild, kind: str) -> None:
    """With its IVT in front; the CAAM's master ids are unlocked where the entry says so."""
    build = build_of(kind)
    spl = SPL.format(boot="sd", rom=1, address=SPL_ADDRESS)
    data = image_of(build, binman(build, signed_entry(0, SPL_ADDRESS, spl, fast=kind == "fast", more="nxp,unlock;")))
    size = struct.unpack_from("<I", data, 24)[0] - (SPL_ADDRESS - 0x40)
    holds(build, data, 0, hab.Block(SPL_ADDRESS - 0x40, 0, size))
    commands = hab.CsfBlob.parse(blob_at(data, hab.Ivt.parse(data[:0x20]))).commands
    assert any(isinstance(one, hab.csf_blob.OtherCommand) and one.tag == hab.csf_blob.UNLOCK for one in commands)


@pytest.mark.parametrize("kind", KINDS)
def test_an_spl_behind_a_flexspi_header(build_of: MakeBuild, kind: str) -> None:
    """Which binman signs from the header on: the IVT is 0x1000 bytes inside of the block."""
    build = build_of(kind)
    spl = SPL.format(boot="fspi", rom=1, address=FSPI_ADDRESS)
    data = image_of(build, binman(build, signed_entry(0, FSPI_ADDRESS, spl, fast=kind == "fast")))
    assert data.startswith(b"FCFB")
    size = struct.unpack_from("<I", data, 0x1018)[0] - (FSPI_ADDRESS - 0x1040)
    holds(build, data, 0x1000, hab.Block(FSPI_ADDRESS - 0x1040, 0, size))


def test_a_flexspi_header_that_the_rom_does_not_load_is_not_signed(build_of: MakeBuild) -> None:
    """With ROMs of version 2 the boot data begin at the IVT: the header that binman signs is never in memory."""
    build = build_of("normal")
    spl = SPL.format(boot="fspi", rom=2, address=0x912000)
    done = binman(build, signed_entry(0, 0x912000, spl, fast=False))
    assert done.returncode != 0
    assert "the boot data at 0x1020 in the file make the ROM load 0x911fc0 to" in done.stderr
    assert "but the block 0x910fc0 0x0" in done.stderr


@pytest.mark.parametrize("kind", KINDS)
def test_a_fit(build_of: MakeBuild, kind: str) -> None:
    """With its data embedded; binman puts the IVT behind it."""
    build = build_of(kind)
    data = image_of(build, binman(build, signed_entry(0, FIT_ADDRESS, FIT, fast=kind == "fast")))
    size = data.index(bytes.fromhex("d1002041"))
    holds(build, data, size, hab.Block(FIT_ADDRESS, 0, size + 0x20))


@pytest.mark.parametrize("kind", KINDS)
def test_a_whole_flash_bin_boots(build_of: MakeBuild, kind: str) -> None:
    """SPL and FIT, as U-Boot lays them out for an i.MX8M Mini: as a closed board's ROM and SPL would judge it."""
    build = build_of(kind)
    spl = SPL.format(boot="sd", rom=1, address=SPL_ADDRESS)
    nodes = signed_entry(0, SPL_ADDRESS, spl, fast=kind == "fast", more="nxp,unlock;")
    nodes += signed_entry(1, golden.FIT_ADDRESS, FIT, fast=kind == "fast", more="offset = <0x57c00>;")
    data = image_of(build, binman(build, nodes))
    report = verify(data, plan(data), fuse_value=build.pki.fuse_value)
    assert report.holds, report


def test_keys_named_by_paths_and_variables(build_of: MakeBuild) -> None:
    """Absolute ones, which the signing host has in its tarball by their last part; binman reads IMG_KEY for itself."""
    build = build_of("normal")
    csf_key, image_key = (build.pki.certificate(role).removeprefix("crts/") for role in ("CSF", "IMG"))
    more = f'nxp,srk-table = "/opt/keys/SRK_1_2_3_4_table.bin";\nnxp,csf-crt = "../../crts/{csf_key}";'
    done = binman(
        build, signed_entry(0, FIT_ADDRESS, FIT, fast=False, more=more), IMG_KEY=f"/home/me/my keys/{image_key}"
    )
    data = image_of(build, done)
    size = data.index(bytes.fromhex("d1002041"))
    holds(build, data, size, hab.Block(FIT_ADDRESS, 0, size + 0x20))


def test_a_refusal_ends_the_build(build_of: MakeBuild) -> None:
    """And binman shows what the host said."""
    build = build_of("fast")
    spl = SPL.format(boot="sd", rom=1, address=SPL_ADDRESS)
    done = binman(build, signed_entry(0, SPL_ADDRESS, spl, fast=False))
    assert done.returncode == 1
    assert '"CSF1_1_sha256_4096_65537_v3_usr_crt.pem" is not in the machine\'s key tarball' in done.stderr
    assert "line 14" in done.stderr
    assert not (build.folder / "out/flash.bin").exists()


def test_a_host_that_is_away_ends_the_build(build_of: MakeBuild) -> None:
    """No unsigned image is taken for a signed one."""
    build = build_of("normal")
    spl = SPL.format(boot="sd", rom=1, address=SPL_ADDRESS)
    build.write("digsign.toml", "retries = 0\n")
    done = binman(build, signed_entry(0, SPL_ADDRESS, spl, fast=False), DIGSIGN_SERVER="http://127.0.0.1:9")
    assert done.returncode == 1
    assert "127.0.0.1:9" in done.stderr
    assert not (build.folder / "out/flash.bin").exists()
