"""What a cst that was taken over can do in the cage: nothing that another request, or the host, would notice."""

from __future__ import annotations

import fcntl
import functools
import json
import os
import shutil
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import pytest
from twisted.internet import reactor
from twisted.internet.task import Clock

from digsigd.settings import CstSettings, Pkcs11Settings, Settings
from digsigd.signing.cage import LAUNCHER, Cage, Launcher, strongest
from digsigd.signing.cst import CstRun, CstRunner
from digsigd.signing.pkcs11 import write_access
from digsigd.signing.start import Limits, Needs, Script, Start
from digsigd.signing.workdir import Workdir
from digsigd.tokens import tokens_of
from tests.helpers.hsm import SoftHsm
from tests.helpers.keys import trial_keys
from tests.helpers.libraries import put_libraries
from tests.helpers.tools import ToolFolder

SOURCE = Path(__file__).parent.parent / "helpers/attack.c"
WHICH = shutil.which
LIMITS = Limits(cpu_seconds=20, memory=1 << 30, file_size=1 << 20, open_files=64)
# What succeeds without a cage for whoever runs the tests.
ALWAYS = (
    "read /proc of the daemon: cmdline", "write to the artifact", "truncate the artifact", "rename the artifact",
    "leave a FIFO", "connect by TCP", "listen", "send by UDP", "connect by AF_UNIX", "leave a socket", "netlink",
    "signal the daemon", "fork", "fork twice with setsid", "exec sh", "fchmod", "empty the artifact by another mode",
    "take the rights from its directory", "a setuid file", "connect to an abstract socket", "connect to another port",
    "connect by sending", "F_SETOWN", "F_SETSIG", "F_SETPIPE_SZ", "FIOSETOWN", "TIOCSTI",
    "sched_setaffinity of the daemon", "prlimit of the daemon", "setpriority of the daemon", "memfd_create",
    "tgkill of the daemon", "take back its signal of death", "execveat", "inotify", "seccomp", "add_key",
    "shared memory of System V", "messages of POSIX", "read a sysctl",
)  # fmt: skip
Attack = Callable[[Start, Needs], "object"]


class Scene:
    """A process in the daemon's place, secrets, a neighbour, sockets; and the stand-in that goes after them."""

    def __init__(self, tool_folder: ToolFolder) -> None:
        self.tools = tool_folder
        folder = tool_folder.folder
        self.secrets = [
            folder / name for name in ("keys/other/keys.tar.gz", "pin", "token", "work/neighbour/a_key.pem")
        ]
        for secret in self.secrets:
            secret.parent.mkdir(parents=True, exist_ok=True)
            secret.write_text("secret")
        self.workdir = folder / "work/mine"
        self.run = self.workdir / "run"
        self.run.mkdir(parents=True)
        (self.workdir / "artifact").write_bytes(b"artifact")
        mine = [folder, folder / "work", folder / "work/neighbour", folder / "keys"]
        self.folders = [*mine, Path("/tmp"), Path("/dev/shm")]
        self.daemon = subprocess.Popen(["sleep", "1000"])
        self.tcp = socket.create_server(("127.0.0.1", 0))
        self.unix = socket.socket(socket.AF_UNIX)
        self.unix.bind(str(folder / "s"))
        self.unix.listen(5)
        self.other_tcp = socket.create_server(("127.0.0.1", 0))
        self.abstract = socket.socket(socket.AF_UNIX)
        self.abstract.bind(f"\0{tool_folder.mark}")
        self.abstract.listen(5)
        # A descriptor that a C library has left open for children.
        self.leaked = fcntl.fcntl(os.open(self.secrets[0], os.O_RDONLY), fcntl.F_DUPFD, 60)
        self.program = folder / "attack"
        self.compile()

    def compile(self, **more: str) -> None:
        macros = {
            **more,
            "SECRETS": ",".join(json.dumps(str(one)) for one in self.secrets),
            "FOLDERS": ",".join(json.dumps(str(one)) for one in self.folders),
            "UNIX": json.dumps(str(self.tools.folder / "s")),
            "MARK": json.dumps(self.tools.mark),
            "ABSTRACT": json.dumps(self.tools.mark),
            "OTHER_PORT": str(self.other_tcp.getsockname()[1]),
            "DAEMON": str(self.daemon.pid),
            "PORT": str(self.tcp.getsockname()[1]),
        }
        words = [f"-D{name}={value}" for name, value in macros.items()]
        subprocess.run(["gcc", "-w", *words, "-o", self.program, SOURCE], check=True)

    async def attack(
        self, start: Start, needs: Needs | None = None, environment: Mapping[str, str] | None = None
    ) -> CstRun:
        runner = CstRunner(reactor, start=start, timeout=60)
        return await runner.run(
            str(self.program), ["-i", "x"], cwd=str(self.run), limits=LIMITS,
            environment={"RUN_MARK": self.tools.mark, **(environment or {})},
            needs=needs or Needs(read=(str(self.workdir),)),
        )  # fmt: skip

    def marks(self) -> list[str]:
        """What an attack has made, outside of the directory that is removed after each request."""
        return [str(one) for folder in self.folders for one in folder.glob(f"attack-{self.tools.mark}")]

    def close(self) -> None:
        self.daemon.kill()
        self.daemon.wait()
        self.tcp.close()
        self.unix.close()
        self.other_tcp.close()
        self.abstract.close()
        os.close(self.leaked)
        for one in self.marks():
            shutil.rmtree(one, ignore_errors=True)
            Path(one).unlink(missing_ok=True)


