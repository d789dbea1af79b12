"""What a newcomer runs first: the demonstration, and the script that gets a cst."""

from __future__ import annotations

import os
import re
import shutil
import signal
import socket
import stat
import subprocess
import sys
import tarfile
import time
from importlib.machinery import SourceFileLoader
from importlib.util import module_from_spec, spec_from_loader
from pathlib import Path
from types import ModuleType

import pytest

from tests.helpers.libraries import put_libraries
from tests.helpers.ports import own_ports

ROOT = Path(__file__).parent.parent
DEADLINE = 120


def run(*command: str | Path, **environ: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [str(part) for part in command],
        env={**os.environ, **environ}, cwd=ROOT, capture_output=True, text=True, check=False, timeout=DEADLINE,
    )  # fmt: skip


def test_the_demonstration_signs_and_verifies(cst_base: Path) -> None:
    """With the curl command to copy, the daemon's log, and nothing left running."""
    done = run(sys.executable, ROOT / "etc/demo", DIGSIGSERVER_IMX_CST_BASE=str(cst_base))
    assert done.returncode == 0, done.stdout + done.stderr
    for words in ("-F machine=", "fuse value", "answered 200", "Signed and verified"):
        assert words in done.stdout
    assert "Traceback" not in done.stdout + done.stderr


def test_the_demonstration_with_a_token_signs_and_verifies(cst_base: Path) -> None:
    """Twice, the second time with the token of the first; its PIN is never told."""
    for _ in range(2):
        done = run(sys.executable, ROOT / "etc/demo", "--hsm", DIGSIGSERVER_IMX_CST_BASE=str(cst_base))
        assert done.returncode == 0, done.stdout + done.stderr
        for words in ("-F backend=pkcs11", "[pkcs11.tokens.trial]", "answered 200", "Signed and verified"):
            assert words in done.stdout
        folder = ROOT / ".digsigd/demo-hsm"
        pin = (folder / "pin").read_text().strip()
        assert stat.S_IMODE((folder / "pin").stat().st_mode) == 0o600
        assert pin not in done.stdout + done.stderr
    with tarfile.open(folder / "keys/trial-imx8mm/imxsign/imx-cst-keys.tar.gz") as tar:
        assert tar.getnames() == ["crts/SRK_1_2_3_4_table.bin"]


def test_the_demonstration_for_ahab_signs_verifies_and_refuses(cst_base: Path) -> None:
    """With curl and with digsign, twice; the file whose byte was changed does not hold."""
    for _ in range(2):
        done = run(sys.executable, ROOT / "etc/demo", "--ahab", DIGSIGSERVER_IMX_CST_BASE=str(cst_base))
        assert done.returncode == 0, done.stdout + done.stderr
        assert done.stdout.count("the answer is the whole file, 196608 bytes") == 2
        assert done.stdout.count("Everything that can be checked here holds") == 2, done.stdout
        assert "its hash in the container differs" in done.stdout
        for words in ("-F soctype=mx93", "one bit at 0x", "does not hold", "Signed and verified"):
            assert words in done.stdout
        assert "Traceback" not in done.stdout + done.stderr


def served(cst_base: Path, port: int) -> tuple[subprocess.Popen[str], str]:
    """The demonstration as `make serve` runs it, once it serves, and what it said until then."""
    process = subprocess.Popen(
        [sys.executable, ROOT / "etc/demo", "--serve", "--port", str(port)],
        env={**os.environ, "DIGSIGSERVER_IMX_CST_BASE": str(cst_base), "PYTHONUNBUFFERED": "1"},
        cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, start_new_session=True,
    )  # fmt: skip
    assert process.stdout is not None
    said = ""
    for line in process.stdout:
        said += line
        if "Serving on" in line:
            return process, said
    process.wait()
    raise AssertionError(said)


def is_refused(port: int) -> bool:
    with socket.socket() as client:
        return client.connect_ex(("127.0.0.1", port)) != 0


