"""digsign's cst where a build looks for cst, a daemon that signs for it, and the real csts to compare it with."""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from digsigd import csf, hab
from digsigd.testing import TrialPki
from tests.helpers.daemons import MACHINE, Daemon

DEADLINE = 120.0
Done = subprocess.CompletedProcess[str]


def install(path: Path) -> Path:
    """A link to what an installed `digsign-cst` is, which needs no installation here."""
    program = path.parent / "digsign-cst"
    path.parent.mkdir(parents=True, exist_ok=True)
    code = "import sys; from digsigd.cli.cst import main; sys.exit(main())"
    program.write_text(f'#!/bin/sh\nexec {shlex.quote(sys.executable)} -c "{code}" "$@"\n')
    program.chmod(0o755)
    path.symlink_to(program.name)
    return path


@dataclass
class Build:
    """A folder where something is built, whose `cst` is digsign's. `environ` is what its commands see."""

    folder: Path
    daemon: Daemon
    pki: TrialPki
    environ: dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Put `cst` on PATH, and say who signs."""
        self.cst = install(self.folder.parent / "tools" / "cst")
        home = self.folder.parent / "home"
        home.mkdir(exist_ok=True)
        self.folder.mkdir(exist_ok=True)
        inherited = {name: value for name, value in os.environ.items() if not name.startswith(("DIGSIGN", "XDG_"))}
        self.environ = {
            **inherited,
            "HOME": str(home),
            "PATH": f"{self.cst.parent}:{Path(sys.executable).parent}:{os.environ['PATH']}:/usr/sbin",
            "LC_ALL": "C.UTF-8",
            "DIGSIGN_SERVER": self.daemon.url,
            "DIGSIGN_MACHINE": MACHINE,
            "DIGSIGN_CST": "3.4.1",
            **self.environ,
        }

    def run(self, *command: str | Path, **environ: str | None) -> Done:
        """Run a command in the folder. A variable that is None is not there."""
        merged = {**self.environ, **environ}
        return subprocess.run(
            [str(word) for word in command],
            cwd=self.folder, env={name: value for name, value in merged.items() if value is not None},
            stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=DEADLINE,
        )  # fmt: skip

    def sign(self, *arguments: str | Path, **environ: str | None) -> Done:
        """Run `cst`."""
        return self.run("cst", *arguments, **environ)

    def write(self, name: str, content: str | bytes) -> Path:
        """Make a file of the build."""
        path = self.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content.encode() if isinstance(content, str) else content)
        return path

    def files(self) -> set[str]:
        """What is in the folder."""
        return {str(path.relative_to(self.folder)) for path in self.folder.rglob("*")}


def proven(blob: bytes, pki: TrialPki, data: bytes, *commands: Sequence[hab.Block], srk: int = 1) -> hab.Verified:
    """Verify a blob with the boards' own fuse value. Raises `hab.HabError`."""
    return hab.verify(
        blob,
        srk_table=pki.srk_table,
        expected_blocks=commands,
        source_index=srk - 1,
        digests=[hab.digest_blocks("sha256", one, [hab.File.of(data)]) for one in commands],
        fuse_value=pki.fuse_value,
    )


def commands_of(text: str) -> list[list[hab.Block]]:
    """The blocks of each [Authenticate Data] of a description."""
    return [
        [hab.Block(one.address, one.offset, one.length) for one in command.blocks]
        for command in csf.parse(text.encode()).commands
        if isinstance(command, csf.model.AuthenticateData)
    ]
