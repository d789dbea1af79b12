"""`digsign pki new`: keys that the real tools take, written whole or not at all."""

from __future__ import annotations

import os
import signal
import stat
import subprocess
import sys
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa

from digsigd import hab
from digsigd.cli import pki_files as command
from digsigd.cli.console import Trouble
from digsigd.keys.tarball import read_tarball
from digsigd.pki import KINDS, KeyKind, Pki, Protection, Validity
from tests.conftest import CST_VERSIONS
from tests.helpers.blobs import Signing
from tests.helpers.commands import Digsign, as_pki, read_folder
from tests.helpers.daemons import IMAGE, MACHINE, Daemon

TARBALL = "imx-cst-keys.tar.gz"
LABELS = {
    "rsa2048": "sha256_2048_65537_v3", "rsa3072": "sha256_3072_65537_v3", "rsa4096": "sha256_4096_65537_v3",
    "p256": "sha256_secp256r1_v3", "p384": "sha256_secp384r1_v3", "p521": "sha256_secp521r1_v3",
}  # fmt: skip
both_ways = pytest.mark.parametrize("fast", [False, True], ids=["csf-and-img-keys", "fast"])


@pytest.fixture
def digsign(capsys: pytest.CaptureFixture[str]) -> Digsign:
    return Digsign(capsys)


@pytest.fixture
def target(tmp_path: Path) -> Path:
    """Where a test lets keys be made."""
    return tmp_path / "release-keys"


def ran(folder: Path, *command: str | Path) -> None:
    """A tool that has to end well."""
    done = subprocess.run(command, cwd=folder, capture_output=True)
    assert done.returncode == 0, done.stdout + done.stderr


