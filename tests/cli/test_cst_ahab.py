"""`digsign-cst` linked as `cst` with descriptions for AHAB: as NXP's signer, vendors' scripts and U-Boot call it."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from digsigd import ahab
from digsigd.cli.console import Trouble
from digsigd.cli.cst_ahab import ahab_job, prove_file
from digsigd.image.ahab_plan import plan_ahab
from digsigd.image.ahab_report import report_ahab
from digsigd.testing import TrialPki
from tests.helpers.ahab_cases import description, image, members, tarball
from tests.helpers.daemons import Daemon
from tests.helpers.drop_in import Build, Done

DONE = "CSF Processed successfully and signed image available in {}\n"
NOTHING = "Error: the CSF was not processed, and nothing was written\n"
TABLE, TABLE_V2 = "crts/SRK_1_2_3_4_table.bin", "crts/SRK_1_2_3_4_v2_table.bin"
SD, QXP, V2 = "good-93-sd-spl", "good-qxp-spl-sgk", "good-v2-p384"
# A case, its keys, its chip, where its container is, and the csts that sign it.
CASES = [
    (SD, "p384", "imx93", 0x400, "3.4.1"),
    (SD, "p384", "imx93", 0x400, "4.0.1"),
    ("good-93-pss", "pss2048", "imx93", 0x400, "4.0.1"),
    ("good-os-container", "p521", "imx93", 0, "3.4.1"),
    (QXP, "p384ca", "imx8qxp", 0x400, "3.4.1"),
    (QXP, "p384ca", "imx8qxp", 0x400, "4.0.1"),
    (V2, "p384", "imx95", 0, "4.0.1"),
]
SEVERAL = '[machines.several]\nallow = ["ahab-several-containers"]\n'


@pytest.fixture(scope="module")
def daemon(tmp_path_factory: pytest.TempPathFactory, cst_base: Path) -> Iterator[Daemon]:
    """One daemon for all of this module, with a machine for each PKI."""
    daemon = Daemon(tmp_path_factory.mktemp("cst"), cst_base, SEVERAL)
    for keys in ("p256", "p384", "p384ca", "p521", "pss2048"):
        daemon.put_keys(keys, tarball(keys))
    daemon.put_keys("several", tarball("p384"))
    yield daemon.start()
    assert daemon.left_behind() == []
    daemon.stop()


@pytest.fixture
def build(tmp_path: Path, daemon: Daemon, pki: TrialPki) -> Build:
    """A folder with the SD image and its description."""
    build = Build(tmp_path / "build", daemon, pki, {"DIGSIGN_MACHINE": "p384", "DIGSIGN_SOC": "imx93"})
    build.write("flash.bin", image(SD))
    build.write("csf.txt", description(SD))
    return build


def read(build: Build, name: str = "out.bin") -> bytes:
    return (build.folder / name).read_bytes()


def refused(build: Build, done: Done, *texts: str) -> None:
    """It ended as cst does when nothing was signed, and said why; nothing was written."""
    assert (done.returncode, done.stdout) == (1, NOTHING)
    for text in texts:
        assert text in done.stderr
    assert not any(name.startswith(("out.bin", ".out.bin")) for name in build.files())


@pytest.mark.parametrize(("case", "keys", "soc", "offset", "version"), CASES)
def test_it_writes_what_cst_writes(
    build: Build, cst_base: Path, case: str, keys: str, soc: str, offset: int, version: str
) -> None:
    """The whole file: the same container, the same line on standard output, and no other file."""
    build.write("flash.bin", image(case))
    build.write("csf.txt", description(case))
    for name, content in members(keys).items():
        build.write(name, content)
    real = build.run(cst_base / f"cst-{version}/linux64/bin/cst", "-i", "csf.txt", "-o", "real.bin")
    assert (real.returncode, real.stdout) == (0, DONE.format("real.bin"))
    before = build.files()
    environ = {"DIGSIGN_MACHINE": keys, "DIGSIGN_SOC": soc, "DIGSIGN_CST": version}
    done = build.sign("--i", "csf.txt", "--o", "out.bin", **environ)
    assert (done.returncode, done.stdout, done.stderr) == (0, DONE.format("out.bin"), "")
    assert build.files() - before == {"out.bin"}
    ours, theirs = read(build), read(build, "real.bin")
    value = ahab.fuse_value(ahab.parse_table(members(keys)[TABLE_V2 if case == V2 else TABLE]), ahab.chip(soc))
    proven = ahab.verify(ours, offset, chip=ahab.chip(soc), fuse_value=value, original=image(case))
    # Signatures by ECDSA and RSA-PSS are never the same twice.
    (one,) = {(len(ours), proven.container.length, proven.srk, proven.certificate)}
    verified = ahab.verify(theirs, offset)
    assert one == (len(theirs), verified.container.length, verified.srk, verified.certificate)
    assert read(build, "flash.bin") == image(case)


def test_without_a_chip_the_host_says_what_it_did_not_check(build: Build) -> None:
    """It signs all the same: cst has no option for a chip."""
    done = build.sign("-i", "csf.txt", "-o", "out.bin", DIGSIGN_SOC=None)
    assert done.returncode == 0, done.stderr
    assert "note: the chip is not known" in done.stderr
    assert "note: set DIGSIGN_SOC to the boards' chip, such as imx93\n" in done.stderr
    refused_soc = build.sign("-i", "csf.txt", "-o", "new.bin", DIGSIGN_SOC="imx6q")
    assert refused_soc.returncode == 1
    assert "no chip with AHAB is called 'imx6q'" in refused_soc.stderr
    assert not (build.folder / "new.bin").exists()


def test_the_output_may_be_the_image_itself_or_a_pipe(build: Build) -> None:
    """Written completely or not at all; what a pipe gets is the file."""
    done = build.sign("-i", "csf.txt", "-o", "flash.bin")
    assert done.returncode == 0, done.stderr
    assert ahab.verify(read(build, "flash.bin"), 0x400, original=image(SD)).srk == 1
    piped = subprocess.run(
        ["cst", "-i", "csf.txt", "-o", "/dev/stdout"],
        cwd=build.folder, env=build.environ, capture_output=True, timeout=60, check=True,
    ).stdout  # fmt: skip
    assert piped.endswith(DONE.format("/dev/stdout").encode())
    assert ahab.verify(piped.removesuffix(DONE.format("/dev/stdout").encode()), 0x400).srk == 1
    assert build.files() == {"csf.txt", "flash.bin"}


def test_nxps_signer_and_its_two_runs(build: Build) -> None:
    """For each container that is not NXP's it writes a description, with tabs and names in a folder of its own.

    It copies the image to itemp.bin, and after each run otemp.bin over it: nxp-imx-support/nxp-cst-signer,
    src/imx_signer.c, create_csf_file_v3 and sign_container.
    """
    place = "/nowhere/signing/crts"
    build.write("itemp.bin", image(SD))
    for number, offsets, out in ((2, "0x00000400\t0x00000490", "otemp.bin"), (3, "0x00004000\t0x00004190", "done.bin")):
        build.write(
            f"container_{number}.csf",
            "[Header]\n\tTarget = AHAB\n\tVersion = 1.0\n[Install SRK]\n"
            f'\tFile = "{place}/SRK_1_2_3_4_table.bin"\n'
            f'\tSource = "{place}/SRK1_sha384_secp384r1_v3_usr_crt.pem"\n'
            "\tSource index = 0\n\tSource set = OEM\n\tRevocations = 0x0\n"
            f'[Authenticate Data]\n\tFile = "itemp.bin"\n\tOffsets = {offsets}\n',
        )
        done = build.sign("--i", f"container_{number}.csf", "--o", out)
        assert (done.returncode, done.stdout, done.stderr) == (0, DONE.format(out), "")
        if out == "otemp.bin":
            (build.folder / out).replace(build.folder / "itemp.bin")
    report = report_ahab(read(build, "done.bin"), plan_ahab(read(build, "done.bin"), ahab.chip("imx93")))
    assert report.holds, report


def test_a_vendors_template_with_absolute_paths(build: Build) -> None:
    """With the comments of a template, a part that is only there with an SGK, and the crts on this computer.

    As meta-toradex-security has it: recipes-bsp/imx-mkimage/files, mx8_sign.sh and its templates.
    """
    for name, content in members("p384ca").items():
        if name.startswith("crts/"):
            build.write(name, content)
    flash = build.write("flash.bin", image(QXP))
    crts = build.folder / "crts"
    for sgk in (True, False):
        part = f"""[Install Certificate]
