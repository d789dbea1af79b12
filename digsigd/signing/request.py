"""A signing request, and the answer to it."""

from __future__ import annotations

import secrets
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from digsigd.names import trace_id_of
from digsigd.signing.evidence import Evidence
from digsigd.signing.rules import MachineRules
from digsigd.signing.signed_file import SignedFile
from digsigd.signing.sums import Sums


@dataclass(frozen=True, slots=True)
class Artifact:
    """A file to sign, `size` bytes at `path`.

    `name` is the client's base name for it, as in `Blocks` of the CSF description. It is never used as a path.
    `repeated` means that the client sent further artifacts with this name, which were dropped. `sums` are its digests,
    taken while it arrived at `path` in the work directory. Without them, it is copied there before it is signed.
    """

    path: Path
    name: str
    size: int
    repeated: bool = False
    sums: Sums | None = field(default=None, compare=False, repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class SigningRequest:
    """A request for one CSF blob, whose fields have valid forms. It usually has one artifact.

    `request_id` can be the client's, which can use it again; `own_id` is this host's, and no other request has it.
    Requests of one `party` take turns with those of others; empty means the caller.

    `artifacts` have different names. `description` is the client's CSF description as sent. `csf_allow` is what the
    caller may use beyond the safe commands, of what the machine's policy allows; None for all of it. `rules` are the
    operator's for the machine when the request began; None for those that hold when it is signed. `evidence` is what
    becomes known of the request while it is signed.

    Raises `ValueError` if there are no artifacts, or if two have the same name.
    """

    request_id: str
    machine: str
    cst_version: str
    description: bytes
    artifacts: tuple[Artifact, ...]
    backend: str = "ssl"
    soctype: str | None = None
    caller: str = "anonymous"
    csf_allow: frozenset[str] | None = None
    rules: MachineRules | None = None
    evidence: Evidence = field(default_factory=Evidence, compare=False, repr=False)
    party: str = ""
    own_id: str = field(default_factory=lambda: secrets.token_hex(8))

    def __post_init__(self) -> None:
        """Raise `ValueError` if there are no artifacts, or if two have the same name."""
        if not self.artifacts or len({one.name for one in self.artifacts}) < len(self.artifacts):
            raise ValueError("a request needs one artifact, or several with different names")

    @property
    def log_fields(self) -> dict[str, str]:
        """What every log line of the request has: its ids, its caller, and its trace if it is part of one."""
        trace_id = trace_id_of(self.evidence.traceparent)
        fields = {"request_id": self.request_id, "own_id": self.own_id, "caller": self.caller}
        return {**fields, "trace_id": trace_id} if trace_id else fields

    @property
    def size(self) -> int:
        """The size of all artifacts together, in bytes."""
        return sum(one.size for one in self.artifacts)

    @classmethod
    def of_file(cls, artifact: Path, *, machine: str, cst_version: str, description: bytes) -> SigningRequest:
        """Return a request to sign the file `artifact`. Raises `OSError` if it does not exist."""
        return cls.of_files([artifact], machine=machine, cst_version=cst_version, description=description)

    @classmethod
    def of_files(
        cls, artifacts: Sequence[Path], *, machine: str, cst_version: str, description: bytes
    ) -> SigningRequest:
        """Return a request to sign several files, which the blocks in the description name by their base names.

        Raises `ValueError` if two have the same base name, `OSError` if one does not exist.
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
    """What was signed and verified, and notes on it that are not reasons to refuse it.

    For HAB, `blob` is a CSF blob. For AHAB it is empty, and `file` is the whole file, to be closed after use. `record`
    is the id of its entry in the record; empty without a record.
    """

    blob: bytes
    notes: tuple[str, ...] = ()
    record: str = ""
    file: SignedFile | None = None

    @property
    def size(self) -> int:
        """The number of bytes of the answer."""
        return len(self.blob) if self.file is None else self.file.size

    def close(self) -> None:
        """Close the file, if there is one. It may be called again."""
        if self.file is not None:
            self.file.close()
