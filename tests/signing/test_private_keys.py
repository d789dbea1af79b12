"""Private keys in every form that OpenSSL writes: decrypted once, and given to cst as PEM without a pass phrase."""

from __future__ import annotations

import subprocess
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_twisted

from digsigd import csf
from digsigd.csf import cst_files
from digsigd.errors import BadTarball, DigsigError
from digsigd.keys.tarball import KeyTarball, read_tarball
from digsigd.signing import private_keys
from digsigd.signing.private_keys import check_match, plain_key
from digsigd.testing import TrialImage, TrialPki
from tests.conftest import CST_VERSIONS
from tests.helpers.keys import trial_keys
from tests.helpers.proof import proven
from tests.helpers.signers import SignerInTest

IMAGE = TrialImage.of_size(0x4000)
SPL = {"spl.bin": IMAGE.data}
PHRASE = "a phrase"
PEM = "-passin pass:{phrase} -in {key} -out {out}"
# How OpenSSL writes a key anew, after `openssl`, and whether cst gets it decrypted.
FORMS = {
    "PKCS #8, AES": (f"pkcs8 -topk8 -v2 aes256 -passout pass:'{PHRASE}' {PEM}", True),
    "PKCS #8, scrypt": (f"pkcs8 -topk8 -scrypt -passout pass:'{PHRASE}' {PEM}", True),
    "PKCS #8, 3DES of PKCS #12": (f"pkcs8 -topk8 -v1 PBE-SHA1-3DES -passout pass:'{PHRASE}' {PEM}", True),
    "PKCS #8, Camellia": (f"pkcs8 -topk8 -v2 camellia256 -passout pass:'{PHRASE}' {PEM}", False),
    "PKCS #8, without a pass phrase": (f"pkcs8 -topk8 -nocrypt {PEM}", True),
    "traditional, AES": (f"{{kind}} -aes256 -passout pass:'{PHRASE}' {PEM}", True),
    "traditional, 3DES": (f"{{kind}} -des3 -passout pass:'{PHRASE}' {PEM}", True),
    "traditional, without a pass phrase": (f"{{kind}} {PEM}", True),
}


@pytest_twisted.async_yield_fixture
async def signer(tmp_path: Path, cst_base: Path) -> AsyncIterator[SignerInTest]:
    made = SignerInTest(tmp_path, cst_base)
    yield made
    made.stop()


def written_anew(pki: TrialPki, command: str, folder: Path, *, head: bytes = b"") -> TrialPki:
    """The same keys in another form, with `head` before each."""
    files = dict(pki.files)
    for name, data in pki.files.items():
        if name.endswith("_key.pem"):
            key, out = folder / "key", folder / "out"
            key.write_bytes(data)
            kind = "ec" if pki.kind.startswith("p") else "rsa -traditional"
            words = command.format(phrase=pki.pass_phrase, key=key, out=out, kind=kind)
            subprocess.run(f"openssl {words}", shell=True, check=True, capture_output=True)  # noqa: S602
            files[name] = head + out.read_bytes()
    files["keys/key_pass.txt"] = f"{PHRASE}\n{PHRASE}\n".encode()
    return TrialPki(files, pki.kind, pki.fast_auth, pki.srk_table)


@pytest.mark.parametrize("kind", ["rsa2048", "p256"])
@pytest.mark.parametrize("form", FORMS)
async def test_keys_of_every_form_sign(signer: SignerInTest, tmp_path: Path, kind: str, form: str) -> None:
    """With what is decrypted here; what is not goes to cst as it is."""
    command, decrypted = FORMS[form]
    pki = written_anew(trial_keys(kind, srks=1), command, tmp_path)
    signer.put_keys(pki)
    listing = signer.put_tool("cat k1/a_key.pem; ls k1; exit 1")
    signed = await signer.sign(signer.request(pki.csf(IMAGE.blocks("spl.bin")), SPL))
    proven(pki, IMAGE, signed.blob)
    with pytest.raises(DigsigError):
        await signer.sign(signer.request(pki.csf(IMAGE.blocks("spl.bin")), SPL, version=listing))
    given = (signer.workdirs[-1].path / "k1/a_key.pem").read_bytes()
    assert (b"ENCRYPTED" not in given) == decrypted
    assert (signer.workdirs[-1].path / "k1/key_pass.txt").exists() != decrypted


# What `openssl ecparam -name prime256v1` writes.
PARAMETERS = b"-----BEGIN EC PARAMETERS-----\nBggqhkjOPQMBBw==\n-----END EC PARAMETERS-----\n"


async def test_what_is_before_a_key_in_its_file_is_skipped(signer: SignerInTest, tmp_path: Path) -> None:
    """`openssl ecparam -genkey` writes the parameters first; people write notes."""
    pki = trial_keys("p256", srks=1)
    for head in (PARAMETERS, b"the key of 2026\n"):
        anew = written_anew(pki, f"{{kind}} {PEM}", tmp_path, head=head)
        signer.put_keys(anew)
        proven(anew, IMAGE, (await signer.sign(signer.request(anew.csf(IMAGE.blocks("spl.bin")), SPL))).blob)


