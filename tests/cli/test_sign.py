"""`digsign sign`: whole images, through a real daemon, and nothing left behind where it fails."""

from __future__ import annotations

import gzip
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import httpx
import pytest

from digsigd import hab
from digsigd.hab import csf_blob
from digsigd.image.errors import ImageError
from digsigd.image.plan import plan
from digsigd.image.verify import verify
from digsigd.testing import TrialPki
from tests.helpers import golden
from tests.helpers.commands import Run
from tests.helpers.daemons import MACHINE, Daemon
from tests.helpers.hsm import SoftHsm, label, provider
from tests.helpers.keys import trial_keys
from tests.image.test_encrypted import encrypted

FAST = "fast-machine"
SAMPLES = Path(__file__).parents[1] / "samples/images"
KERNEL = ("--load-address", "0x40480000")


def tagged(data: bytes) -> bytes:
    """An image with UUU's tag behind it."""
    return data + b"UUUBURNXXOEUZX7+A-XY5601QQWWZ%dEND\n" % len(data)


Images = dict[str, tuple[Callable[[], bytes], tuple[str, ...]]]
IMAGES: Images = {
    **{f"mm {layout}": (partial(golden.flash, "mm", layout), ()) for layout in golden.LAYOUTS},
    **{f"{soc} nxp-new": (partial(golden.flash, soc, "nxp-new"), ()) for soc in ("mn", "mp", "mq")},
    **{f"{soc} nxp-old": (partial(golden.flash, soc, "nxp-old"), ()) for soc in ("mn", "mp", "mq")},
    "mm flexspi": (lambda: golden.flash("mm", "nxp-new", boot="flexspi"), ()),
    "mp flexspi": (lambda: golden.flash("mp", "nxp-old", boot="flexspi"), ()),
    "mm without TEE": (lambda: golden.flash("mm", "nxp-new", tee=False), ()),
    "mq with HDMI firmware": (lambda: golden.flash("mq", "nxp-new", hdmi=True), ()),
    "mm for one of two boards": (lambda: golden.flash("mm", "nxp-new", dtbs=2), ("--configuration", "config-2")),
    "mm binman for two boards": (lambda: golden.flash("mm", "binman", dtbs=2), ()),
    "mm binman without room": (lambda: golden.flash("mm", "binman", signed_room=False), ()),
    "mm binman with a tag and without room": (
        lambda: tagged(golden.flash("mm", "binman", signed_room=False)),
        (),
    ),
    "mm with FIT-FDT required": (lambda: golden.flash("mm", "nxp-new"), ("--fit-fdt", "required")),
    "SPL alone": (lambda: golden.spl("mp"), ()),
    "SPL alone for FlexSPI": (lambda: golden.packed_for_flexspi("mn", golden.spl("mn", boot="flexspi")), ()),
    "FIT alone": (lambda: golden.fit_ivt("mm"), ()),
    "kernel": (golden.kernel, KERNEL),
    "kernel with an IVT": (golden.kernel_with_ivt, ()),
}


@pytest.fixture(scope="session")
def pki() -> TrialPki:
    return trial_keys("rsa2048", srks=2)


@pytest.fixture(scope="session")
def fast_pki() -> TrialPki:
    return trial_keys("rsa2048", srks=2, fast_auth=True)


@pytest.fixture(scope="session")
def daemon(
    cst_base: Path, pki: TrialPki, fast_pki: TrialPki, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Daemon]:
    """One for all tests, with a machine for each way of signing."""
    daemon = Daemon(tmp_path_factory.mktemp("daemon"), cst_base)
    daemon.put_keys(MACHINE, pki.tarball())
    daemon.put_keys(FAST, fast_pki.tarball())
    yield daemon.start()
    daemon.stop()


def holds(path: Path, pki: TrialPki, load_address: int | None = None) -> None:
    """Raise unless a board with these keys boots the image."""
    data = path.read_bytes()
    report = verify(data, plan(data, load_address=load_address), fuse_value=pki.fuse_value, srk_table=pki.srk_table)
    assert report.holds, report


