"""Checks the settings for what their types cannot express."""

from __future__ import annotations

import re

from digsigd.names import AHAB_SOCS, MACHINE, MACHINE_FORM, VERSION, VERSION_FORM
from digsigd.settings.caller_checks import Wrong, check_callers
from digsigd.settings.endpoints import is_local, options
from digsigd.settings.errors import SettingsError
from digsigd.settings.tables import Settings


def check(settings: Settings, origin: str) -> None:
    """Check what the types cannot express. Raises `SettingsError`."""

    def wrong(key: str, text: str) -> SettingsError:
        return SettingsError(f"{origin}: {key}: {text}")

    http = settings.keys.http
    if http.token_file and http.user:
        raise wrong("keys.http", "has both token_file and user; set only one of them")
    if bool(http.user) != bool(http.password_file):
        raise wrong("keys.http", "user and password_file go together; set both or neither")
    if http.key_file and not http.certificate_file:
        raise wrong("keys.http.key_file", "needs certificate_file")
    for name, machine in settings.machines.items():
        if not MACHINE.fullmatch(name):
            raise wrong(f"machines.{name}", f"is not a machine name: expected {MACHINE_FORM}")
        if machine.soc is not None and machine.soc not in AHAB_SOCS:
            raise wrong(
                f"machines.{name}.soc", f"{machine.soc!r} is no chip with AHAB: expected one of {', '.join(AHAB_SOCS)}"
            )
    for version in settings.cst.versions:
        if not VERSION.fullmatch(version):
            raise wrong(f"cst.versions.{version}", f"is not a version: expected {VERSION_FORM}")
    for name in settings.pkcs11.tokens:
        if not name.isprintable() or not 0 < len(name.encode()) <= 32:
            raise wrong(f"pkcs11.tokens.{name}", "is not a label: expected 1 to 32 bytes without control characters")
    if settings.record.url is not None and not re.match(r"none\Z|sqlite:///|postgres(ql)?://", settings.record.url):
        raise wrong("record.url", "is not sqlite:///PATH, postgresql://USER@HOST/DATABASE or none")
    for one in settings.record.checkpoints:
        if not re.match(r"syslog\Z|file:///.|https?://.", one):
            raise wrong("record.checkpoints", f"{one!r} is not file:///PATH, syslog, or an http(s) URL")
    names = [name for name, _ in options(settings.listen.endpoint) if name is not None]
    if repeated := {name for name in names if names.count(name) > 1}:
        raise wrong("listen.endpoint", f"{settings.listen.endpoint!r} has {' and '.join(sorted(repeated))} twice")
    check_callers(settings, wrong)
    _check_metrics(settings, wrong)
    _check_canary(settings, wrong)
    if settings.telemetry.otlp is not None and not re.match(r"https?://[^/?#@]+", settings.telemetry.otlp):
        raise wrong("telemetry.otlp", "is not the http(s) URL of a collector, such as http://127.0.0.1:4318")
    if not (settings.callers or settings.listen.allow_anonymous or is_local(settings.listen.endpoint)):
        raise wrong(
            "listen.endpoint",
            f"{settings.listen.endpoint!r} is not loopback, and authentication is off;"
            " add [callers.NAME] (see `digsigd token new`), or set listen.allow_anonymous = true if a proxy in front"
            " authenticates",
        )


def _check_metrics(settings: Settings, wrong: Wrong) -> None:
    metrics = settings.metrics
    if metrics.endpoint is not None and not (metrics.allow_anonymous or is_local(metrics.endpoint)):
        raise wrong(
            "metrics.endpoint",
            f"{metrics.endpoint!r} is not loopback, and everybody could read the metrics there, with the names of"
            " machines; set metrics.allow_anonymous = true if that is intended",
        )
    for name, caller in settings.callers.items():
        if caller.metrics and not metrics.path:
            raise wrong(f"callers.{name}.metrics", "needs metrics.path = true, which serves GET /metrics")


def _check_canary(settings: Settings, wrong: Wrong) -> None:
    canary = settings.canary
    if canary.machine is None:
        if canary.csf is not None or canary.cst_version is not None:
            raise wrong("canary", "needs machine, whose keys it signs with")
        return
    if not MACHINE.fullmatch(canary.machine):
        raise wrong("canary.machine", f"is not a machine name: expected {MACHINE_FORM}")
    if canary.cst_version is not None and not VERSION.fullmatch(canary.cst_version):
        raise wrong("canary.cst_version", f"is not a version: expected {VERSION_FORM}")
    if canary.backend == "pkcs11" and canary.csf is None:
        raise wrong("canary.csf", "is needed for backend pkcs11: a CSF description that names the keys on the token")
