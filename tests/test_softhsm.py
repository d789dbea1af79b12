"""The tokens of the tests are ones that real csts sign with: by OpenSSL's engine (3.4.1) and its provider (4.0.1)."""

from __future__ import annotations

import hashlib
import io
import os
import subprocess
import tarfile
import time
from pathlib import Path

import pytest

from digsigd import hab
from digsigd.testing import TrialImage, TrialPki
from tests.conftest import CST_VERSIONS
from tests.helpers.hsm import SoftHsm, label, provider
from tests.helpers.keys import trial_keys

TOKEN, PIN = "trial token", "7391-secret-pin"
IMAGE = TrialImage.of_size(0x4000)
BLOCKS = IMAGE.blocks("image.bin")
BLOCK = hab.Block(IMAGE.address, 0, IMAGE.signed_size)
DIGEST = hashlib.sha256(IMAGE.data[: IMAGE.signed_size]).digest()


@pytest.fixture(scope="module")
def rsa() -> TrialPki:
    return trial_keys("rsa2048", srks=2)


@pytest.fixture(scope="module")
def p256() -> TrialPki:
    return trial_keys("p256", srks=2)


@pytest.fixture(scope="module")
def hsm(rsa: TrialPki, p256: TrialPki, tmp_path_factory: pytest.TempPathFactory) -> SoftHsm:
    """A token with the keys below the first SRK of both."""
    hsm = SoftHsm(tmp_path_factory.mktemp("hsm"))
    hsm.init_token(TOKEN, PIN)
    hsm.put_pki(TOKEN, PIN, rsa)
    hsm.put_pki(TOKEN, PIN, p256)
    return hsm


def write_private(path: Path, text: str) -> None:
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w", encoding="utf-8") as file:
        file.write(text)


def openssl_conf(folder: Path, provider: Path, pin: str) -> Path:
    """One file for both ways. It names neither `default` nor `activate`: cst 4 loads what it needs by itself."""
    write_private(folder / "pin", pin)
    path = folder / "openssl.cnf"
    write_private(
        path,
        f"""\
openssl_conf = init
[init]
engines = engines
providers = providers
[engines]
pkcs11 = engine
[engine]
MODULE_PATH = {SoftHsm.MODULE}
PIN = "{pin}"
[providers]
pkcs11 = provider
[provider]
module = {provider}
pkcs11-module-path = {SoftHsm.MODULE}
pkcs11-module-token-pin = file:{folder / "pin"}
""",
    )
    return path


def run_cst(
    cst: Path, folder: Path, csf: str, backend: str, files: dict[str, bytes], environ: dict[str, str], *before: str
) -> tuple[bytes | None, str]:
    """What cst wrote, if anything, and what it said; `before` is a command that runs it."""
    for name, content in {**files, "image.bin": IMAGE.data, "in.csf": csf.encode()}.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)
    done = subprocess.run(
        [*before, cst, "-b", backend, "-i", "in.csf", "-o", "out.bin"],
        cwd=folder,
        env={"PATH": "/usr/bin:/bin", "HOME": str(folder), "TMPDIR": str(folder), "LC_ALL": "C", **environ},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
        timeout=30,
        check=False,
    )
    out = folder / "out.bin"
    return (out.read_bytes() if done.returncode == 0 and out.exists() else None), done.stdout


def sign(
    cst_base: Path, version: str, hsm: SoftHsm, pki: TrialPki, folder: Path, *before: str, pin: str = PIN
) -> tuple[bytes | None, str]:
    """Sign the image with the keys in the token and nothing but the SRK table in the folder."""
    folder.mkdir()
    environ = {"OPENSSL_CONF": str(openssl_conf(folder, provider(cst_base), pin)), **hsm.environ}
    cst = cst_base / f"cst-{version}/linux64/bin/cst"
    files = {pki.table(): pki.srk_table}
    return run_cst(cst, folder, hsm.csf(pki, TOKEN, BLOCKS), "pkcs11", files, environ, *before)