@pytest.mark.parametrize("name", IMAGES)
def test_every_known_image_is_signed(digsign: Run, daemon: Daemon, pki: TrialPki, tmp_path: Path, name: str) -> None:
    """And nothing of it is changed but where CSFs, or an IVT, belong."""
    make, options = IMAGES[name]
    image = make()
    (tmp_path / "image").write_bytes(image)
    done = digsign("sign", "image", "-o", "signed", "--server", daemon.url, "--machine", MACHINE, *options)
    assert done.returncode == 0, done.stderr
    assert pki.fuse_value.hex() in done.stdout
    assert (tmp_path / "image").read_bytes() == image
    chosen = options[1] if "--configuration" in options else None
    made = plan(image, load_address=0x40480000 if options == KERNEL else None, configuration=chosen)
    before, after = bytearray(image), bytearray((tmp_path / "signed").read_bytes())
    if made.tail is not None:
        before = before[: made.tail.offset].ljust(made.size - len(made.tail.data), b"\0") + made.tail.data
    before += bytes(len(after) - len(before))
    for start, length in (
        *((one.csf_offset, one.csf_room) for one in made.signings),
        *((one.offset, len(one.data)) for one in made.patches),
    ):
        before[start : start + length] = after[start : start + length] = bytes(length)
    assert before == after
    again = options if chosen else ()
    verified = digsign("verify", "signed", "--fuses", pki.fuse_value.hex(), *again)
    assert verified.returncode == 0, verified.stdout
    assert sorted(path.name for path in tmp_path.iterdir()) == ["image", "signed"]


@pytest.mark.parametrize("version", ["3.4.1", "4.0.1"])
@pytest.mark.parametrize("name", sorted(path.name.removesuffix(".bin.gz") for path in SAMPLES.glob("*.gz")))
def test_images_of_real_tools_are_signed(
    digsign: Run, daemon: Daemon, pki: TrialPki, tmp_path: Path, name: str, version: str
) -> None:
    """Without an option, and hold then; a changed byte of what a board runs is seen."""
    data = gzip.decompress((SAMPLES / f"{name}.bin.gz").read_bytes())
    (tmp_path / "image").write_bytes(data)
    done = digsign("sign", "image", "-o", "signed", "--server", daemon.url, "--machine", MACHINE, "--cst", version)
    assert done.returncode == 0, done.stderr
    assert ("note: the image does not contain the address where SPL loads the FIT" in done.stderr) == (
        "2024.07" in name
    )
    verified = digsign("verify", "signed", "--fuses", pki.fuse_value.hex())
    assert verified.returncode == 0, verified.stdout
    assert ("Everything that can be checked here holds" in verified.stdout) == ("mq" in name)
    signed = (tmp_path / "signed").read_bytes()
    found = plan(signed)
    assert (found.patches, found.tail) == ((), None)
    for offset, length in found.must:
        for place in (offset, offset + length - 1):
            changed = bytearray(signed)
            changed[place] ^= 0x10
            try:
                assert not verify(bytes(changed), plan(bytes(changed))).holds
            except ImageError:
                continue
    assert verify(signed, plan(signed), fuse_value=pki.fuse_value).holds


