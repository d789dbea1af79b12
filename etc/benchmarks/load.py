"""The load: h2load, a load generator in C, posts a form from a file over persistent connections."""

from __future__ import annotations

import os
import subprocess
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

BOUNDARY = "digsigd-benchmark-0a1b2c3d4e5f"
_TIMEOUT = 900


class LoadError(Exception):
    """A load generator that failed, or that reported less than it was told to send."""


@dataclass(frozen=True, slots=True)
class LoadRun:
    """One round: answers by status (-1: no answer), ms of each 200, seconds in all, and h2load's CPU seconds."""

    statuses: Counter[int]
    times_ms: tuple[float, ...]
    seconds: float
    cpu_seconds: float

    @property
    def good(self) -> int:
        """The number of requests that were answered 200."""
        return self.statuses[200]

    @property
    def others(self) -> int:
        """The number of requests that were not."""
        return sum(self.statuses.values()) - self.good

    @property
    def per_second(self) -> float:
        """Requests a second that were answered 200."""
        return self.good / self.seconds


def write_body(path: Path, fields: dict[str, str], description: str, image: Path) -> None:
    """Write the form of a request: fields, the CSF description, and the artifact, in the order of digsign."""
    parts = [
        f'--{BOUNDARY}\r\nContent-Disposition: form-data; name="{name}"\r\n\r\n{value}\r\n'
        for name, value in fields.items()
    ]
    parts.append(
        f'--{BOUNDARY}\r\nContent-Disposition: form-data; name="csf"; filename="spl.csf"\r\n'
        f"Content-Type: text/plain\r\n\r\n{description}\r\n"
    )
    parts.append(
        f'--{BOUNDARY}\r\nContent-Disposition: form-data; name="artifact"; filename="spl.bin"\r\n'
        "Content-Type: application/octet-stream\r\n\r\n"
    )
    with path.open("wb") as file:
        file.write("".join(parts).encode())
        file.write(image.read_bytes())
        file.write(f"\r\n--{BOUNDARY}--\r\n".encode())


def run(url: str, body: Path, *, clients: int, count: int, log: Path) -> LoadRun:
    """Post `body` `count` times over `clients` connections. `log` is a file to write and remove. Raises `LoadError`."""
    clients = min(clients, count)
    command: list[str | Path] = [
        "h2load", "--h1", "-t", "1", "-c", str(clients), "-n", str(count), "-d", body, f"--log-file={log}",
        "-H", f"content-type: multipart/form-data; boundary={BOUNDARY}", url,
    ]  # fmt: skip
    log.unlink(missing_ok=True)
    with (log.parent / "h2load-output").open("w+b") as output:
        process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=output, stderr=output)
        _, status, used = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
        output.seek(0)
        said = output.read().decode(errors="replace")
    if process.returncode or not log.exists():
        raise LoadError(f"h2load ended with {process.returncode}: {said.strip()[-500:]}")
    text = log.read_text()
    log.unlink()
    return read(text, count=count, cpu_seconds=used.ru_utime + used.ru_stime)


def read(text: str, *, count: int, cpu_seconds: float = 0.0) -> LoadRun:
    """Return the figures in h2load's log: start in us since 1970, status, and us until the end of the answer.

    A request without a line, as when its connection is refused, counts as one without an answer. Raises `LoadError` if
    the log is not one, or shows more requests than `count`.
    """
    rows: list[tuple[int, int, int]] = []
    for line in text.splitlines():
        try:
            start, status, took = map(int, line.split("\t")[:3])
        except ValueError:
            raise LoadError(f"a line of h2load's log: {line!r}") from None
        rows.append((start, status, took))
    if not rows or len(rows) > count:
        raise LoadError(f"h2load's log has {len(rows)} requests instead of {count}")
    statuses = Counter(status for _, status, _ in rows)
    if missing := count - len(rows):
        statuses[-1] += missing
    seconds = (max(start + took for start, _, took in rows) - min(start for start, _, _ in rows)) / 1e6
    times = tuple(took / 1000 for _, status, took in rows if status == 200)
    return LoadRun(statuses, times, max(seconds, 1e-6), cpu_seconds)
