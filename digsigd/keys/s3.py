"""Key tarballs on S3 or an S3-compatible store: HTTP requests, signed with botocore."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any
from urllib.parse import quote

from digsigd.errors import KeyStoreFailed
from digsigd.keys.http import COMMON, fetched, no_keys, unless_known
from digsigd.keys.source import TARBALL, Fetched, InThread, checked
from digsigd.keys.transfer import Answer, Transfer
from digsigd.settings import S3StoreSettings, SettingsError

# Amazon S3 REST API, "Error responses": <Code> names the error.
_CODE = re.compile(rb"<Code>([A-Za-z0-9]{1,64})</Code>")
_SIGNED = frozenset({"authorization", "x-amz-date", "x-amz-security-token", "x-amz-content-sha256"})
# The region if none is configured. S3-compatible stores accept it too.
_DEFAULT_REGION = "us-east-1"


class Signature:
    """Signs requests with the credentials from botocore's chain.

    Its methods block, because the chain can ask a server. Raises `SettingsError` if botocore is not installed.
    """

    def __init__(self, region: str | None) -> None:
        try:
            from botocore.session import Session
        except ImportError:
            raise SettingsError(
                "keys.uri: s3:// needs botocore; install digsigd with its extra s3 (see README)"
            ) from None
        self._session = Session()
        self.region = region or self._session.get_config_variable("region") or _DEFAULT_REGION

    def headers(self, method: str, url: str) -> dict[str, str]:
        """Return the headers that sign a request. Raises `KeyStoreFailed` if there are no usable credentials."""
        from botocore.auth import S3SigV4Auth
        from botocore.awsrequest import AWSRequest
        from botocore.exceptions import BotoCoreError

        try:
            credentials = self._session.get_credentials()
            if credentials is None:
                raise KeyStoreFailed(
                    "the key store cannot be reached",
                    detail="no credentials for S3 in the environment, the shared files or the instance's role",
                )
            frozen = credentials.get_frozen_credentials()
        except BotoCoreError as error:
            raise KeyStoreFailed("the key store cannot be reached", detail=f"S3 credentials: {error}") from None
        request = AWSRequest(method=method, url=url)
        # Without this, S3SigV4Auth sends UNSIGNED-PAYLOAD in place of a hash. Our body is empty.
        request.context["payload_signing_enabled"] = True
        S3SigV4Auth(frozen, "s3", self.region).add_auth(request)
        return {name: value for name, value in request.headers.items() if name.lower() in _SIGNED}


class S3Source:
    """An `s3://bucket/prefix` key store."""

    def __init__(
        self,
        bucket: str,
        prefix: str,
        settings: S3StoreSettings,
        transfer: Transfer,
        signature: Signature,
        in_thread: InThread,
    ) -> None:
        self._uri = f"s3://{bucket}/{prefix}".rstrip("/")
        self._transfer = transfer
        self._signature = signature
        self._in_thread = in_thread
        if settings.endpoint_url is not None:
            root = f"{settings.endpoint_url.rstrip('/')}/{bucket}"
        elif "." in bucket:
            # A certificate for *.s3.REGION does not match a bucket name with a dot.
            root = f"https://s3.{signature.region}.amazonaws.com/{bucket}"
        else:
            root = f"https://{bucket}.s3.{signature.region}.amazonaws.com"
        self._base = f"{root}/{quote(prefix)}".rstrip("/")

    def __str__(self) -> str:
        return self._uri

    async def fetch(self, machine: str, known: Any) -> Fetched:
        """Implement `KeySource.fetch`. The version is the object's ETag."""
        url = f"{self._base}/{quote(checked(machine), safe='')}/{TARBALL}"
        answer = await unless_known(lambda more: self._get(url, more), known)
        code = _code_of(answer)
        if answer.status == 404 and code in {"NoSuchKey", ""}:
            raise no_keys(machine, url)
        if answer.status not in {200, 304}:
            raise self._failed(answer, code)
        return fetched(answer, known)

    async def check(self) -> None:
        """Implement `KeySource.check`: request an object that need not exist, so the right to list is not needed."""
        answer = await self._get(f"{self._base}/.digsigd", {})
        code = _code_of(answer)
        if answer.status not in {200, 404} or code == "NoSuchBucket":
            # For a missing object, S3 sends this status to callers without the right to list.
            if answer.status == 403 and code == "AccessDenied":
                return
            raise self._failed(answer, code)

    async def close(self) -> None:
        """Implement `KeySource.close`."""
        await self._transfer.close()

    async def _get(self, url: str, more: Mapping[str, str]) -> Answer:
        async def headers_for(url: str) -> Mapping[str, str]:
            signed = await self._in_thread(self._signature.headers, "GET", url)
            return {**COMMON, **more, **signed}

        return await self._transfer.get(url, headers_for, credentials=_SIGNED)

    def _failed(self, answer: Answer, code: str) -> KeyStoreFailed:
        hint = {
            "AccessDenied": "no such object, or s3:GetObject is not allowed (S3 says which if s3:ListBucket is)",
            "InvalidAccessKeyId": "check the credentials",
            "SignatureDoesNotMatch": "check the credentials, and this host's clock",
            "RequestTimeTooSkewed": "check this host's clock",
            "NoSuchBucket": "check keys.uri",
            "PermanentRedirect": "check keys.s3.region",
            "AuthorizationHeaderMalformed": "check keys.s3.region",
        }.get(code, "check keys.uri and [keys.s3]")
        return KeyStoreFailed(
            "the key store refused access",
            detail=f"{self._uri}: status {answer.status} {code}: {hint}",
        )


def _code_of(answer: Answer) -> str:
    match = _CODE.search(answer.body) if answer.status not in {200, 304} else None
    return match[1].decode() if match else ""
