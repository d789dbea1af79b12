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
from digsigd.client._internal.exchange import Exchange
from digsigd.client._internal.form import ArtifactChanged, Form, Progress
from digsigd.client._internal.machine_keys import CertificateInfo, MachineKeys, SrkTableInfo
from digsigd.client._internal.responses import Answer, error_of, read_blob, read_machine_keys, read_missing
from digsigd.client._internal.settings import ClientSettings, wrong_with
from digsigd.client._internal.tls import own_certificate, trust_root
from digsigd.client._internal.tries import Again, passes, wish_of, with_tries
from digsigd.client._internal.words import causes_of, explained
from digsigd.keys.connection import Endpoints

__all__ = [
    "CertificateInfo",
    "ClientError",
    "ClientSettingsError",
    "MachineKeys",
    "ServerFailed",
    "ServerRefused",
    "ServerUnreachable",
    "SignedBlob",
    "SigningClient",
    "SrkTableInfo",
]

T = TypeVar("T")
# In seconds. What may stand still for how long: an upload in a full line, a host that fetches keys.
_CONNECT = 10.0
_IDLE = 60.0
# In bytes. A CSF tells its size in 16 bits, and boards keep 8 KiB for it; keys of a machine are some 20 KiB.
_BLOB_BYTES = 64 << 10
_JSON_BYTES = 2 << 20
_JSON = "application/json, application/problem+json"


@dataclass(frozen=True, slots=True)
class SignedBlob:
    """A binary CSF, as it goes into the image, and what the host's log calls the request."""

    blob: bytes = field(repr=False)
    request_id: str


