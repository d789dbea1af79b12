"""Build the launcher of the cage with the wheel and for editable installs. Without a C compiler there is none."""

from __future__ import annotations

import os
import platform
import shlex
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

try:
    from hatchling.builders.hooks.plugin.interface import BuildHookInterface
except ImportError:  # run as a program
    BuildHookInterface = object

FOLDER = "digsigd/signing/launcher"
TMPFILE = "digsigd-tmpfile.so"
FLAGS = [
    "-std=gnu11",
    "-O2",
    "-Wall",
    "-Wextra",
    "-fstack-protector-strong",
    "-U_FORTIFY_SOURCE",
    "-D_FORTIFY_SOURCE=2",
]
# A static program starts faster, and runs on every libc. Not every system has what linking it takes.
LINKED = (["-static"], ["-fPIE", "-pie", "-Wl,-z,relro,-z,now"])
# Without any library: it is loaded into programs with a C library of their own.
PRELOAD = ["-fPIC", "-shared", "-nostdlib", "-fno-stack-protector", "-fno-builtin"]


def build(root: Path) -> tuple[Path | None, bool]:
    """Compile the launcher. Return its path, None if that is not possible, and whether it is static."""
    folder = root / FOLDER
    target = folder / "digsigd-launcher"
    compiler = shlex.split(os.environ.get("CC", "cc"))
    if not sys.platform.startswith("linux") or shutil.which(compiler[0]) is None:
        return None, False
    for how in LINKED:
        sources = sorted(path.name for path in folder.glob("*.c"))
        scratch = folder / f"digsigd-launcher.{os.getpid()}"
        done = _compile([*compiler, *FLAGS, *how, "-s", "-o", scratch.name, *sources], folder)
        if done.returncode == 0:
            scratch.replace(target)
            _build_preload(compiler, folder)
            return target, how == ["-static"]
    sys.stderr.write(f"the launcher of the cage is not built:\n{done.stdout.decode(errors='replace')}\n")
    return None, False


def _build_preload(compiler: list[str], folder: Path) -> None:
    """Compile what gives cst a temporary file without /tmp; such hosts sign no AHAB containers if that fails."""
    scratch = folder / f"{TMPFILE}.{os.getpid()}"
    done = _compile([*compiler, *FLAGS, *PRELOAD, "-s", "-o", scratch.name, "preload/tmpfile.c"], folder)
    if done.returncode == 0:
        scratch.replace(folder / TMPFILE)
    else:
        sys.stderr.write(f"{TMPFILE} is not built:\n{done.stdout.decode(errors='replace')}\n")


def _compile(command: list[str], folder: Path) -> subprocess.CompletedProcess[bytes]:
    return subprocess.run(command, cwd=folder, check=False, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)


class LauncherHook(BuildHookInterface):  # type: ignore[type-arg]
    """Hatchling's hook: compile, and name the platform in the wheel's tag."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        built, static = build(Path(self.root))
        if built is None or version == "editable":
            return
        build_data["artifacts"] += [f"/{FOLDER}/{built.name}", f"/{FOLDER}/{TMPFILE}"]
        build_data["pure_python"] = False
        machine = platform.machine()
        build_data["tag"] = f"py3-none-{'manylinux2014' if static else 'linux'}_{machine}"


if __name__ == "__main__":
    sys.exit(build(Path(__file__).resolve().parent.parent)[0] is None)
