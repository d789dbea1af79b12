"""What this process has open, so that a test sees what the code under test leaves open."""

from __future__ import annotations

from pathlib import Path


def open_descriptors() -> set[str]:
    """Each with its number and what it leads to.

    A test asserts that nothing is added. What earlier tests have left open may be closed meanwhile: a connection by its
    peer, an object when it is collected.
    """
    found = set()
    for entry in Path("/proc/self/fd").iterdir():
        try:
            found.add(f"{entry.name} {entry.readlink()}")
        except FileNotFoundError:
            continue  # the one that the folder is read by
    return found