def test_a_served_demonstration_can_be_tried(cst_base: Path) -> None:
    """The command that it prints works as it stands, until Ctrl-C."""
    (port,) = own_ports(1)
    process, said = served(cst_base, port)
    try:
        found = re.search(r"^ +(curl .*?/sign/imx)$", said, re.DOTALL | re.MULTILINE)
        assert found is not None, said
        done = subprocess.run(["sh", "-c", found[1]], cwd=ROOT, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
    finally:
        process.send_signal(signal.SIGINT)
        rest = process.communicate(timeout=DEADLINE)[0]
    assert process.returncode == 0, rest
    assert is_refused(port)


@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGHUP, signal.SIGKILL])
def test_a_served_demonstration_leaves_no_daemon(cst_base: Path, how: signal.Signals) -> None:
    """However it ends: by `kill`, with its terminal, or without a chance to do anything."""
    (port,) = own_ports(1)
    process, _ = served(cst_base, port)
    process.send_signal(how)
    rest = process.communicate(timeout=DEADLINE)[0]
    assert process.returncode == (-signal.SIGKILL if how == signal.SIGKILL else 0), rest
    assert "Traceback" not in rest
    if how == signal.SIGKILL:
        end = time.monotonic() + DEADLINE
        while not is_refused(port) and time.monotonic() < end:
            time.sleep(0.05)
    assert is_refused(port)


def test_a_port_that_is_in_use_is_told_before_anything_is_done(cst_base: Path) -> None:
    """With a command that takes another; whoever has the port is not talked to."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        server.setblocking(False)
        done = run(sys.executable, ROOT / "etc/demo", "--serve", "--port", str(port))
        with pytest.raises(BlockingIOError):
            server.accept()
    assert done.returncode == 1
    assert done.stdout == ""
    assert re.search(rf"port {port} on 127\.0\.0\.1 is in use.* --serve --port \d+$", done.stderr.strip()), done.stderr


def test_a_cst_that_signs_is_told_from_one_that_does_not(cst_base: Path, tmp_path: Path) -> None:
    """By signing with it."""
    for version in ("3.4.1", "4.0.1"):
        done = run(ROOT / "etc/get-cst", "--check", cst_base / f"cst-{version}/linux64/bin/cst")
        assert done.returncode == 0, done.stdout + done.stderr
        assert "signs" in done.stdout + done.stderr
    (tmp_path / "srktool").symlink_to(cst_base / "cst-3.4.1/linux64/bin/srktool")
    crashing = tmp_path / "cst"
    crashing.write_text("#!/bin/sh\nkill -SEGV $$\n")
    crashing.chmod(0o755)
    silent = tmp_path / "silent"
    silent.write_text("#!/bin/sh\nexit 0\n")
    silent.chmod(0o755)
    for tool in (crashing, silent, tmp_path / "missing"):
        done = run(ROOT / "etc/get-cst", "--check", tool)
        assert done.returncode != 0
        assert str(tool) in done.stdout + done.stderr


def test_what_is_there_is_not_fetched_again(cst_base: Path, tmp_path: Path) -> None:
    """A second run asks neither a package manager nor the network."""
    for name in ("apt-get", "apt-cache", "apt", "dpkg-deb", "curl", "wget"):
        (tmp_path / name).write_text(f"#!/bin/sh\necho {name} >> {tmp_path}/asked\nexit 1\n")
        (tmp_path / name).chmod(0o755)
    done = run(
        ROOT / "etc/get-cst",
        "--base",
        cst_base,
        "3.4.1",
        "4.0.1",
        "--provider",
        PATH=f"{tmp_path}:/usr/bin:/bin",
        http_proxy="http://127.0.0.1:1",
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert not (tmp_path / "asked").exists()


def test_where_apt_is_missing_it_says_what_to_do(tmp_path: Path) -> None:
    """And leaves nothing half-made."""
    tools = tools_without_apt(tmp_path / "bin")
    done = run(ROOT / "etc/get-cst", "--base", tmp_path / "nxp", "3.4.1", PATH=str(tools))
    assert done.returncode != 0
    assert "NXP" in done.stderr
    assert not (tmp_path / "nxp/cst-3.4.1").exists()


def test_a_version_that_is_nowhere_is_told(tmp_path: Path) -> None:
    """With those that there are."""
    done = run(ROOT / "etc/get-cst", "--base", tmp_path, "1.2.3")
    assert done.returncode != 0
    assert "3.4.1" in done.stderr


def tools_without_apt(folder: Path) -> Path:
    """A folder for PATH with what get-cst needs on a system that has another package manager."""
    folder.mkdir()
    for name in ("python3", "env", "sh", "openssl"):
        found = sys.executable if name == "python3" else shutil.which(name)
        assert found is not None
        (folder / name).symlink_to(found)
    return folder


def test_the_provider_of_cst_4_is_there_and_openssl_loads_it(cst_base: Path, tmp_path: Path) -> None:
    """One that is there is kept, and nothing is fetched; one that OpenSSL does not load is told."""
    there = tmp_path / "pkcs11-provider/pkcs11.so"
    there.parent.mkdir()
    there.symlink_to(cst_base / "pkcs11-provider/pkcs11.so")
    tools = tools_without_apt(tmp_path / "bin")
    done = run(ROOT / "etc/get-cst", "--base", tmp_path, "--provider", PATH=str(tools))
    assert done.returncode == 0, done.stderr
    assert f"{there} exists already" in done.stderr
    assert not list(tmp_path.glob("cst-*")), "no cst was asked for"
    there.unlink()
    there.write_bytes(b"not a library")
    done = run(ROOT / "etc/get-cst", "--base", tmp_path, "--provider", PATH=str(tools))
    assert done.returncode == 1
    assert f"cannot load {there}" in done.stderr
    assert "Traceback" not in done.stderr


def test_what_others_put_beside_is_kept(cst_base: Path, tmp_path: Path) -> None:
    """A folder of a version that has no cst is told; in the provider's folder only its own file is replaced."""
    (tmp_path / "cst-3.4.1").mkdir()
    (tmp_path / "cst-3.4.1/mine").touch()
    done = run(ROOT / "etc/get-cst", "--base", tmp_path, "3.4.1")
    assert done.returncode == 1
    assert f"{tmp_path}/cst-3.4.1 exists, but has no linux64/bin/cst" in done.stderr
    assert "Traceback" not in done.stderr
    provider = tmp_path / "pkcs11-provider/pkcs11.so"
    provider.parent.mkdir()
    (provider.parent / "mine").touch()
    provider.symlink_to("removed-since.so")
    done = run(ROOT / "etc/get-cst", "--base", tmp_path, "--provider")
    assert done.returncode == 0, done.stderr
    assert (provider.parent / "mine").exists()
    assert provider.exists()
    assert (tmp_path / "cst-3.4.1/mine").exists()


