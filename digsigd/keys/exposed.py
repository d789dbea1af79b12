"""Whether others may read or write the key tarballs of a folder, and links that lead out of a machine's folder."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path

from digsigd.keys.source import TARBALL
from digsigd.settings.permissions import Finding, others_may_read, others_may_write

# How many machines are looked at.
_MOST = 10_000


def store_findings(root: Path) -> list[Finding]:
    """Return what is not safe about a folder with key tarballs. It blocks."""
    readable: list[Path] = []
    writable: list[Path] = []
    linked: list[Path] = []
    try:
        if others_may_write(root):
            writable.append(root)
        machines = sorted(one.name for one in os.scandir(root))[:_MOST]
    except OSError:
        return []  # `KeySource.check` reports it
    for machine in machines:
        path = root / machine / TARBALL
        try:
            if leads_out(root, machine, os.path.realpath(path, strict=True)):
                linked.append(path)
                continue
            if others_may_read(path):
                readable.append(path)
            if not writable and others_may_write(path):
                writable.append(path)
        except OSError:
            continue
    return [
        *_found(readable, "every user of this host may read {}: chmod -R o= the folder, and see docs/callers.md"),
        *_found(writable, "every user of this host may write or replace {}: chmod -R o-w the folder"),
        *_found(linked, "{} is a link that leads out of its machine's folder: requests for it are refused"),
    ]


def leads_out(root: Path, machine: str, real: str) -> bool:
    """Return whether `real`, a path without links, is outside the folder of a machine.

    The folder itself must not be a link to another one, either: its keys would be another machine's.
    """
    folder = os.path.join(os.path.realpath(root), machine, "")  # noqa: PTH118 - Path would drop the last slash
    return not real.startswith(folder)


def _found(paths: Iterable[Path], text: str) -> list[Finding]:
    paths = list(paths)
    if not paths:
        return []
    more = f" and {len(paths) - 1} more" if len(paths) > 1 else ""
    return [Finding("keys.uri", text.format(f"{paths[0]}{more}"))]
