"""A cst with libraries of its own: on any system, copies of those that it uses there."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

LOADER = "ld-linux-x86-64.so.2"


def put_libraries(program: Path, folder: Path) -> None:
    """Copy the dynamic loader and the libraries of a program into a folder."""
    done = subprocess.run(["ldd", program], capture_output=True, text=True, check=True)
    folder.mkdir(parents=True, exist_ok=True)
    for path in re.findall(r"(/\S+) \(0x", done.stdout):
        shutil.copy(path, folder)
    assert (folder / LOADER).exists(), done.stdout


def base_with_libraries(cst_base: Path, folder: Path, *versions: str) -> Path:
    """A folder for `cst.base` with copies of these versions, each with its own libraries."""
    for version in versions:
        place = folder / f"cst-{version}/linux64/bin"
        place.mkdir(parents=True)
        for name in ("cst", "srktool"):
            shutil.copy(cst_base / f"cst-{version}/linux64/bin" / name, place)
        put_libraries(place / "cst", folder / f"cst-{version}/lib")
    return folder


def loaded(report: bytes) -> list[str]:
    """The paths of what the process that uses libcrypto has loaded, from the loader's report with LD_DEBUG=libs."""
    found = re.findall(r"^ *(\d+):\tcalling init: (/\S+)$", report.decode(), re.MULTILINE)
    processes = {process for process, path in found if "libcrypto" in path}
    return [path for process, path in found if process in processes]
