"""Scripts as board vendors write them, and NXP's signer's way of calling cst, with digsign's cst in its place.

What they have in common was seen in scripts for i.MX8M of Toradex, Variscite, CompuLab and Foundries.io and in
nxp-imx-support/nxp-cst-signer (src/imx_signer.c: create_csf_file_v1, generate_csf_v1, sign_csf, insert_csf).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Literal

import pytest

from digsigd.image.plan import plan
from digsigd.image.verify import verify
from digsigd.testing import TrialPki
from tests.helpers import golden
from tests.helpers.daemons import MACHINE, Daemon
from tests.helpers.drop_in import Build, Done, install
from tests.helpers.keys import trial_keys

# The keys' names are put in by sed, the blocks too; with fast authentication the parts between marks are left out.
TEMPLATE = """\
[Header]
    Version = 4.3
    Hash Algorithm = sha256
    Engine = CAAM
    Engine Configuration = 0
    Certificate Format = X509
    Signature Format = CMS

[Install SRK]
    # Index of the key location in the SRK table to be installed
    File = "@@SRK_TABLE@@"
    Source index = 0
#+CSFK

[Install CSFK]
    # Key used to authenticate the CSF data
    File = "@@CSF_CERT@@"
#-CSFK
#+NOCAK

[Install NOCAK]
    File = "@@SRK_CERT@@"
#-NOCAK

[Authenticate CSF]
#+UNLOCK

[Unlock]
    # Leave Job Ring and DECO master ID registers Unlocked
    Engine = CAAM
    Features = MID
#-UNLOCK
#+CSFK

[Install Key]
    Verification index = 0
    Target Index = 2
    File = "@@IMG_CERT@@"
#-CSFK

[Authenticate Data]
    Verification index = @@INDEX@@
    # Address Offset Length Data File Path
    Blocks = @@BLOCKS@@
"""
SCRIPT = r"""#!/bin/bash
# sign.sh FLASH LOG: sign imx-mkimage's flash.bin by the numbers that imx-mkimage printed.
set -e
FLASH=$1
LOG=$2
CRTS=${CRTS:-../crts}
FAST=${FAST:-0}

number() { # LABEL COLUMN
    sed -n "s/^ *$1:* *//p" "$LOG" | head -1 | awk "{ print \$$2 }"
}

make_csf() { # NAME UNLOCK BLOCKS
    cp csf.template "$1.txt"
    sed -i "s|@@SRK_TABLE@@|$CRTS/SRK_1_2_3_4_table.bin|; s|@@CSF_CERT@@|$CRTS/$CSF_CERT|
        s|@@IMG_CERT@@|$CRTS/$IMG_CERT|; s|@@SRK_CERT@@|$CRTS/$SRK_CERT|" "$1.txt"
    if [ "$FAST" = 1 ]; then
        sed -i '/#+CSFK/,/#-CSFK/d; s/@@INDEX@@/0/' "$1.txt"
    else
        sed -i '/#+NOCAK/,/#-NOCAK/d; s/@@INDEX@@/2/' "$1.txt"
    fi
    [ "$2" = 1 ] || sed -i '/#+UNLOCK/,/#-UNLOCK/d' "$1.txt"
    sed -i "s|@@BLOCKS@@|$3|" "$1.txt"
}

sign() { # NAME OFFSET
    if ! "${CST:-cst}" $CST_ARGS -i "$1.txt" -o "$1.bin" > "$1.log" 2>&1; then
        echo "CST execution log:" >&2
        sed 's/^/| /' "$1.log" >&2
        exit 1
    fi
    grep -q 'CSF Processed successfully and signed data available in '"$1.bin" "$1.log"
    dd if="$1.bin" of="$FLASH" seek=$(($2)) bs=1 conv=notrunc status=none
}

make_csf csf_spl 1 "$(number 'spl hab block' 1) $(number 'spl hab block' 2) $(number 'spl hab block' 3) \"$FLASH\""
blocks="$(number 'sld hab block' 1) $(number 'sld hab block' 2) $(number 'sld hab block' 3) \"$FLASH\""
while read -r address offset length; do
    blocks="$blocks, \\\\\n             $address $offset $length \"$FLASH\""
