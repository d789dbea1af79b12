"""The daemon as a user that exists only while it runs, as with systemd's DynamicUser=yes, and a store for a group."""

from __future__ import annotations

import os
import shutil
import stat
import subprocess
import sys
import sysconfig
import tempfile
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

import twisted
from digsigd.testing import TrialPki
from tests.helpers.daemons import DEADLINE, MACHINE, RIGHTS, TOKEN, Daemon

ROOT = Path(__file__).parents[2]
# systemd takes dynamic users from 61184 to 65519 (systemd.exec(5)), and no group has this number.
USER, GROUP = 61184, 61183


def program(folder: Path) -> list[str]:
    """The start of a command that runs twistd as any user. If others cannot reach the project, it runs a copy of it."""
    if all(one.stat().st_mode & stat.S_IXOTH for one in ROOT.parents):
        return [sys.executable, str(Path(sys.executable).with_name("twistd"))]
    library = folder / "lib"
    shutil.copytree(sysconfig.get_path("purelib"), library, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copytree(ROOT / "digsigd", library / "digsigd")
    shutil.copy(ROOT / "twisted/plugins/digsigd_plugin.py", library / "twisted/plugins")
    start = f"import sys; sys.path.insert(0, {str(library)!r}); from twisted.scripts.twistd import run; run()"
    return [os.path.realpath(sys.executable), "-c", start]


class OwnUser(Daemon):
    """Runs as a user without a name, in `groups`, with its token as a credential; `user` is the number."""

    def __init__(self, folder: Path, cst_base: Path, groups: tuple[int, ...], user: int = USER) -> None:
        config = f'[callers.ci]\ntoken_file = "${{CREDENTIALS_DIRECTORY}}/token"\n{RIGHTS}'
        credentials = folder / "credentials"
        credentials.mkdir(mode=0o500)
        (credentials / "token").write_text(TOKEN)
        (credentials / "token").chmod(0o400)
        state = folder / "state"
        state.mkdir(mode=0o700)
        self._program = program(folder)
        if "-c" in self._program:
            cst_base = shutil.copytree(cst_base, folder / "nxp")
        environ = {"CREDENTIALS_DIRECTORY": str(credentials), "STATE_DIRECTORY": str(state)}
        super().__init__(folder, cst_base, config, environ=environ)
        self._groups = groups
        self._user = user
        # Of coverage's data, too, only the user of the tests may write.
        self.environ = {name: value for name, value in self.environ.items() if not name.startswith("COVERAGE_")}
        for path in (credentials, credentials / "token", state, self.workdir):
            os.chown(path, user, user)

    def command(self, *options: str) -> list[str]:
        groups = [f"--groups={','.join(map(str, self._groups))}"] if self._groups else ["--clear-groups"]
        user = [
            "setpriv",
            f"--reuid={self._user}",
            f"--regid={self._user}",
            *groups,
            "--no-new-privs",
            "--bounding-set=-all",
        ]
        return [*user, *self._program, *super().command(*options)[1:]]

    def lock_keys(self) -> None:
        """Let only root and the group read the store: chgrp -R, chmod -R u=rwX,g=rX,o=."""
        for path in (self.keys, *self.keys.rglob("*")):
            os.chown(path, 0, GROUP)
            path.chmod(0o750 if path.is_dir() else 0o640)


@pytest.fixture
def public() -> Iterator[Path]:
    """A folder that the daemon's user can reach."""
    made = Path(tempfile.mkdtemp(prefix="digsigd-test-"))
    made.chmod(0o755)
    yield made
    shutil.rmtree(made)


@pytest.mark.parametrize("groups", [(GROUP,), ()], ids=["in the group", "not in the group"])
def test_a_store_for_a_group_needs_no_world_readable_keys(
    public: Path, cst_base: Path, pki: TrialPki, groups: tuple[int, ...]
) -> None:
    """With the group as in SupplementaryGroups= it signs, and nothing is unsafe; without it is not ready."""
    if os.geteuid() != 0:
        return  # only root can start a process as another user
    daemon = OwnUser(public, cst_base, groups)
    daemon.put_keys(MACHINE, pki.tarball())
    daemon.lock_keys()
    daemon.start()
    try:
        status = Path(f"/proc/{daemon.pid}/status").read_text()
        assert f"Uid:\t{USER}\t{USER}" in status
        answer = daemon.post(pki, headers={"Authorization": f"Bearer {TOKEN}"})
        ready = httpx.get(f"{daemon.url}/readyz", timeout=DEADLINE)
        if groups:
            assert (answer.status_code, ready.status_code) == (200, 200), answer.text
            assert "may read" not in daemon.log()
        else:
            assert (answer.status_code, ready.status_code) == (502, 503)
            assert "key store: the key store cannot be read" in ready.text
            assert str(daemon.keys) not in ready.text
    finally:
        daemon.stop()


def test_what_the_user_may_not_open_is_not_green(public: Path, cst_base: Path) -> None:
    """A socket in a folder of root, and a port that needs a capability; both would work as root."""
    if os.geteuid() != 0:
        return
    daemon = OwnUser(public, cst_base, ())
    places = [f"unix:{public}/socket"]
    if int(Path("/proc/sys/net/ipv4/ip_unprivileged_port_start").read_text()) > 1:
        places.append("tcp:1:interface=127.0.0.1")
    for place in places:
        done = subprocess.run(
            daemon.command("--check", "--listen", place),
            env=daemon.environ, cwd=public, capture_output=True, text=True, check=False, timeout=DEADLINE,
        )  # fmt: skip
        assert done.returncode == 1
        assert f"FAILED listens on      listen.endpoint: {place!r}: Permission denied" in done.stdout, done.stdout


# This interpreter, and the same of the system if that is in somebody's home.
PYTHONS = (Path(sys.executable).resolve(), Path(f"/usr/bin/python{sys.version_info.major}.{sys.version_info.minor}"))
# How the daemon is started. Only `digsigd run` does not look for Twisted's plugins, of which a cache would be written.
STARTS = {
    "digsigd run": ("from digsigd.admin.main import main; main()", "run"),
    "twistd digsigd": ("from twisted.scripts.twistd import run; run()", "--nodaemon", "--pidfile=", "digsigd"),
}


class OfRoot(OwnUser):
    """Runs from packages that root has installed, without a cache of plugins, in two processes."""

    def __init__(self, folder: Path, cst_base: Path, start: tuple[str, ...]) -> None:
        super().__init__(folder, cst_base, (GROUP,))
        self._start = start
        self.config.write_text(self.config.read_text().replace("[daemon]", "[daemon]\nworkers = 2"))
        library = folder / "packages"
        library.mkdir()
        for path in Path(sysconfig.get_path("purelib")).iterdir():
            # A link to each, because a copy of all that tests need takes long.
            if path.name not in {"twisted", "digsigd"} and path.suffix != ".pth":
                (library / path.name).symlink_to(path)
        ignored = shutil.ignore_patterns("__pycache__", "test", "dropin.cache")
        shutil.copytree(Path(twisted.__file__).parent, library / "twisted", ignore=ignored)
        shutil.copytree(ROOT / "digsigd", library / "digsigd", ignore=ignored)
        shutil.copy(ROOT / "twisted/plugins/digsigd_plugin.py", library / "twisted/plugins")
        self.environ.update(PYTHONPATH=str(library), PYTHONDONTWRITEBYTECODE="1")
        # Not the virtual environment's interpreter, which would bring its own packages; a worker is started by it, too.
        self._python = next(path for path in PYTHONS if all(one.stat().st_mode & stat.S_IXOTH for one in path.parents))

    def command(self, *options: str) -> list[str]:
        command = super().command()
        command = command[: command.index("--bounding-set=-all") + 1]
        return [
            *command, str(self._python), "-c", *self._start, "--config", str(self.config), *options
        ]  # fmt: skip


@pytest.mark.parametrize("start", STARTS.values(), ids=STARTS)
def test_a_user_who_may_write_nowhere_gets_no_warnings(
    public: Path, cst_base: Path, pki: TrialPki, start: tuple[str, ...]
) -> None:
    """Twisted's message on its cache of plugins is not in the log of the daemon, nor in that of a worker."""
    if os.geteuid() != 0 or not all(one.stat().st_mode & stat.S_IXOTH for one in ROOT.parents):
        return  # only root can start a process as another user, who must reach the packages
    daemon = OfRoot(public, cst_base, start)
    daemon.put_keys(MACHINE, pki.tarball())
    daemon.lock_keys()
    daemon.start()
    try:
        assert daemon.post(pki, headers={"Authorization": f"Bearer {TOKEN}"}).status_code == 200
    finally:
        daemon.stop()
    assert "plugin cache" not in daemon.log()
    assert not list(public.glob("*.pid"))
