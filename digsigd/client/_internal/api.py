"""A client of one signing host. docs/client.md shows how programs use it."""

from __future__ import annotations

import secrets
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Any, TypeVar
from urllib.parse import quote

from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.defer import TimeoutError as LateError
from twisted.web.client import RequestGenerationFailed
from twisted.web.http_headers import Headers

from digsigd.client._internal.errors import (
    ClientError,
    ClientSettingsError,
    ServerFailed,
    ServerRefused,
    ServerUnreachable,
)
from digsigd.client._internal.files import Sink
from digsigd.client._internal.form import ArtifactChanged, Form, Progress
from digsigd.client._internal.machine_keys import CertificateInfo, MachineKeys, SrkTableInfo
from digsigd.client._internal.no_response import explained, looked_closer
from digsigd.client._internal.responses import (
    Answer,
    check_file,
    error_of,
    read_blob,
    read_machine_keys,
    read_missing,
    read_version,
)
from digsigd.client._internal.retries import Timeouts, counted, passes
from digsigd.client._internal.settings import ClientSettings, wrong_with
from digsigd.client._internal.tls import own_certificate, trust_root
from digsigd.http.causes import causes_of
from digsigd.http.deadline import within
from digsigd.http.endpoints import Endpoints
from digsigd.http.exchange import Bounds, OwnExchange
from digsigd.http.reactor import Reactor
from digsigd.http.retry import Again, retry_after, with_tries

__all__ = [
    "CertificateInfo",
    "ClientError",
    "ClientSettingsError",
    "MachineKeys",
    "ServerFailed",
    "ServerRefused",
    "ServerUnreachable",
    "SignedBlob",
    "SignedFile",
    "SigningClient",
    "SrkTableInfo",
]

T = TypeVar("T")
# In bytes. A CSF blob has a 16-bit length, and images keep 8 KiB for it; the keys of a machine are some 20 KiB.
_BLOB_BYTES = 64 << 10
_JSON_BYTES = 2 << 20
# For a response other than 200: enough for the longest error text.
_REASON_BYTES = 32 << 10
_TIMEOUTS = Timeouts()
_JSON = "application/json, application/problem+json"


@dataclass(frozen=True, slots=True)
class SignedBlob:
    """A CSF blob, to be inserted into the image, and the ID of the request in the host's log.

    `record` is the ID of its entry in the host's record; empty if the host keeps none. `notes` are the host's remarks,
    which are not reasons to refuse: a certificate has expired, the keys are trial keys.
    """

    blob: bytes = field(repr=False)
    request_id: str
    record: str = ""
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class SignedFile:
    """What a host says about a signed file: the ID of the request in its log, and as in `SignedBlob`."""

    request_id: str
    record: str = ""
    notes: tuple[str, ...] = ()


