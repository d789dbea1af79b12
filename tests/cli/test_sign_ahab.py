"""`digsign sign` of files with AHAB containers, through a real daemon and the real cst."""

from __future__ import annotations

import hashlib
import json
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from digsigd import ahab
from digsigd.hab.certificate import load_file
from digsigd.image.ahab_model import AhabPlan
from digsigd.image.ahab_plan import plan_ahab
from digsigd.image.ahab_report import AhabReport, report_ahab
from tests.helpers import golden
from tests.helpers.ahab_cases import fuse_value, image, members, packed, tarball
from tests.helpers.commands import Run, host
from tests.helpers.daemons import Daemon
from tests.helpers.hsm import SoftHsm, provider

KEYS = ("p256", "p384", "p384ca", "p521", "pss2048", "r2048")
SD, QXP, V2 = "good-93-sd-spl", "good-qxp-spl-sgk", "good-v2-p384"


@pytest.fixture(scope="module")
def daemon(cst_base: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Daemon]:
    """One for all tests, with a machine for each PKI."""
    daemon = Daemon(tmp_path_factory.mktemp("daemon"), cst_base)
    for keys in KEYS:
        daemon.put_keys(keys, tarball(keys))
    yield daemon.start()
    assert daemon.left_behind() == []
    daemon.stop()


def judged(data: bytes, soc: str, fuses: bytes) -> AhabReport:
    return report_ahab(data, plan_ahab(data, ahab.chip(soc)), fuse_value=fuses)


def fixed(data: bytes, plan: AhabPlan) -> bytes:
    """A file without what signing the containers of `plan` may change: length and flags, and the block."""
    left = bytearray(data)
    for one in plan.to_sign:
        for start, end in ((1, 3), (4, 8), (one.block - one.offset, one.end - one.offset)):
            left[one.offset + start : one.offset + end] = bytes(end - start)
    return bytes(left)


def received(daemon: Daemon) -> int:
    """How many files were sent to the daemon."""
    return daemon.log().count("] received ")


@pytest.mark.parametrize(
    ("case", "soc", "machine", "options", "fuses"),
    [
        (SD, "imx93", "p384", (), "fuse_sha256"),
        (SD, "imx93", "p384", ("--srk", "4", "--cst", "3.4.1"), "fuse_sha256"),
        (SD, "mx91", "p256", ("--cst", "4.0.1"), "fuse_sha256"),
        (SD, "i.MX 8ULP", "p521", (), "fuse_sha256"),
        (SD, "imx93", "pss2048", (), "fuse_sha256"),
        (SD, "imx8qxp", "r2048", (), "fuse_sha512"),
        ("good-os-container", "imx93", "p521", ("--srk", "3"), "fuse_sha256"),
        (QXP, "imx8qxp", "p384ca", ("--sgk", "--srk", "2"), "fuse_sha512"),
        (QXP, "imx8qm", "p384ca", ("--sgk", "--cst", "3.4.1"), "fuse_sha512"),
        (V2, "imx95", "p384", ("--srk", "2"), "v2_fuse"),
        (V2, "imx943", "pss2048", (), "v2_fuse"),
        (V2, "imx952", "p384ca", ("--sgk",), "v2_fuse"),
    ],
)
def test_every_oem_container_is_signed(
    digsign: Run,
    daemon: Daemon,
    tmp_path: Path,
    case: str,
    soc: str,
    machine: str,
    options: tuple[str, ...],
    fuses: str,
) -> None:
    """Each with one request, in the order of the file; nothing else is changed, and the fuse value is the chip's."""
    data = image(case)
    (tmp_path / "flash.bin").write_bytes(data)
    before = received(daemon)
    done = digsign("sign", "flash.bin", "-o", "out.bin", "--soc", soc, *options, **host(daemon, machine))
    assert done.returncode == 0, done.stderr
    value = fuse_value(machine, fuses)
    assert value.hex() in done.stdout
    signed = (tmp_path / "out.bin").read_bytes()
    plan = plan_ahab(signed)
    assert received(daemon) - before == len(plan.to_sign)
    assert [line.split(": ")[0] for line in done.stderr.splitlines() if ": signed, " in line] == [
        one.name for one in plan.to_sign
    ]
    report = judged(signed, soc, value)
    assert report.holds, report
    for one in report.containers:
        if one.planned.must_sign:
            assert one.proven is not None
            assert one.proven.srk == (int(options[options.index("--srk") + 1]) if "--srk" in options else 1)
            assert one.proven.certificate == ("--sgk" in options)
    assert fixed(signed, plan) == fixed(data, plan)
    assert (tmp_path / "flash.bin").read_bytes() == data
    assert sorted(path.name for path in tmp_path.iterdir()) == ["flash.bin", "out.bin"]
    verified = digsign("verify", "out.bin", "--soc", soc, "--fuses", value.hex())
    assert verified.returncode == 0, verified.stdout


