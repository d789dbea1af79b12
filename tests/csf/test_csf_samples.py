"""Descriptions in the manner of real builds: what is read, what is signed, and that the two mean the same."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import pytest

from digsigd import csf
from tests.csf.conftest import Tarballs
from tests.helpers.descriptions import Artifact, Signer, commands, meaning, plan

SAMPLES = Path(__file__).parent / "samples"


@dataclass(frozen=True)
class Good:
    """A sample that is signed: with which tarball, with what allowed, what it covers, and by which SRK (from 1)."""

    tarball: str
    artifact: str
    blocks: int
    srk: int = 1
    allow: tuple[str, ...] = ()
    data_commands: int = 1


GOOD = {
    "barebox-field-return": Good("normal 4096", "start_nxp_imx8mm_evk.pblb", 1, allow=("unlock-ocotp-field-return",)),
    "gensigncfg-fast-unlock": Good(
        "fast", "app_mfg.bin", 3, 4, ("unlock-ocotp-scs", "unlock-snvs-lp-swr", "unlock-snvs-zmk-write")
    ),
    "lmp-tools-spl-mfg": Good("lmp", "SPL.mod", 2, data_commands=2),
    "many-blocks-per-line": Good("normal", "flash.bin", 4),
    "nitrogen-uboot": Good("normal 4096", "u-boot.imx", 1),
    "nxp-cst-signer": Good("normal", "signed-flash.bin", 3),
    "nxp-cst-signer-fast-unlock": Good(
        "fast", "signed-flash.bin", 1, 1, ("unlock-snvs-lp-swr", "unlock-ocotp-jtag", "unlock-ocotp-srk-revoke")
    ),
    "shell-trailing-comments": Good("normal 1024", "u-boot-dtb.imx", 2, data_commands=2),
    "teensy": Good("teensy", "blink.bin", 1),
    "toradex-mx8m-fit": Good("normal", "imx-boot-verdin-imx8mm-sd.bin-flash_evk_emmc_fastboot", 4),
    "toradex-mx8m-spl-fast": Good("fast", "imx-boot-verdin-imx8mm-sd.bin-flash_evk_emmc_fastboot", 1, 3),
    "u-boot-binman": Good("normal 4096", "nxp.cst-input-data.nxp-imx8mcst@0", 1, 2),
    "u-boot-binman-fast": Good("fast 4096", "nxp.cst-input-data.nxp-imx8mcst@1", 1),
    "u-boot-mx8m-fit": Good("normal 4096", "flash.bin", 4),
    "u-boot-mx8m-spl": Good("normal 4096", "flash.bin", 1),
    "uboot-imx-mx67-uboot": Good("normal", "u-boot-dtb.imx", 1),
    "uboot-imx-mx67-uboot-fast": Good("fast", "u-boot-dtb.imx", 1),
    "uboot-imx-mx8m-fit": Good("normal", "flash.bin", 5),
    "uboot-imx-mx8m-fit-fdt": Good("normal", "signed-flash.bin", 1),
    "uboot-imx-mx8m-spl": Good("normal", "flash.bin", 1),
    "variscite-kernel": Good("normal 4096", "Image_pad_ivt.bin", 1),
    "windows": Good("normal", "flash.bin", 2),
    "yocto-imx-hab-class": Good("normal", "u-boot.imx", 1),
}
VERSIONS = "takes 4.0 to 4.5 for HAB4; HAB3 is not signed here, and descriptions for AHAB have Target = AHAB"
ENCRYPTED = (
    "[Install Secret Key] is not signed: cst would write a key file on this host; encrypted boot is not signed here"
)
OTHER_FILE = (
    'line 34, column 7: the block names "imx7d-sdb.dtb", but the uploaded artifact is "zImage";'
    " upload it with that name (curl: -F 'artifact=@PATH;filename=NAME')"
)
# What refuses each, and with which words.
BAD: dict[str, tuple[type[csf.CsfError], str]] = {
    "barebox-hab3": (
        csf.CsfSyntaxError,
        f"line 3, column 11: Version: {VERSIONS}",
    ),
    "hsm-pkcs11": (
        csf.CsfPolicyError,
        "line 15, column 12: with backend=ssl keys are in the key tarball, not on a token",
    ),
    "nxp-cst-signer-ahab": (
        csf.CsfSyntaxError,
        "line 3, column 11: Target: the description is for AHAB, not for HAB4",
    ),
    "uboot-imx-additional-images": (csf.CsfNameError, OTHER_FILE),
    "uboot-imx-mx67-enc": (csf.CsfPolicyError, f"line 35, column 1: {ENCRYPTED}"),
    "uboot-imx-mx8m-fit-sign-enc": (csf.CsfPolicyError, f"line 36, column 1: {ENCRYPTED}"),
    "uboot-imx-mx8m-spl-enc": (csf.CsfPolicyError, f"line 32, column 1: {ENCRYPTED}"),
}


def sample(name: str) -> bytes:
    return (SAMPLES / f"{name}.csf").read_bytes()


def test_every_sample_is_in_the_tables() -> None:
    """A sample that nobody looks at proves nothing."""
    assert {path.stem for path in SAMPLES.iterdir()} == GOOD.keys() | BAD.keys()


@pytest.mark.parametrize("name", [*GOOD, *BAD])
def test_samples_name_their_origin(name: str) -> None:
    """The first line says in whose manner a sample is written."""
    assert sample(name).removeprefix(b"\xef\xbb\xbf").startswith(b"# In the manner of ")


@pytest.mark.parametrize("name", GOOD)
def test_a_real_cst_signs_what_was_read(signer: Signer, tarballs: Tarballs, name: str) -> None:
    """The blob's commands are those of the sample, and its signatures cover the sample's blocks."""
    text, good = sample(name), GOOD[name]
    artifact = Artifact.named_by(text)
    assert artifact.name == good.artifact
    signed = signer.sign(text, tarballs(good.tarball), artifact, *good.allow)
    description = csf.parse(text)
    header = description.commands[0]
    assert isinstance(header, csf.model.Header)
    assert commands(signed.blob) == meaning(description)
    assert signed.blob.version == 0x40 + header.version[1]
    assert signed.verified.srk == good.srk
    assert signed.verified.blocks == good.blocks
    assert len(signed.plan.blocks) == good.data_commands
    assert signed.verified.fast_authentication == good.tarball.startswith(("fast", "teensy"))


@pytest.mark.parametrize("name", [name for name, good in GOOD.items() if good.allow])
def test_what_is_not_allowed_is_refused_with_the_name_to_allow(tarballs: Tarballs, name: str) -> None:
    """Each of the names in the table is needed, and the refusal gives it."""
    text, good = sample(name), GOOD[name]
    for left_out in good.allow:
        with pytest.raises(csf.CsfPolicyError, match=f"the operator can allow it as '{left_out}'"):
            plan(text, tarballs(good.tarball), Artifact.named_by(text), *(set(good.allow) - {left_out}))


@pytest.mark.parametrize("name", BAD)
def test_others_are_refused_by_the_line(tarballs: Tarballs, name: str) -> None:
    """The place is that of the command or value that is refused, and the words say why."""
    kind, words = BAD[name]
    with pytest.raises(csf.CsfError) as caught:
        plan(sample(name), tarballs("normal"), Artifact.of_size("zImage", 1 << 20))
    assert type(caught.value) is kind
    assert str(caught.value) == words


def upper(text: bytes) -> bytes:
    """Everything outside of quotation marks in capitals."""
    return b'"'.join(part.upper() if number % 2 == 0 else part for number, part in enumerate(text.split(b'"')))


REWRITES = {
    "CR LF": lambda text: text.replace(b"\n", b"\r\n"),
    "a byte order mark": lambda text: b"\xef\xbb\xbf" + text,
    "no newline at the end": lambda text: text.rstrip(b"\n"),
    "capitals": upper,
    "tabs": lambda text: text.replace(b"    ", b"\t"),
    "spaces before the end of each line": lambda text: text.replace(b"\n", b" \t \n"),
    "empty lines at both ends": lambda text: b"\n\n" + text + b"\n\n",
    "a comment behind each command": lambda text: text.replace(b"]\n", b"] # here\n"),
    "comments in other character sets": lambda text: b"# \xff\xfe\x00 \xe4\n" + text,
    "a form feed": lambda text: text.replace(b"[Authenticate Data]", b"\f[Authenticate Data]"),
    "words joined": lambda text: text.replace(b"Install SRK", b"InstallSRK").replace(b"Source ", b"Source_"),
}


@pytest.mark.parametrize("rewrite", REWRITES)
@pytest.mark.parametrize("name", [name for name in GOOD if name not in {"windows", "shell-trailing-comments"}])
def test_the_form_does_not_matter(name: str, rewrite: str) -> None:
    """Line ends, case, spaces and comments change nothing in what is read."""
    assert csf.parse(REWRITES[rewrite](sample(name))) == csf.parse(sample(name))


def test_the_windows_sample_is_one() -> None:
    """No tool on the way has tidied it up."""
    text = sample("windows")
    assert text.startswith(b"\xef\xbb\xbf")
    assert text.count(b"\r\n") == text.count(b"\n") == 21
    assert text.endswith(b'"')
