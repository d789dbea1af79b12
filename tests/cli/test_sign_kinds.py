"""Images for every HAB chip are signed through a real daemon, verified, and changed nowhere else."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import pytest

from digsigd import hab
from digsigd.hab import csf_blob
from digsigd.image.chips import find
from digsigd.image.plan import plan
from digsigd.image.verify import verify
from digsigd.testing import TrialPki
from tests.helpers import golden
from tests.helpers import golden_kinds as kinds
from tests.helpers.commands import Run
from tests.helpers.daemons import MACHINE, Daemon
from tests.helpers.keys import trial_keys

CAAM, DCP, ANY, SW = 0x1D, 0x1B, 0x00, 0xFF
UL, ULL = ("--soc", "imx6ul"), ("--soc", "imx6ull")

# name: (image, options, engine in the CSF, CSFs)
Images = dict[str, tuple[Callable[[], bytes], tuple[str, ...], int, int]]
IMAGES: Images = {
    "u-boot.imx of 6UL": (kinds.imximage, UL, CAAM, 1),
    "u-boot.imx of 6ULL": (kinds.imximage, ULL, SW, 1),
    "u-boot.imx of 6Quad tells": (partial(kinds.imximage, 0x17800000, dcd_of="q"), (), CAAM, 1),
    "u-boot.imx of 6DualLite tells": (partial(kinds.imximage, 0x17800000, dcd_of="dl"), (), CAAM, 1),
    "u-boot.imx of 6SoloX tells": (partial(kinds.imximage, dcd_of="sx"), (), CAAM, 1),
    "u-boot.imx of 7Dual tells": (partial(kinds.imximage, dcd_of="7"), (), CAAM, 1),
    "u-boot.imx of 7ULP tells": (partial(kinds.imximage, 0x67800000, dcd_of="7ulp"), (), CAAM, 1),
    "u-boot.imx of Digi": (partial(kinds.imximage, csf=0x4000), UL, CAAM, 1),
    "u-boot.imx for QSPI": (partial(kinds.imximage, boot_from="qspi"), ULL, SW, 1),
    "u-boot.imx for NOR": (partial(kinds.imximage, boot_from="nor"), UL, CAAM, 1),
    "QSPI with its table": (lambda: kinds.qspi(kinds.imximage(boot_from="qspi")), ("--soc", "6ul"), CAAM, 1),
    "u-boot-nand.imx": (kinds.nand_u_boot, ULL, SW, 1),
    "SPL": (kinds.spl, ("--soc", "imx6q"), CAAM, 1),
    "SPL of 7": (partial(kinds.spl, 0x912000), ("--soc", "imx7s"), CAAM, 1),
    "SPL for NAND": (kinds.nand_spl, ("--soc", "imx6ulz"), SW, 1),
    "u-boot-ivt.img": (kinds.u_boot_ivt_img, ("--soc", "imx6dl"), CAAM, 1),
    "u-boot-with-spl.imx": (kinds.with_spl, ("--soc", "imx6q"), CAAM, 2),
    "u-boot-with-spl.imx at 0x31000": (partial(kinds.with_spl, pad_to=0x31000), ("--soc", "imx6ull"), SW, 2),
    "SPL and FIT": (
        lambda: kinds.with_spl(second=golden.binman_fit(kinds.fit32(), 0x84000000)), ("--soc", "imx6ull"), SW, 2,
    ),
    "barebox of 6Quad": (kinds.barebox, (), CAAM, 1),
    "barebox of 6ULL": (partial(kinds.barebox, 0x80000000, dcd_of="ul"), ULL, SW, 1),
    "barebox of 8M": (kinds.barebox_8m, (), CAAM, 1),
    "barebox of 8M Nano": (partial(kinds.barebox_8m, 0x912000, at=0), ("--soc", "imx8mn"), CAAM, 1),
    "barebox of 8M with FlexSPI": (partial(kinds.barebox_8m, flexspi="mm"), (), CAAM, 2),
    "barebox of 8M Plus with FlexSPI": (
        partial(kinds.barebox_8m, 0x920000, at=0, flexspi="mp"), ("--soc", "imx8mp"), CAAM, 2,
    ),
    "RT1050": (kinds.rt, ("--soc", "imxrt1050"), DCP, 1),
    "RT1010": (partial(kinds.rt, front="fcb400"), ("--soc", "RT1010"), DCP, 1),
    "RT1060 with DCD": (partial(kinds.rt, piece="dcd"), ("--soc", "rt1060"), DCP, 1),
    "RT1064": (partial(kinds.rt, 0x70000000), ("--soc", "rt1064"), DCP, 1),
    "RT1170 with XMCD": (partial(kinds.rt, 0x30000000, front="fcb400", piece="xmcd"), ("--soc", "rt1170"), ANY, 1),
    "RT1060 on SD": (
        partial(kinds.rt, 0x20200000, at=0x400, app_at=0x1000, front="none"), ("--soc", "rt1060"), DCP, 1,
    ),
    "RT1020 without what is before the IVT": (partial(kinds.rt, front="", odd=False), ("--soc", "rt1020"), DCP, 1),
    "zImage": (kinds.zimage, ("--load-address", "0x80800000", *ULL), SW, 1),
    "zImage with an IVT of Digi": (
        lambda: kinds.with_ivt(kinds.zimage(), 0x12000000, entry=0x100), ("--soc", "imx6q"), CAAM, 1,
    ),
    "uImage": (kinds.kernel_uimage, ("--load-address", "0x12000000", "--soc", "imx6dl"), CAAM, 1),
    "Image of Digi": (
        lambda: kinds.with_ivt(golden.kernel(0x210000).ljust(0x210000, b"\0"), 0x40480000, entry=0x100), (), CAAM, 1,
    ),
}  # fmt: skip


@pytest.fixture(scope="session")
def pki() -> TrialPki:
    return trial_keys("rsa2048", srks=2)


@pytest.fixture(scope="session")
def daemon(cst_base: Path, pki: TrialPki, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Daemon]:
    daemon = Daemon(tmp_path_factory.mktemp("daemon"), cst_base)
    daemon.put_keys(MACHINE, pki.tarball())
    daemon.put_keys("ecdsa", TrialPki.make("p256", srks=1).tarball())
    yield daemon.start()
    daemon.stop()


def commands(data: bytes, offset: int) -> tuple[csf_blob.Command, ...]:
    """Those of the CSF there."""
    return hab.CsfBlob.parse(data[offset : offset + hab.blob_length(data[offset:])]).commands


@pytest.mark.parametrize("version", ["3.4.1", "4.0.1"])
@pytest.mark.parametrize("name", IMAGES)
def test_every_kind_is_signed(
    digsign: Run, daemon: Daemon, pki: TrialPki, tmp_path: Path, name: str, version: str
) -> None:
    """For its chip's engine, and nothing of it is changed but where CSFs, padding or an IVT belong."""
    make, options, engine, count = IMAGES[name]
    image = make()
    (tmp_path / "image").write_bytes(image)
    server = ("--server", daemon.url, "--machine", MACHINE, "--cst", version)
    done = digsign("sign", "image", "-o", "signed", *server, *options)
    assert done.returncode == 0, done.stderr + done.stdout
    chip = find(options[options.index("--soc") + 1]) if "--soc" in options else None
    address = int(options[1], 16) if "--load-address" in options else None
    made = plan(image, load_address=address, chip=chip)
    signed = (tmp_path / "signed").read_bytes()
    assert len(signed) == made.size
    before, after = bytearray(image.ljust(made.size, b"\0")), bytearray(signed)
    for start, length in (
        *((one.csf_offset, one.csf_room) for one in made.signings),
        *((one.offset, len(one.data)) for one in made.patches),
    ):
        before[start : start + length] = after[start : start + length] = bytes(length)
    assert before == after
    assert len(made.signings) == count
    for one in made.signings:
        found = [command for command in commands(signed, one.csf_offset) if isinstance(command, csf_blob.Authenticate)]
        assert {command.engine for command in found} == {engine}
    for known in (chip, None):
        repeated = plan(signed, chip=known)
        assert [one.blocks for one in repeated.signings] == [one.blocks for one in made.signings]
        assert not repeated.patches
        assert verify(signed, repeated, fuse_value=pki.fuse_value, srk_table=pki.srk_table).holds


