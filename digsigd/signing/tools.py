"""Find the installed versions of cst."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from digsigd.errors import BadRequest, Refused, out_of_descriptors
from digsigd.names import VERSION, VERSION_FORM
from digsigd.signing.cst import Limits, why_not_executable
from digsigd.signing.libraries import libraries_of

# The paths of cst in NXP's tarball, the best first. `bin` is for cst built by the operator.
_PLACES = ("linux64/bin/cst", "linux32/bin/cst", "bin/cst")
_PROBE_LIMITS = Limits(cpu_seconds=10, memory=256 << 20, file_size=1 << 20, open_files=64)
_PROBE_TIMEOUT = 10.0


@dataclass(frozen=True, slots=True)
class CstTool:
    """A cst executable and the version that clients request, which need not be the version that it reports.

    `libraries` is the folder of its own libraries; empty if it uses the system's.
    """

    version: str
    executable: str
    libraries: str = ""

    def files(self) -> list[Path]:
        """Return the program, and the files of its own libraries. Blocks."""
        below = Path(self.libraries).rglob("*") if self.libraries else ()
        return [Path(self.executable), *(path for path in below if path.is_file())]


class CstTools:
    """The cst executables of this host.

    Version V is the path in `versions` for V. Without an entry it is the first that exists of
    `<base>/cst-V/linux64/bin/cst`, `<base>/cst-V/linux32/bin/cst` and `<base>/cst-V/bin/cst`.
    """

    def __init__(self, base: Path, versions: Mapping[str, str | os.PathLike[str]]) -> None:
        # Do not resolve links: an operator can change a link to another version while the daemon runs.
        self._base = os.path.abspath(base)  # noqa: PTH100
        self._versions = {version: os.path.abspath(path) for version, path in versions.items()}  # noqa: PTH100

    def find(self, version: str) -> CstTool:
        """Return the tool for a version, which can be unchecked text from a client.

        Raises `BadRequest` if the form of `version` is invalid, `Refused` if the version is not installed.
        """
        if not VERSION.fullmatch(version):
            raise BadRequest(f"cstversion must be {VERSION_FORM}")
        if tool := self._locate(version):
            return tool
        mapped = self._versions.get(version)
        raise Refused(
            f"cst {version} is not installed on this signing host",
            hint=f"installed versions: {_listed([tool.version for tool in self.available()])}",
            detail=f"{mapped}: {why_not_executable(mapped)}" if mapped else f"nothing in {self._base}",
        )

    def available(self) -> tuple[CstTool, ...]:
        """Return all tools of this host, in the order of versions. Reads the base folder on each call.

        Raises `Busy` if the host has too many files open for that.
        """
        versions = sorted({*self._versions, *self._installed()}, key=_order)
        return tuple(tool for version in versions if (tool := self._locate(version)))

    def _installed(self) -> Iterator[str]:
        try:
            names = os.listdir(self._base)  # noqa: PTH208
        except OSError as error:
            if busy := out_of_descriptors(error):
                raise busy from error
            return
        for name in names:
            version = name.removeprefix("cst-")
            if version != name and VERSION.fullmatch(version):
                yield version

    def _locate(self, version: str) -> CstTool | None:
        mapped = self._versions.get(version)
        paths = [mapped] if mapped else [f"{self._base}/cst-{version}/{place}" for place in _PLACES]
        for path in paths:
            if not why_not_executable(path):
                return CstTool(version, path, libraries_of(path))
        return None


def _order(version: str) -> list[tuple[int, int, str]]:
    """Return a sort key: 3.9 before 3.10, numbers before words."""
    return [(0, int(part), "") if part.isdigit() else (1, 0, part) for part in re.findall(r"\d+|\D+", version)]


def _listed(words: list[str]) -> str:
    if not words:
        return "none"
    return " and ".join(filter(None, [", ".join(words[:-1]), words[-1]]))