@pytest.mark.parametrize("version", ["3.4.1", "4.0.1"])
@pytest.mark.parametrize("srk", ["1", "2"])
@pytest.mark.parametrize("fast", [False, True], ids=["csf-and-img-keys", "fast"])
def test_every_way_of_signing(
    digsign: Run, daemon: Daemon, pki: TrialPki, fast_pki: TrialPki, tmp_path: Path, fast: bool, srk: str, version: str
) -> None:
    """With each SRK, each cst, and fast authentication."""
    (tmp_path / "image").write_bytes(golden.flash("mm", "nxp-new"))
    done = digsign(
        "sign", "image", "-o", "signed", "--server", daemon.url, "--machine", FAST if fast else MACHINE,
        "--srk", srk, "--cst", version, *(["--fast-auth"] if fast else []),
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    holds(tmp_path / "signed", fast_pki if fast else pki)
    assert f"SRK {srk} of the table" in digsign("verify", "signed").stdout


def test_an_image_is_signed_anew_in_its_place(digsign: Run, daemon: Daemon, pki: TrialPki, tmp_path: Path) -> None:
    """With what older CSFs were overwritten."""
    (tmp_path / "image").write_bytes(golden.flash("mm", "nxp-new"))
    settings = {"DIGSIGN_SERVER": daemon.url, "DIGSIGN_MACHINE": MACHINE}
    for srk in ("1", "2"):
        done = digsign("sign", "image", "-o", "image", "--srk", srk, **settings)
        assert done.returncode == 0, done.stderr
        holds(tmp_path / "image", pki)
    assert [path.name for path in tmp_path.iterdir()] == ["image"]


def test_a_dry_run_asks_nobody(digsign: Run, tmp_path: Path) -> None:
    """And shows each part, and each block with what it covers."""
    (tmp_path / "image").write_bytes(golden.flash("mm", "nxp-new"))
    done = digsign("sign", "image", "--dry-run")
    assert (done.returncode, done.stderr) == (0, "")
    for words in ("i.MX 8M Mini", "1. SPL", "2. FIT", "3. FIT-FDT", "0x40200000", "U-Boot", "unlocks CAAM MID"):
        assert words in done.stdout
    assert [path.name for path in tmp_path.iterdir()] == ["image"]


def test_descriptions_alone_are_what_cst_signs(
    digsign: Run, daemon: Daemon, pki: TrialPki, cst_base: Path, tmp_path: Path
) -> None:
    """By hand, with the keys at hand: the way of those who have no host."""
    image = bytearray(golden.flash("mm", "nxp-old"))
    (tmp_path / "flash.bin").write_bytes(image)
    done = digsign("sign", "flash.bin", "--csf-only", "csf", "--server", daemon.url, "--machine", MACHINE)
    assert done.returncode == 0, done.stderr
    for name, content in pki.files.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(content)
    made = plan(bytes(image))
    for signing in made.signings:
        description = tmp_path / "csf" / f"csf_{signing.name.lower()}.txt"
        cst = cst_base / "cst-3.4.1/linux64/bin/cst"
        subprocess.run([cst, "-i", description, "-o", "blob"], cwd=tmp_path, check=True, stdout=subprocess.DEVNULL)
        blob = (tmp_path / "blob").read_bytes()
        image[signing.csf_offset : signing.csf_offset + len(blob)] = blob
    (tmp_path / "signed").write_bytes(image)
    holds(tmp_path / "signed", pki)


def test_other_fuses_than_the_boards_are_refused(
    digsign: Run, daemon: Daemon, fast_pki: TrialPki, tmp_path: Path
) -> None:
    """Before anything is signed."""
    (tmp_path / "image").write_bytes(golden.flash("mm", "nxp-old"))
    done = digsign(
        "sign", "image", "-o", "signed", "--server", daemon.url, "--machine", MACHINE,
        "--fuses", fast_pki.fuse_value.hex(),
    )  # fmt: skip
    assert done.returncode == 1
    assert "check the machine name" in done.stderr
    assert not (tmp_path / "signed").exists()


@pytest.mark.parametrize("version", ["3.4.1", "4.0.1"])
def test_more_blocks_than_caam_takes_at_once_are_signed(
    digsign: Run, daemon: Daemon, pki: TrialPki, tmp_path: Path, version: str
) -> None:
    """By several commands of at most 8 blocks, and the whole holds."""
    parts, (config,) = golden.parts("mm")
    more = tuple(
        golden.Part(f"m7-{n}", golden.filler(f"m7-{n}", 0x1000 + 8 * n), "firmware", 0x43000000 + n * 0x10000)
        for n in range(6)
    )
    config = replace(config, loadables=(*config.loadables, *(part.name for part in more)))
    fit = golden.mkimage((*parts, *more), (config,), 0x5000)
    (tmp_path / "image").write_bytes(golden.with_fit_ivt(fit))
    done = digsign("sign", "image", "-o", "signed", "--server", daemon.url, "--machine", MACHINE, "--cst", version)
    assert done.returncode == 0, done.stderr
    holds(tmp_path / "signed", pki)
    signed = (tmp_path / "signed").read_bytes()
    (signing, _) = plan(signed).signings
    room = signed[signing.csf_offset : signing.csf_offset + signing.csf_room]
    commands = hab.CsfBlob.parse(room[: hab.blob_length(room)]).commands
    assert [len(one.blocks) for one in commands if isinstance(one, csf_blob.Authenticate)] == [0, 8, 3]


@pytest.mark.parametrize("version", ["3.4.1", "4.0.1"])
def test_keys_on_a_token_sign(digsign: Run, cst_base: Path, tmp_path: Path, version: str) -> None:
    """Their names are configured: the host knows what is in the tarball only, the SRK table."""
    pki = trial_keys("rsa2048", srks=1)
    (tmp_path / "token").mkdir()
    hsm = SoftHsm(tmp_path / "token")
    hsm.init_token("release", "1234-5678")
    hsm.put_pki("release", "1234-5678", pki)
    (tmp_path / "token/pin").write_text("1234-5678")
    (tmp_path / "d").mkdir()
    config = f"""
[pkcs11]
module = "{SoftHsm.MODULE}"
provider = "{provider(cst_base)}"
paths = ["{hsm.folder}"]
[pkcs11.tokens.release]
pin_file = "{tmp_path}/token/pin"
"""
    daemon = Daemon(tmp_path / "d", cst_base, config, environ=hsm.environ)
    daemon.put_keys(MACHINE, hsm.srk_tarball(pki))
    daemon.start()
    (tmp_path / "digsign.toml").write_text(
        f"""
server = "{daemon.url}"
machine = "{MACHINE}"
backend = "pkcs11"
cst = "{version}"
srk_table = "{pki.table()}"
csf_certificate = "pkcs11:token=release;object={label(pki.certificate("CSF"))};type=cert"
image_certificate = "pkcs11:token=release;object={label(pki.certificate("IMG"))};type=cert"
"""
    )
    (tmp_path / "image").write_bytes(golden.flash("mm", "binman"))
    done = digsign("sign", "image", "-o", "signed")
    assert done.returncode == 0, done.stderr
    holds(tmp_path / "signed", pki)
    daemon.stop()


MISTAKES = {
    "no output": (["image", "--machine", MACHINE], 2, "-o OUT is missing"),
    "no machine": (["image", "-o", "out"], 2, "no machine is given"),
    "no such image": (["nothing", "-o", "out", "--machine", MACHINE], 1, "No such file"),
    "an image of no known layout": (["text", "-o", "out", "--machine", MACHINE], 1, "the data at 0x0 are unknown"),
    "a machine without keys": (["image", "-o", "out", "--machine", "nobody"], 1, "nobody"),
    "a version that is not there": (["image", "-o", "out", "--machine", MACHINE, "--cst", "9.9"], 1, "9.9"),
    "a backend that is not there": (["image", "-o", "out", "--machine", MACHINE, "--backend", "pkcs11"], 1, "pkcs11"),
    "fast authentication without its keys": (["image", "-o", "out", "--machine", MACHINE, "--fast-auth"], 1, ""),
    "an SRK that the table has not": (["image", "-o", "out", "--machine", MACHINE, "--srk", "4"], 1, "SRK"),
    "a folder for output": (["image", "-o", ".", "--machine", MACHINE], 1, "is not a regular file"),
    "an output in no folder": (["image", "-o", "no/where", "--machine", MACHINE], 1, "cannot be written"),
    "device trees of two boards": (["two", "-o", "out", "--machine", MACHINE], 1, "one CSF signs what is in memory"),
    "an encrypted image": (["secret", "-o", "out", "--machine", MACHINE], 1, "is encrypted: at 0x28a00 is a key"),
    "the plan of an encrypted image": (["secret", "--dry-run"], 1, "would remove what decrypts it"),
    "descriptions for an encrypted image": (["secret", "--csf-only", "out", "--machine", MACHINE], 1, "is encrypted"),
    "FIT-FDT where it has no place": (
        ["image", "-o", "out", "--fit-fdt", "required"],
        1,
        "the IVT for a signature over the FIT's tree is missing",
    ),
    "a kernel of no address": (["kernel", "-o", "out", "--machine", MACHINE], 1, "load"),
}


@pytest.mark.parametrize("name", MISTAKES)
def test_mistakes_are_told(digsign: Run, daemon: Daemon, tmp_path: Path, name: str) -> None:
    """In words, and nothing is written."""
    arguments, code, words = MISTAKES[name]
    (tmp_path / "image").write_bytes(golden.flash("mm", "nxp-old"))
    (tmp_path / "kernel").write_bytes(golden.kernel())
    (tmp_path / "two").write_bytes(golden.flash("mm", "nxp-new", dtbs=2))
    (tmp_path / "secret").write_bytes(encrypted())
    (tmp_path / "text").write_text("This is no image. " * 20)
    done = digsign("sign", *arguments, DIGSIGN_SERVER=daemon.url)
    assert (done.returncode, words in done.stderr, "Traceback" in done.stderr) == (code, True, False), done.stderr
    assert sorted(path.name for path in tmp_path.iterdir()) == ["image", "kernel", "secret", "text", "two"]


def test_a_failure_leaves_the_output_as_it_was(digsign: Run, daemon: Daemon, tmp_path: Path) -> None:
    """Whatever it is."""
    (tmp_path / "image").write_bytes(golden.flash("mm", "nxp-old"))
    (tmp_path / "out").write_bytes(b"the last good one")
    done = digsign("sign", "image", "-o", "out", "--server", daemon.url, "--machine", "nobody")
    assert done.returncode == 1
    assert (tmp_path / "out").read_bytes() == b"the last good one"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["image", "out"]


def test_the_output_is_a_file_as_others_are(digsign: Run, daemon: Daemon, tmp_path: Path) -> None:
    """By the umask; and a link leads to it still."""
    (tmp_path / "image").write_bytes(golden.flash("mm", "nxp-old"))
    (tmp_path / "real").write_bytes(b"")
    (tmp_path / "out").symlink_to("real")
    done = digsign("sign", "image", "-o", "out", "--server", daemon.url, "--machine", MACHINE)
    assert done.returncode == 0, done.stderr
    mask = os.umask(0)
    os.umask(mask)
    assert (tmp_path / "real").stat().st_mode & 0o777 == 0o666 & ~mask
    assert (tmp_path / "out").is_symlink()


def test_what_does_not_hold_is_not_written(digsign: Run, daemon: Daemon, pki: TrialPki, tmp_path: Path) -> None:
    """A server that answers with a good CSF, of the right keys and of another image."""
    other = daemon.post(pki)
    assert other.status_code == 200

    class Liar(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.tell(httpx.get(f"{daemon.url}{self.path}").content, "application/json")

        def do_POST(self) -> None:
            self.rfile.read(int(self.headers["Content-Length"]))
            self.tell(other.content, "application/octet-stream")

        def tell(self, body: bytes, kind: str) -> None:
            self.send_response(200)
            self.send_header("Content-Type", kind)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            pass

    (tmp_path / "image").write_bytes(golden.flash("mm", "binman"))
    (tmp_path / "out").write_bytes(b"the last good one")
    with HTTPServer(("127.0.0.1", 0), Liar) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        url = f"http://127.0.0.1:{server.server_port}"
        done = digsign("sign", "image", "-o", "out", "--server", url, "--machine", MACHINE)
        server.shutdown()
        thread.join()
    assert done.returncode == 1
    assert "the signed image fails verification, so nothing was written" in done.stderr
    assert "FAILS" in done.stdout
    assert (tmp_path / "out").read_bytes() == b"the last good one"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["image", "out"]


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGTERM])
def test_whoever_interrupts_it_finds_nothing_half_written(
    tmp_path: Path, cst_base: Path, pki: TrialPki, how: signal.Signals
) -> None:
    """While the host signs; the host forgets the request."""
    slow = tmp_path / "slow"
    slow.write_text("#!/bin/sh\nexec sleep 60\n")
    slow.chmod(0o755)
    (tmp_path / "d").mkdir()
    daemon = Daemon(tmp_path / "d", cst_base, f'[cst.versions]\nslow = "{slow}"\n')
    daemon.put_keys(MACHINE, pki.tarball())
    daemon.start()
    work = tmp_path / "work"
    work.mkdir()
    (work / "image").write_bytes(golden.flash("mm", "nxp-old"))
    process = subprocess.Popen(
        [sys.executable, "-m", "digsigd.cli.main", "sign", "image", "-o", "out", "--server", daemon.url,
         "--machine", MACHINE, "--cst", "slow"],
        cwd=work, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    daemon.wait_for_log("received")
    time.sleep(0.2)
    process.send_signal(how)
    _, said = process.communicate(timeout=60)
    assert process.returncode == (130 if how is signal.SIGINT else 143), said
    assert "Traceback" not in said
    assert [path.name for path in work.iterdir()] == ["image"]
    daemon.wait_for_log("the client disconnected")
    daemon.stop()


def test_keys_that_the_chip_does_not_take_sign_nothing(digsign: Run, daemon: Daemon, tmp_path: Path) -> None:
    """Told before anything is uploaded: the ROMs of Mini and Quad have HAB 4.3, and ECDSA came with 4.5."""
    daemon.put_keys("ecdsa", TrialPki.make("p256", srks=1).tarball())
    for soc, code, says in (("mm", 1, "i.MX 8M Mini has HAB 4.3, which supports RSA keys only"), ("mp", 0, "")):
        (tmp_path / "image").write_bytes(golden.flash(soc, "nxp-new"))
        done = digsign("sign", "image", "-o", "signed", "--server", daemon.url, "--machine", "ecdsa")
        assert done.returncode == code, done.stderr
        assert says in done.stderr
        assert (tmp_path / "signed").exists() is (code == 0)
    assert digsign("verify", "signed").returncode == 0