SERVER = ("--machine", MACHINE)


def test_serial_download_gets_a_file_of_its_own(digsign: Run, daemon: Daemon, pki: TrialPki, tmp_path: Path) -> None:
    """Beside the one for flash; each holds for what it is for alone, and has the DCD's pointer."""
    image = kinds.imximage()
    (tmp_path / "u-boot.imx").write_bytes(image)
    done = digsign(
        "sign",
        "u-boot.imx",
        "-o",
        "out.imx",
        "--sdp",
        "0x910000",
        "--soc",
        "imx6ull",
        *SERVER,
        DIGSIGN_SERVER=daemon.url,
    )
    assert done.returncode == 0, done.stderr
    assert "out.imx.sdp: the same image, for serial download only" in done.stdout
    assert "uuu -dcdaddr 0x910000 -cleardcd" in done.stdout
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out.imx", "out.imx.sdp", "u-boot.imx"]
    flash, download = ((tmp_path / name).read_bytes() for name in ("out.imx", "out.imx.sdp"))
    csf_at = kinds.csf_offset(image)
    assert flash[:csf_at] == download[:csf_at] == image[:csf_at]
    signed = [one for one in commands(download, csf_at) if isinstance(one, csf_blob.Authenticate) and one.blocks]
    assert [one.blocks for one in signed] == [((0x877FF400, csf_at), (0x910000, len(kinds.dcd("ul"))))]
    for name, options, code in (
        ("out.imx", (), 0),
        ("out.imx.sdp", ("--sdp", "0x910000"), 0),
        ("out.imx.sdp", (), 1),
        ("out.imx", ("--sdp", "0x910000"), 1),
        ("out.imx.sdp", ("--sdp", "0x911000"), 1),
        ("out.imx.sdp", ("--sdp", "0x910000", "--soc", "imx6ul"), 0),
        ("out.imx.sdp", ("--sdp", "0x910000", "--soc", "imx6q"), 1),
    ):
        assert digsign("verify", name, *options).returncode == code, (name, options)