def get_cst() -> ModuleType:
    """The script as a module."""
    loader = SourceFileLoader("get_cst", str(ROOT / "etc/get-cst"))
    spec = spec_from_loader("get_cst", loader)
    assert spec is not None
    module = module_from_spec(spec)
    loader.exec_module(module)
    return module


@pytest.mark.parametrize(
    ("release", "older_than"),
    [
        ({"ID": "debian", "VERSION_ID": "12"}, ["trixie", "sid"]),
        ({"ID": "debian", "VERSION_ID": "13"}, ["sid"]),
        ({"ID": "debian", "VERSION_ID": "14"}, ["sid"]),
        ({"ID": "debian", "VERSION_CODENAME": "forky"}, []),
        ({"ID": "ubuntu", "VERSION_ID": "24.04"}, ["trixie", "sid"]),
        ({}, ["trixie", "sid"]),
    ],
)
def test_libraries_are_for_older_systems(
    monkeypatch: pytest.MonkeyPatch, release: dict[str, str], older_than: list[str]
) -> None:
    """The same release, and a newer one, have what cst was built for."""
    script = get_cst()
    monkeypatch.setattr(script, "release", lambda: release)
    assert [suite for suite in ("trixie", "sid") if script.is_older_than(suite)] == older_than


def copy_of(cst_base: Path, version: str, base: Path) -> Path:
    """A base folder with Debian's cst, and without libraries."""
    shutil.copytree(cst_base / f"cst-{version}", base / f"cst-{version}", ignore=shutil.ignore_patterns("lib"))
    return base / f"cst-{version}"


