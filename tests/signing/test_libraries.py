"""A cst that has its own libraries beside it uses them, and in the cage nothing else."""

from __future__ import annotations

import hashlib
import os
import subprocess
from pathlib import Path

import pytest
from twisted.internet import reactor

from digsigd.signing.cage import LAUNCHER, Launcher, strongest
from digsigd.signing.cst import CstRunner
from digsigd.signing.evidence import ProgramSums
from digsigd.signing.libraries import describe, fingerprint, for_modules, libraries_of, module_in
from digsigd.signing.pkcs11 import Access
from digsigd.signing.selftest import prove
from digsigd.signing.signer import RunBounds
from digsigd.signing.start import Needs, Script, Start
from digsigd.signing.threads import InThread
from digsigd.signing.tools import CstTools
from digsigd.signing.workdir import Workdir
from tests.helpers.libraries import LOADER, base_with_libraries, loaded, put_libraries
from tests.helpers.tools import ToolFolder
from tests.signing.test_cage import LIMITS, possible

VERSIONS = ("3.4.1", "4.0.1")


@pytest.fixture(scope="module")
def base(cst_base: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return base_with_libraries(cst_base, tmp_path_factory.mktemp("base"), *VERSIONS)


def start_of(name: str) -> Start:
    if name == "script":
        return Script()
    return strongest([], Path("/nowhere")).start if name == "bubblewrap" else Launcher(LAUNCHER, possible(name))


@pytest.mark.parametrize("name", ["nls", "ls", "bubblewrap", "script"])
@pytest.mark.parametrize("version", VERSIONS)
async def test_cst_signs_with_its_own_libraries(
    base: Path, tool_folder: ToolFolder, in_thread: InThread, version: str, name: str
) -> None:
    """Whatever starts it; no file of the system's libraries is loaded."""
    tool = CstTools(base, {}).find(version)
    assert tool.libraries == f"{base}/cst-{version}/lib"
    runner = CstRunner(reactor, start=start_of(name))
    folder = tool_folder.folder / "workdir"
    folder.mkdir()
    assert await prove(tool, runner, Workdir(folder), in_thread, RunBounds()) is None
    run = await runner.run(
        tool.executable, ["--version"], cwd=str(tool_folder.cwd), limits=LIMITS,
        needs=Needs(libraries=tool.libraries), environment={"LD_DEBUG": "libs"},
    )  # fmt: skip
    paths = loaded(run.output)
    assert any("libcrypto" in path for path in paths), run.output
    assert {str(Path(path).parent) for path in paths} == {tool.libraries}


TRIES = """
#include <fcntl.h>
#include <stdio.h>
#include <unistd.h>
int main(int count, char **words)
{
	printf("%s\\n", words[0]);
	for (int i = 1; i < count; i++) {
		if (open(words[i], O_RDONLY) >= 0) printf("read %s\\n", words[i]);
		if (open(words[i], O_RDWR) >= 0) printf("write %s\\n", words[i]);
	}
	fflush(stdout);
	char *again[] = {words[0], 0};
	if (count > 1) execv(words[0], again);
	return 0;
}
"""


def build(program: Path) -> None:
    program.with_suffix(".c").write_text(TRIES)
    subprocess.run(["gcc", "-o", program, program.with_suffix(".c")], check=True)


@pytest.mark.parametrize("name", ["nls", "ls", "bubblewrap"])
@pytest.mark.parametrize("module", [False, True])
async def test_the_cage_has_its_own_libraries_instead_of_the_systems(
    tool_folder: ToolFolder, module: bool, name: str
) -> None:
    """To read, not to write; the system's only for a PKCS #11 module. The program itself is not executed again."""
    start = start_of(name)
    if isinstance(start, Script):
        return  # no namespaces here: bubblewrap does not work, which another test finds
    program, libraries = tool_folder.folder / "tries", tool_folder.folder / "lib"
    build(program)
    put_libraries(program, libraries)
    neighbour = tool_folder.folder / "neighbour"
    neighbour.write_text("secret")
    system = os.path.realpath("/lib64/" + LOADER)
    files = [str(libraries / LOADER), str(libraries / "libc.so.6"), system, str(neighbour)]
    runner = CstRunner(reactor, start=start)
    run = await runner.run(
        str(program), files, cwd=str(tool_folder.cwd), limits=LIMITS,
        needs=Needs(libraries=str(libraries), module=module),
    )  # fmt: skip
    shown = run.output.decode().splitlines()
    allowed = [*files[:2], *([system] if module else [])]
    assert shown[:1] == [str(program)]
    assert [one for one in shown[1:] if one != str(program)] == [f"read {path}" for path in allowed]
    if name != "bubblewrap":
        assert shown.count(str(program)) == 1, "only the loader may be executed"


def test_only_a_folder_with_a_loader_counts(tmp_path: Path) -> None:
    """Beside `linux64`, as get-cst makes it; NXP's own tarball, and other places, have none."""
    cst = f"{tmp_path}/cst-3.4.1/linux64/bin/cst"
    loader = tmp_path / "cst-3.4.1/lib" / LOADER
    assert libraries_of(cst) == ""
    loader.parent.mkdir(parents=True)
    loader.touch(0o644)
    assert libraries_of(cst) == ""
    loader.chmod(0o755)
    assert libraries_of(cst) == str(loader.parent)
    for other in ("linux32/bin/cst", "bin/cst", "linux64/bin/other"):
        assert libraries_of(f"{tmp_path}/cst-3.4.1/{other}") == ""


def test_a_module_of_a_newer_system_gets_the_systems_libraries(tmp_path: Path) -> None:
    """It may need what an older C library does not have; where nothing is known, the folder is used."""
    assert for_modules(str(tmp_path)) == str(tmp_path)
    for version, expected in (("2.1", ""), ("2.9-12", ""), ("2.999-3", str(tmp_path)), ("3.0", str(tmp_path))):
        (tmp_path / "packages").write_text(f"Debian x\nlibc6 {version}\nlibssl3t64 3.5\n")
        assert for_modules(str(tmp_path)) == expected
    own = (os.confstr("CS_GNU_LIBC_VERSION") or "").split()[1]
    (tmp_path / "packages").write_text(f"Debian x\nlibc6 {own}-1\n")
    assert for_modules(str(tmp_path)) == str(tmp_path)
    assert for_modules("") == ""


def test_operators_are_told_what_they_are(tmp_path: Path) -> None:
    """Release, folder and packages."""
    assert describe("") == "this system's libraries"
    assert describe(str(tmp_path)) == f"libraries of unknown origin in {tmp_path}"
    (tmp_path / "packages").write_text("Debian trixie\nlibc6 2.41-1\nzlib1g 1:1.3\n")
    assert describe(str(tmp_path)) == f"libraries of Debian trixie in {tmp_path} (libc6 2.41-1, zlib1g 1:1.3)"


def test_the_engine_and_provider_belong_to_the_libraries(tmp_path: Path) -> None:
    """Unless the operator has configured others; what is missing is taken as without the folder."""
    found = Access(None, provider=Path("/found"), found=True)
    configured = Access(None, engine=Path("/e"), provider=Path("/p"))
    alone = found.beside(str(tmp_path))
    assert (alone.engine, alone.provider, alone.needs.libraries) == (None, Path("/found"), str(tmp_path))
    for name in ("engines-3", "ossl-modules"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "pkcs11.so").touch()
    own = found.beside(str(tmp_path))
    assert own.engine == module_in(str(tmp_path), "engine") == tmp_path / "engines-3/pkcs11.so"
    assert own.provider == tmp_path / "ossl-modules/pkcs11.so"
    kept = configured.beside(str(tmp_path))
    assert (kept.engine, kept.provider) == (Path("/e"), Path("/p"))
    assert found.beside("").provider == Path("/found")


def test_the_fingerprint_is_that_of_sha256sum(tmp_path: Path) -> None:
    """Of all files below; a change of a library is seen at the next request."""
    program, folder = tmp_path / "cst", tmp_path / "lib"
    (folder / "engines-3").mkdir(parents=True)
    program.write_bytes(b"cst")
    for name in (LOADER, "libc.so.6", "libcrypto.so.3", "engines-3/pkcs11.so"):
        (folder / name).write_text(name)
    command = "find * -type f,l | LC_ALL=C sort | xargs sha256sum | sha256sum"
    said = subprocess.run(command, shell=True, cwd=folder, capture_output=True, text=True, check=True)  # noqa: S602
    assert fingerprint(str(folder)) == said.stdout.split()[0]
    sums = ProgramSums()
    assert sums.known(str(program), str(folder)) is None
    first = sums.read(str(program), str(folder))
    assert first == (hashlib.sha256(b"cst").hexdigest(), fingerprint(str(folder)))
    assert sums.known(str(program), str(folder)) == first
    assert sums.read(str(program)) == (first[0], "")
    (folder / "libcrypto.so.3").write_text("longer")
    assert sums.known(str(program), str(folder)) is None
    assert sums.read(str(program), str(folder))[1] not in ("", first[1])
    (folder / "libz.so.1").touch()
    assert sums.known(str(program), str(folder)) is None
