"""What becomes known of a request while it is signed, for the record."""

from __future__ import annotations

import hashlib
import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from digsigd.signing.workdir import open_regular


@dataclass(slots=True)
class Evidence:
    """Facts about one request, added as they become known; None or empty until then.

    Digests are SHA-256, in hexadecimal. `server_id` is this host's own id of the request, beside the client's. `proof`
    is how the caller proved who it is. `blocks` are (address, offset, length, artifact) for each command that signs.
    `milliseconds` says how long the steps took.
    """

    server_id: str = ""
    proof: str = ""
    address: str = ""
    traceparent: str = ""
    machine: str = ""
    cst_sha256: str = ""
    artifacts: dict[str, str] = field(default_factory=dict)
    description_sha256: str = ""
    tarball_sha256: str = ""
    blob_sha256: str = ""
    blob_size: int = 0
    fuse_value: str = ""
    srk: int | None = None
    certificates: tuple[str, ...] = ()
    blocks: tuple[tuple[tuple[int, int, int, str], ...], ...] = ()
    milliseconds: dict[str, int] = field(default_factory=dict)

    def took(self, step: str, seconds: float) -> None:
        """Note how long a step took."""
        self.milliseconds[step] = round(seconds * 1000)


class ProgramSums:
    """SHA-256 of programs, computed again only when the file has changed."""

    def __init__(self) -> None:
        self._known: dict[str, tuple[tuple[int, ...], str]] = {}

    def known(self, path: str) -> str | None:
        """Return the digest if it is known and the file has not changed since; raises nothing."""
        form, digest = self._known.get(path, ((), ""))
        return digest if digest and form == _form_of(path) else None

    def read(self, path: str) -> str:
        """Return the digest of a file; empty if it cannot be read. It blocks."""
        form = _form_of(path)
        try:
            digest = sha256_of_file(Path(path))
        except OSError:
            return ""
        self._known[path] = (form, digest)
        return digest


def sha256_of_file(path: Path) -> str:
    """Return the digest of a regular file. Raises `OSError`, also for anything else, without waiting for it."""
    with os.fdopen(open_regular(path, follow=True), "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def note_artifacts(evidence: Evidence, artifacts: tuple[Any, ...]) -> None:
    """Note the digests of artifacts, if they are not noted yet. Raises `OSError` if a file cannot be read."""
    for one in artifacts:
        if one.name not in evidence.artifacts:
            sums = getattr(one, "sums", None)
            evidence.artifacts[one.name] = sums.sha256 if sums is not None else sha256_of_file(one.path)


def _form_of(path: str) -> tuple[int, ...]:
    try:
        status = os.stat(path)  # noqa: PTH116 - once for each request, on the reactor's thread
    except OSError:
        return ()
    return status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns
