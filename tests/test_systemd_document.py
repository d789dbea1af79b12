"""The set-up of docs/operate/systemd.md, as it stands there, with the daemon as the user that its unit gives it."""

from __future__ import annotations

import os
import re
import shutil
import socket
import stat
import subprocess
import sys
import sysconfig
import tarfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from digsigd.testing import TrialPki
from tests.daemon.test_own_user import GROUP, USER, program, public
from tests.helpers.commands import as_pki
from tests.helpers.daemons import DEADLINE, IMAGE
from tests.helpers.managed import Managed
from tests.helpers.proof import proven
from tests.helpers.units import filter_of, unit_calls

__all__ = ["public"]
DOCUMENT = Path(__file__).parent.parent / "docs/operate/systemd.md"
SECTIONS = dict(re.findall(r"^### ([^\n]*)\n(.*?)(?=^##|\Z)", DOCUMENT.read_text(), re.DOTALL | re.MULTILINE))


def commands(section: str, root: Path, port: int = 9999) -> str:
    """The commands of a section, for folders below `root`, a group that only has a number, and a free port."""
    (text,) = re.findall(r"^```sh\n(.*?)^```", SECTIONS[section], re.DOTALL | re.MULTILINE)
    text = text.replace("groupadd --system digsigd-keys\n", "").replace("digsigd-keys", str(GROUP))
    text = re.sub(r"(?<![\w.])/(etc/digsigd|etc/systemd|srv|root)\b", rf"{root}/\1", text)
    return text.replace("localhost:9999", f"localhost:{port}")


def run(text: str, folder: Path) -> None:
    done = subprocess.run(
        ["sh", "-eu", "-c", text],
        cwd=folder, capture_output=True, text=True, check=False, stdin=subprocess.DEVNULL, timeout=DEADLINE,
        env={**os.environ, "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"},
    )  # fmt: skip
    assert done.returncode == 0, f"{text}\n{done.stdout}{done.stderr}"


def is_reachable(path: Path) -> bool:
    """Whether every user can reach it."""
    return all(folder.stat().st_mode & stat.S_IXOTH for folder in path.parents)


class AsService(Managed):
    """A daemon as its unit with a drop-in starts it: its user, groups, credentials, folders and filters."""

    def __init__(self, root: Path, cst_base: Path, drop_in: str, listener: socket.socket) -> None:
        self._program = program(root)
        if "-c" in self._program:
            cst_base = shutil.copytree(cst_base, root / "nxp")
        (root / "daemon").mkdir()
        environ = {}
        for name in ("credentials", "runtime", "state"):
            (root / name).mkdir(mode=0o700)
            environ[f"{name.upper()}_DIRECTORY"] = str(root / name)
        for name, path in re.findall(r"^LoadCredential=([^:]+):(.*)$", drop_in, re.MULTILINE):
            (root / "credentials" / name).write_bytes(Path(path).read_bytes())
            (root / "credentials" / name).chmod(0o400)
        for path in (root / "credentials", root / "runtime", root / "state", *(root / "credentials").iterdir()):
            os.chown(path, USER, USER)
        super().__init__(root / "daemon", cst_base, listener=listener, environ=environ)
        self.config = root / "etc/digsigd/digsigd.toml"
        if not is_reachable(Path(sys.executable).resolve()):
            # One that root has built for itself. Debian's of the same version runs the same packages.
            self._program[0] = f"/usr/bin/python{sys.version_info[0]}.{sys.version_info[1]}"
            self.environ["PYTHONPATH"] = f"{sysconfig.get_path('purelib')}:{DOCUMENT.parents[2]}"
        kept = {name: value for name, value in self.environ.items() if not name.startswith("COVERAGE_")}
        self.environ = {name: value for name, value in kept.items() if name != "DIGSIGSERVER_KEYFILE_URI"}
        (groups,) = re.findall(r"^SupplementaryGroups=(.*)$", drop_in, re.MULTILINE)
        self._start = ["setpriv", f"--reuid={USER}", f"--regid={USER}", f"--groups={groups}", "--no-new-privs"]
        self._start += ["--bounding-set=-all", str(filter_of(root, unit_calls()))]

    def command(self, *options: str) -> list[str]:
        words = super().command(*options)
        place = next(number for number, word in enumerate(words) if word.endswith("/twistd"))
        return [*words[:place], *self._start, *self._program, *words[place + 1 :]]


@pytest.fixture
def listener() -> Iterator[socket.socket]:
    with socket.create_server(("127.0.0.1", 0), backlog=16) as server:
        yield server


def test_the_set_up_lets_both_callers_sign(public: Path, cst_base: Path, listener: socket.socket) -> None:
    """From its first command to the blobs, which the boot ROM accepts; the daemon's user can read nothing else."""
    if os.geteuid() != 0:
        return  # only root can start a process as another user
    port = listener.getsockname()[1]
    (public / "root").mkdir()
    for section in ("The key store", "Certificates", "The configuration", "The unit"):
        folder = public / "etc/digsigd" if section == "The configuration" else public
        run(commands(section, public), folder)
    drop_in = (public / "etc/systemd/system/digsigd.service.d/host.conf").read_text()
    daemon = AsService(public, cst_base, drop_in, listener)
    tarball = public / "srv/digsigd/keys/imx8mm-evk/imxsign/imx-cst-keys.tar.gz"
    pki = pki_of(tarball)
    (public / "root/spl.bin").write_bytes(IMAGE.data)
    (public / "root/spl.csf").write_text(pki.csf(IMAGE.blocks("spl.bin")))
    checked = subprocess.run(
        daemon.command("--check", "--machine", "imx8mm-evk"),
        env=daemon.environ, cwd=public, capture_output=True, text=True, check=False, timeout=DEADLINE,
    )  # fmt: skip
    assert checked.returncode == 0, checked.stdout + checked.stderr
    assert "not safe" not in checked.stdout
    assert re.search(r"^ok +imx8mm-evk +signs with SRK 1, 2, 3, 4$", checked.stdout, re.MULTILINE), checked.stdout
    daemon.start()
    try:
        run(commands("Sign", public, port), public / "etc/digsigd")
        for caller in ("ci", "release"):
            proven(pki, IMAGE, (public / f"etc/digsigd/{caller}.csf.bin").read_bytes())
            assert f" from {caller} " in daemon.log()
        assert "not safe" not in daemon.log()
    finally:
        daemon.stop()
        daemon.notices.close()
    for path in (
        tarball,
        public / "etc/digsigd/host.key",
        public / "etc/digsigd/ca.key",
        public / "etc/digsigd/ci.token",
    ):
        assert not path.stat().st_mode & 0o007
    # systemd is asked for nothing in the sections above; these need one that runs.
    assert "systemctl" in SECTIONS["Check, and start"]


def pki_of(tarball: Path) -> TrialPki:
    with tarfile.open(tarball) as archive:
        files = {
            member.name: content.read() for member in archive if (content := archive.extractfile(member)) is not None
        }
    return as_pki(files, "rsa2048", fast_auth=False)
