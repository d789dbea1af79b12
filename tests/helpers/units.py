"""A daemon below the filters of its systemd unit: system calls, namespaces, capabilities."""

from __future__ import annotations

import os
import re
import subprocess
from collections.abc import Sequence
from pathlib import Path

from tests.helpers.daemons import Daemon

HELPERS = Path(__file__).parent
UNIT = (HELPERS.parent.parent / "etc/systemd/digsigd.service").read_text()
SETS = {
    f"@{name}": (HELPERS / f"{name}.txt").read_text().partition("\n")[2].split()
    for name in ("system-service", "privileged", "resources")
}


def filter_of(folder: Path, allowed: Sequence[str]) -> Path:
    """A program that runs another with these system calls, and without new namespaces."""
    lines = ["#include <sys/syscall.h>", "#define X(name) name,"]
    for name in sorted(set(allowed)):
        lines += [f"#ifdef __NR_{name}", f"#define A_{name} __NR_{name},", "#else", f"#define A_{name}", "#endif"]
    lines.append("#define ALLOWED " + " ".join(f"A_{name}" for name in sorted(set(allowed))))
    denied = "ERRNO | EPERM" if "\nSystemCallErrorNumber=EPERM\n" in UNIT else "KILL_PROCESS"
    lines.append(f"#define DENIED (SECCOMP_RET_{denied})")
    (folder / "allowed.h").write_text("\n".join(lines) + "\n")
    target = folder / "unit-filter"
    subprocess.run(["gcc", "-w", "-I", folder, "-o", target, HELPERS / "unit_filter.c"], check=True)
    return target


class InUnit(Daemon):
    """A daemon below such a filter."""

    filter: Path

    def command(self, *options: str) -> list[str]:
        return [str(self.filter), *super().command(*options)]


def in_unit(tmp_path: Path, cst_base: Path, config: str, allowed: Sequence[str]) -> InUnit:
    daemon = InUnit(tmp_path, cst_base, config)
    daemon.filter = filter_of(tmp_path, allowed)
    return daemon


def unit_calls() -> list[str]:
    """What the unit's own lines allow, in their order, its sets unfolded."""
    allowed: dict[str, None] = {}
    for line in re.findall(r"^SystemCallFilter=(.*)$", UNIT, re.MULTILINE):
        calls = [call for word in line.removeprefix("~").split() for call in SETS.get(word, [word])]
        if line.startswith("~"):
            for call in calls:
                allowed.pop(call, None)
        else:
            allowed.update(dict.fromkeys(calls))
    assert allowed
    if os.geteuid() == 0:
        # SQLite gives its files to the owner of the database, but only as root, which the unit's user is not.
        allowed["fchown"] = None
    return list(allowed)