@pytest.fixture
def scene(tool_folder: ToolFolder) -> Iterator[Scene]:
    made = Scene(tool_folder)
    yield made
    made.close()


@pytest.fixture(scope="module")
def cage() -> Cage:
    assert LAUNCHER.is_file(), "the launcher is not built: `make test` installs a compiler and builds it"
    return strongest([])


@functools.cache
def namespaces_work() -> bool:
    """Whether this user may make a user namespace here, as unshare(1) finds it; in a chroot, nobody may."""
    probe = subprocess.run(["unshare", "--user", "--map-root-user", "true"], capture_output=True, check=False)
    return probe.returncode == 0


def possible(layers: str) -> str:
    """The layers without those that the kernel refuses here, which digsigd must find out by itself."""
    return layers if namespaces_work() else layers.replace("n", "")


def succeeded(run: CstRun) -> list[str]:
    text = run.output.decode()
    assert "tried\n" in text, text
    return [line.removeprefix("SUCCEEDED ") for line in text.splitlines() if line.startswith("SUCCEEDED")]


async def test_without_a_cage_the_attacks_succeed(scene: Scene) -> None:
    """The stand-in really does what the other tests find that it cannot."""
    run = await scene.attack(Script())
    left = scene.tools.left()
    for process in left:
        os.kill(int(process.partition(":")[0]), 9)
    await scene.tools.until(lambda: not scene.tools.left())
    assert left, "two forks with setsid outlive the run"
    done = succeeded(run)
    assert set(ALWAYS) <= set(done), sorted(set(ALWAYS) - set(done))
    assert {f"read {one}" for one in scene.secrets} <= set(done)
    assert not (scene.workdir / "artifact").exists()
    assert scene.marks()


@pytest.mark.parametrize("layers", ["nls", "ls"])
@pytest.mark.parametrize("module", [False, True])
@pytest.mark.parametrize("own", [False, True])
async def test_in_the_cage_no_attack_succeeds(scene: Scene, cage: Cage, layers: str, module: bool, own: bool) -> None:
    """With a module of a token, with its own libraries, and without; nothing is changed or made, no process is left."""
    assert not cage.weak, cage.missing
    libraries = scene.tools.folder / "lib"
    put_libraries(scene.program, libraries)
    needs = Needs(
        read=(str(scene.workdir), "/usr/share/p11-kit"),
        module=module,
        libraries=str(libraries) if own else "",
        temporary=True,
    )
    run = await scene.attack(Launcher(LAUNCHER, possible(layers)), needs)
    assert succeeded(run) == []
    assert (run.exit_code, run.signal) == (1, None)
    assert scene.tools.left() == []
    assert scene.marks() == []
    assert (scene.workdir / "artifact").read_bytes() == b"artifact"
    assert [one.name for one in scene.run.iterdir()] == ["sparse"]
    assert (scene.run / "sparse").stat().st_size == 0


async def test_a_module_may_use_what_is_configured_and_no_more(scene: Scene) -> None:
    """A folder to read, a socket and a port; everything else stays out of reach."""
    token = scene.tools.folder / "keys"
    port = scene.tcp.getsockname()[1]
    needs = Needs(
        read=(str(scene.workdir), str(token)), write=(str(scene.tools.folder / "s"),), ports=(port,), module=True
    )
    run = await scene.attack(Launcher(LAUNCHER, possible("nls")), needs)
    assert sorted(succeeded(run)) == sorted(
        [f"read {scene.secrets[0]}", f"list {token}", "connect by TCP", "connect by AF_UNIX"]
    )