done < print_fit_hab.log
make_csf csf_fit 0 "$blocks"

sign csf_spl "$(number ' *csf_off' 1)"
sign csf_fit "$(number ' *sld_csf_off' 1)"
echo "signed $FLASH"
"""
KINDS = ("normal", "fast")
MakeBuild = Callable[..., Build]


@pytest.fixture(scope="module")
def pkis() -> dict[str, TrialPki]:
    return {kind: trial_keys("rsa2048", fast_auth=kind == "fast") for kind in KINDS}


@pytest.fixture(scope="module")
def daemon(tmp_path_factory: pytest.TempPathFactory, cst_base: Path, pkis: dict[str, TrialPki]) -> Iterator[Daemon]:
    """One daemon for all of this module, with a machine for each kind of keys."""
    daemon = Daemon(tmp_path_factory.mktemp("vendor"), cst_base)
    for kind, pki in pkis.items():
        daemon.put_keys(f"{MACHINE}-{kind}", pki.tarball())
    yield daemon.start()
    assert daemon.left_behind() == []
    daemon.stop()


@pytest.fixture
def build_of(tmp_path: Path, daemon: Daemon, pkis: dict[str, TrialPki]) -> MakeBuild:
    def make(kind: str) -> Build:
        return Build(tmp_path / "linux64", daemon, pkis[kind], {"DIGSIGN_MACHINE": f"{MACHINE}-{kind}"})

    return make


def logs(data: bytes) -> tuple[str, str]:
    """What imx-mkimage's `make flash_evk` and `make print_fit_hab` say of this image."""
    signings = {one.name: one for one in plan(data).signings}
    spl, fit = signings["SPL"], signings["FIT"]
    first, *rest = fit.blocks
    flash = [
        "========= OFFSET dump =========",
        "Loader IMAGE:",
        " header_image_off \t0x0",
        f" csf_off \t\t{spl.csf_offset:#x}",
        f" spl hab block: \t{spl.blocks[0].address:#x} {spl.blocks[0].offset:#x} {spl.blocks[0].length:#x}",
        "",
        "Second Loader IMAGE:",
        f" sld_header_off \t{first.offset:#x}",
        f" sld_csf_off \t\t{fit.csf_offset:#x}",
        f" sld hab block: \t{first.address:#x} {first.offset:#x} {first.length:#x}",
    ]
    return "\n".join(flash) + "\n", "".join(f"{one.address:#x} {one.offset:#x} {one.length:#x}\n" for one in rest)


def prepare(build: Build, data: bytes) -> dict[str, str]:
    """What lies beside a vendor's script, and its variables."""
    build.write("flash.bin", data)
    build.write("csf.template", TEMPLATE)
    build.write("sign.sh", SCRIPT)
    flash, fit = logs(data)
    build.write("flash.log", flash)
    build.write("print_fit_hab.log", fit)
    roles: tuple[Literal["SRK", "CSF", "IMG"], ...] = ("SRK",) if build.pki.fast_auth else ("CSF", "IMG")
    names = {f"{role}_CERT": build.pki.certificate(role).removeprefix("crts/") for role in roles}
    return {**names, "FAST": str(int(build.pki.fast_auth))}


def boots(build: Build, name: str = "flash.bin") -> None:
    data = (build.folder / name).read_bytes()
    report = verify(data, plan(data), fuse_value=build.pki.fuse_value)
    assert report.holds, report


def script(build: Build, **environ: str) -> Done:
    return build.run("bash", "sign.sh", "flash.bin", "flash.log", **environ)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(("soc", "layout"), [("mm", "nxp-old"), ("mp", "nxp-old"), ("mm", "u-boot")])
def test_a_vendors_script(build_of: MakeBuild, kind: str, soc: str, layout: str) -> None:
    """Which makes its descriptions by sed, looks for cst's words, and puts the CSFs into flash.bin by dd."""
    build = build_of(kind)
    variables = prepare(build, golden.flash(soc, layout))
    done = script(build, **variables)
    assert (done.returncode, done.stdout, done.stderr) == (0, "signed flash.bin\n", "")
    boots(build)