# Public key certificate
File = "{crts}/SGK1_1_sha384_secp384r1_v3_usr_crt.pem"
# mask
Permissions = 0x1

"""
        build.write(
            "x.csf",
            f"""[Header]
Target = AHAB
Version = 1.0

[Install SRK]
# SRK table
File = "{crts}/SRK_1_2_3_4_table.bin"
# certificate
Source = "{crts}/SRK1_sha384_secp384r1_v3_ca_crt.pem"
Source index = 0
# whose SRKs (NXP or OEM)
Source set = OEM
Revocations = 0x0

{part if sgk else ""}[Authenticate Data]
# the binary
File = "{flash}"
Offsets = 0x400 0x510
""",
        )
        environ = {"DIGSIGN_MACHINE": "p384ca", "DIGSIGN_SOC": "imx8qxp"}
        done = build.sign("-i", build.folder / "x.csf", "-o", f"{flash}-signed", **environ)
        assert done.returncode == 0, done.stderr
        proven = ahab.verify(read(build, "flash.bin-signed"), 0x400, original=image(QXP))
        assert (proven.srk, proven.certificate) == (1, sgk)


def test_binman_signs_each_container_before_it_joins_them(build: Build) -> None:
    """With bare names, `-b ssl`, and a description as Python's configparser writes it.

    U-Boot's nxp-imx8mcst works so, and by its description the series for nxp-imx93cst, with a node for each container.
    """
    whole = image(SD)
    parts = {"spl": (whole[:0x4000], "0x400 0x490"), "u-boot": (whole[0x4000:], "0x0 0x190")}
    signed = b""
    for name, (data, offsets) in parts.items():
        build.write(f"nxp.cst-input-data.{name}", data)
        build.write(
            f"nxp.csf-config-txt.{name}",
            '[Header]\nTarget = AHAB\nVersion = 1.0\n\n[Install SRK]\nFile = "SRK_1_2_3_4_table.bin"\n'
            'Source = "SRK1_sha384_secp384r1_v3_usr_crt.pem"\nSource index = 0\nSource set = OEM\nRevocations = 0x0\n\n'
            f'[Authenticate Data]\nFile = "nxp.cst-input-data.{name}"\nOffsets = {offsets}\n\n',
        )
        out = f"nxp.csf-output-blob.{name}"
        done = build.sign("-i", f"nxp.csf-config-txt.{name}", "-o", out, "-b", "ssl")
        assert (done.returncode, done.stderr) == (0, "")
        signed += read(build, out)
    report = report_ahab(signed, plan_ahab(signed, ahab.chip("imx93")))
    assert report.holds, report


def test_local_keys_are_found_under_other_names(build: Build) -> None:
    """By content, and not sent: a build may call its table and its certificate as it likes."""
    build.write("my/table.bin", members("p384")[TABLE])
    build.write("my/root.pem", members("p384")["crts/SRK1_sha384_secp384r1_v3_usr_crt.pem"])
    text = description(SD).replace(TABLE, "my/table.bin")
    text = text.replace("crts/SRK1_sha384_secp384r1_v3_usr_crt.pem", "my/root.pem")
    build.write("csf.txt", text)
    done = build.sign("-g", "-i", "csf.txt", "-o", "out.bin")
    assert done.returncode == 0, done.stderr
    assert f"my/table.bin: {TABLE} on the signing host" in done.stderr
    assert "my/root.pem: crts/SRK1_sha384_secp384r1_v3_usr_crt.pem on the signing host" in done.stderr
    assert "SRK 1 (ECDSA P-384)" in done.stderr


def test_keys_that_differ_from_the_local_ones_are_told(build: Build) -> None:
    """The host has other files with the names in the description, and uses those."""
    build.write(TABLE, members("p256")[TABLE])
    build.write(
        "crts/SRK1_sha384_secp384r1_v3_usr_crt.pem", members("p384ca")["crts/SRK1_sha384_secp384r1_v3_ca_crt.pem"]
    )
    done = build.sign("-i", "csf.txt", "-o", "out.bin")
    assert done.returncode == 0, done.stderr
    for name in (TABLE, "crts/SRK1_sha384_secp384r1_v3_usr_crt.pem"):
        assert f'"{name}": the signing host has a different file with this name, and uses that' in done.stderr
    assert ahab.verify(read(build), 0x400, srk_table=members("p384")[TABLE]).srk == 1


@pytest.mark.parametrize(
    ("old", "new", "texts"),
    [
        ("", '[Install Secret Key]\nKey = "dek.bin"\n', ["line 15", "[Install Secret Key]", "encrypted boot"]),
        ("Version = 1.0", "Version = 1.0\n    Mode = HSM", ["line 4, column 12", "Mode = HSM", "DIGSIGN_BACKEND"]),
        ('File = "flash.bin"', 'File = "missing.bin"', ["line 13, column 12", 'file not present: "missing.bin"']),
        ('File = "flash.bin"', 'File = "."', ["line 13", "is not a regular file"]),
        ("[Authenticate Data]", "[Unlock]", ["line 12", "Unlock"]),
        ("Source set = OEM", "Source set = ME", ["line 9", "OEM"]),
        ("", '[Authenticate Data]\nFile = "csf.txt"\nOffsets = 0x4000 0x4190\n', ["line 16", "in different files"]),
        ("Version = 1.0", "Version = 4.3", ["line 3", "2.0 for containers of version 2"]),
    ],
)
def test_descriptions_that_no_host_signs(build: Build, old: str, new: str, texts: list[str]) -> None:
    """Are refused here, with the line, before anything is uploaded."""
    text = description(SD)
    assert old in text
    build.write("csf.txt", text.replace(old, new, 1) if old else text + new)
    refused(build, build.sign("-i", "csf.txt", "-o", "out.bin", DIGSIGN_SERVER="http://127.0.0.1:9"), *texts)


def test_a_description_that_signs_nothing(build: Build) -> None:
    """Has no file to send."""
    build.write("csf.txt", description(SD).partition("[Authenticate Data]")[0])
    refused(build, build.sign("-i", "csf.txt", "-o", "out.bin"), "no [Authenticate Data]")
    header, _, data = description(SD).partition("[Install SRK]")
    build.write("csf.txt", header + "[Authenticate Data]" + data.partition("[Authenticate Data]")[2])
    refused(build, build.sign("-i", "csf.txt", "-o", "out.bin"), "no [Install SRK]")


@pytest.mark.parametrize(
    ("case", "keys", "text"),
    [
        ("bad-image-changed", "p384", "image 0 of the container at 0x400 has the sha384"),
        ("bad-source-index", "p384", "Source index = 1 is SRK 2"),
        ("bad-two-authenticate-data", "p384", "line 16, column 1: several [Authenticate Data]"),
    ],
)
def test_what_the_host_refuses_is_not_written(build: Build, case: str, keys: str, text: str) -> None:
    """An existing output stays as it was."""
    build.write("flash.bin", image(case))
    build.write("csf.txt", description(case))
    refused(build, build.sign("-i", "csf.txt", "-o", "out.bin", DIGSIGN_MACHINE=keys), text)
    build.write("kept.bin", b"the last good one")
    assert build.sign("-i", "csf.txt", "-o", "kept.bin", DIGSIGN_MACHINE=keys).returncode == 1
    assert read(build, "kept.bin") == b"the last good one"


def test_several_containers_where_the_host_signs_them(build: Build, monkeypatch: pytest.MonkeyPatch) -> None:
    """In one request, and each is verified: cst itself signs only the last one."""
    build.write("flash.bin", image("bad-two-authenticate-data"))
    build.write("csf.txt", description("bad-two-authenticate-data"))
    done = build.sign("-g", "-i", "csf.txt", "-o", "out.bin", DIGSIGN_MACHINE="several")
    assert done.returncode == 0, done.stderr
    for offset in (0x400, 0x4000):
        assert f"the container at {offset:#x}" in done.stderr
        assert ahab.verify(read(build), offset).srk == 1
    # A change in one of them, or between them, is seen.
    monkeypatch.chdir(build.folder)
    job = ahab_job(description("bad-two-authenticate-data").encode(), 1 << 20)
    signed = read(build)
    assert len(prove_file(build.folder / "out.bin", job, None)) == 2
    for place in (0x100, 0x408, 0x1000, 0x4008, 0x4198, 0x2900, len(signed) - 1):
        build.write("out.bin", signed[:place] + bytes([signed[place] ^ 1]) + signed[place + 1 :])
        with pytest.raises(Trouble, match="fails verification with flash"):
            prove_file(build.folder / "out.bin", job, None)


def test_an_answer_is_proven_against_the_file_of_now(
    build: Build, daemon: Daemon, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A file that changed meanwhile, another key than was asked for, one that the chip refuses, and nothing signed."""
    done = build.sign("-i", "csf.txt", "-o", "out.bin")
    assert done.returncode == 0, done.stderr
    monkeypatch.chdir(build.folder)
    text = description(SD).encode()
    job = ahab_job(text, 1 << 20)
    (proven,) = prove_file(build.folder / "out.bin", job, ahab.chip("imx93"))
    assert proven.srk == 1
    with pytest.raises(Trouble, match="is for SRK 1, not 2"):
        prove_file(build.folder / "out.bin", ahab_job(text.replace(b"index = 0", b"index = 1"), 1 << 20), None)
    with pytest.raises(Trouble, match="revoke mask 0x0, but 0x4 was asked for"):
        prove_file(build.folder / "out.bin", ahab_job(text.replace(b"= 0x0\n", b"= 0x4\n", 1), 1 << 20), None)
    with pytest.raises(Trouble, match=r"which i\.MX 95 B0 does not have"):
        prove_file(build.folder / "out.bin", job, ahab.chip("imx95"))
    with pytest.raises(Trouble, match="SRK set none"):
        prove_file(build.folder / "flash.bin", job, None)
    for changed in (image(SD)[:-1], image(SD) + b"1", image(SD)[:0x1000] + b"1" + image(SD)[0x1001:]):
        build.write("flash.bin", changed)
        with pytest.raises(Trouble, match="fails verification with flash"):
            prove_file(build.folder / "out.bin", job, None)
