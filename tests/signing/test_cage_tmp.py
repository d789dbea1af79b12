"""The temporary file that cst needs for AHAB: its own in every cage, and no way to other requests."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest
from twisted.internet import reactor

from digsigd.signing.cage import CONFINE, LAUNCHER, TMPFILE, Bubblewrap, Launcher
from digsigd.signing.cst import CstRun, CstRunner
from digsigd.signing.start import Limits, Needs, Script, Start
from digsigd.signing.tools import CstTools
from tests.conftest import CST_VERSIONS
from tests.helpers.ahab_cases import files_of
from tests.signing.test_cage import namespaces_work, possible

LIMITS = Limits(cpu_seconds=20, memory=1 << 30, file_size=1 << 20, open_files=64)
# Says where its temporary file is, and what else it can do in /tmp.
PROGRAM = r"""
#include <dirent.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>
int main(void)
{
	FILE *file = tmpfile();
	if (!file || fputs("some text", file) < 0 || fseek(file, 0, SEEK_SET) || fgetc(file) != 's')
		return 1;
	struct stat here, its;
	stat(".", &here);
	fstat(fileno(file), &its);
	puts(here.st_dev == its.st_dev ? "here" : "elsewhere");
	if (opendir("/tmp")) puts("lists /tmp");
	if (open("/tmp/left-by-the-test", O_CREAT | O_WRONLY, 0600) >= 0) puts("makes a file in /tmp");
	if (open(SECRET, O_RDONLY) >= 0) puts("reads what others have in /tmp");
	return 0;
}
"""


def starts() -> dict[str, Start]:
    """Each way to start cst in a cage."""
    return {
        "nls": Launcher(LAUNCHER, possible("nls")),
        "n": Launcher(LAUNCHER, possible("n")),
        "ls": Launcher(LAUNCHER, "ls"),
        "python": Launcher(CONFINE, "l"),
        # Without namespaces, which a chroot forbids, the daemon takes Python's.
        "bubblewrap": Bubblewrap(shutil.which("bwrap") or "") if namespaces_work() else Launcher(CONFINE, "l"),
        "none": Script(),
    }


async def run_in(folder: Path, program: Path, start: Start) -> CstRun:
    """Run it as a request does, in a folder of its own."""
    (folder / "run").mkdir(parents=True)
    return await CstRunner(reactor, start=start, timeout=60).run(
        str(program), [], cwd=str(folder / "run"), limits=LIMITS, needs=Needs(read=(str(folder),), temporary=True)
    )


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("program")
    (folder / "secret").write_text("secret")
    source, made = folder / "program.c", folder / "program"
    source.write_text(PROGRAM.replace("SECRET", f'"{folder / "secret"}"'))
    subprocess.run(["gcc", "-o", made, source], check=True)
    return made


@pytest.mark.parametrize("way", ["nls", "ls", "python"])
async def test_a_temporary_file_opens_nothing_else(tmp_path: Path, program: Path, way: str) -> None:
    """With namespaces it is in a /tmp that holds nothing; with Landlock alone it is in cst's own directory."""
    run = await run_in(tmp_path / "work", program, starts()[way])
    assert run.exit_code == 0, run.output
    own_tmp = way == "nls" and possible("n") == "n"
    assert run.output.decode().split("\n")[:-1] == ["elsewhere" if own_tmp else "here"]
    assert list((tmp_path / "work/run").iterdir()) == []


async def test_without_the_library_there_is_no_temporary_file(
    tmp_path: Path, program: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The real /tmp stays closed where it was not built."""
    monkeypatch.setattr("digsigd.signing.cage.TMPFILE", tmp_path / "missing")
    run = await run_in(tmp_path / "work", program, starts()["ls"])
    assert run.exit_code == 1
    assert TMPFILE.is_file()


@pytest.mark.parametrize("version", CST_VERSIONS)
@pytest.mark.parametrize("way", ["nls", "n", "ls", "python", "bubblewrap", "none"])
async def test_cst_signs_a_container_in_every_cage(tmp_path: Path, cst_base: Path, version: str, way: str) -> None:
    """Both versions, as a request starts them: with the keys beside their own directory, and nothing else."""
    folder = tmp_path / "work"
    (folder / "run").mkdir(parents=True)
    for name, content in files_of("good-93-sd-spl", "p384").items():
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_bytes(content)
    for name in ("keys", "crts", "csf.txt", "flash.bin"):
        (folder / "run" / name).symlink_to(f"../{name}")
    tool = CstTools(cst_base, {}).find(version)
    run = await CstRunner(reactor, start=starts()[way], timeout=60).run(
        tool.executable, ["-i", "csf.txt", "-o", "signed.bin"], cwd=str(folder / "run"), limits=LIMITS,
        needs=Needs(read=(str(folder),), temporary=True, libraries=tool.libraries),
    )  # fmt: skip
    assert run.exit_code == 0, run.output
    assert (folder / "run/signed.bin").stat().st_size == (folder / "flash.bin").stat().st_size