def names_in(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def unpacked(path: Path) -> dict[str, bytes]:
    return read_tarball(path.read_bytes(), max_bytes=1 << 20).members


def certificates(files: dict[str, bytes]) -> dict[str, x509.Certificate]:
    return {name: x509.load_pem_x509_certificate(data) for name, data in files.items() if name.endswith("_crt.pem")}


@pytest.mark.parametrize("kind", KINDS)
@both_ways
def test_both_csts_sign_with_the_keys_and_the_rom_would_boot(
    digsign: Digsign, signing: Signing, target: Path, kind: KeyKind, fast: bool
) -> None:
    """Of every kind; srktool makes the same table and the same fuse file of the certificates."""
    srks = 1 if kind in {"rsa3072", "rsa4096"} else 2
    ended = digsign("pki", "new", target, "--kind", kind, "--srks", str(srks), *(["--fast-auth"] if fast else []))
    assert ended.code == 0
    files = read_folder(target)
    for version in CST_VERSIONS:
        for keys in (files, unpacked(target / TARBALL)):
            made = as_pki(keys, kind, fast_auth=fast)
            proven = signing.sign(made, version, srk=srks).verify(fuse_value=made.fuse_value)
            assert proven.srk == srks
            assert proven.fast_authentication is fast
            assert not proven.notes
        names = [made.certificate("SRK", number).removeprefix("crts/") for number in range(1, srks + 1)]
        ran(
            target / "crts", signing.tool(version, "srktool"), "-h", "4", "-d", "sha256", "-f", "1",
            "-t", f"table-{version}", "-e", f"fuse-{version}", "-c", ",".join(names),
        )  # fmt: skip
        numbers = "_".join(str(number) for number in range(1, srks + 1))
        assert (target / "crts" / f"table-{version}").read_bytes() == files[f"crts/SRK_{numbers}_table.bin"]
        assert (target / "crts" / f"fuse-{version}").read_bytes() == files[f"crts/SRK_{numbers}_fuse.bin"]
    assert hab.SrkTable.parse(files[f"crts/SRK_{numbers}_table.bin"]).fuse_value.hex() in ended.out


@both_ways
def test_a_daemon_signs_with_the_tarball(
    digsign: Digsign, cst_base: Path, tmp_path: Path, target: Path, fast: bool
) -> None:
    """Put where the command says."""
    out = tmp_path / "keys.tar.gz"
    ended = digsign("pki", "new", "--tarball", out, "--kind", "p256", "--srks", "4", *(["--fast-auth"] if fast else []))
    assert ended.code == 0
    assert "${KEYFILE_URI}/${machine}/imxsign/imx-cst-keys.tar.gz" in ended.out
    daemon = Daemon(tmp_path, cst_base)
    daemon.put_keys(MACHINE, out.read_bytes())
    daemon.start()
    try:
        keys = as_pki(unpacked(out), "p256", fast_auth=fast)
        answer = daemon.post(keys, csf=keys.csf(IMAGE.blocks("spl.bin"), srk=4))
    finally:
        daemon.stop()
    assert answer.status_code == 200
    assert hab.CsfBlob.parse(answer.content)


@pytest.mark.parametrize("kind", ["rsa2048", "p384"])
@both_ways
def test_the_names_are_those_of_nxps_scripts(digsign: Digsign, target: Path, kind: str, fast: bool) -> None:
    """Files and subjects; the folder has the CA's key, the tarball only its certificate."""
    assert digsign("pki", "new", target, "--kind", kind, "--srks", "2", *(["--fast-auth"] if fast else [])).code == 0
    label = LABELS[kind]
    names = [f"SRK{number}_{label}_{'usr' if fast else 'ca'}" for number in (1, 2)]
    names += [] if fast else [f"{role}{number}_1_{label}_usr" for role in ("CSF", "IMG") for number in (1, 2)]
    authority = f"CA1_{label}_ca"
    wanted = {f"crts/{name}_crt.pem" for name in (*names, authority)} | {f"keys/{name}_key.pem" for name in names}
    wanted |= {"crts/SRK_1_2_table.bin", "crts/SRK_1_2_fuse.bin", "keys/key_pass.txt"}
    assert set(unpacked(target / TARBALL)) == wanted
    state = {"keys/serial", "keys/index.txt", "keys/index.txt.attr"}
    files = read_folder(target)
    assert set(files) == wanted | state | {f"keys/{authority}_key.pem", TARBALL}
    for name, certificate in certificates(files).items():
        subject = name.removeprefix("crts/").removesuffix("_crt.pem")
        assert certificate.subject.rfc4514_string() == f"CN={subject}"


@pytest.mark.parametrize("kind", ["rsa2048", "p256", "p521"])
@both_ways
def test_openssl_verifies_the_chain(digsign: Digsign, target: Path, kind: str, fast: bool) -> None:
    """From the CA down, by its strict rules; what is below another SRK is refused."""
    assert digsign("pki", "new", target, "--kind", kind, "--srks", "2", *(["--fast-auth"] if fast else [])).code == 0
    found = {path.name.partition("_sha256")[0]: path for path in (target / "crts").glob("*_crt.pem")}

    def verify(leaf: str, *between: str) -> bool:
        untrusted = [part for name in between for part in ("-untrusted", str(found[name]))]
        done = subprocess.run(
            ["openssl", "verify", "-x509_strict", "-CAfile", found["CA1"], *untrusted, found[leaf]], capture_output=True
        )
        return done.returncode == 0

    assert verify("SRK1")
    assert verify("SRK2")
    if not fast:
        assert verify("CSF1_1", "SRK1")
        assert verify("IMG2_1", "SRK2")
        assert not verify("IMG2_1", "SRK1")


@both_ways
def test_certificates_say_what_they_may(digsign: Digsign, target: Path, fast: bool) -> None:
    """CA flags, one serial number each in four bytes, and as many years as asked for."""
    began = datetime.now(UTC)
    assert digsign("pki", "new", target, "--kind", "p256", "--years", "7", *(["--fast-auth"] if fast else [])).code == 0
    found = certificates(read_folder(target))
    serials = sorted(certificate.serial_number for certificate in found.values())
    assert serials == list(range(serials[0], serials[0] + len(found)))
    assert 0 < serials[0] < serials[-1] < 1 << 31
    assert int((target / "keys/serial").read_text(), 16) == serials[-1] + 1
    for name, certificate in found.items():
        constraints = certificate.extensions.get_extension_for_class(x509.BasicConstraints)
        ca = name.startswith("crts/CA1_") or (name.startswith("crts/SRK") and not fast)
        assert constraints.value.ca is constraints.critical is ca
        assert certificate.not_valid_before_utc <= began - timedelta(hours=23)
        assert certificate.not_valid_after_utc.year == began.year + 7
        assert certificate.signature_hash_algorithm is not None
        assert certificate.signature_hash_algorithm.name == "sha256"


def test_openssl_makes_more_certificates_below_the_ca(digsign: Digsign, target: Path) -> None:
    """As NXP's add_key.sh does it in the folder keys/, with the serial number that comes next."""
    assert digsign("pki", "new", target, "--kind", "rsa2048", "--srks", "1").code == 0
    (target / "openssl.cnf").write_text(
        "[ca]\ndefault_ca = one\n[one]\nserial = ./serial\ndatabase = ./index.txt\nnew_certs_dir = .\npolicy = any\n"
        "default_md = sha256\ndefault_days = 10\n[any]\ncommonName = supplied\n"
    )
    before = int((target / "keys/serial").read_text(), 16)
    keys = target / "keys"
    srk = "SRK1_sha256_2048_65537_v3_ca"
    new = ("-newkey", "rsa:2048", "-nodes", "-keyout", "new.key", "-out", "new.csr", "-subj", "/CN=CSF1_2")
    ran(keys, "openssl", "req", "-new", *new)
    ran(
        keys, "openssl", "ca", "-batch", "-passin", "file:key_pass.txt", "-config", "../openssl.cnf", "-in", "new.csr",
        "-cert", f"../crts/{srk}_crt.pem", "-keyfile", f"{srk}_key.pem", "-out", "new.pem",
    )  # fmt: skip
    assert x509.load_pem_x509_certificate((keys / "new.pem").read_bytes()).serial_number == before


def test_keys_are_encrypted_with_a_strong_pass_phrase_of_their_own(digsign: Digsign, tmp_path: Path) -> None:
    """Twice in key_pass.txt, another one each time, in no output; openssl knows the encryption as AES-256."""
    phrases = set()
    for name in ("one", "two"):
        ended = digsign("pki", "new", tmp_path / name, "--kind", "p256", "--srks", "1")
        first, second = (tmp_path / name / "keys/key_pass.txt").read_text().splitlines()
        assert first == second
        assert len(first) >= 43
        assert first not in ended.out + ended.err
        phrases.add(first)
        for path in (tmp_path / name / "keys").glob("*_key.pem"):
            data = path.read_bytes()
            assert data.startswith(b"-----BEGIN ENCRYPTED PRIVATE KEY-----")
            assert serialization.load_pem_private_key(data, first.encode())
            shown = subprocess.run(["openssl", "asn1parse", "-in", path], capture_output=True, text=True, check=True)
            assert ":aes-256-cbc" in shown.stdout
    assert len(phrases) == 2


@pytest.mark.parametrize("length", [8, 128])
@pytest.mark.parametrize("version", CST_VERSIONS)
def test_a_pass_phrase_of_ones_own_is_taken_from_a_file(
    digsign: Digsign, signing: Signing, tmp_path: Path, target: Path, version: str, length: int
) -> None:
    """From the shortest to the longest, with what shells stumble over; cst opens the keys with it."""
    phrase = ("p a$s'\"\\" + "x" * 128)[:length]
    given = tmp_path / "phrase"
    given.write_text(f"{phrase}\n")
    ended = digsign("pki", "new", target, "--kind", "p256", "--srks", "1", "--pass-file", given)
    assert ended.code == 0
    assert phrase not in ended.out + ended.err
    files = read_folder(target)
    assert files["keys/key_pass.txt"].decode() == f"{phrase}\n{phrase}\n"
    signing.sign(as_pki(files, "p256", fast_auth=False), version).verify()


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"", "is not a pass phrase file"),
        (b"one-s3cr3t\nanother-s3cr3t\n", "is not a pass phrase file"),
        (b"s3cr3t-same\n" * 3, "is not a pass phrase file"),
        (b"s3cr3t" * 900, "is not a pass phrase file"),
        (b"s3cr3t7\n", "must have 8 to 128 characters"),
        (b"s3cr3t" * 22, "must have 8 to 128 characters"),
        ("schlüssel-s3cr3t".encode(), "characters other than printable ASCII"),
        (b"tab\tin-s3cr3t", "characters other than printable ASCII"),
        (b"nul\0in-s3cr3t", "characters other than printable ASCII"),
    ],
)
def test_a_pass_phrase_that_cst_might_not_take_is_refused(
    digsign: Digsign, tmp_path: Path, target: Path, content: bytes, says: str
) -> None:
    """Before any key is made, and without showing it."""
    given = tmp_path / "phrase"
    given.write_bytes(content)
    ended = digsign("pki", "new", target, "--kind", "p256", "--pass-file", given)
    assert ended.code == 1
    assert says in ended.err
    assert "s3cr3t" not in ended.err
    assert names_in(tmp_path) == ["phrase"]


