"""What a hostile CSF description can do to cst, sent to a real daemon with the real cst: nothing of it happens.

Each attack works against cst itself. Here it is refused with a status that clients do not retry, naming the line, and
a canary, the pass phrase of the keys and another machine's keys stay untouched and unread.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from digsigd.testing import TrialPki
from tests.helpers.daemons import IMAGE, MACHINE, Daemon

VERSIONS = ("3.4.1", "4.0.1")
CANARY = b"\xd7\x00\x20\x40 the canary of this host, which could pass for an SRK table"


@pytest.fixture(scope="module")
def canary(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("canary") / "canary_crt.pem"
    path.write_bytes(CANARY)
    os.mkfifo(path.with_name("fifo"))
    return path


@pytest.fixture(scope="module")
def daemon(
    tmp_path_factory: pytest.TempPathFactory, cst_base: Path, pki: TrialPki, other_pki: TrialPki
) -> Iterator[Daemon]:
    daemon = Daemon(tmp_path_factory.mktemp("attacks"), cst_base)
    daemon.put_keys(MACHINE, pki.tarball())
    daemon.put_keys("other", other_pki.tarball())
    yield daemon.start()
    daemon.wait_for(lambda: daemon.left_behind() == [], what="an empty work directory")
    daemon.stop()


def at_end(text: str) -> tuple[str, str]:
    return "", text


# A piece of a good description and what comes in its place; an empty piece means that the text is added at the end.
# {canary}, {folder} and {other} are the canary's path, its folder, and the other machine's certificate.
ATTACKS: dict[str, tuple[str, str]] = {
    "a block of the pass phrase": ('"spl.bin"', '"keys/key_pass.txt"'),
    "a block of our own pass phrase's name": ('"spl.bin"', '"k1/key_pass.txt"'),
    "a block of a private key": ('"spl.bin"', '"k1/a_key.pem"'),
    "a block of any file": ('"spl.bin"', '"{canary}"'),
    "a block up and out": ('"spl.bin"', '"../../../../../../{canary}"'),
    "a block of the description": ('"spl.bin"', '"description.csf"'),
    "a block of a FIFO": ('"spl.bin"', '"{folder}/fifo"'),
    "a byte of the pass phrase beside the artifact": ('"spl.bin"', '"spl.bin", 0x0 0x0 0x1 "keys/key_pass.txt"'),
    "another machine's certificate": ("crts/CSF1_1_sha256_secp256r1_v3_usr_crt.pem", "{other}"),
    "a certificate by its absolute path": ("crts/CSF1_1_sha256_secp256r1_v3_usr_crt.pem", "{canary}"),
    "the SRK table from a file of the host": ("crts/SRK_1_2_table.bin", "{canary}"),
    "a private key as the SRK table": ("crts/SRK_1_2_table.bin", "keys/CSF1_1_sha256_secp256r1_v3_usr_key.pem"),
    "the pass phrase as the SRK table": ("crts/SRK_1_2_table.bin", "keys/key_pass.txt"),
    "a file is written": at_end('[Install Secret Key]\n    Verification index = 0\n    Key = "{canary}"\n'),
    "a file is written here": at_end(
        '[Install Secret Key]\n    Verification index = 0\n    Key = "keys/key_pass.txt"\n'
    ),
    "a file is encrypted": at_end('[Decrypt Data]\n    Verification index = 0\n    Blocks = 0x0 0x0 0x10 "{canary}"\n'),
    "a loop without end": ("Features = MID", "Features = 1 2"),
    "a token's URI": ("crts/CSF1_1_sha256_secp256r1_v3_usr_crt.pem", "pkcs11:token=T;pin-source=file:{canary}"),
    "a token's module": ("crts/CSF1_1_sha256_secp256r1_v3_usr_crt.pem", "pkcs11:token=T;module-path={canary}"),
    "a pipe as a PIN": ("crts/CSF1_1_sha256_secp256r1_v3_usr_crt.pem", "pkcs11:token=T;pin-source=|touch {canary}"),
    "a path beyond the buffer": ("crts/CSF1_1", "a/" * 200 + "crts/CSF1_1"),
    "a name beyond the buffer": ("spl.bin", "s" * 300),
    "a label beyond the buffer": ("Source index = 0", "S" * 120 + " = 0"),
    "a number beyond the buffer": ("Source index = 0", "Source index = " + "0" * 120),
    "a number beyond 32 bits": ("Source index = 0", "Source index = 0x100000000"),
    "a negative target": ("Target index = 2", "Target index = -1"),
    "a negative verification": (
        "[Install Key]\n    Verification index = 0",
        "[Install Key]\n    Verification index = -2",
    ),
    "a target beyond the keys": ("Target index = 2", "Target index = 200"),
    "a number for a file": ('File = "crts/SRK_1_2_table.bin"', "File = 1"),
    "pairs for a file": ('File = "crts/SRK_1_2_table.bin"', "File = 1 2"),
    "blocks of numbers alone": ('0x7e0fc0 0x0 0x2000 "spl.bin"', "1 2 3"),
    "blocks of words": ('0x7e0fc0 0x0 0x2000 "spl.bin"', "MID, RNG"),
    "blocks without a name": ('0x7e0fc0 0x0 0x2000 "spl.bin"', '0x7e0fc0 0x0 0x2000 ""'),
    "no block": ('0x7e0fc0 0x0 0x2000 "spl.bin"', ""),
    "a block of nothing": ('0x7e0fc0 0x0 0x2000 "spl.bin"', '0x7e0fc0 0x0 0x0 "spl.bin"'),
    "a block past the end": ("0x0 0x2000", "0x0 0x4001"),
    "a block that wraps": ("0x0 0x2000", "0xfffffff0 0x2000"),
    "more blocks than cst can take": (
        '0x7e0fc0 0x0 0x2000 "spl.bin"',
        ", ".join(f'{0x7E0FC0 + n * 16:#x} {n * 16:#x} 0x10 "spl.bin"' for n in range(87)),
    ),
    "placeholders for signatures": ("Version = 4.3", "Version = 4.3\n    Mode = HSM"),
    "a second header": at_end("[Header]\n    Version = 4.3\n"),
    "registers written": at_end("[Write Data]\n    Width = 4\n    Address Data = 0x30391000 0x0\n"),
    "registers checked": at_end(
        "[Check Data]\n    Width = 4\n    Condition = ANY_CLR\n    Address Mask = 0x30391000 0x1\n"
    ),
    "manufacturing bits": at_end("[Set MID]\n    Engine = CAAM\n"),
    "fuses left unlocked": ("Engine = CAAM\n    Features = MID", "Engine = OCOTP\n    Features = SRK REVOKE"),
    "jtag left unlocked": ("Engine = CAAM\n    Features = MID", "Engine = OCOTP\n    Features = JTAG"),
    "a quote within a name": ('"spl.bin"', '"spl.bin" 0x0 0x0 0x1 "{canary}"'),
    "a NUL": ('"spl.bin"', '"spl.bin\0{canary}"'),
    "a command hidden by a carriage return": ("[Unlock]", "# harmless\r[Install Secret Key]"),
}


def attacked(pki: TrialPki, other_pki: TrialPki, canary: Path, name: str) -> str:
    old, new = ATTACKS[name]
    good = pki.csf(IMAGE.blocks("spl.bin"))
    other = "../../other/imxsign/crts/" + other_pki.certificate("IMG").rpartition("/")[2].replace("IMG1", "CSF9")
    for key, value in (("{canary}", str(canary)), ("{folder}", str(canary.parent)), ("{other}", other)):
        new = new.replace(key, value)
    if not old:
        return good + new
    assert old in good
    return good.replace(old, new, 1)


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("name", ATTACKS)
def test_nothing_of_it_happens(
    daemon: Daemon, pki: TrialPki, other_pki: TrialPki, canary: Path, name: str, version: str
) -> None:
    """The request is refused, the line is named, and nothing was read, written or left."""
    before = (canary.read_bytes(), canary.stat().st_atime_ns, sorted(canary.parent.iterdir()))
    tarballs = {path: path.read_bytes() for path in daemon.keys.glob("*/*/*")}
    answer = daemon.post(pki, csf=attacked(pki, other_pki, canary, name), cstversion=version)
    assert answer.status_code in {400, 422}, answer.text
    assert re.search(r"\bline \d+", answer.text), answer.text
    assert pki.pass_phrase not in answer.text
    assert CANARY.decode("latin-1") not in answer.text
    assert (canary.read_bytes(), canary.stat().st_atime_ns, sorted(canary.parent.iterdir())) == before
    assert {path: path.read_bytes() for path in daemon.keys.glob("*/*/*")} == tarballs
    assert daemon.left_behind() == []
    assert pki.pass_phrase not in daemon.log()


def test_names_that_only_look_foreign_are_the_machines_own(daemon: Daemon, pki: TrialPki, other_pki: TrialPki) -> None:
    """A path into another machine's folder whose last part is one of our own names means our own: builds send paths."""
    good = pki.csf(IMAGE.blocks("spl.bin"))
    answer = daemon.post(pki, csf=good.replace("crts/", "../../other/imxsign/crts/"))
    assert answer.status_code == 200
    theirs = [content for name, content in other_pki.files.items() if "_crt." in name]
    assert theirs
    assert not any(_der(content) in answer.content for content in theirs)
    ours = [content for name, content in pki.files.items() if "CSF1" in name and "_crt." in name]
    assert _der(ours[0]) in answer.content