def test_a_signed_file_is_signed_again_in_its_place(digsign: Run, daemon: Daemon, flash: Path) -> None:
    """All its OEM containers, with a note; also with keys whose block is shorter, which leaves bytes of the old one."""
    for machine, srk in (("pss2048", "1"), ("p384", "2"), ("p256", "3")):
        done = digsign("sign", "flash.bin", "-o", "flash.bin", "--soc", "imx93", "--srk", srk, **host(daemon, machine))
        assert done.returncode == 0, done.stderr
        assert ("already signed, which signing replaces" in done.stderr) == (machine != "pss2048")
        report = judged(flash.read_bytes(), "imx93", fuse_value(machine))
        assert report.holds, report
    assert [path.name for path in flash.parent.iterdir()] == ["flash.bin"]


def test_the_chip_must_be_named(digsign: Run, daemon: Daemon, flash: Path) -> None:
    """By the option, or in the environment or the file: containers do not say for which chip they are."""
    command = ("sign", "flash.bin", "-o", "out.bin")
    done = digsign(*command, **host(daemon))
    assert done.returncode == 2
    assert "set --soc CHIP, such as imx93 or imx8qxp, DIGSIGN_SOC, or soc in digsign.toml" in done.stderr
    done = digsign(*command, "--soc", "imx6ull", **host(daemon))
    assert done.returncode == 2
    assert "is for chips with AHAB, but --soc names the" in done.stderr
    done = digsign(*command, **host(daemon), DIGSIGN_SOC="imx99")
    assert done.returncode == 1
    assert "no chip with AHAB is called 'imx99'" in done.stderr
    assert not (flash.parent / "out.bin").exists()
    done = digsign(*command, **host(daemon), DIGSIGN_SOC="imx93")
    assert done.returncode == 0, done.stderr
    assert judged((flash.parent / "out.bin").read_bytes(), "imx93", fuse_value("p384")).holds


def changed(data: bytes, place: int) -> bytes:
    return data[:place] + bytes([data[place] ^ 1]) + data[place + 1 :]


@pytest.mark.parametrize(
    ("data", "machine", "options", "words"),
    [
        (changed(image(SD), 0x3000), "p384", "--soc imx93", "image 0 (code) of the container at 0x400, 0x1800 bytes"),
        (image(SD)[:-0x400], "p384", "--soc imx93", "ends at 0xa000, but the file has 0x9c00 bytes"),
        (image("bad-overruns-next-container"), "r2048", "--soc imx8qxp", "these keys need 0x558"),
        (image(SD), "r2048", "--soc imx93", "RSA 2048 (SRK 1 of machine 'r2048') is not for i.MX 93"),
        (image(SD), "p384ca", "--soc imx93 --sgk", "a certificate (SGK) is not for i.MX 93"),
        (image(SD), "p384", "--soc imx8qxp --sgk", "machine 'p384' has no SGK certificate signed by SRK 1"),
        (image(SD), "p384", "--soc imx95", "has version 0, but i.MX 95 B0 has containers of version 2"),
        (image(V2), "p384", "--soc imx95 --cst 3.4.1", "cst 3.4.1 does not sign AHAB containers of version 2"),
        (image(V2), "p256", "--soc imx95", "has no SRK table for AHAB containers of version 2; its table is of the"),
        (image(SD), "p384", "--soc imx93 --sw-version 3", "has the software version 0, not 3"),
        (image(SD), "p384", "--soc imx93 --fuse-version 0x1", "has the fuse version 0, not 1"),
        (image(SD), "p384", f"--soc imx93 --fuses {'7' * 64}", f"--fuses says {'7' * 64}"),
        (image(SD), "p384", f"--soc imx8qxp --fuses {'7' * 128}", f"--fuses says {'7' * 128}"),
        (image(SD)[:0x400] + image(SD)[0x2000:0x2800], "p384", "--soc imx93", "image 0"),
    ],
)  # fmt: skip
def test_what_cannot_be_signed_is_told_before_anything_is_sent(
    digsign: Run, daemon: Daemon, flash: Path, data: bytes, machine: str, options: str, words: str
) -> None:
    """Sizes and hashes that do not fit, no room, keys that the chip refuses, other versions and other fuses."""
    flash.write_bytes(data)
    before = received(daemon)
    done = digsign("sign", "flash.bin", "-o", "out.bin", *options.split(), **host(daemon, machine))
    assert done.returncode == 1, done.stdout
    assert words in done.stderr
    assert received(daemon) == before
    assert [path.name for path in flash.parent.iterdir()] == ["flash.bin"]