def test_a_pass_phrase_file_that_is_not_there_is_told(digsign: Digsign, tmp_path: Path, target: Path) -> None:
    """By its name; a folder is none either."""
    assert "No such file" in digsign("pki", "new", target, "--pass-file", tmp_path / "none").err
    assert "directory" in digsign("pki", "new", target, "--pass-file", tmp_path).err


@pytest.mark.parametrize("umask", [0, 0o022, 0o777])
def test_nobody_else_may_read_anything(digsign: Digsign, tmp_path: Path, umask: int) -> None:
    """Whatever the umask."""
    before = os.umask(umask)
    try:
        assert digsign("pki", "new", tmp_path / "keys", "--kind", "p256", "--srks", "1").code == 0
        assert digsign("pki", "new", "--tarball", tmp_path / "t.tar.gz", "--kind", "p256", "--srks", "1").code == 0
    finally:
        os.umask(before)
    for path in (tmp_path / "keys", *(tmp_path / "keys").rglob("*"), tmp_path / "t.tar.gz"):
        assert stat.S_IMODE(path.stat().st_mode) == (0o700 if path.is_dir() else 0o600), path


@pytest.mark.parametrize("what", ["folder", "empty folder", "file", "dangling link"])
@pytest.mark.parametrize("option", ["DIR", "--tarball"])
def test_what_is_there_is_left_as_it_is(digsign: Digsign, tmp_path: Path, target: Path, what: str, option: str) -> None:
    """Even where there is nothing in it, and with nothing left behind beside it."""
    if what == "file":
        target.write_text("mine")
    elif what == "dangling link":
        target.symlink_to(tmp_path / "elsewhere")
    else:
        target.mkdir()
        if what == "folder":
            (target / "mine").write_text("mine")
    where = (target,) if option == "DIR" else ("--tarball", target)
    ended = digsign("pki", "new", *where, "--kind", "p256")
    assert ended.code == 1
    assert f"{target} already exists" in ended.err
    assert names_in(tmp_path) == [target.name]
    assert target.is_symlink() or target.is_file() or names_in(target) == ["mine"] * (what == "folder")


