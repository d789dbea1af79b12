"""The libraries that a cst was built for, in a folder beside it, where the system's are older.

`etc/get-cst` takes them from the Debian release that the cst is from. The folder has that release's dynamic loader, so
that cst and what it loads use one C library.
"""

from __future__ import annotations

import hashlib
import os
import re
from pathlib import Path
from typing import Literal

from digsigd.signing.start import LOADER

# Where cst is in NXP's tarball, and the folder of its libraries. NXP's tarball has no such folder.
_PLACE, _FOLDER = "/linux64/bin/cst", "/lib"
# The release and the packages, one a line, as `etc/get-cst` writes it.
_PACKAGES = "packages"
# The files that every run of cst uses.
MAIN = (LOADER, "libc.so.6", "libcrypto.so.3")
_MODULES = {"engine": "engines-3/pkcs11.so", "provider": "ossl-modules/pkcs11.so"}


def libraries_of(executable: str) -> str:
    """Return the folder of a cst's own libraries; empty if it uses the system's."""
    folder = executable.removesuffix(_PLACE) + _FOLDER
    return folder if executable.endswith(_PLACE) and os.access(f"{folder}/{LOADER}", os.X_OK) else ""


def module_in(libraries: str, way: Literal["engine", "provider"]) -> Path | None:
    """Return the engine or provider for tokens that belongs to these libraries, or None. Blocks."""
    module = Path(libraries) / _MODULES[way]
    return module if libraries and module.is_file() else None


def for_modules(libraries: str) -> str:
    """Return the folder if a PKCS #11 module of this system can use these libraries, else an empty text. Blocks.

    A module was built for the system's C library: one that is older than that may lack what the module needs.
    """
    own = re.search(r"^libc6 ([\d.]+)", _packages(libraries), re.MULTILINE) if libraries else None
    system = os.confstr("CS_GNU_LIBC_VERSION") or ""
    return "" if own and _numbers(own[1]) < _numbers(system) else libraries


def describe(libraries: str) -> str:
    """Return which libraries these are, for operators. Blocks."""
    if not libraries:
        return "this system's libraries"
    release, *packages = _packages(libraries).splitlines() or ["unknown origin"]
    return f"libraries of {release} in {libraries}" + (f" ({', '.join(packages)})" if packages else "")


def fingerprint(libraries: str) -> str:
    """Return the SHA-256 of what sha256sum says of all files below the folder; empty without a folder.

    That is `find * -type f,l | LC_ALL=C sort | xargs sha256sum`. It blocks. Raises `OSError`.
    """
    if not libraries:
        return ""
    folder, lines = Path(libraries), hashlib.sha256()
    for name in sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()):
        with (folder / name).open("rb") as file:
            lines.update(f"{hashlib.file_digest(file, 'sha256').hexdigest()}  {name}\n".encode())
    return lines.hexdigest()


def _packages(libraries: str) -> str:
    try:
        return (Path(libraries) / _PACKAGES).read_text(errors="replace")
    except OSError:
        return ""


def _numbers(version: str) -> list[int]:
    return [int(number) for number in re.findall(r"\d+", version)][:2]