@pytest.mark.parametrize("version", CST_VERSIONS)
@pytest.mark.parametrize("kind", ["rsa", "p256"])
def test_a_real_cst_signs_with_keys_of_the_token(
    cst_base: Path, hsm: SoftHsm, version: str, kind: str, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    """The boot ROM would accept it, and the PIN is nowhere in what cst says."""
    pki: TrialPki = request.getfixturevalue(kind)
    blob, said = sign(cst_base, version, hsm, pki, tmp_path / "sign")
    assert blob is not None, said
    verified = hab.verify(
        blob,
        srk_table=pki.srk_table,
        expected_blocks=[[BLOCK]],
        source_index=0,
        digests=[DIGEST],
        fuse_value=pki.fuse_value,
    )
    assert verified.srk == 1
    assert [one.subject for one in verified.certificates] == [
        label(pki.certificate("CSF")),
        label(pki.certificate("IMG")),
    ]
    assert PIN not in said


@pytest.mark.parametrize("version", CST_VERSIONS)
def test_the_token_signs_as_the_files_do(
    cst_base: Path, hsm: SoftHsm, rsa: TrialPki, version: str, tmp_path: Path
) -> None:
    """Byte for byte, when the clock stands still: PKCS #1 v1.5 has no chance in it."""
    frozen = ("faketime", "-f", time.strftime("%Y-%m-%d %H:%M:%S"))
    by_token, said = sign(cst_base, version, hsm, rsa, tmp_path / "token", *frozen)
    assert by_token is not None, said
    cst = cst_base / f"cst-{version}/linux64/bin/cst"
    by_files, said = run_cst(cst, tmp_path / "files", rsa.csf(BLOCKS), "ssl", rsa.files, {}, *frozen)
    assert by_files is not None, said
    assert by_token == by_files


@pytest.mark.parametrize("version", CST_VERSIONS)
def test_a_wrong_pin_signs_nothing(cst_base: Path, hsm: SoftHsm, rsa: TrialPki, version: str, tmp_path: Path) -> None:
    """So it is the token that signs."""
    blob, said = sign(cst_base, version, hsm, rsa, tmp_path / "sign", pin="0000-wrong-pin")
    assert blob is None, said


def test_a_key_leaves_no_file_behind(hsm: SoftHsm) -> None:
    """Only the configuration and the tokens are in the folder."""
    assert {path.name for path in hsm.conf.parent.iterdir()} == {"softhsm2.conf", "tokens"}


def test_tokens_are_apart_from_each_other(rsa: TrialPki, tmp_path: Path) -> None:
    """By folder and by name; a certificate may be there without its key."""
    first, second = SoftHsm(tmp_path / "1"), SoftHsm(tmp_path / "2")
    first.init_token("a", "1111")
    first.init_token("b", "2222")
    first.put("b", "2222", "alone", id="0a", certificate=rsa.files[rsa.certificate("IMG")])

    def objects(hsm: SoftHsm, token: str, pin: str) -> str:
        done = subprocess.run(
            ["pkcs11-tool", "--module", hsm.MODULE, "--token-label", token, "--login", "--pin", pin, "-O"],
            env={"PATH": os.environ["PATH"], "LC_ALL": "C", **hsm.environ},
            capture_output=True,
            text=True,
            timeout=30,
            check=False,
        )
        return done.stdout if done.returncode == 0 else done.stderr

    assert objects(first, "a", "1111") == ""
    shown = objects(first, "b", "2222")
    assert "alone" in shown
    assert "Certificate Object" in shown
    assert "Private Key Object" not in shown
    assert "alone" not in objects(second, "b", "2222")


def test_its_description_names_objects_and_the_table(hsm: SoftHsm, rsa: TrialPki) -> None:
    """The token's name is encoded as RFC 7512 has it. No certificate is a file."""
    text = hsm.csf(rsa, TOKEN, BLOCKS, srk=2)
    for role in ("CSF", "IMG"):
        assert f'File = "pkcs11:token=trial%20token;object={role}2_1_sha256_2048_65537_v3_usr;type=cert"' in text
    assert f'File = "{rsa.table()}"' in text
    assert "_crt." not in text
    assert "Source index = 1" in text


def test_its_tarball_holds_the_table_only(hsm: SoftHsm, rsa: TrialPki) -> None:
    """Under the name that the description has."""
    with tarfile.open(fileobj=io.BytesIO(hsm.srk_tarball(rsa))) as tar:
        (member,) = tar
        file = tar.extractfile(member)
        assert file is not None
        assert (member.name, file.read()) == (rsa.table(), rsa.srk_table)
