"""What becomes known of a request while it is signed, for the record."""

from __future__ import annotations

import hashlib
import os
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from digsigd.signing.libraries import MAIN, fingerprint
from digsigd.signing.workdir import open_regular


@dataclass(slots=True)
class Evidence:
    """Facts about one request, added as they become known; None or empty until then.

    Digests are SHA-256, in hexadecimal. `server_id` is this host's own id of the request, beside the client's. `proof`
    is how the caller proved who it is. `blocks` are (address, offset, length, artifact) for each command that signs.
    For AHAB they are the images of each container, `soc` is the chip, and `containers` are the signed containers in the
    answer: (offset, length, digest); `blob_sha256` and `blob_size` are those of the whole answer. `token_expires` is
    when the first certificate from a token in a CSF blob ends, as Unix time. `seconds` says how long the steps took,
    `ended` when they ended, as nanoseconds of Unix time.
    """

    server_id: str = ""
    proof: str = ""
    address: str = ""
    traceparent: str = ""
    machine: str = ""
    cst_sha256: str = ""
    libraries_sha256: str = ""
    artifacts: dict[str, str] = field(default_factory=dict)
    description_sha256: str = ""
    tarball_sha256: str = ""
    blob_sha256: str = ""
    blob_size: int = 0
    fuse_value: str = ""
    srk: int | None = None
    certificates: tuple[str, ...] = ()
    token_expires: float = 0.0
    blocks: tuple[tuple[tuple[int, int, int, str], ...], ...] = ()
    soc: str = ""
    containers: tuple[tuple[int, int, str], ...] = ()
    seconds: dict[str, float] = field(default_factory=dict)
    ended: dict[str, int] = field(default_factory=dict)

    def took(self, step: str, seconds: float, *, ago: float = 0.0) -> None:
        """Note how long a step took that has ended now, or so many seconds `ago`."""
        self.seconds[step] = seconds
        self.ended[step] = time.time_ns() - int(ago * 1e9)

    @property
    def milliseconds(self) -> dict[str, int]:
        """How long the steps took, for the record."""
        return {step: round(seconds * 1000) for step, seconds in self.seconds.items()}


class ProgramSums:
    """SHA-256 of programs and of their own libraries, computed again only when they have changed."""

    def __init__(self) -> None:
        self._known: dict[tuple[str, str], tuple[tuple[int, ...], tuple[str, str]]] = {}

    def known(self, path: str, libraries: str = "") -> tuple[str, str] | None:
        """Return the digests if they are known and nothing has changed since; raises nothing."""
        form, digests = self._known.get((path, libraries), ((), ("", "")))
        return digests if digests[0] and form == form_of(path, libraries) else None

    def read(self, path: str, libraries: str = "") -> tuple[str, str]:
        """Return the digest of a file and that of its libraries; empty if they cannot be read. It blocks."""
        form = form_of(path, libraries)
        try:
            digests = sha256_of_file(Path(path)), fingerprint(libraries)
        except OSError:
            return "", ""
        self._known[path, libraries] = (form, digests)
        return digests


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


def form_of(path: str, libraries: str) -> tuple[int, ...]:
    """Return what changes when a program or its own libraries change; empty if they cannot be looked at."""
    # The folder changes when a file is replaced. A file that is written in place shows only in its own form.
    paths = (path, libraries, *(f"{libraries}/{name}" for name in MAIN)) if libraries else (path,)
    form: tuple[int, ...] = ()
    for one in paths:
        try:
            status = os.stat(one)  # noqa: PTH116 - for each request, on the reactor's thread
        except OSError:
            return ()
        form += (status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns)
    return form