async def test_keys_in_der_sign(signer: SignerInTest, tmp_path: Path) -> None:
    """Cst 3.4.1 does not open them without a pass phrase, but it gets them as PEM."""
    pki = trial_keys("rsa2048", srks=1)
    for command in (f"pkcs8 -topk8 -outform DER -passout pass:'{PHRASE}' {PEM}", f"rsa -outform DER {PEM}"):
        anew = written_anew(pki, command, tmp_path)
        files = {name.replace("_key.pem", "_key.der"): data for name, data in anew.files.items()}
        anew = TrialPki(files, pki.kind, pki.fast_auth, pki.srk_table)
        signer.put_keys(anew)
        for version in CST_VERSIONS:
            signed = await signer.sign(signer.request(anew.csf(IMAGE.blocks("spl.bin")), SPL, version=version))
            proven(anew, IMAGE, signed.blob)


@pytest.mark.parametrize("version", CST_VERSIONS)
@pytest.mark.parametrize("kind", ["rsa2048", "rsa4096"])
def test_blobs_are_the_same_byte_for_byte(tmp_path: Path, cst_base: Path, version: str, kind: str) -> None:
    """From keys as NXP's scripts leave them and from decrypted ones, within the same second."""
    pki = trial_keys(kind, srks=1)
    tarball = KeyTarball(dict(pki.files), "")

    def decrypts(certificate: str, key: str, phrase: str | None) -> bool:
        return plain_key(tarball, certificate, key, phrase) is not None

    blobs = []
    for decrypted in (False, True):
        plan = csf.resolve(
            csf.parse(pki.csf(IMAGE.blocks("spl.bin")).encode()),
            members=pki.files,
            artifacts={"spl.bin": len(IMAGE.data)},
            decrypts=decrypts if decrypted else None,
        )
        folder = tmp_path / str(decrypted)
        folder.mkdir()
        (folder / cst_files.artifact(0)).write_bytes(IMAGE.data)
        (folder / cst_files.DESCRIPTION).write_bytes(csf.write(plan.description))
        plain = {key: one.pem for (_, key), one in tarball.plain_keys.items() if decrypted}
        for needed in plan.files:
            (folder / needed.name).parent.mkdir(exist_ok=True)
            (folder / needed.name).write_bytes(plain.get(needed.member) or pki.files[needed.member])
        assert (folder / "k1/key_pass.txt").exists() != decrypted
        subprocess.run(
            ["faketime", "-f", "2026-01-01 00:00:00", f"{cst_base}/cst-{version}/linux64/bin/cst",
             "-i", cst_files.DESCRIPTION, "-o", cst_files.BLOB],
            cwd=folder, check=True, capture_output=True,
        )  # fmt: skip
        blobs.append((folder / cst_files.BLOB).read_bytes())
    assert blobs[0] == blobs[1]


@pytest.fixture
def tarball() -> KeyTarball:
    return read_tarball(trial_keys("p256", srks=1).tarball(), max_bytes=1 << 20)


def names(tarball: KeyTarball) -> tuple[str, str, str]:
    key = next(name for name in tarball.members if name.startswith("keys/CSF1"))
    certificate = next(name for name in tarball.members if name.startswith("crts/CSF1") and name.endswith("_crt.pem"))
    return certificate, key, "keys/key_pass.txt"


def test_a_key_is_decrypted_once(tarball: KeyTarball, monkeypatch: pytest.MonkeyPatch) -> None:
    """For all requests for which the tarball is kept."""
    first = plain_key(tarball, *names(tarball))
    monkeypatch.setattr(private_keys, "_load", None)
    assert plain_key(tarball, *names(tarball)) is first is not None
    assert first.startswith(b"-----BEGIN EC PRIVATE KEY-----\n")
    assert "PRIVATE" not in repr(tarball)


def test_a_missing_pass_phrase_is_told(tarball: KeyTarball) -> None:
    """Without running cst, with where to write it."""
    certificate, key, _ = names(tarball)
    assert plain_key(tarball, certificate, key, None) is None
    with pytest.raises(BadTarball, match=f"{key} in the key tarball is encrypted, but its pass phrase") as caught:
        check_match(tarball, certificate, key)
    assert "first line of key_pass.txt" in str(caught.value.hint)


def test_the_key_of_another_certificate_is_told(tarball: KeyTarball) -> None:
    """Whatever form it has."""
    certificate, _, phrase = names(tarball)
    other = next(name for name in tarball.members if name.startswith("keys/IMG1"))
    assert plain_key(tarball, certificate, other, phrase) is not None
    with pytest.raises(BadTarball, match=f"{other} in the key tarball does not match {certificate}"):
        check_match(tarball, certificate, other)
