"""Write every decision into the record before its answer leaves: without an entry there is no answer."""

from __future__ import annotations

import socket
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from hashlib import sha256
from typing import Any

from twisted.logger import Logger

from digsigd.errors import Busy, DigsigError, out_of_descriptors
from digsigd.record.entry import Entry
from digsigd.record.errors import RecordError
from digsigd.record.recorder import Recorder
from digsigd.signing.evidence import Evidence, note_artifacts
from digsigd.signing.request import Signed, SigningRequest
from digsigd.signing.signer import Signer
from digsigd.signing.threads import InThread
from digsigd.signing.workdir import Workdir


class Decisions:
    """The entries of decisions. `recorder` None means that there is no record."""

    log = Logger()

    def __init__(self, recorder: Recorder | None) -> None:
        self._recorder = recorder
        self._host = socket.gethostname()

    async def write(
        self,
        evidence: Evidence,
        request: SigningRequest | None,
        error: DigsigError | None,
        *,
        request_id: str,
        caller: str,
    ) -> str:
        """Write a decision, and return the id of its entry; empty if there is no record.

        `request` is None if the decision was reached before the form was complete. `error` None means signed. Raises
        `Busy` if the entry cannot be written.
        """
        if self._recorder is None:
            return ""
        values = {
            **_values_of(evidence, request),
            "host": self._host,
            "client_request": request_id,
            "caller": caller,
            "outcome": "signed" if error is None else error.problem,
            "reason": "" if error is None else error.for_client(),
        }
        try:
            return await self._recorder.write(Entry.new(values))
        except RecordError as problem:
            self.log.error(
                "not answered, because the record cannot be written: {why}",
                why=str(problem), request_id=request_id, event="not-recorded",
            )  # fmt: skip
            raise not_recorded(str(problem)) from None

    async def refused(
        self,
        evidence: Evidence,
        request: SigningRequest | None,
        error: DigsigError,
        *,
        request_id: str,
        caller: str,
    ) -> DigsigError:
        """Write a refusal, and return the error to answer with: the same, with the entry's id, or `Busy`."""
        try:
            error.record = await self.write(evidence, request, error, request_id=request_id, caller=caller)
        except Busy as busy:
            return busy
        return error


class RecordedSigner:
    """A signer whose results are recorded before anybody gets them."""

    def __init__(
        self, signer: Signer, decisions: Decisions, *, in_thread: InThread, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._signer = signer
        self._decisions = decisions
        self._in_thread = in_thread
        self._clock = clock

    async def sign(self, request: SigningRequest, workdir: Workdir) -> Signed:
        """Sign like `Signer.sign`, and return the result with the id of its entry.

        Raises the errors of `digsigd.errors`: `Busy` if the decision, whatever it is, cannot be recorded. A request
        that found no room, or was cancelled, has reached no decision.
        """
        began = self._clock()
        names = {"request_id": request.request_id, "caller": request.caller}
        try:
            signed = await self._signer.sign(request, workdir)
        except Busy:
            raise
        except (DigsigError, OSError) as error:
            if busy := out_of_descriptors(error):
                raise busy from error
            if isinstance(error, OSError):
                raise
            request.evidence.took("all", self._clock() - began)
            await self._in_thread(_note_quietly, request)
            raise await self._decisions.refused(request.evidence, request, error, **names) from error.__cause__
        request.evidence.took("all", self._clock() - began)
        signed_at = self._clock()
        record = await self._decisions.write(request.evidence, request, None, **names)
        request.evidence.took("record", self._clock() - signed_at)
        return replace(signed, record=record)


def not_recorded(why: str) -> Busy:
    """Build the error for a request whose decision cannot be recorded."""
    return Busy(
        "this signing host cannot write its record, and signs nothing without it",
        hint="ask its operator",
        detail=why,
        retry_after=10,
    )


def _note_quietly(request: SigningRequest) -> None:
    # Without the digests, the sizes are recorded, and the error that is being recorded says why.
    with suppress(OSError, DigsigError):
        note_artifacts(request.evidence, request.artifacts)


def _values_of(evidence: Evidence, request: SigningRequest | None) -> dict[str, Any]:
    values: dict[str, Any] = {
        "request": evidence.server_id,
        "proof": evidence.proof,
        "address": evidence.address,
        "traceparent": evidence.traceparent,
        "machine": evidence.machine,
        "tarball": {"sha256": evidence.tarball_sha256},
        "blob": {
            "sha256": evidence.blob_sha256,
            "size": evidence.blob_size or None,
            "containers": [
                {"offset": offset, "size": size, "sha256": digest} for offset, size, digest in evidence.containers
            ],
        },
        "fuse_value": evidence.fuse_value,
        "srk": evidence.srk,
        "certificates": list(evidence.certificates),
        "blocks": [[list(block) for block in blocks] for blocks in evidence.blocks],
        "milliseconds": evidence.milliseconds,
    }
    if request is None:
        return values
    return {
        **values,
        "machine": request.machine,
        "soctype": request.soctype or evidence.soc,
        "backend": request.backend,
        "cst": {
            "version": request.cst_version,
            "sha256": evidence.cst_sha256,
            "libraries_sha256": evidence.libraries_sha256,
        },
        "description": {
            "size": len(request.description),
            "sha256": sha256(request.description).hexdigest(),
            "rewritten_sha256": evidence.description_sha256,
        },
        "artifacts": [
            {"name": one.name, "size": one.size, "sha256": evidence.artifacts.get(one.name)}
            for one in request.artifacts
        ],
    }