@pytest.mark.parametrize("layers", ["nls", "ls"])
async def test_with_a_real_module_loaded_no_attack_succeeds(scene: Scene, tmp_path: Path, layers: str) -> None:
    """SoftHSM in the stand-in logs in to its token and finds its key; other stores and PINs stay out of reach."""
    mine, other = SoftHsm(tmp_path / "hsm"), SoftHsm(tmp_path / "other-hsm")
    mine.init_token("release", "73915")
    other.init_token("another", "73916")
    mine.put_pki("release", "73915", trial_keys("p256", srks=1, fast_auth=True))
    scene.secrets += [other.conf, *(one for one in other.folder.rglob("*") if one.is_file())]
    scene.folders += [other.folder, other.folder / "tokens"]
    scene.compile(MODULE=json.dumps(SoftHsm.MODULE), TOKEN=json.dumps("release"))
    settings = Pkcs11Settings(module=Path(SoftHsm.MODULE), paths=(mine.folder,), environment=mine.environ)
    access = tokens_of(Settings(cst=CstSettings(base=tmp_path), pkcs11=settings), {}, clock=Clock()).access
    environment = write_access(Workdir(scene.workdir), "engine", access, "73915")
    # As for a request, which may read its own directory besides.
    needs = replace(access.needs, read=(str(scene.workdir), *access.needs.read))
    stores = {one: one.read_bytes() for one in tmp_path.rglob("*") if one.suffix in {".object", ".conf"}}
    assert stores
    run = await scene.attack(Launcher(LAUNCHER, possible(layers)), needs, environment)
    assert b"1 private keys on the token\n" in run.output, run.output
    assert succeeded(run) == []
    assert {one: one.read_bytes() for one in stores} == stores
    assert scene.tools.left() == []
    assert scene.marks() == []
    assert (scene.workdir / "artifact").read_bytes() == b"artifact"


@pytest.mark.parametrize("layers", ["", "ls", "nls"])
def test_a_descriptor_that_was_left_open_does_not_reach_cst(scene: Scene, layers: str) -> None:
    """Whoever left it open in the daemon."""
    program = scene.tools.folder / "descriptors"
    text = (
        "#include <fcntl.h>\nint main(void) { for (int i = 3; i < 256; i++) if (fcntl(i, F_GETFD) >= 0) return i; }\n"
    )
    program.with_suffix(".c").write_text(text)
    subprocess.run(["gcc", "-o", program, program.with_suffix(".c")], check=True)
    start = Launcher(LAUNCHER, possible(layers))
    command = start.command(str(scene.run), LIMITS, Needs(read=(str(scene.workdir),)), str(program))
    for words, expected in ((command, 0), ([], scene.leaked)):
        done = subprocess.run([*words, program], input=b"\n", pass_fds=[scene.leaked], check=False)
        assert done.returncode == expected


def test_namespaces_are_used_where_they_work() -> None:
    """And where they do not, the reason is told."""
    found = strongest([])
    assert ("namespaces" in found.told) == namespaces_work()
    assert any(one.startswith("namespaces") for one in found.missing) != namespaces_work()


def test_layers_that_do_not_work_are_told(tmp_path: Path) -> None:
    """Without a launcher, and with one that cannot do what it should."""
    assert "not built" in strongest([], tmp_path / "missing").missing[0]
    broken = tmp_path / "launcher"
    broken.write_text("#!/bin/sh\ncase $4 in *l*) echo no Landlock; exit 126;; esac\n")
    broken.chmod(0o755)
    found = strongest([], broken)
    assert (found.weak, found.missing) == (True, ("Landlock: no Landlock",))
    assert found.told == "namespaces (user, mount, pid, net, ipc), seccomp"


PARENT = """
import subprocess, sys
from digsigd.settings import CstSettings, Pkcs11Settings, Settings
from digsigd.signing.cage import LAUNCHER, Launcher
from digsigd.signing.pkcs11 import write_access
from digsigd.signing.start import Limits, Needs

layers, begun, workdir, program, mark = sys.argv[1:]
needs = Needs(read=(workdir,))
command = Launcher(LAUNCHER, layers).command(workdir + "/run", Limits(9, 1 << 30, 9, 20), needs, program)
run = subprocess.Popen([*command, program], stdin=subprocess.PIPE, env={"RUN_MARK": mark})
if begun:
    run.stdin.write(b"\\n")
    run.stdin.flush()
run.wait()
"""