def test_where_the_download_fails_nothing_is_written(digsign: Run, daemon: Daemon, tmp_path: Path) -> None:
    """Neither file."""
    (tmp_path / "u-boot.imx").write_bytes(kinds.imximage())
    for options, says in (
        (("--sdp", "0x87800000"), "both must be in memory"),
        (("--sdp", "0x910000", "--sdp-output", "out.imx"), "a file other than OUT"),
        (("--sdp-output", "other"), "--sdp-output needs --sdp"),
        (("--sdp", "0x910000", "--sdp-output", "no/where"), "cannot be written"),
    ):
        done = digsign(
            "sign", "u-boot.imx", "-o", "out.imx", "--soc", "imx6ull", *options, *SERVER, DIGSIGN_SERVER=daemon.url
        )
        assert (done.returncode > 0, says in done.stderr) == (True, True), done.stderr
        assert [path.name for path in tmp_path.iterdir()] == ["u-boot.imx"]


MISTAKES: dict[str, tuple[Callable[[], bytes], tuple[str, ...], str]] = {
    "a chip that the image does not tell": (kinds.imximage, (), "set --soc CHIP, such as imx6ul or imx6ull"),
    "a chip that the image contradicts": (kinds.imximage, ("--soc", "imx6q"), "but i.MX 6Quad was given"),
    "a chip of several names": (kinds.imximage, ("--soc", "6u"), "imx6ul, imx6ull"),
    "an engine that is not confirmed": (kinds.spl, ("--soc", "imx6sl"), "is not confirmed"),
    "Vybrid": (kinds.spl, ("--soc", "vf610"), "is not confirmed"),
    "keys that the chip does not take": (
        kinds.spl, ("--soc", "imx6q", "--machine", "ecdsa"), "does not support ECDSA keys",
    ),
    "fast authentication on old silicon": (kinds.spl, ("--soc", "imx6q", "--fast-auth"), ""),
    "a kernel of no address": (kinds.zimage, ("--soc", "imx6q"), "Pass the load address"),
    "a plugin": (partial(kinds.imximage, csf=0, plugin=1), ("--soc", "imx6q"), "is for a plugin"),
}  # fmt: skip


@pytest.mark.parametrize("name", MISTAKES)
def test_mistakes_are_told(digsign: Run, daemon: Daemon, tmp_path: Path, name: str) -> None:
    """In words, and nothing is written."""
    make, options, says = MISTAKES[name]
    (tmp_path / "image").write_bytes(make())
    done = digsign("sign", "image", "-o", "out", *SERVER, *options, DIGSIGN_SERVER=daemon.url)
    assert done.returncode in (1, 2)
    assert says in done.stderr
    assert "Traceback" not in done.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["image"]


def test_a_plan_and_descriptions_name_the_chip(digsign: Run, daemon: Daemon, tmp_path: Path) -> None:
    """A dry run asks for none; descriptions are for one."""
    (tmp_path / "image").write_bytes(kinds.imximage())
    dry = digsign("sign", "image", "--dry-run", "--sdp", "0x910000")
    assert dry.returncode == 0, dry.stderr
    assert dry.stdout.count("image with an IVT") == 2
    assert "note: --soc is needed to sign it" in dry.stdout
    told = _dry(digsign, tmp_path, kinds.barebox())
    assert "i.MX 6Quad or i.MX 6Dual" in told
    assert "unlocks CAAM MID, RNG" in told
    done = digsign(
        "sign", "image", "--csf-only", "csf", "--soc", "6ull", "--sdp", "0x910000", *SERVER, DIGSIGN_SERVER=daemon.url
    )
    assert done.returncode == 0, done.stderr
    assert "while signing only, write at 0xc" in done.stdout
    texts = {path.name: path.read_text() for path in (tmp_path / "csf").iterdir()}
    assert sorted(texts) == ["csf_image.txt", "csf_image_sdp.txt"]
    assert all("Engine = SW" in text for text in texts.values())
    assert "0x910000 0x2c" in texts["csf_image_sdp.txt"]


def _dry(digsign: Run, folder: Path, image: bytes) -> str:
    (folder / "other").write_bytes(image)
    return digsign("sign", "other", "--dry-run").stdout


def test_a_kernel_beyond_64_mib_is_signed(digsign: Run, daemon: Daemon, pki: TrialPki, tmp_path: Path) -> None:
    """In memory: its file is short, and is padded with zeros."""
    (tmp_path / "Image").write_bytes(golden.kernel(0x4800000, 0x200000))
    done = digsign("sign", "Image", "-o", "out", "--load-address", "0x40480000", *SERVER, DIGSIGN_SERVER=daemon.url)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "out").stat().st_size == 0x4800000 + 0x2000
    assert digsign("verify", "out", "--fuses", pki.fuse_value.hex()).returncode == 0
