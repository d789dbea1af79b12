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
from digsigd.client._internal.form import ArtifactChanged, Form, Progress
from digsigd.client._internal.machine_keys import CertificateInfo, MachineKeys, SrkTableInfo
from digsigd.client._internal.responses import Answer, error_of, read_blob, read_machine_keys, read_missing
from digsigd.client._internal.settings import ClientSettings, wrong_with
from digsigd.client._internal.tls import own_certificate, trust_root
from digsigd.client._internal.tries import Timeouts, counted, passes
from digsigd.client._internal.words import explained
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
    "SigningClient",
    "SrkTableInfo",
]

T = TypeVar("T")
# In bytes. A CSF tells its size in 16 bits, and boards keep 8 KiB for it; keys of a machine are some 20 KiB.
_BLOB_BYTES = 64 << 10
_JSON_BYTES = 2 << 20
# Of an answer that is no 200: enough for the longest reason.
_REASON_BYTES = 32 << 10
_TIMEOUTS = Timeouts()
_JSON = "application/json, application/problem+json"


@dataclass(frozen=True, slots=True)
class SignedBlob:
    """A binary CSF, as it goes into the image, and what the host's log calls the request."""

    blob: bytes = field(repr=False)
    request_id: str


class SigningClient:
    """Asks the signing host of `settings`; several calls at once are several connections.

    `progress` hears how many bytes of how many of an upload are on their way, from the start again with each try,
    `on_retry` why a request is tried again and when. `timeouts` is for tests: how long it waits for what. Raises
    `ClientSettingsError` where there is no server in the settings, or a certificate cannot be used.

    All calls raise `ClientError`, and end within `settings.timeout` seconds with all their tries. Cancelling one closes
    its connection.
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
            raise ClientSettingsError("no signing host is named", hint='ClientSettings(server="https://...")')
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
            files = [(artifact, artifact_name), *((path, name) for name, path in more.items())]
            form = Form(fields, description, files, reactor=self._reactor, progress=self._progress)
            accept = "application/octet-stream, application/problem+json"
            headers = self._headers(request_id, accept, form.content_type)
            answer = await self._answer("POST", "/sign/imx", headers, form, max_bytes=_BLOB_BYTES)
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
            answer = await self._answer("GET", path, self._headers(request_id, _JSON), max_bytes=_JSON_BYTES)
            if answer.status not in {200, also} or (answer.status != 200 and not answer.is_json):
                raise self._failed(answer, request_id)
            return answer

        return await self._call(attempt)

    async def _call(self, attempt: Callable[[str], Awaitable[T]]) -> T:
        """What the first good attempt gives, each with an id of its own."""
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
                hint="--timeout gives it more",
                request_id=base,
            ) from None
        finally:
            self._calls.discard(call)

    async def _answer(
        self, method: str, path: str, headers: Headers, form: Form | None = None, *, max_bytes: int
    ) -> Answer:
        url, idle = self._base + path, self._timeouts.idle
        bounds = Bounds(body=max_bytes, other_body=_REASON_BYTES, head=idle, idle=idle)
        try:
            response = await OwnExchange(self._endpoints, reactor=self._reactor, bounds=bounds).ask(
                method, url, headers, form
            )
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
