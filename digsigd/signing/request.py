"""What a signing request is and what it is answered with."""

from __future__ import annotations

import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Artifact:
    """A file to sign, `size` bytes at `path`.

    `name` is the base name under which the client knows it and its CSF description's `Blocks` name it, and is never
    used as a path. `repeated` says that the client sent others with this name as well, which are left out.
    """

    path: Path
    name: str
    size: int
    repeated: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class SigningRequest:
    """What to sign by one CSF, after the form of each field was checked: most often one file, and blocks of it.

    `artifacts` have names that differ. `description` is the client's CSF description as sent.
    """

    request_id: str
    machine: str
    cst_version: str
    description: bytes
    artifacts: tuple[Artifact, ...]
    backend: str = "ssl"
    soctype: str | None = None
    caller: str = "anonymous"

    def __post_init__(self) -> None:
        """Raise `ValueError` where blocks could not say which file they mean."""
        if not self.artifacts or len({one.name for one in self.artifacts}) < len(self.artifacts):
            raise ValueError("a request has one artifact, or several of different names")

    @property
    def size(self) -> int:
        """The bytes of all artifacts."""
        return sum(one.size for one in self.artifacts)

    @classmethod
    def of_file(cls, artifact: Path, *, machine: str, cst_version: str, description: bytes) -> SigningRequest:
        """Return the request of a program that has the artifact in a file. Raises `OSError` where it is not there."""
        return cls.of_files([artifact], machine=machine, cst_version=cst_version, description=description)

    @classmethod
    def of_files(
        cls, artifacts: Sequence[Path], *, machine: str, cst_version: str, description: bytes
    ) -> SigningRequest:
        """Return the same with several files, which the description's blocks tell apart by their base names.

        Raises `ValueError` where two have the same, `OSError` where one is not there.
        """
        return cls(
            request_id=secrets.token_hex(8),
            machine=machine,
            cst_version=cst_version,
            description=description,
            artifacts=tuple(Artifact(one, one.name, one.stat().st_size) for one in artifacts),
        )


@dataclass(frozen=True, slots=True)
class Signed:
    """A verified answer: the CSF blob, and remarks on it that are no reason to refuse it."""

    blob: bytes
    notes: tuple[str, ...] = ()