@pytest.mark.parametrize(
    "name",
    [
        "../../etc/passwd",
        "/etc/passwd",
        "a/../../b",
        "\\\\host\\share",
        "keys/key_pass.txt",
        "description.csf",
        "k1",
        ".",
        "..",
    ],
)
def test_the_name_of_the_upload_never_touches_the_file_system(daemon: Daemon, pki: TrialPki, name: str) -> None:
    """Whatever a client calls its file: the description names it by its last part, and it is signed."""
    base = re.split(r"[/\\]", name)[-1]
    answer = daemon.post(pki, name=name, csf=pki.csf(IMAGE.blocks(base)))
    assert answer.status_code == 200, answer.text


@pytest.mark.parametrize("field", ["machine", "cstversion", "backend", "soctype"])
@pytest.mark.parametrize(
    "value", ["../other", "/etc", "a\nb", "a\0b", "", ".", "..", "$(id)", "%2e%2e", "x" * 65, "ümlaut"]
)
def test_fields_are_never_paths(daemon: Daemon, pki: TrialPki, field: str, value: str) -> None:
    """Each has its own narrow form."""
    if (field, value) == ("backend", ""):
        value = " "
    answer = daemon.post(pki, **{field: value})  # type: ignore[arg-type]
    assert answer.status_code == 400, answer.text
    assert field in answer.text


def test_log_lines_cannot_be_forged(daemon: Daemon, pki: TrialPki) -> None:
    """Line ends and control characters of a client's names are escaped in the log."""
    daemon.post(pki, name="a\x1b[2Jb", headers={"X-Request-Id": "x\x1b"})
    daemon.post(pki, csf=pki.csf(IMAGE.blocks("spl.bin")).replace("spl.bin", "spl\x1b[31m.bin"))
    assert "\x1b" not in daemon.log()


def _der(pem: bytes) -> bytes:
    from cryptography import x509
    from cryptography.hazmat.primitives.serialization import Encoding

    return x509.load_pem_x509_certificate(pem).public_bytes(Encoding.DER)
