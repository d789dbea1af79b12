"""The daemon with the cage: what it says of it, and that it signs inside the filter of its own systemd unit."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, load_pem_private_key

from digsigd.testing import TrialImage, TrialPki
from tests.helpers.ahab_cases import image, tarball
from tests.helpers.ahab_daemons import holds, post_ahab
from tests.helpers.daemons import IMAGE, MACHINE, Daemon
from tests.helpers.proof import proven
from tests.helpers.units import SETS, UNIT, filter_of, in_unit, unit_calls


def test_inside_its_unit_the_daemon_signs_in_the_cage(tmp_path: Path, cst_base: Path, pki: TrialPki) -> None:
    """With both versions; namespaces are forbidden there, Landlock and seccomp work and are required."""
    for line in ("RestrictNamespaces=yes", "CapabilityBoundingSet=", "SystemCallFilter=~@privileged @resources"):
        assert f"\n{line}\n" in UNIT
    daemon = in_unit(tmp_path, cst_base, '[cst]\ncage = "require"\n', unit_calls())
    daemon.put_keys(MACHINE, pki.tarball())
    daemon.put_keys("ahab-p384", tarball("p384"))
    daemon.start()
    try:
        assert re.search(r"cage of cst: Landlock \(ABI \d+\), seccomp; not namespaces", daemon.log())
        for version in ("3.4.1", "4.0.1"):
            answer = daemon.post(pki, cstversion=version)
            assert answer.status_code == 200, answer.text
            proven(pki, IMAGE, answer.content)
            # cst has no /tmp there, and needs a temporary file.
            answer = post_ahab(daemon, cstversion=version)
            assert answer.status_code == 200, answer.text
            holds(answer.content, image("good-93-sd-spl"), "p384")
        done = subprocess.run(
            daemon.command("--check"), env=daemon.environ, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stdout + done.stderr
        assert re.search(r"^ok +cage +Landlock \(ABI \d+\), seccomp$", done.stdout, re.MULTILINE)
    finally:
        daemon.stop()


def test_a_unit_without_landlock_is_told(tmp_path: Path, cst_base: Path, pki: TrialPki) -> None:
    """Auto signs, with a warning that says what is missing; require does not start."""
    daemon = in_unit(tmp_path, cst_base, "", SETS["@system-service"])
    daemon.put_keys(MACHINE, pki.tarball())
    daemon.start()
    try:
        assert re.search(r"warn.*cage of cst: seccomp; .*not Landlock: a filter of system calls", daemon.log())
        assert daemon.post(pki).status_code == 200
    finally:
        daemon.stop()
    text = daemon.config.read_text() + '\n[cst]\ncage = "require"\n'
    daemon.config.write_text(text)
    done = subprocess.run(daemon.command(), env=daemon.environ, capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 1
    assert 'cst.cage: is "require"' in done.stdout + done.stderr
    assert "Traceback" not in done.stdout + done.stderr


def test_the_daemon_writes_no_core_and_its_children_gain_no_rights(tmp_path: Path, cst_base: Path) -> None:
    """From its start."""
    daemon = Daemon(tmp_path, cst_base).start()
    try:
        limits = Path(f"/proc/{daemon.pid}/limits").read_text()
        assert re.search(r"Max core file size +0 +0 ", limits)
        assert "NoNewPrivs:\t1" in Path(f"/proc/{daemon.pid}/status").read_text()
    finally:
        daemon.stop()


def test_a_protected_process_cannot_be_read_by_its_user(tmp_path: Path) -> None:
    """Its files in /proc belong to root; it can still tell the mounts of its own open files."""
    program = (
        "import ctypes, os, sys\nfrom digsigd.signing.cage import protect_memory\n"
        "from digsigd.signing.removal import Mount\nprctl = ctypes.CDLL(None).prctl\n"
        "os.geteuid() or (os.setgid(65534), os.setuid(65534))\nprctl(4, 1, 0, 0, 0)\n"
        "before = os.stat('/proc/self/environ').st_uid, prctl(3, 0, 0, 0, 0)\nprotect_memory()\n"
        "print(before == (os.getuid(), 1), os.stat('/proc/self/environ').st_uid, prctl(3, 0, 0, 0, 0),"
        " Mount.of(0).id is not None)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False
    )
    assert done.stdout == "True 0 0 True\n", done.stderr


# Counts in this process the copies of a text, which is given backwards so that its own is the only one.
COPIES = """
import sys
needle = bytes.fromhex(sys.argv[3])[::-1]

def copies():
    found = -1  # the needle
    with open("/proc/self/maps") as maps, open("/proc/self/mem", "rb", 0) as memory:
        for line in maps:
            start, end = (int(word, 16) for word in line.split()[0].split("-"))
            if " rw" in line and "[v" not in line:
                memory.seek(start)
                found += memory.read(end - start).count(needle)
    return found
"""

SCAN = (
    COPIES
    + """
