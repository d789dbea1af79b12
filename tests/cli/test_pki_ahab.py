"""`digsign pki new --ahab`: keys that both csts sign with, tables that srktool makes too, checked against the chip."""

from __future__ import annotations

import hashlib
import re
import subprocess
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import serialization

from digsigd import ahab
from digsigd.keys.tarball import read_tarball
from digsigd.pki import Protection, Validity
from digsigd.pki_ahab import AHAB_KINDS, AhabKind, AhabPki, ahab_label, der_files
from digsigd.testing.ahab_image import TrialAhabImage
from digsigd.testing.ahab_pki import TrialAhabPki
from tests.conftest import CST_VERSIONS
from tests.helpers.blobs import Signing
from tests.helpers.commands import Digsign, read_folder

IMAGE = TrialAhabImage.of_size(0x10000)
TARBALL = "imx-cst-keys.tar.gz"
LABELS: dict[AhabKind, str] = {
    "p256": "sha256_secp256r1_v3", "p384": "sha384_secp384r1_v3", "p521": "sha512_secp521r1_v3",
    "rsa2048": "sha256_2048_65537_v3", "rsa3072": "sha256_3072_65537_v3", "rsa4096": "sha512_4096_65537_v3",
    "rsa-pss2048": "sha256_2048_65537_v3", "rsa-pss3072": "sha256_3072_65537_v3",
    "rsa-pss4096": "sha512_4096_65537_v3",
}  # fmt: skip
NAMES: dict[AhabKind, str] = {
    "p256": "ECDSA P-256", "p384": "ECDSA P-384", "p521": "ECDSA P-521",
    "rsa2048": "RSA 2048", "rsa3072": "RSA 3072", "rsa4096": "RSA 4096",
    "rsa-pss2048": "RSA-PSS 2048", "rsa-pss3072": "RSA-PSS 3072", "rsa-pss4096": "RSA-PSS 4096",
}  # fmt: skip
quick = pytest.mark.parametrize("kind", ["p256", "p384", "p521", "rsa2048", "rsa-pss2048"])


@pytest.fixture
def digsign(capsys: pytest.CaptureFixture[str]) -> Digsign:
    return Digsign(capsys)


@pytest.fixture
def target(tmp_path: Path) -> Path:
    """Where a test lets keys be made."""
    return tmp_path / "release-keys"


def as_pki(files: dict[str, bytes], kind: AhabKind, *, sgk: bool = False) -> TrialAhabPki:
    """Files that `digsign pki new --ahab` has made, in place of those that `TrialAhabPki` makes."""
    tables = {0: files["crts/SRK_1_2_3_4_table.bin"]}
    return TrialAhabPki(AhabPki(files, {}, kind, sgk, tables, 0))


def signed(signing: Signing, pki: TrialAhabPki, version: str, srk: int) -> bytes:
    """What cst makes of the file: its first container of the owner, signed."""
    header, block = IMAGE.containers[0]
    text = pki.csf("flash.bin", header, block, srk=srk)
    folder = signing.folder({**pki.files, "flash.bin": IMAGE.data, "csf.txt": text.encode()})
    command = [str(signing.tool(version)), "-i", "csf.txt", "-o", "out.bin"]
    done = subprocess.run(command, cwd=folder, capture_output=True)
    assert done.returncode == 0, done.stdout + done.stderr
    return (folder / "out.bin").read_bytes()


def srktool(signing: Signing, files: dict[str, bytes], version: int, digest: str) -> tuple[bytes, bytes]:
    """The table and the fuse file that srktool makes of the certificates."""
    folder = signing.folder(files)
    names = sorted(name for name in files if re.match(r"crts/SRK\d_.*_crt\.pem", name))
    sign_digest = re.findall(r"SRK\d_(sha\d+)_", names[0])[0]
    command = [
        str(signing.tool("4.0.1", "srktool")),
        "-a",
        "2" if version == 2 else "1",
        "-s",
        sign_digest,
        "-d",
        digest,
    ]
    done = subprocess.run([*command, "-t", "t", "-e", "e", "-c", ",".join(names)], cwd=folder, capture_output=True)
    assert done.returncode == 0, done.stdout + done.stderr
    return (folder / "t").read_bytes(), (folder / "e").read_bytes()