@pytest.mark.parametrize("folder", [True, False])
def test_what_comes_there_meanwhile_is_left_as_it_is(tmp_path: Path, target: Path, folder: bool) -> None:
    """While the keys are being written somebody else takes the name."""

    def write(new: Path) -> None:
        assert new.parent == tmp_path
        target.write_text("theirs")

    with pytest.raises(Trouble, match="already exists"):
        command.put(target, write, folder=folder)
    assert names_in(tmp_path) == [target.name]
    assert target.read_text() == "theirs"


@pytest.mark.parametrize("folder", [True, False])
def test_a_full_disk_leaves_nothing(tmp_path: Path, target: Path, folder: bool) -> None:
    """Nor does anything else that ends the writing."""

    def full(new: Path) -> None:
        if folder:
            (new / "half").write_text("half")
        raise OSError(28, "No space left on device")

    def interrupted(new: Path) -> None:
        raise KeyboardInterrupt

    with pytest.raises(Trouble, match="No space left"):
        command.put(target, full, folder=folder)
    with pytest.raises(KeyboardInterrupt):
        command.put(target, interrupted, folder=folder)
    assert not names_in(tmp_path)


def test_ctrl_c_while_keys_are_made_leaves_nothing(tmp_path: Path) -> None:
    """And ends with 130, as it does in every command."""
    code = "import sys; from digsigd.cli.main import main; sys.exit(main())"
    process = subprocess.Popen(
        [sys.executable, "-c", code, "pki", "new", str(tmp_path / "keys"), "--kind", "rsa4096"],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert process.stderr is not None
    assert "making 13 keys" in process.stderr.readline()
    time.sleep(0.2)
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=200)
    assert (process.returncode, out) == (130, "")
    assert "Traceback" not in err
    assert not names_in(tmp_path)