def parent_of_sleeper(scene: Scene, layers: str, begun: str) -> subprocess.Popen[bytes]:
    """A process in the daemon's place that has started a program which ends by nothing but a signal."""
    program = scene.tools.folder / "sleeper"
    program.with_suffix(".c").write_text("#include <unistd.h>\nint main(void) { for (;;) pause(); }\n")
    subprocess.run(["gcc", "-o", program, program.with_suffix(".c")], check=True)
    words = [layers, begun, str(scene.workdir), str(program), scene.tools.mark]
    return subprocess.Popen([sys.executable, "-c", PARENT, *words])


@pytest.mark.parametrize("layers", ["", "ls", "nls"])
@pytest.mark.parametrize("begun", ["", "begun"])
async def test_cst_dies_with_the_daemon(scene: Scene, layers: str, begun: str) -> None:
    """However that ends, and whether cst has begun or still waits for its turn."""
    daemon = parent_of_sleeper(scene, possible(layers), begun)
    try:
        await scene.tools.until(lambda: any("sleeper" in one for one in scene.tools.left()))
    finally:
        daemon.kill()
        daemon.wait()
    await scene.tools.until(lambda: not scene.tools.left())


@pytest.mark.parametrize("version", ["3.4.1", "4.0.1"])
async def test_without_bubblewrap_too_python_restricts_files(
    cst_base: Path, tmp_path: Path, scene: Scene, version: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is told as less than a cage; a real cst runs in it, and an attack reaches no file of another."""
    monkeypatch.setattr(shutil, "which", lambda name, path=None: None if name == "bwrap" else WHICH(name, path=path))
    found = strongest([], tmp_path / "missing")
    assert found.weak
    assert found.told.startswith("Landlock (ABI "), found
    assert found.told.endswith("set by Python")
    assert [one.partition(":")[0] for one in found.missing] == ["the launcher is not built", "bwrap", "seccomp"]
    runner = CstRunner(reactor, start=found.start)
    cst = str(cst_base / f"cst-{version}/linux64/bin/cst")
    run = await runner.run(cst, ["--version"], cwd=str(scene.run), limits=LIMITS)
    assert run.exit_code == 0, run.output
    done = succeeded(await scene.attack(found.start))
    while left := scene.tools.left():
        for process in left:
            with suppress(ProcessLookupError):
                os.kill(int(process.partition(":")[0]), 9)
    kept = [*(f"read {one}" for one in scene.secrets), *(f"list {one}" for one in scene.folders)]
    kept += [f"write to {one}" for one in scene.folders]
    kept += ["write to the artifact", "truncate the artifact", "rename the artifact", "leave a FIFO", "leave a link"]
    kept += ["connect by TCP", "read /etc/passwd", "exec sh", "read /proc of the daemon: environ"]
    assert not set(kept) & set(done)
    assert scene.marks() == []
    assert (scene.workdir / "artifact").read_bytes() == b"artifact"


@pytest.mark.parametrize("version", ["3.4.1", "4.0.1"])
async def test_without_the_launcher_bubblewrap_is_used(
    cst_base: Path, tmp_path: Path, scene: Scene, version: str
) -> None:
    """A real cst runs in it, and an attack reaches no neighbour, no network and no process of the host."""
    found = strongest([], tmp_path / "missing")
    if not namespaces_work():
        assert (found.told.endswith("set by Python"), found.weak) == (True, True)
        assert any(one.startswith("bwrap: ") for one in found.missing)
        return
    assert (found.told, found.weak) == ("bubblewrap (namespaces)", True)
    runner = CstRunner(reactor, start=found.start)
    cst = str(cst_base / f"cst-{version}/linux64/bin/cst")
    run = await runner.run(cst, ["--version"], cwd=str(scene.run), limits=LIMITS)
    assert run.exit_code == 0, run.output
    done = succeeded(await scene.attack(found.start))
    assert {"connect by TCP", "signal the daemon", "connect by AF_UNIX", "read /etc/passwd", "exec sh"}.isdisjoint(done)
    assert not {f"read {one}" for one in scene.secrets} & set(done)
    assert scene.marks() == []
    assert (scene.workdir / "artifact").read_bytes() == b"artifact"
    await scene.tools.until(lambda: not scene.tools.left())
