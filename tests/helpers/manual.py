"""The commands of a document, run in one shell beside a daemon that the test starts and stops for them."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path

from tests.helpers.daemons import DEADLINE

ROOT = Path(__file__).parents[2]
# Instead of systemd: it asks the test, and waits until it has done so.
SYSTEMCTL = """#!/bin/sh
echo "$1" >"$ASKED.new" && mv "$ASKED.new" "$ASKED"
while [ -e "$ASKED" ]; do sleep 0.05; done
"""


def blocks(document: str, kind: str = "sh") -> list[str]:
    """The fenced blocks of a kind in a document of docs/operate."""
    text = (ROOT / "docs/operate" / document).read_text()
    return re.findall(rf"^```{kind}\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)


class Shell:
    """Runs scripts in a new folder, with the commands of the project and a systemctl that calls `systemctl`."""

    def __init__(self, folder: Path, systemctl: Callable[[str], None] = lambda _: None) -> None:
        self.folder = folder
        self._systemctl = systemctl
        self._asked = folder / ".systemctl"
        programs = folder / "programs"
        programs.mkdir(parents=True)
        for name in ("digsigd", "digsign"):
            (programs / name).symlink_to(Path(sys.executable).with_name(name))
        (programs / "systemctl").write_text(SYSTEMCTL)
        (programs / "systemctl").chmod(0o755)
        self.environ = {
            **{name: value for name, value in os.environ.items() if not name.startswith(("DIGSIG", "XDG_"))},
            "PATH": f"{programs}:/usr/bin:/bin",
            "HOME": str(folder),
            "ASKED": str(self._asked),
            "no_proxy": "*",
        }

    def run(self, script: str, places: Mapping[str, object], **environ: str) -> tuple[int, str]:
        """Run a script with these texts replaced, each of which it must have. Return the exit code and all output."""
        for old, new in places.items():
            assert old in script, old
            script = script.replace(old, str(new))
        said = self.folder / "said"
        with said.open("wb") as output:
            process = subprocess.Popen(
                ["sh", "-eu", "-c", script], cwd=self.folder, env={**self.environ, **environ},
                stdin=subprocess.DEVNULL, stdout=output, stderr=output,
            )  # fmt: skip
        end = time.monotonic() + DEADLINE
        while process.poll() is None:
            assert time.monotonic() < end, said.read_text()
            if self._asked.exists():
                self._systemctl(self._asked.read_text().strip())
                self._asked.unlink()
            time.sleep(0.02)
        return process.returncode, said.read_text()
