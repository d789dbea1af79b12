"""What a signing request is and what it is answered with."""

from __future__ import annotations

import secrets
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True, kw_only=True)
class SigningRequest:
    """One artifact to sign, after the form of each field was checked.

    `artifact` is a file with `artifact_size` bytes; `artifact_name` is the base name under which the client knows it
    and its CSF description's `Blocks` name it, and is never used as a path. `csf` is the client's description as sent.
    """

    request_id: str
    machine: str
    cst_version: str
    csf: bytes
    artifact: Path
    artifact_name: str
    artifact_size: int
    backend: str = "ssl"
    soctype: str | None = None
    caller: str = "anonymous"

    @classmethod
    def of_file(cls, artifact: Path, *, machine: str, cst_version: str, csf: bytes) -> SigningRequest:
        """A request of a program that has the artifact in a file. Raises `OSError` where it is not."""
        return cls(
            request_id=secrets.token_hex(8),
            machine=machine,
            cst_version=cst_version,
            csf=csf,
            artifact=artifact,
            artifact_name=artifact.name,
            artifact_size=artifact.stat().st_size,
        )


@dataclass(frozen=True, slots=True)
class Signed:
    """A verified answer: the binary CSF blob, and remarks on it that are no reason to refuse it."""

    csf: bytes
    notes: tuple[str, ...] = ()