@quick
@pytest.mark.parametrize("sgk", [False, True], ids=["srk", "sgk"])
def test_both_csts_sign_with_the_keys_and_the_container_holds(
    digsign: Digsign, signing: Signing, target: Path, kind: AhabKind, sgk: bool
) -> None:
    """With the first and the last SRK, with the keys of the folder and of the tarball; srktool makes the same files."""
    ended = digsign("pki", "new", target, "--ahab", "--kind", kind, *(["--srk-ca"] if sgk else []))
    assert ended.code == 0, ended.err
    files = read_folder(target)
    tarball = read_tarball((target / TARBALL).read_bytes(), max_bytes=1 << 20).members
    for version, srk, keys in zip(CST_VERSIONS, (1, 4), (files, tarball), strict=True):
        pki = as_pki(keys, kind, sgk=sgk)
        made = signed(signing, pki, version, srk)
        found = ahab.verify(
            made, IMAGE.containers[0][0], srk_table=pki.srk_table(), srk_index=srk - 1, original=IMAGE.data
        )
        assert (found.srk_name, found.key_name, found.certificate) == (NAMES[kind], NAMES[kind], sgk)
    assert ahab.parse_table(files["crts/SRK_1_2_3_4_table.bin"]).records[0].is_ca is sgk  # type: ignore[union-attr]
    for digest in ("sha256", "sha512"):
        table, fuses = srktool(signing, files, 0, digest)
        assert table == files["crts/SRK_1_2_3_4_table.bin"]
        assert fuses == files[f"crts/SRK_1_2_3_4_fuse_{digest}.bin"]
    table, fuses = srktool(signing, files, 2, "sha512")
    assert (table, fuses) == (files["crts/SRK_1_2_3_4_v2_table.bin"], files["crts/SRK_1_2_3_4_v2_fuse.bin"])


@pytest.mark.parametrize("sgk", [False, True], ids=["srk", "sgk"])
def test_containers_of_version_2_are_signed_with_the_other_table(signing: Signing, sgk: bool) -> None:
    """By cst 4.0.1; the fuse value is the one that is said for such chips."""
    pki = TrialAhabPki.make("p384", sgk=sgk)
    image = ahab.ContainerImage(b"code".ljust(0x400, b"\0"), 0x2000)
    file = ahab.build_file([(0, ahab.build_container([image], version=2), [image])])
    text = pki.csf("flash.bin", 0, 0x90, srk=2, version=2)
    folder = signing.folder({**pki.files, "flash.bin": file, "csf.txt": text.encode()})
    done = subprocess.run(
        [str(signing.tool("4.0.1")), "-i", "csf.txt", "-o", "out.bin"], cwd=folder, capture_output=True
    )
    assert done.returncode == 0, done.stdout + done.stderr
    found = ahab.verify(
        (folder / "out.bin").read_bytes(), chip=ahab.chip("mx95"), srk_table=pki.srk_table(2),
        fuse_value=pki.fuse_value("sha512", 2),
    )  # fmt: skip
    assert (found.srk, found.certificate) == (2, sgk)