class SigningClient:
    """A client of the signing host in `settings`. Concurrent calls use separate connections.

    `progress` is called with the bytes of an upload sent so far and the total; each try starts again from 0. `on_retry`
    is called with a text that says why and when a request is tried again. `timeouts` is for tests. Raises
    `ClientSettingsError` if the settings have no server, or a certificate cannot be used.

    All calls raise `ClientError`, and end within `settings.timeout` seconds including all tries. Cancelling a call
    closes its connection.
    """

    def __init__(
        self,
        settings: ClientSettings,
        *,
        reactor: Reactor,
        progress: Progress | None = None,
        on_retry: Callable[[str], None] | None = None,
        timeouts: Timeouts = _TIMEOUTS,
    ) -> None:
        if not settings.server:
            raise ClientSettingsError("no signing host is given", hint='ClientSettings(server="https://...")')
        self._settings = settings
        self._reactor = reactor
        self._progress = progress
        self._on_retry = on_retry
        self._timeouts = timeouts
        self._base = settings.server.rstrip("/")
        self._endpoints = Endpoints(
            reactor,
            connect_timeout=timeouts.connect,
            trust_root=trust_root(settings),
            certificate=own_certificate(settings),
        )
        self._calls: set[Deferred[Any]] = set()
        # Whether a failed connection was looked at more closely, which is done once.
        self._has_looked = False

    @property
    def settings(self) -> ClientSettings:
        """The settings that the client was made with."""
        return self._settings

    @property
    def reactor(self) -> Reactor:
        """The reactor that the client runs on."""
        return self._reactor

    async def sign(
        self,
        *,
        machine: str,
        description: bytes,
        artifact: Path,
        artifact_name: str,
        cst_version: str,
        backend: str = "ssl",
        soc_type: str = "mx8m",
        more: Mapping[str, Path] = MappingProxyType({}),
    ) -> SignedBlob:
        """Sign `artifact` with the CSF `description`, whose Blocks call it `artifact_name`, and return the CSF blob.

        If the Blocks name other files too, `more` maps their names to paths. Files are read while they are sent, and
        must not change. The host has verified the blob; `digsigd.hab.verify` verifies it without trust in the host.
        `sign_image` signs a whole image, and needs no description. Raises `ClientError`.
        """
        fields = {"machine": machine, "soctype": soc_type, "cstversion": cst_version, "backend": backend}

        async def attempt(request_id: str) -> SignedBlob:
            files = [(artifact, artifact_name), *((path, name) for name, path in more.items())]
            form = Form(fields, description, files, reactor=self._reactor, progress=self._progress)
            accept = "application/octet-stream, application/problem+json"
            headers = self._headers(request_id, accept, form.content_type)
            answer = await self._answer("POST", "/sign/imx", headers, form, max_bytes=_BLOB_BYTES)
            if answer.status != 200:
                raise self._failed(answer, request_id)
            return SignedBlob(read_blob(answer), answer.request_id or request_id, answer.record, answer.notes)

        return await self._call(attempt)

    async def sign_file(
        self,
        *,
        machine: str,
        description: bytes,
        artifact: Path,
        artifact_name: str,
        to: Path,
        cst_version: str,
        backend: str = "ssl",
        soc_type: str | None = None,
    ) -> SignedFile:
        """Sign `artifact` with a description for AHAB, whose `File` is `artifact_name`, and write the answer into `to`.

        The answer is the whole file, as long as `artifact`. It is written in pieces while it arrives, in the reactor's
        thread; after an error, `to` is not complete. It is not verified here. `soc_type` is the chip, such as "mx93":
        if neither that nor the host says which, the host checks only what holds for all chips. Raises `ClientError`.
        """
        fields = {"machine": machine, "cstversion": cst_version, "backend": backend}
        if soc_type is not None:
            fields["soctype"] = soc_type

        async def attempt(request_id: str) -> SignedFile:
            form = Form(
                fields, description, [(artifact, artifact_name)], reactor=self._reactor, progress=self._progress
            )
            size = form.artifact_bytes
            accept = "application/octet-stream, application/problem+json"
            headers = self._headers(request_id, accept, form.content_type)
            try:
                with Sink(to) as sink:
                    answer = await self._answer("POST", "/sign/imx", headers, form, max_bytes=size, into=sink.write)
            finally:
                form.close()
            if answer.status != 200:
                raise self._failed(answer, request_id)
            check_file(answer, sink.length, size)
            return SignedFile(answer.request_id or request_id, answer.record, answer.notes)

        return await self._call(attempt)

    async def alive(self) -> str:
        """Return the version of digsigd on the host, when it has answered. Raises `ClientError` if it does not.

        The version is empty if the host does not know the caller, to whom it tells none, or has another server.
        """
        return read_version(await self._get("/healthz"))

    async def ready(self) -> list[str]:
        """Return what the host lacks before it can sign, one line each; empty if ready. Raises `ClientError`."""
        return read_missing(await self._get("/readyz", also=503))

    async def machine_keys(self, machine: str) -> MachineKeys:
        """Return the public part of a machine's keys.

        Raises `ClientError`: `ServerRefused` with `status` 404 if the machine has no keys (`problem` is "no-keys"), or
        if the host does not report keys (another `problem`, or None).
        """
        if wrong := wrong_with("machine", machine):
            raise ClientError(wrong)
        answer = await self._get(f"/machines/{quote(machine, safe='')}")
        return read_machine_keys(answer, machine)

    async def close(self) -> None:
        """Cancel all running calls: they fail with `CancelledError`."""
        for call in list(self._calls):
            call.cancel()

    async def _get(self, path: str, also: int = 200) -> Answer:
        """Return the response to a GET, if its status is 200 or `also`."""

        async def attempt(request_id: str) -> Answer:
            answer = await self._answer("GET", path, self._headers(request_id, _JSON), max_bytes=_JSON_BYTES)
            if answer.status not in {200, also} or (answer.status != 200 and not answer.is_json):
                raise self._failed(answer, request_id)
            return answer

        return await self._call(attempt)

    async def _call(self, attempt: Callable[[str], Awaitable[T]]) -> T:
        """Return the result of the first attempt that succeeds; each has a separate request ID."""
        base, timeout, retries = secrets.token_hex(8), self._settings.timeout, self._settings.retries
        last = ""

        def tell(again: Again[ClientError]) -> None:
            nonlocal last
            last = f"; before that: {again.error.what}"
            if self._on_retry is not None:
                self._on_retry(f"{again.error.what}; next try in {again.pause:.0f} s ({again.tries} of {retries})")

        trying = with_tries(
            lambda number: attempt(base if number == 1 else f"{base}-{number}"),
            tries=retries + 1,
            first_pause=self._timeouts.first_pause,
            longest_pause=self._timeouts.longest_pause,
            clock=self._reactor,
            on_retry=tell,
            end=self._reactor.seconds() + timeout,
        )
        call = within(timeout, Deferred.fromCoroutine(trying), self._reactor)
        self._calls.add(call)
        try:
            return await call
        except Again as again:
            raise counted(again) from None
        except LateError:
            raise ServerUnreachable(
                f"{self._base} has not answered within {timeout:g} s{last}",
                hint="set --timeout for more time",
                request_id=base,
            ) from None
        finally:
            self._calls.discard(call)

    async def _answer(
        self,
        method: str,
        path: str,
        headers: Headers,
        form: Form | None = None,
        *,
        max_bytes: int,
        into: Callable[[bytes], object] | None = None,
    ) -> Answer:
        url, idle = self._base + path, self._timeouts.idle
        bounds = Bounds(body=max_bytes, other_body=_REASON_BYTES, head=idle, idle=idle)
        try:
            response = await OwnExchange(self._endpoints, reactor=self._reactor, bounds=bounds).ask(
                method, url, headers, form, into=into
            )
        except (CancelledError, ClientError):
            raise
        except Exception as error:  # noqa: BLE001 - each layer below raises different errors
            if isinstance(error, RequestGenerationFailed):
                cause = next(causes_of(error))
                if not isinstance(cause, ArtifactChanged):
                    # The error of the caller's progress function.
                    raise cause from None
            told, passing = explained(error, url)
            if not self._has_looked:
                self._has_looked = True
                closer = await looked_closer(error, url, self._reactor, seconds=self._timeouts.connect)
                told, passing = (closer, False) if closer is not None else (told, passing)
            raise (Again(told) if passing else told) from None
        return Answer(response.status, response.headers, response.body, bool(response.codings))

    def _failed(self, answer: Answer, request_id: str) -> Exception:
        error = error_of(answer, request_id=request_id, with_token=self._settings.token is not None)
        if not passes(error):
            return error
        return Again(error, retry_after(answer.headers, longest=self._timeouts.longest_wish))

    def _headers(self, request_id: str, accept: str, content_type: str | None = None) -> Headers:
        headers = Headers({"User-Agent": ["digsign"], "Accept": [accept], "X-Request-Id": [request_id]})
        if content_type is not None:
            headers.setRawHeaders("Content-Type", [content_type])
        if self._settings.token is not None:
            headers.setRawHeaders("Authorization", [f"Bearer {self._settings.token}"])
        return headers