def test_a_place_that_cannot_be_written_is_told_before_keys_are_made(digsign: Digsign, tmp_path: Path) -> None:
    """By its name, as is a folder that is none."""
    (tmp_path / "file").write_text("")
    for parent in (tmp_path / "file", tmp_path / "none"):
        ended = digsign("pki", "new", parent / "keys", "--kind", "rsa4096")
        assert ended.code == 1
        assert f"{parent} is not a folder" in ended.err
        assert "making" not in ended.err


@pytest.mark.parametrize(
    "arguments",
    [
        ("pki",),
        ("pki", "old"),
        ("pki", "new"),
        ("pki", "new", "DIR", "--tarball", "OUT"),
        ("pki", "new", "DIR", "--kind", "rsa1024"),
        ("pki", "new", "DIR", "--srks", "5"),
        ("pki", "new", "DIR", "--years", "0"),
        ("pki", "new", "DIR", "--years", "51"),
        ("pki", "new", "DIR", "--years", "ten"),
        ("pki", "new", "DIR", "--name", "a/b"),
        ("pki", "new", "DIR", "--name", "x" * 27),
        ("pki", "new", "DIR", "--srk-ca", "--fast-auth"),
    ],
)
def test_a_wrong_command_line_ends_with_2(
    digsign: Digsign, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: tuple[str, ...]
) -> None:
    """And makes nothing."""
    monkeypatch.chdir(tmp_path)
    ended = digsign(*arguments)
    assert ended.code == 2
    assert ended.err
    assert not names_in(tmp_path)


def test_a_name_and_trial_stand_in_the_certificates(digsign: Digsign, signing: Signing, target: Path) -> None:
    """Not in the names of files; the longest fits, and cst signs with it."""
    name = "Acme Boards v1.0-2026_rel."
    assert len(name) == 26
    ended = digsign("pki", "new", target, "--trial", "--name", name, "--srks", "1")
    assert ended.code == 0
    assert "throw-away keys" in ended.out
    files = read_folder(target)
    for path, certificate in certificates(files).items():
        subject = f"TRIAL {name} " + path.removeprefix("crts/").removesuffix("_crt.pem")
        assert certificate.subject.rfc4514_string() == f"CN={subject}"
        assert len(subject) <= 64
        assert certificate.not_valid_after_utc < datetime.now(UTC) + timedelta(days=366)
        key = certificate.public_key()
        assert isinstance(key, rsa.RSAPublicKey)
        assert key.key_size == 2048
    signing.sign(as_pki(files, "rsa2048", fast_auth=False), "4.0.1").verify()


def test_it_says_what_comes_next(digsign: Digsign, tmp_path: Path, target: Path) -> None:
    """Where the CA's key is, where the tarball goes, what to do before fuses are burnt."""
    out = digsign("pki", "new", target, "--kind", "p256", "--srks", "1").out
    assert "keys/CA1_sha256_secp256r1_v3_ca_key.pem. It is not in the tarball" in out
    assert f"{target}/{TARBALL}" in out
    assert f"digsign fuses {target}/crts/SRK_1_table.bin --soc CHIP" in out
    assert out.index("hab_status") < out.index("burn the fuses")
    assert "HAB 4.5" in out
    tarball = tmp_path / "keys.tar.gz"
    out = digsign("pki", "new", "--tarball", tarball, "--kind", "rsa2048", "--srks", "1").out
    assert "private key of the CA was not saved" in out
    assert f"digsign fuses {tarball}" in out
    assert "HAB 4.5" not in out


