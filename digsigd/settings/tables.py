"""The tables of the configuration: names, types and defaults.

`etc/digsigd.toml` documents every key for operators. Times are in seconds, sizes in bytes.
"""

from __future__ import annotations

import os
import typing
from datetime import datetime
from pathlib import Path
from typing import Annotated

import msgspec
from msgspec import Meta, field

Seconds = Annotated[float, Meta(gt=0)]
Size = Annotated[int, Meta(gt=0)]
Count = Annotated[int, Meta(gt=0)]
# Of the SRK table: with SHA-256, or for some chips with AHAB with SHA-512.
FuseValue = Annotated[str, Meta(pattern=r"^([0-9A-Fa-f]{64}|[0-9A-Fa-f]{128})\Z")]
Sha256 = Annotated[str, Meta(pattern=r"^[0-9A-Fa-f]{64}\Z")]


class _Section(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A table of the configuration file. Unknown keys are errors."""


class TlsSettings(_Section, frozen=True):
    """TLS of the port: the host's certificate and key, and how clients' certificates are checked. PEM files."""

    certificate: Path | None = None
    key: Path | None = None
    client_ca: Path | None = None
    crl: Path | None = None


class ProxySettings(_Section, frozen=True):
    """A proxy that authenticates callers: the header with the caller's name, and fingerprints of its certificates."""

    caller_header: str | None = None
    certificate: str | tuple[str, ...] = ()

    @property
    def certificates(self) -> tuple[str, ...]:
        """The certificates by which the proxy is known: several while it gets a new one."""
        return (self.certificate,) if isinstance(self.certificate, str) else self.certificate


class ListenSettings(_Section, frozen=True):
    """Where the daemon listens, a Twisted endpoint string, and what it accepts there."""

    endpoint: str = "tcp:9999:interface=127.0.0.1"
    allow_anonymous: bool = False
    allowed_hosts: tuple[str, ...] = ()
    tls: TlsSettings = TlsSettings()
    proxy: ProxySettings = ProxySettings()
    max_connections: Annotated[int, Meta(ge=8)] = 1024
    backlog: Count = 1024


class HttpStoreSettings(_Section, frozen=True):
    """Credentials and certificates for a key store on http(s)."""

    token_file: Path | None = None
    user: str | None = None
    password_file: Path | None = None
    ca_file: Path | None = None
    certificate_file: Path | None = None
    key_file: Path | None = None


class S3StoreSettings(_Section, frozen=True):
    """Where an S3-compatible key store is. Credentials come from botocore's chain."""

    endpoint_url: str | None = None
    region: str | None = None
    ca_file: Path | None = None


class KeysSettings(_Section, frozen=True):
    """Where key tarballs come from, and limits for fetching and keeping them."""

    uri: str | None = None
    keep: Annotated[float, Meta(ge=0)] = 300.0
    max_tarball: Size = 8 << 20
    max_unpacked: Size = 16 << 20
    connect_timeout: Seconds = 5.0
    idle_timeout: Seconds = 10.0
    timeout: Seconds = 30.0
    tries: Count = 3
    http: HttpStoreSettings = HttpStoreSettings()
    s3: S3StoreSettings = S3StoreSettings()


class CstSettings(_Section, frozen=True):
    """Where cst is, limits for one run, and how many run at a time."""

    base: Path = Path("/opt/NXP")
    versions: dict[str, Path] = field(default_factory=dict)
    timeout: Seconds = 120.0
    kill_after: Seconds = 5.0
    max_running: Count = field(default_factory=lambda: len(os.sched_getaffinity(0)))
    max_waiting: Annotated[int, Meta(ge=0)] = 64
    cpu_seconds: Count = 120
    open_files: Annotated[int, Meta(ge=16)] = 64
    memory: Annotated[int, Meta(ge=32 << 20)] = 256 << 20
    cage: typing.Literal["auto", "require", "none"] = "auto"
    paths: tuple[Path, ...] = ()


class UploadSettings(_Section, frozen=True):
    """Limits for what a client may send."""

    max_artifact: Size = 1 << 30
    max_at_once: Count = 128
    idle_timeout: Seconds = 60.0
    timeout: Seconds = 1800.0
    share: Annotated[float, Meta(gt=0, le=1)] = 0.5
    rate: Annotated[float, Meta(ge=0)] = 0.0
    keep_free: Annotated[int, Meta(ge=0)] = 2 << 20


class DaemonSettings(_Section, frozen=True):
    """How many processes there are, where the work directories are, how the daemon stops, and what it logs."""

    workers: Annotated[int, Meta(ge=1, le=256)] | typing.Literal["auto"] = 1
    workdir: Path | None = None
    shutdown_grace: Annotated[float, Meta(ge=0)] = 30.0
    log_level: typing.Literal["debug", "info", "warn", "error"] = "info"


class RecordSettings(_Section, frozen=True):
    """Where decisions are recorded. `url` None means SQLite in the state folder, "none" no record at all."""

    url: str | None = None
    folder: Path | None = None
    timeout: Seconds = 10.0
    checkpoints: tuple[str, ...] = ()
    checkpoint_interval: Seconds = 10.0


class MetricsSettings(_Section, frozen=True):
    """Where metrics are served: at an endpoint of their own, as `GET /metrics` of the daemon's port, or both."""

    endpoint: str | None = None
    path: bool = False
    allow_anonymous: bool = False

    @property
    def are_on(self) -> bool:
        """Whether anything is counted."""
        return self.path or self.endpoint is not None


class CanarySettings(_Section, frozen=True):
    """A machine whose keys sign a known image again and again. `csf` None means a description made from its keys."""

    machine: str | None = None
    every: Seconds = 300.0
    cst_version: str | None = None
    backend: typing.Literal["ssl", "pkcs11"] = "ssl"
    csf: Path | None = None


class TelemetrySettings(_Section, frozen=True):
    """Where spans of requests are sent: the URL of an OTLP collector."""

    otlp: str | None = None


class PageSettings(_Section, frozen=True):
    """The page for people: whether there is one, and patterns of the callers who may open it."""

    enabled: bool = False
    callers: tuple[str, ...] = ("*",)


class TokenSettings(_Section, frozen=True):
    """One token: where its PIN is, its machines, and how many runs of cst may use it at a time."""

    pin_file: Path | None = None
    machines: tuple[str, ...] | None = None
    max_sessions: Count = 1


class Pkcs11Settings(_Section, frozen=True):
    """How cst reaches tokens, and the tokens by their labels."""

    module: Path | None = None
    engine: Path | None = None
    provider: Path | None = None
    login_timeout: Seconds = 60.0
    environment: dict[str, str] = field(default_factory=dict)
    paths: tuple[Path, ...] = ()
    writable: tuple[Path, ...] = ()
    ports: tuple[Annotated[int, Meta(ge=1, le=65535)], ...] = ()
    ways: dict[str, typing.Literal["engine", "provider"]] = field(default_factory=dict)
    tokens: dict[str, TokenSettings] = field(default_factory=dict)


class PolicySettings(_Section, frozen=True):
    """Which commands CSF descriptions may have beyond the safe ones."""

    allow: tuple[str, ...] = ()
    require_ivt: bool = True


class MachineSettings(_Section, frozen=True):
    """What is pinned and allowed for one machine. None and () mean the general setting."""

    keys_sha256: Sha256 | None = None
    fuses: FuseValue | None = None
    soc: str | None = None
    max_fuse_version: Annotated[int, Meta(ge=0, le=255)] | None = None
    allow: tuple[str, ...] = ()
    require_ivt: bool | None = None


class CallerTokenSettings(_Section, frozen=True):
    """One token of a caller: its SHA-256 or the file with it, and when it ends."""

    sha256: Sha256 | None = None
    file: Path | None = None
    not_after: Annotated[datetime, Meta(tz=True)] | None = None


class CallerCsfSettings(_Section, frozen=True):
    """What a caller's CSF descriptions may have beyond the safe commands, as far as the policy allows it."""

    allow: tuple[str, ...] = ()


class CallerSettings(_Section, frozen=True):
    """A caller: how it proves who it is, and what it may sign. What is not listed is not allowed."""

    token_file: Path | None = None
    certificate: str | tuple[str, ...] = ()
    tokens: tuple[CallerTokenSettings, ...] = ()
    machines: tuple[str, ...] = ()
    backends: tuple[typing.Literal["ssl", "pkcs11"], ...] = ()
    cst_versions: tuple[str, ...] = ()
    csf: CallerCsfSettings = CallerCsfSettings()
    metrics: bool = False
    rate: Annotated[float, Meta(gt=0)] | None = None

    @property
    def certificates(self) -> tuple[str, ...]:
        """The certificates by which the caller is known, as they are written in the configuration."""
        return (self.certificate,) if isinstance(self.certificate, str) else self.certificate


class Settings(_Section, frozen=True):
    """All settings of a daemon. `Settings()` has the defaults; `load` reads a file and the environment."""

    listen: ListenSettings = ListenSettings()
    keys: KeysSettings = KeysSettings()
    cst: CstSettings = field(default_factory=CstSettings)
    upload: UploadSettings = UploadSettings()
    daemon: DaemonSettings = DaemonSettings()
    record: RecordSettings = RecordSettings()
    metrics: MetricsSettings = MetricsSettings()
    canary: CanarySettings = CanarySettings()
    telemetry: TelemetrySettings = TelemetrySettings()
    page: PageSettings = PageSettings()
    policy: PolicySettings = PolicySettings()
    pkcs11: Pkcs11Settings = Pkcs11Settings()
    machines: dict[str, MachineSettings] = field(default_factory=dict)
    callers: dict[str, CallerSettings] = field(default_factory=dict)

    @property
    def worker_count(self) -> int:
        """How many processes sign: `daemon.workers`, or the processors that this process may use."""
        return len(os.sched_getaffinity(0)) if self.daemon.workers == "auto" else self.daemon.workers