def test_a_script_with_cst_by_its_path_and_options(build_of: MakeBuild) -> None:
    """`CST=.../linux64/bin/cst`, with the backend named and an absolute folder of certificates."""
    build = build_of("normal")
    variables = prepare(build, golden.flash("mm", "nxp-old"))
    cst = install(build.folder.parent / "cst-3.4.1/linux64/bin/cst")
    done = script(build, **variables, CST=str(cst), CST_ARGS="--backend ssl", CRTS="/opt/cst-3.4.1/crts")
    assert done.returncode == 0, done.stderr
    boots(build)


def test_a_script_shows_why_nothing_was_signed(build_of: MakeBuild) -> None:
    """And ends, with the image as it was."""
    build = build_of("normal")
    data = golden.flash("mm", "nxp-old")
    variables = prepare(build, data)
    done = script(build, **{**variables, "IMG_CERT": "IMG9_1_sha256_2048_65537_v3_usr_crt.pem"})
    assert done.returncode == 1
    assert "| Error: the CSF was not processed" in done.stderr
    assert '"../crts/IMG9_1_sha256_2048_65537_v3_usr_crt.pem" is not in the machine\'s key tarball' in done.stderr
    assert (build.folder / "flash.bin").read_bytes() == data


def signers_csf(build: Build, root: Path, name: str, blocks: list[tuple[int, int, int]]) -> str:
    """As create_csf_file_v1 of NXP's signer prints it, from its csf_hab4.cfg.sample."""
    crts = root / "crts"
    lines = ["[Header]", "\tVersion = 4.3", "\tHash Algorithm = sha256", "\tEngine = ANY", "\tEngine Configuration = 0"]
    lines += ["\tCertificate Format = X509", "\tSignature Format = CMS"]
    lines += ["[Install SRK]", f'\tFile = "{crts}/SRK_1_2_3_4_table.bin"', "\tSource index = 0"]
    index = 2
    if build.pki.fast_auth:
        index = 0
        lines += ["[Install NOCAK]", f'\tFile = "{root}/{build.pki.certificate("SRK")}"', "[Authenticate CSF]"]
    else:
        lines += ["[Install CSFK]", f'\tFile = "{root}/{build.pki.certificate("CSF")}"', "[Authenticate CSF]"]
        lines += ["[Install Key]", "\tVerification index = 0", "\tTarget index = 2"]
        lines += [f'\tFile = "{root}/{build.pki.certificate("IMG")}"']
    lines += ["[Authenticate Data]", f"\tVerification index = {index}"]
    each = [f'0x{address:08X} 0x{offset:08X} 0x{length:08X} "{name}"' for address, offset, length in blocks]
    return "\n".join(lines) + "\n\tBlocks = " + ", \\\n\t         ".join(each) + "\n"


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("options", ["", "--verbose"], ids=["plain", "debug"])
def test_the_signer_of_nxp(build_of: MakeBuild, kind: str, options: str) -> None:
    """It runs `$CST_PATH/linux64/bin/cst --i csf_image0.txt --o csf_image0.bin`, once for each IVT of flash.bin."""
    build = build_of(kind)
    root = build.folder.parent / "cst-3.4.1"
    install(root / "linux64/bin/cst")
    data = golden.flash("mm", "nxp-old")
    signed = bytearray(data)
    for number, signing in enumerate(plan(data).signings):
        build.write("signed-flash.bin", bytes(signed))
        blocks = [(one.address, one.offset, one.length) for one in signing.blocks]
        build.write(f"csf_image{number}.txt", signers_csf(build, root, "signed-flash.bin", blocks))
        command = f"{root}/linux64/bin/cst {options} --i csf_image{number}.txt --o csf_image{number}.bin"
        done = build.run("sh", "-c", command)
        assert done.returncode == 0, done.stderr
        blob = (build.folder / f"csf_image{number}.bin").read_bytes()
        signed[signing.csf_offset : signing.csf_offset + len(blob)] = blob
    build.write("signed-flash.bin", bytes(signed))
    boots(build, "signed-flash.bin")