def test_versions_and_fuses_that_are_there_are_fine(digsign: Run, daemon: Daemon, flash: Path) -> None:
    """Both hashes of the fuses have their chips."""
    for soc, name in (("imx93", "fuse_sha256"), ("imx8qm", "fuse_sha512")):
        value = fuse_value("p384", name).hex()
        options = ("--sw-version", "0", "--fuse-version", "0", "--fuses", value, "--soc", soc)
        done = digsign("sign", "flash.bin", "-o", "out.bin", *options, **host(daemon))
        assert done.returncode == 0, done.stderr
        assert value in done.stdout


def test_a_chip_whose_fuses_are_not_confirmed(digsign: Run, daemon: Daemon, flash: Path) -> None:
    """Its file is signed, but no fuse value is told; one that is given has to be a hash of the table."""
    command = ("sign", "flash.bin", "-o", "out.bin", "--soc", "imx8dxl")
    done = digsign(*command, **host(daemon))
    assert done.returncode == 0, done.stderr
    assert "for i.MX 8DXLite with this SRK table in their fuses" in done.stdout
    for name in ("fuse_sha256", "fuse_sha512"):
        done = digsign(*command, "--fuses", fuse_value("p384", name).hex(), **host(daemon))
        assert done.returncode == 0, done.stderr
    done = digsign(*command, "--fuses", "7" * 64, **host(daemon))
    assert done.returncode == 1
    assert "--fuses says 777" in done.stderr


@pytest.mark.parametrize(
    "option", ["--fast-auth", "--load-address=1", "--sdp=1", "--configuration=a", "--fit-fdt=required"]
)
def test_options_for_hab_are_not_for_ahab(digsign: Run, flash: Path, option: str) -> None:
    """Whoever gives one takes the file for another."""
    done = digsign("sign", "flash.bin", "-o", "out.bin", "--soc", "imx93", option, DIGSIGN_SERVER="http://127.0.0.1:9")
    assert done.returncode == 2
    assert f"is an AHAB image, but {option.partition('=')[0]} is for HAB images" in done.stderr


@pytest.mark.parametrize("option", ["--sgk", "--sw-version=1", "--fuse-version=1"])
def test_options_for_ahab_are_not_for_hab(digsign: Run, tmp_path: Path, option: str) -> None:
    """And a chip with AHAB is not that of an image for HAB."""
    (tmp_path / "flash.bin").write_bytes(golden.flash("mm", "nxp-new"))
    done = digsign("sign", "flash.bin", "-o", "out.bin", option)
    assert done.returncode == 2
    assert f"is a HAB image, but {option.partition('=')[0]} is for AHAB images" in done.stderr
    done = digsign("sign", "flash.bin", "-o", "out.bin", "--soc", "imx93")
    assert done.returncode == 2
    assert "is for chips with HAB4, but --soc names the i.MX 93" in done.stderr


