"""The floors: bare cst in prepared directories, started by a small C program that costs next to nothing."""

from __future__ import annotations

import os
import subprocess
from dataclasses import dataclass
from pathlib import Path
from statistics import median

SOURCE = Path(__file__).with_name("floor.c")
OUT = "out.bin"
DESCRIPTION = "spl.csf"


class FloorError(Exception):
    """A bare run of cst that wrote nothing, or a program that could not be built."""


@dataclass(frozen=True, slots=True)
class Floor:
    """A way to run bare cst: its command in the directories below `folder`, and what it gets as environment."""

    name: str
    folder: Path
    command: tuple[str, ...]
    environment: dict[str, str]


@dataclass(frozen=True, slots=True)
class FloorRun:
    """One round: runs a second, the median wall and CPU time of a run in ms, and the peak memory of one in MiB."""

    per_second: float
    wall_ms: float
    cpu_ms: float
    peak_mib: float


def build(folder: Path) -> Path:
    """Compile the program into `folder` and return its path. Raises `FloorError`."""
    program = folder / "floor"
    done = subprocess.run(
        ["gcc", "-O2", "-o", program, SOURCE], capture_output=True, text=True, errors="replace", check=False
    )
    if done.returncode:
        raise FloorError(f"{SOURCE} cannot be compiled:\n{done.stderr}")
    return program


def prepare(folder: Path, clients: int, files: dict[str, bytes], description: str, image: Path) -> None:
    """Make the directories of a floor, one for each client; those that are there are kept."""
    for number in range(clients):
        place = folder / str(number)
        if place.exists():
            continue
        place.mkdir(parents=True)
        for name, content in files.items():
            (place / name).parent.mkdir(exist_ok=True)
            (place / name).write_bytes(content)
        (place / DESCRIPTION).write_text(description)
        (place / "spl.bin").symlink_to(image)


def run(program: Path, floor: Floor, clients: int, count: int) -> FloorRun:
    """Run bare cst `count` times, `clients` at a time. Raises `FloorError` if a run writes no blob."""
    command: list[str | Path] = [program, str(clients), str(count), floor.folder, OUT]
    done = subprocess.run(
        [*command, *floor.command, "-i", DESCRIPTION, "-o", OUT],
        env={"PATH": os.defpath, "LC_ALL": "C", **floor.environment},
        stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False,
    )  # fmt: skip
    if done.returncode:
        raise FloorError(f"the floor {floor.name!r}: {done.stderr.strip()}")
    return read(done.stdout)


def read(output: str) -> FloorRun:
    """Return the figures in the program's output. Raises `FloorError` if it is not complete."""
    *lines, last = output.splitlines() or [""]
    if not lines or not last.startswith("= "):
        raise FloorError(f"the floor's output ends too early: {output[-200:]!r}")
    seconds = float(last.split()[1])
    runs = [tuple(map(int, line.split())) for line in lines]
    return FloorRun(
        per_second=len(runs) / seconds,
        wall_ms=median(wall for wall, _, _ in runs) / 1000,
        cpu_ms=sum(cpu for _, cpu, _ in runs) / len(runs) / 1000,
        peak_mib=max(kib for _, _, kib in runs) / 1024,
    )
