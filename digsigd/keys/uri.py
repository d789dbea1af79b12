"""Make the key store that the settings name."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import SplitResult, unquote, urlsplit

from digsigd.keys.file import FileSource
from digsigd.keys.source import InThread, KeySource
from digsigd.settings import KeysSettings, SettingsError, read_secret

if TYPE_CHECKING:
    from digsigd.http.reactor import Reactor
    from digsigd.keys.transfer import Transfer

_EXPECTED = "expected file:///folder, https://host/path, http://host/path or s3://bucket/prefix"
# Amazon S3 User Guide, "Bucket naming rules".
_BUCKET = re.compile(r"[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]")


def key_source(settings: KeysSettings, *, reactor: Reactor, in_thread: InThread) -> KeySource:
    """Return the key store for `keys.uri`. Raises `SettingsError` if a setting in [keys] is wrong or missing."""
    if not settings.uri:
        raise _wrong("is not set; " + _EXPECTED)
    try:
        parts = urlsplit(settings.uri)
        _ = parts.port
    except ValueError:
        # Do not show it: a URI that cannot be parsed can still contain a password.
        raise _wrong("has an invalid host or port; " + _EXPECTED) from None
    if parts.username is not None or parts.password is not None:
        raise _wrong("must not hold credentials; put them into files named by [keys.http]")
    if parts.query or parts.fragment:
        raise _wrong("must not have a query or a fragment")
    if parts.scheme == "file":
        return _file(settings, parts, reactor, in_thread)
    if parts.scheme in {"http", "https"}:
        return _http(settings, parts, reactor, in_thread)
    if parts.scheme == "s3":
        return _s3(settings, parts, reactor, in_thread)
    raise _wrong(f"{settings.uri!r} has an unknown scheme; {_EXPECTED}")


def _wrong(text: str) -> SettingsError:
    return SettingsError(f"keys.uri (DIGSIGSERVER_KEYFILE_URI) {text}")


def _file(settings: KeysSettings, parts: SplitResult, reactor: Reactor, in_thread: InThread) -> KeySource:
    path = unquote(parts.path)
    if parts.netloc not in {"", "localhost"} or not path.startswith("/") or "\0" in path:
        raise _wrong(f"{settings.uri!r} does not name a folder of this host; expected file:///folder")
    return FileSource(
        Path(path),
        max_tarball=settings.max_tarball,
        timeout=settings.timeout,
        clock=reactor,
        in_thread=in_thread,
    )


def _http(settings: KeysSettings, parts: SplitResult, reactor: Reactor, in_thread: InThread) -> KeySource:
    from digsigd.keys.http import HttpSource, basic

    if not parts.hostname:
        raise _wrong(f"{settings.uri!r} has no host")
    http = settings.http
    authorization = None
    if http.token_file is not None:
        authorization = "Bearer " + read_secret(http.token_file, "keys.http.token_file")
    elif http.user is not None and http.password_file is not None:
        authorization = basic(http.user, read_secret(http.password_file, "keys.http.password_file"))
    files = (http.ca_file, http.certificate_file, http.key_file)
    transfer = _transfer(settings, reactor, in_thread, *files, section="keys.http")
    return HttpSource(parts.geturl(), transfer, authorization=authorization)


def _s3(settings: KeysSettings, parts: SplitResult, reactor: Reactor, in_thread: InThread) -> KeySource:
    from digsigd.keys.s3 import S3Source, Signature

    if not _BUCKET.fullmatch(parts.netloc):
        raise _wrong(f"{settings.uri!r} does not name a valid bucket; expected s3://bucket/prefix")
    endpoint = settings.s3.endpoint_url
    if endpoint is not None and not re.fullmatch(r"https?://[^/@?#\\\s]+(/[^@?#\s]*)?", endpoint):
        raise SettingsError("keys.s3.endpoint_url: expected https://host or http://host, without credentials")
    return S3Source(
        parts.netloc,
        unquote(parts.path).strip("/"),
        settings.s3,
        _transfer(settings, reactor, in_thread, settings.s3.ca_file, None, None, section="keys.s3"),
        Signature(settings.s3.region),
        in_thread,
    )


def _transfer(
    settings: KeysSettings,
    reactor: Reactor,
    in_thread: InThread,
    ca_file: Path | None,
    certificate: Path | None,
    key: Path | None,
    *,
    section: str,
) -> Transfer:
    from OpenSSL.crypto import Error
    from twisted.internet.ssl import PrivateCertificate

    from digsigd.http.endpoints import trust_root_of
    from digsigd.keys.transfer import Transfer

    trust_root = None
    if ca_file is not None:
        name = f"{section}.ca_file"
        try:
            trust_root = trust_root_of(_read(ca_file, name))
        except ValueError as error:
            raise SettingsError(f"{name}: {ca_file} {error}") from None
    ours = None
    if certificate is not None:
        pem = _read(certificate, f"{section}.certificate_file")
        pem += b"\n" + _read(key, f"{section}.key_file") if key is not None else b""
        try:
            ours = PrivateCertificate.loadPEM(pem)
        except (Error, ValueError, TypeError):
            raise SettingsError(
                f"{section}.certificate_file: {certificate} must contain a certificate in PEM; it or key_file must"
                " contain the private key in PEM, without a pass phrase"
            ) from None
    return Transfer(settings, reactor=reactor, in_thread=in_thread, trust_root=trust_root, certificate=ours)


def _read(path: Path, key: str) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise SettingsError(f"{key}: {path} cannot be read: {error.strerror}") from None