def test_a_dry_run_asks_nobody(digsign: Run, flash: Path) -> None:
    """It shows each container, whose it is, and what is wrong."""
    done = digsign("sign", "flash.bin", "--dry-run")
    assert (done.returncode, done.stderr) == (0, "")
    for words in ("NXP container at 0x0: left alone", "OEM container at 0x400: Offsets 0x400 0x490", "at 0x4000"):
        assert words in done.stdout
    flash.write_bytes(changed(image(SD), 0x3000))
    done = digsign("sign", "flash.bin", "--dry-run", "--soc", "imx93")
    assert done.returncode == 1
    assert "the image was changed after the container was made" in done.stdout
    assert "OEM container at 0x400: Offsets" in done.stdout
    assert [path.name for path in flash.parent.iterdir()] == ["flash.bin"]


def test_descriptions_alone_are_what_cst_signs(digsign: Run, daemon: Daemon, flash: Path, cst_base: Path) -> None:
    """One after the other, each with what the one before wrote."""
    done = digsign("sign", "flash.bin", "--csf-only", "csf", "--soc", "imx93", "--srk", "2", **host(daemon))
    assert done.returncode == 0, done.stderr
    names = ["csf_oem_container_at_0x400.txt", "csf_oem_container_at_0x4000.txt"]
    assert sorted(path.name for path in (flash.parent / "csf").iterdir()) == names
    assert all(f"csf/{name}" in done.stdout for name in names)
    for name, content in members("p384").items():
        (flash.parent / name).parent.mkdir(exist_ok=True)
        (flash.parent / name).write_bytes(content)
    for name in names:
        cst = [str(cst_base / "cst-3.4.1/linux64/bin/cst"), "-i", f"csf/{name}", "-o", "out.bin"]
        subprocess.run(cst, cwd=flash.parent, check=True, capture_output=True)
        (flash.parent / "out.bin").replace(flash)
    report = judged(flash.read_bytes(), "imx93", fuse_value("p384"))
    assert report.holds, report
    assert [one.proven.srk for one in report.containers if one.proven and one.planned.must_sign] == [2, 2]


def test_names_of_keys_can_be_configured(digsign: Run, daemon: Daemon, flash: Path) -> None:
    """For hosts that do not report them; with a version of cst the host is not asked for its keys."""
    config = flash.parent / "digsign.toml"
    flash.write_bytes(image(QXP))
    config.write_text(
        'srk_table = "SRK_1_2_3_4_table.bin"\nsrk_certificate = "SRK3_sha384_secp384r1_v3_ca_crt.pem"\n'
        'sgk_certificate = "SGK3_1_sha384_secp384r1_v3_usr_crt.pem"\ncst = "4.0.1"\nsoc = "8qxp"\n'
    )
    asked = daemon.log().count("keys of p384ca requested")
    for options in (("--sgk",), ()):
        done = digsign("sign", "flash.bin", "-o", "out.bin", "--srk", "3", *options, **host(daemon, "p384ca"))
        assert done.returncode == 0, done.stderr
        signed = (flash.parent / "out.bin").read_bytes()
        report = judged(signed, "imx8qxp", fuse_value("p384ca", "fuse_sha512"))
        proven = [one.proven for one in report.containers if one.planned.must_sign]
        assert [(one.srk, one.certificate) for one in proven if one] == [(3, bool(options))] * 2
    assert daemon.log().count("keys of p384ca requested") == asked
    config.write_text('srk_table = "t.bin"\n')
    done = digsign("sign", "flash.bin", "-o", "new.bin", "--soc", "imx8qxp", **host(daemon, "p384ca"))
    assert done.returncode == 1
    assert "sets srk_table, but not srk_certificate" in done.stderr