@pytest.mark.parametrize(("soc", "more", "says"), [
    ("imx8mm", ("--kind", "p256"), "does not support ECDSA keys: it has HAB 4.3, they need HAB 4.5"),
    ("imx6ull", ("--kind", "p384"), "does not support ECDSA keys"),
    ("imx8mn", ("--kind", "p521"), "not confirmed: NXP's documents only name the i.MX 8M Plus"),
    ("rt1176", ("--kind", "p256"), "not confirmed"),
    ("imx6q", ("--fast-auth",), "not every i.MX 6Quad supports SRKs that sign images themselves"),
    ("imx6dl", ("--fast-auth",), "it has HAB 4.1.1, and 4.2.7 from silicon 1.4, fast authentication needs HAB 4.1.2"),
    ("imx6ulz", ("--fast-auth",), "version of HAB of i.MX 6ULZ is not confirmed"),
])  # fmt: skip
def test_keys_that_the_rom_does_not_take_are_not_made(
    digsign: Digsign, target: Path, soc: str, more: tuple[str, ...], says: str
) -> None:
    """Nor those that nobody knows for certain that it takes; the reason is said."""
    ended = digsign("pki", "new", target, "--soc", soc, *more)
    assert ended.code == 1
    assert says in ended.err
    assert not target.exists()


@pytest.mark.parametrize(("soc", "more"), [
    ("imx8mp", ("--kind", "p256")), ("imx6q", ("--kind", "rsa2048")), ("imx7d", ("--kind", "rsa2048", "--fast-auth")),
])  # fmt: skip
def test_keys_that_the_rom_takes_are_made(digsign: Digsign, target: Path, soc: str, more: tuple[str, ...]) -> None:
    """And the next commands name the chip."""
    ended = digsign("pki", "new", target, "--soc", soc, "--srks", "1", *more)
    assert ended.code == 0, ended.err
    assert f"SRK_1_table.bin --soc {soc}" in ended.out
    assert "HAB 4.5" not in ended.out


def test_no_certificate_has_an_extended_key_usage() -> None:
    """Closed boards have refused such certificates."""
    made = Pki.make("p256", Validity.of_years(1), Protection("a pass phrase"), srks=1)
    for certificate in certificates({**made.files, **made.ca_files}).values():
        names = {type(extension.value) for extension in certificate.extensions}
        assert x509.BasicConstraints in names
        assert x509.ExtendedKeyUsage not in names


def test_keys_that_are_not_their_certificates_are_never_written() -> None:
    """A machine that computes wrongly is found out."""
    made = Pki.make("p256", Validity.of_years(1), Protection("a pass phrase"), srks=1)
    command.prove({**made.files, **made.ca_files}, "a pass phrase")
    other = Pki.make("p256", Validity.of_years(1), Protection("a pass phrase"), srks=1)
    name = "keys/IMG1_1_sha256_secp256r1_v3_usr_key.pem"
    made.files[name] = other.files[name]
    with pytest.raises(Trouble, match="does not match its certificate"):
        command.prove({**made.files, **made.ca_files}, "a pass phrase")


def test_years_end_on_the_same_day() -> None:
    """On the 28th of February for a 29th."""
    validity = Validity.of_years(10)
    now = datetime.now(UTC)
    assert validity.end.year == now.year + 10
    assert (validity.end.month, validity.end.day) in {(now.month, now.day), (2, 28)}
    assert timedelta(hours=23) < now - validity.begin < timedelta(hours=25)


def test_no_repr_shows_a_key_or_the_pass_phrase() -> None:
    """Of keys for real use as of trial keys."""
    protection = Protection("a pass phrase")
    made = Pki.make("p256", Validity.of_years(1), protection, srks=1)
    assert "phrase" not in repr(protection) + repr(made).replace("pass_phrase", "")
    assert "PRIVATE" not in repr(made)
    with pytest.raises(ValueError, match="1 to 4 keys, not 5"):
        Pki.make("p256", Validity.of_years(1), protection, srks=5)


def test_p521_keys_are_what_they_say(digsign: Digsign, target: Path) -> None:
    """On their curve, in certificate and table."""
    assert digsign("pki", "new", target, "--kind", "p521", "--srks", "1").code == 0
    files = read_folder(target)
    for certificate in certificates(files).values():
        key = certificate.public_key()
        assert isinstance(key, ec.EllipticCurvePublicKey)
        assert key.curve.name == "secp521r1"
    assert hab.SrkTable.parse(files["crts/SRK_1_table.bin"]).records[0].ca