class SigningClient:
    """Asks the signing host of `settings`; several calls at once are several connections.

    `progress` hears how many bytes of how many of an upload are on their way, from the start again with each try,
    `on_retry` why a request is tried again and when. Raises `ClientSettingsError` where there is no server in the
    settings, or a certificate cannot be used.

    All calls raise `ClientError`, and end within `settings.timeout` seconds with all their tries. Cancelling one closes
    its connection.
    """

    def __init__(
        self,
        settings: ClientSettings,
        *,
        reactor: Any,
        progress: Progress | None = None,
        on_retry: Callable[[str], None] | None = None,
    ) -> None:
        if not settings.server:
            raise ClientSettingsError("no signing host is named", hint='ClientSettings(server="https://...")')
        self._settings = settings
        self._reactor = reactor
        self._progress = progress
        self._on_retry = on_retry
        self._base = settings.server.rstrip("/")
        self._endpoints = Endpoints(
            reactor,
            connect_timeout=_CONNECT,
            trust_root=trust_root(settings),
            certificate=own_certificate(settings),
        )
        self._calls: set[Deferred[Any]] = set()

    @property
    def settings(self) -> ClientSettings:
        """Return the settings that it was made with."""
        return self._settings

    @property
    def reactor(self) -> Any:
        """Return the reactor that it runs on."""
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
        """Have `artifact` signed as the CSF `description` says, whose Blocks name it `artifact_name`.

        Where they name other files as well, `more` has these, by their names. Files are read while they are sent, and
        must not change. The host has verified the blob; `digsigd.hab.verify` does the same for those who do not trust
        it. `sign_image` signs a whole image, and needs no description.
        """
        fields = {"machine": machine, "soctype": soc_type, "cstversion": cst_version, "backend": backend}

        async def attempt(request_id: str) -> SignedBlob:
            exchange = Exchange(self._endpoints, reactor=self._reactor, limit=_BLOB_BYTES, idle=_IDLE)

            def progress(sent: int, total: int) -> None:
                exchange.went_on()
                if self._progress is not None:
                    self._progress(sent, total)

            files = [(artifact, artifact_name), *((path, name) for name, path in more.items())]
            form = Form(fields, description, files, reactor=self._reactor, progress=progress)
            accept = "application/octet-stream, application/problem+json"
            headers = self._headers(request_id, accept, form.content_type)
            answer = await self._answer(exchange, "POST", "/sign/imx", headers, form)
            if answer.status != 200:
                raise self._failed(answer, request_id)
            return SignedBlob(read_blob(answer), answer.request_id or request_id)

        return await self._call(attempt)

    async def alive(self) -> None:
        """Come back if the host answers at all."""
        answer = await self._get("/healthz")
        read_missing(answer)

    async def ready(self) -> list[str]:
        """What the host lacks before it can sign, a line each; nothing means ready."""
        return read_missing(await self._get("/readyz", also=503))

    async def machine_keys(self, machine: str) -> MachineKeys:
        """What is public of a machine's keys.

        Raises `ServerRefused` with `status` 404 where there are none (`problem` is "no-keys"), or where the host is of
        a kind that does not tell (`problem` is another, or None).
        """
        if wrong := wrong_with("machine", machine):
            raise ClientError(wrong)
        answer = await self._get(f"/machines/{quote(machine, safe='')}")
        return read_machine_keys(answer, machine)

    async def close(self) -> None:
        """End the calls that are under way: they fail with `CancelledError`."""
        for call in list(self._calls):
            call.cancel()

    async def _get(self, path: str, also: int = 200) -> Answer:
        """An answer of status 200, or of another that is as good."""

        async def attempt(request_id: str) -> Answer:
            exchange = Exchange(self._endpoints, reactor=self._reactor, limit=_JSON_BYTES, idle=_IDLE)
            answer = await self._answer(exchange, "GET", path, self._headers(request_id, _JSON), None)
            if answer.status not in {200, also} or (answer.status != 200 and not answer.is_json):
                raise self._failed(answer, request_id)
            return answer

        return await self._call(attempt)

    async def _call(self, attempt: Callable[[str], Awaitable[T]]) -> T:
        """What the first good attempt gives, each with an id of its own."""
        base, timeout = secrets.token_hex(8), self._settings.timeout
        last = ""

        async def numbered(number: int) -> T:
            nonlocal last
            try:
                return await attempt(base if number == 1 else f"{base}-{number}")
            except Again as again:
                last = f"; before that: {again.error.what}"
                raise

        call = Deferred.fromCoroutine(
            with_tries(
                numbered,
                retries=self._settings.retries,
                timeout=timeout,
                reactor=self._reactor,
                on_retry=self._on_retry,
            )
        )
        self._calls.add(call)
        try:
            return await call.addTimeout(timeout, self._reactor)
        except LateError:
            raise ServerUnreachable(
                f"{self._base} has not answered within {timeout:g} s{last}",
                hint="--timeout gives it more",
                request_id=base,
            ) from None
        finally:
            self._calls.discard(call)

    async def _answer(self, exchange: Exchange, method: str, path: str, headers: Headers, form: Form | None) -> Answer:
        url = self._base + path
        try:
            return await exchange.ask(method, url, headers, form)
        except (CancelledError, ClientError):
            raise
        except Exception as error:  # noqa: BLE001 - every layer below has errors of its own
            if isinstance(error, RequestGenerationFailed):
                cause = next(causes_of(error))
                if not isinstance(cause, ArtifactChanged):
                    # Of whoever is told of the progress.
                    raise cause from None
            told, passing = explained(error, url)
            raise (Again(told) if passing else told) from None

    def _failed(self, answer: Answer, request_id: str) -> Exception:
        error = error_of(answer, request_id=request_id, with_token=self._settings.token is not None)
        return Again(error, wish_of(answer)) if passes(error) else error

    def _headers(self, request_id: str, accept: str, content_type: str | None = None) -> Headers:
        headers = Headers({"User-Agent": ["digsign"], "Accept": [accept], "X-Request-Id": [request_id]})
        if content_type is not None:
            headers.setRawHeaders("Content-Type", [content_type])
        if self._settings.token is not None:
            headers.setRawHeaders("Authorization", [f"Bearer {self._settings.token}"])
        return headers