def test_keys_on_a_token_sign(
    digsign: Run, cst_base: Path, flash: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """Their names are configured: the host knows only the SRK table, which is in the tarball."""
    folder = tmp_path_factory.mktemp("token")
    hsm = SoftHsm(folder)
    hsm.init_token("release", "73915")
    files = members("p384ca")
    uris = {}
    for name, number in (("SRK2_sha384_secp384r1_v3_ca", "01"), ("SGK2_1_sha384_secp384r1_v3_usr", "02")):
        certificate, key = files[f"crts/{name}_crt.pem"], files[f"keys/{name}_key.pem"]
        hsm.put(
            "release", "73915", name,
            id=number, key_pem=key, key_password=b"secret7", certificate=load_file(certificate).der,
        )  # fmt: skip
        uris[name[:3]] = f"pkcs11:token=release;object={name};type=cert"
    (folder / "pin").write_text("73915")
    (folder / "d").mkdir()
    config = f"""
[pkcs11]
module = "{SoftHsm.MODULE}"
provider = "{provider(cst_base)}"
paths = ["{hsm.folder}"]
[pkcs11.tokens.release]
pin_file = "{folder}/pin"
"""
    daemon = Daemon(folder / "d", cst_base, config, environ=hsm.environ)
    table = "crts/SRK_1_2_3_4_table.bin"
    daemon.put_keys("hsm", packed({table: files[table]}))
    daemon.start()
    (flash.parent / "digsign.toml").write_text(
        f'machine = "hsm"\nbackend = "pkcs11"\ncst = "4.0.1"\nsrk_table = "{table}"\nsoc = "imx8qxp"\n'
        f'srk_certificate = "{uris["SRK"]}"\nsgk_certificate = "{uris["SGK"]}"\n'
    )
    for options in (("--sgk",), ()):
        command = ("sign", "flash.bin", "-o", "out.bin", "--srk", "2", "--server", daemon.url, *options)
        done = digsign(*command)
        assert done.returncode == 0, done.stderr
        report = judged((flash.parent / "out.bin").read_bytes(), "imx8qxp", fuse_value("p384ca", "fuse_sha512"))
        assert report.holds, report
        proven = [one.proven for one in report.containers if one.planned.must_sign]
        assert [(one.srk, one.certificate) for one in proven if one] == [(2, bool(options))] * 2
    daemon.stop()


def test_a_statement_tells_of_each_container(digsign: Run, daemon: Daemon, flash: Path) -> None:
    """With the digest of what the host answered for it; that of the last one is the digest of the file."""
    command = ("sign", "flash.bin", "-o", "out.bin", "--soc", "imx93", "--provenance", "statement.json")
    done = digsign(*command, **host(daemon))
    assert done.returncode == 0, done.stderr
    statement = json.loads((flash.parent / "statement.json").read_text())
    digest = hashlib.sha256((flash.parent / "out.bin").read_bytes()).hexdigest()
    assert statement["subject"] == [{"name": "out.bin", "digest": {"sha256": digest}}]
    build, run = (statement["predicate"][name] for name in ("buildDefinition", "runDetails"))
    assert build["externalParameters"]["soc"] == "mx93"
    assert build["externalParameters"]["fuse_value"] == fuse_value("p384").hex()
    assert build["resolvedDependencies"][0]["digest"]["sha256"] == hashlib.sha256(image(SD)).hexdigest()
    first, last = run["byproducts"]
    assert [one["name"] for one in (first, last)] == ["OEM container at 0x400", "OEM container at 0x4000"]
    assert first["digest"]["sha256"] != digest
    assert last["digest"]["sha256"] == digest
    requests = [one["annotations"]["request"] for one in (first, last)]
    assert run["metadata"]["invocationId"] == " ".join(requests)
    assert all(f"[{one}] answered 200" in daemon.log() for one in requests)
    assert [one["annotations"]["offset"] for one in (first, last)] == [0x400, 0x4000]
    assert first["annotations"]["record"] != last["annotations"]["record"]


def test_without_an_output_nothing_is_done(digsign: Run, daemon: Daemon, flash: Path) -> None:
    """As for other images."""
    done = digsign("sign", "flash.bin", "--soc", "imx93", **host(daemon))
    assert done.returncode == 2
    assert "-o OUT is missing" in done.stderr
    done = digsign("sign", "flash.bin", "-o", "out.bin", "--soc", "imx93", "--sw-version", "65536", **host(daemon))
    assert done.returncode == 2
    assert "is not a number from 0 to 65535" in done.stderr
    done = digsign("sign", "flash.bin", "-o", "out.bin", "--soc", "imx93", "--quiet", **host(daemon))
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