@pytest.mark.parametrize("version", CST_VERSIONS)
def test_cst_signs_with_the_der_beside_too(digsign: Digsign, signing: Signing, target: Path, version: str) -> None:
    """Certificates and encrypted keys."""
    assert digsign("pki", "new", target, "--ahab", "--kind", "rsa-pss2048", "--srk-ca").code == 0
    files = {name: data for name, data in read_folder(target).items() if not name.endswith(".pem")}
    pki = as_pki(files, "rsa-pss2048", sgk=True)
    assert pki.certificate("SGK").endswith(".der")
    header, block = IMAGE.containers[0]
    text = pki.csf("flash.bin", header, block)
    folder = signing.folder({**files, "flash.bin": IMAGE.data, "csf.txt": text.encode()})
    done = subprocess.run(
        [str(signing.tool(version)), "-i", "csf.txt", "-o", "out.bin"], cwd=folder, capture_output=True
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert ahab.verify((folder / "out.bin").read_bytes(), header, srk_table=pki.srk_table()).certificate


@pytest.mark.parametrize("kind", ["rsa3072", "rsa-pss4096"])
def test_long_rsa_keys_sign_too(signing: Signing, kind: AhabKind) -> None:
    """As the short ones do."""
    pki = TrialAhabPki.make(kind, versions=(0,))
    made = signed(signing, pki, "4.0.1", 3)
    assert ahab.verify(made, IMAGE.containers[0][0], srk_table=pki.srk_table()).srk_name == NAMES[kind]


def test_the_layout_is_that_of_nxps_scripts(digsign: Digsign, target: Path) -> None:
    """PEM and DER beside each other; the CA's key is in the folder alone; the tarball has what a host needs."""
    assert digsign("pki", "new", target, "--ahab", "--srk-ca").code == 0
    label = LABELS["p384"]
    stems = [f"SRK{n}_{label}_ca" for n in range(1, 5)] + [f"SGK{n}_1_{label}_usr" for n in range(1, 5)]
    tables = ["table", "fuse_sha256", "fuse_sha512", "v2_table", "v2_fuse"]
    common = {f"crts/SRK_1_2_3_4_{name}.bin" for name in tables} | {"keys/key_pass.txt"}
    pems = {f"crts/{stem}_crt.pem" for stem in stems} | {f"keys/{stem}_key.pem" for stem in stems}
    authority = f"CA1_{label}_ca"
    tarball = read_tarball((target / TARBALL).read_bytes(), max_bytes=1 << 20).members
    assert set(tarball) == common | pems | {f"crts/{authority}_crt.pem"}
    everything = pems | {f"crts/{authority}_crt.pem", f"keys/{authority}_key.pem"}
    ders = {name.replace(".pem", ".der") for name in everything}
    openssl = {"keys/serial", "keys/index.txt", "keys/index.txt.attr"}
    files = read_folder(target)
    assert set(files) == common | everything | ders | openssl | {TARBALL}
    phrase = files["keys/key_pass.txt"].splitlines()[0]
    for name in everything:
        der = files[name.replace(".pem", ".der")]
        if name.startswith("crts/"):
            certificate = x509.load_pem_x509_certificate(files[name])
            assert certificate == x509.load_der_x509_certificate(der)
            stem = name.removeprefix("crts/").removesuffix("_crt.pem")
            assert certificate.subject.rfc4514_string() == f"CN={stem}"
            above = stem.replace("SGK", "SRK").replace("_1_", "_").replace("_usr", "_ca")
            issuer = authority if stem.startswith(("SRK", "CA")) else above
            certificate.verify_directly_issued_by(x509.load_pem_x509_certificate(files[f"crts/{issuer}_crt.pem"]))
        else:
            assert b"ENCRYPTED" in files[name]
            assert serialization.load_der_private_key(der, phrase)


@pytest.mark.parametrize("kind", AHAB_KINDS)
def test_each_kind_has_its_label(kind: AhabKind) -> None:
    """RSA and RSA-PSS the same, as in NXP's script."""
    assert ahab_label(kind) == LABELS[kind]


@pytest.mark.parametrize(("soc", "hash_name", "version"), [
    ("imx93", "sha256", 0), ("mx8x", "sha512", 0), ("mx8qm", "sha512", 0), ("mx95-a0", "sha256", 0),
    ("mx95", "sha512", 2), ("i.MX 8ULP", "sha256", 0),
])  # fmt: skip
def test_with_a_chip_only_what_it_uses_is_made(
    digsign: Digsign, target: Path, soc: str, hash_name: str, version: int
) -> None:
    """One table, one fuse file, and its value is printed."""
    ended = digsign("pki", "new", target, "--ahab", "--kind", "p256", "--soc", soc)
    assert ended.code == 0, ended.err
    files = read_folder(target)
    (table,) = (name for name in files if name.endswith("_table.bin"))
    (fuses,) = (name for name in files if "_fuse" in name)
    assert ("_v2_" in table, "_v2_" in fuses) == (version == 2, version == 2)
    parsed = ahab.parse_table(files[table])
    assert files[fuses] == parsed.hash(hash_name) == ahab.fuse_value(parsed, ahab.chip(soc))
    assert files[fuses].hex() in ended.out
    (command,) = re.findall(r"`digsign (fuses .*)`", ended.out)
    words = digsign(*command.split())
    assert words.code == 0, words.err
    assert files[fuses].hex() in words.out
    assert version == 2 or files[fuses] == hashlib.new(hash_name, files[table]).digest()


def test_no_fuse_value_is_printed_where_its_hash_is_not_certain(digsign: Digsign, tmp_path: Path, target: Path) -> None:
    """Of a chip that is not told, or whose hash no source confirms."""
    ended = digsign("pki", "new", target, "--ahab", "--kind", "p256")
    assert not re.search(r"\b[0-9a-f]{64}\b", ended.out)
    assert "The fuse value depends on the chip" in ended.out
    ended = digsign("pki", "new", tmp_path / "dxl", "--ahab", "--kind", "p256", "--soc", "mx8dxl")
    assert ended.code == 0, ended.err
    assert not re.search(r"\b[0-9a-f]{64}\b", ended.out)
    assert "no fuse value:" in ended.out
    assert "does not know the words for this chip" in ended.out
    assert "digsign fuses" not in ended.out
    assert not list((tmp_path / "dxl/crts").glob("*fuse*"))


@pytest.mark.parametrize(("arguments", "says"), [
    (("--soc", "imx93", "--kind", "rsa4096"), "i.MX 93 does not accept rsa4096 keys"),
    (("--soc", "imx93", "--srk-ca"), "i.MX 93 does not accept SGKs"),
    (("--soc", "mx8ulp", "--kind", "rsa2048"), "i.MX 8ULP does not accept rsa2048 keys"),
    (("--soc", "mx8", "--kind", "rsa-pss2048"), "accepts rsa-pss2048 keys is not confirmed"),
    (("--soc", "mx95", "--srk-ca"), "accepts SGKs (--srk-ca) is not confirmed"),
])  # fmt: skip
def test_keys_that_the_chip_does_not_take_are_not_made(
    digsign: Digsign, target: Path, arguments: tuple[str, ...], says: str
) -> None:
    """Nor those that nobody knows for certain that it takes; the reason is said."""
    ended = digsign("pki", "new", target, "--ahab", *arguments)
    assert ended.code == 1
    assert says in ended.err
    assert not target.exists()


@pytest.mark.parametrize(("arguments", "says"), [
    (("--ahab", "--fast-auth"), "--fast-auth is for HAB4"),
    (("--ahab", "--srks", "2"), "AHAB has 4 SRKs"),
    (("--ahab", "--soc", "imx8mm"), "no chip with AHAB is called"),
    (("--ahab", "--soc", "imx"), "no chip with AHAB is called"),
    (("--soc", "imx93"), "i.MX 93 has AHAB, not HAB4 pass --ahab too"),
    (("--soc", "imx99"), "--soc:"),
    (("--kind", "rsa-pss2048"), "HAB4 has no rsa-pss2048 keys"),
])  # fmt: skip
def test_options_that_do_not_fit_are_refused(
    digsign: Digsign, target: Path, arguments: tuple[str, ...], says: str
) -> None:
    """Before any key is made."""
    ended = digsign("pki", "new", target, *arguments)
    assert ended.code == 2
    assert says in " ".join(ended.err.split())
    assert not target.exists()


def test_a_tarball_alone_has_all_that_a_host_needs(digsign: Digsign, tmp_path: Path) -> None:
    """For trials, with TRIAL in the names; the CA's key is saved nowhere."""
    path = tmp_path / "keys.tar.gz"
    ended = digsign("pki", "new", "--tarball", path, "--ahab", "--trial", "--name", "Acme", "--soc", "imx93")
    assert ended.code == 0, ended.err
    assert "throw-away keys" in ended.out
    assert "0x0287FAD6" in ended.out
    members = read_tarball(path.read_bytes(), max_bytes=1 << 20).members
    assert not any("CA1" in name for name in members if name.startswith("keys/"))
    name = f"crts/SRK2_{LABELS['p384']}_usr_crt.pem"
    subject = x509.load_pem_x509_certificate(members[name]).subject.rfc4514_string()
    assert subject == f"CN=TRIAL Acme SRK2_{LABELS['p384']}_usr"


def test_the_longest_name_fits_a_certificate() -> None:
    """With TRIAL, and the longest name of a key."""
    prefix = "TRIAL " + "x" * 26 + " "
    made = AhabPki.make("p384", Validity.of_days(1), Protection(), sgk=True, prefix=prefix, versions=(0,))
    longest = max(len(name.split("/")[1].removesuffix("_crt.pem")) for name in made.files if name.endswith("_crt.pem"))
    assert len(prefix) + longest <= 64
    assert "PRIVATE" not in repr(made)


def test_der_beside_pem_is_the_same_content() -> None:
    """Only the text around it differs."""
    made = AhabPki.make("p256", Validity.of_days(1), Protection(), versions=(0,))
    name = f"crts/SRK1_{LABELS['p256']}_usr_crt"
    assert x509.load_der_x509_certificate(der_files(made.files)[f"{name}.der"]) == x509.load_pem_x509_certificate(
        made.files[f"{name}.pem"]
    )