from digsigd.keys.tarball import read_tarball
from digsigd.signing.cage import protect_memory

if sys.argv[1] == "protected":
    protect_memory()
kept, others = [], []
for _ in range(50):
    # What is allocated between them keeps their places from being given back to the system.
    with open(sys.argv[2], "rb") as file:
        kept.append(read_tarball(file.read(), max_bytes=1 << 24))
    others.append([bytes(size) for size in range(600, 4000, 16)])
print(copies() > 0, end=" ")
del kept
print(copies() > 0)
"""
)


# glibc overwrites small blocks of memory only without its cache of each thread.
AS_IN_THE_UNIT = {**os.environ, "GLIBC_TUNABLES": "glibc.malloc.tcache_count=0"}


def copies_left(tarball: Path, line: bytes, protected: str) -> str:
    """Whether a process that has read a tarball has a line of a key in memory, before and after it forgets it."""
    words = [protected, str(tarball), line[::-1].hex()]
    done = subprocess.run(
        [sys.executable, "-c", SCAN, *words], env=AS_IN_THE_UNIT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_keys_are_not_in_memory_once_they_are_forgotten(tmp_path: Path) -> None:
    """Without the protection, copies that were freed stay there."""
    pki = TrialPki.make("rsa2048", srks=1, encrypted=False)
    tarball = tmp_path / "keys.tar.gz"
    tarball.write_bytes(pki.tarball())
    key = next(data for name, data in pki.files.items() if name.startswith("keys/CSF"))
    line = key.splitlines()[5]
    assert copies_left(tarball, line, "protected") == "True False"
    assert copies_left(tarball, line, "") == "True True"


SIGNING = (
    COPIES
    + """
from pathlib import Path
from twisted.internet.defer import Deferred
from twisted.internet.task import deferLater, react
from digsigd import SigningRequest, SigningService
from digsigd.settings import load
from digsigd.signing.cage import protect_memory

async def main(reactor):
    if sys.argv[1] == "protected":
        protect_memory()
    folder = Path(sys.argv[2])
    service = SigningService(load(folder / "digsigd.toml"), listen=False)
    service.startService()
    for _ in range(5):
        text = (folder / "csf").read_bytes()
        request = SigningRequest.of_file(folder / "spl.bin", machine="m", cst_version="3.4.1", description=text)
        await service.sign(request)
    print(copies() > 0, end=" ")
    # Their time is over, now that they were seen: it does not matter how long that took.
    for forgetting in [one.forgetting for one in service._parts.keys._kept.values()]:
        forgetting.reset(0)
    while service._parts.keys._kept:
        await deferLater(reactor, 0)
    print(copies() > 0)
    await service.stopService()

react(lambda reactor: Deferred.fromCoroutine(main(reactor)))
"""
)


def test_decrypted_keys_are_not_in_memory_once_they_are_forgotten(tmp_path: Path, cst_base: Path) -> None:
    """A service that has signed with encrypted keys, started as in its unit."""
    pki = TrialPki.make("rsa2048", srks=1)
    image = TrialImage.of_size(0x4000)
    tarball = tmp_path / "keys/m/imxsign/imx-cst-keys.tar.gz"
    tarball.parent.mkdir(parents=True)
    tarball.write_bytes(pki.tarball())
    (tmp_path / "work").mkdir()
    (tmp_path / "spl.bin").write_bytes(image.data)
    (tmp_path / "csf").write_text(pki.csf(image.blocks("spl.bin")))
    (tmp_path / "digsigd.toml").write_text(
        f'[keys]\nuri = "{(tmp_path / "keys").as_uri()}"\nkeep = 600\n[cst]\nbase = "{cst_base}"\n'
        f'[daemon]\nworkdir = "{tmp_path}/work"\n[record]\nurl = "none"\n'
    )
    encrypted = next(data for name, data in pki.files.items() if name.startswith("keys/CSF"))
    key = load_pem_private_key(encrypted, pki.pass_phrase.encode())
    pem = key.private_bytes(Encoding.PEM, PrivateFormat.TraditionalOpenSSL, NoEncryption())
    for protected, expected in (("protected", "True False"), ("", "True True")):
        words = [protected, str(tmp_path), pem.splitlines()[6][::-1].hex()]
        done = subprocess.run(
            [sys.executable, "-c", SIGNING, *words], env=AS_IN_THE_UNIT, capture_output=True, text=True, check=False
        )
        assert done.stdout.strip() == expected, done.stderr


def test_a_call_that_the_unit_forbids_is_an_error(tmp_path: Path) -> None:
    """And not the end of the process: Debian 13's ncurses, which Python may load, calls setfsuid."""
    call = "import ctypes, os; os._exit(7 if ctypes.CDLL(None).setfsuid(0) == -1 else 0)"
    done = subprocess.run([filter_of(tmp_path, unit_calls()), sys.executable, "-S", "-c", call], check=False)
    assert done.returncode == 7