def test_a_cst_that_is_there_gets_its_libraries(cst_base: Path, tmp_path: Path) -> None:
    """Whole, with their licences, closed to other users; and signs with them. So it does its other tools."""
    script = get_cst()
    folder = copy_of(cst_base, "4.0.1", tmp_path)
    verifier = folder / "linux64/bin/ahab_image_verifier"
    verifier.unlink(missing_ok=True)
    done = run(ROOT / "etc/get-cst", "--base", tmp_path, "4.0.1")
    assert done.returncode == 0, done.stderr
    assert "Usage: ahab_image_verifier" in run(verifier, "-h").stdout
    if not script.is_older_than("sid") or os.uname().machine != "x86_64":
        assert not (folder / "lib").exists()
        return
    assert f"signs, with the libraries of Debian sid in {folder}/lib" in done.stderr
    release, *packages = (folder / "lib/packages").read_text().splitlines()
    names = [line.partition(" ")[0] for line in packages]
    assert release == "Debian sid"
    assert names == [*script.LIBRARIES, "pkcs11-provider"]
    assert all((folder / "lib/copyright" / name).stat().st_size > 100 for name in names)
    assert (folder / "lib/ossl-modules/pkcs11.so").is_file()
    for path in (folder / "lib", *(folder / "lib").rglob("*")):
        assert path.is_symlink() or path.stat().st_mode & 0o022 == 0, path
    shown = run(ROOT / "etc/get-cst", "--check", folder / "linux64/bin/cst")
    assert f"signs, with the libraries in {folder}/lib" in shown.stderr
    assert [path.name for path in tmp_path.iterdir()] == [folder.name]


def test_libraries_that_do_not_work_are_not_taken(cst_base: Path, tmp_path: Path) -> None:
    """Without apt cst uses the system's; a cst that is not Debian's gets none, and a broken folder is told."""
    folder = copy_of(cst_base, "4.0.1", tmp_path / "base")
    tools = tools_without_apt(tmp_path / "bin")
    done = run(ROOT / "etc/get-cst", "--base", tmp_path / "base", "4.0.1", PATH=str(tools))
    assert done.returncode == 0, done.stderr
    assert not (folder / "lib").exists()
    if get_cst().is_older_than("sid"):
        assert "cst 4.0.1 uses this system's libraries" in done.stderr
        assert "apt-get or dpkg-deb is missing" in done.stderr
    (folder / "copyright").write_text("NXP\n")
    done = run(ROOT / "etc/get-cst", "--base", tmp_path / "base", "4.0.1", PATH=str(tools))
    assert done.returncode == 0, done.stderr
    assert "uses this system's" not in done.stderr
    assert done.stderr.endswith("signs\n")
    put_libraries(folder / "linux64/bin/cst", folder / "lib")
    next((folder / "lib").glob("libcrypto*")).write_bytes(b"not a library")
    done = run(ROOT / "etc/get-cst", "--base", tmp_path / "base", "4.0.1", PATH=str(tools))
    assert done.returncode == 1
    assert f"{folder}/lib/libcrypto" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_package_is_asked_for_by_a_command_or_a_file_that_it_has(tmp_path: Path) -> None:
    """Only what is missing is told, where there is no apt to install it."""
    tools = tools_without_apt(tmp_path / "bin")
    (tmp_path / "some").mkdir()
    (tmp_path / "some/module.so").touch()
    here = [f"one={tmp_path}/*/module.so", f"two={tmp_path}/some/module.so", "three=openssl", "openssl"]
    done = run(ROOT / "etc/need", *here, PATH=str(tools))
    assert (done.returncode, done.stderr) == (0, "")
    done = run(ROOT / "etc/need", *here, f"four={tmp_path}/*/other.so", "five=no-such-tool", "six", PATH=str(tools))
    assert done.returncode == 1
    assert done.stderr.startswith("missing: four five six. ")
