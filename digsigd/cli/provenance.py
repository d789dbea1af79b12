"""The statement of `digsign sign --provenance`: what was signed, by whom, with which keys (in-toto, SLSA v1)."""

from __future__ import annotations

import argparse
import hashlib
import json
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from digsigd import hab
from digsigd.cli.console import Trouble

if TYPE_CHECKING:
    from digsigd.client import AhabReport, ClientSettings, Report, SignedContainer, SignedPart

# https://github.com/in-toto/attestation/blob/main/spec/v1/statement.md and https://slsa.dev/spec/v1.0/provenance
_STATEMENT = "https://in-toto.io/Statement/v1"
_PREDICATE = "https://slsa.dev/provenance/v1"
_BUILD_TYPE = "urn:digsigd:sign-image:v1"


class Provenance:
    """The statement about one image. `parts` are its signed parts or containers, which the caller appends.

    Raises `Trouble` if the image cannot be read.
    """

    def __init__(self, image: Path) -> None:
        self.parts: list[SignedPart | SignedContainer] = []
        self._image = image
        self._image_sha256 = _sha256_of(image)
        self._began = _now()

    def statement(
        self, output: Path, options: argparse.Namespace, settings: ClientSettings, report: Report | AhabReport
    ) -> bytes:
        """Return the statement about the signed image `output`, as JSON. Raises `Trouble` if it cannot be read."""
        fuses = report.fuse_value
        try:
            data = output.read_bytes()
        except OSError as error:
            raise Trouble(f"{output} cannot be read: {error.strerror}") from None
        statement = {
            "_type": _STATEMENT,
            "subject": [{"name": output.name, "digest": {"sha256": hashlib.sha256(data).hexdigest()}}],
            "predicateType": _PREDICATE,
            "predicate": {
                "buildDefinition": {
                    "buildType": _BUILD_TYPE,
                    "externalParameters": _present(
                        machine=settings.machine, backend=settings.backend, cst=settings.cst, srk=options.srk,
                        fuse_value=fuses.hex() if fuses else None, soc=_soc_of(report), sgk=options.sgk or None,
                    ),
                    "resolvedDependencies": [{"name": self._image.name, "digest": {"sha256": self._image_sha256}}],
                },
                "runDetails": {
                    "builder": {"id": settings.server},
                    "metadata": {
                        "invocationId": " ".join(part.request_id for part in self.parts),
                        "startedOn": self._began,
                        "finishedOn": _now(),
                    },
                    "byproducts": [_byproduct(part, data) for part in self.parts],
                },
            },
        }  # fmt: skip
        return json.dumps(statement, indent=2, ensure_ascii=False).encode() + b"\n"


def _soc_of(report: Report | AhabReport) -> str | None:
    """Return the chip that AHAB containers were signed for: requests and checks depend on it."""
    from digsigd.client import AhabReport

    return report.plan.chip.name if isinstance(report, AhabReport) and report.plan.chip is not None else None


def _byproduct(part: SignedPart | SignedContainer, data: bytes) -> dict[str, Any]:
    """Return what is said of one CSF: its digest, its place, its entry in the host's record, and its certificates.

    Of a container it is the digest of the whole file as the host returned it, which the record has, too.
    """
    from digsigd.client import SignedContainer

    if isinstance(part, SignedContainer):
        return {
            "name": part.name,
            "digest": {"sha256": part.sha256.hex()},
            "annotations": _present(
                offset=part.offset, length=part.length, request=part.request_id, record=part.record
            ),
        }
    blob = data[part.csf_offset : part.csf_offset + part.csf_length]
    try:
        certificates = [hashlib.sha256(one).hexdigest() for one in hab.CsfBlob.parse(blob).certificates()]
    except hab.HabError:  # it was verified, but the part can hold more than the CSF
        certificates = []
    return {
        "name": f"CSF of {part.name}",
        "digest": {"sha256": hashlib.sha256(blob).hexdigest()},
        "annotations": _present(
            offset=part.csf_offset, length=part.csf_length, request=part.request_id, record=part.record,
            certificates=certificates,
        ),
    }  # fmt: skip


def _present(**values: Any) -> dict[str, Any]:
    return {name: value for name, value in values.items() if value not in (None, "", [])}


def _sha256_of(path: Path) -> str:
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise Trouble(f"{path} cannot be read: {error.strerror}") from None


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds").replace("+00:00", "Z")
