"""What a reload changes: everything about who may sign what. The rest needs a restart."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, TypeVar

import msgspec
from msgspec.structs import replace

from digsigd import csf
from digsigd.callers.access import Access
from digsigd.settings import Settings, SettingsError
from digsigd.settings.checks import check
from digsigd.signing.ahab_keys import check_fuse_value
from digsigd.signing.rules import MachineRules, Rules
from digsigd.web.tls import ServerTls

T = TypeVar("T", bound=msgspec.Struct)
# Keys of the configuration that a reload applies, with everything below them.
_RELOADED = (
    "callers",
    "machines",
    "policy",
    "listen.allow_anonymous",
    "listen.allowed_hosts",
    "listen.tls",
    "listen.proxy",
    "pkcs11.tokens",
    "daemon.log_level",
)


@dataclass(frozen=True, slots=True)
class Prepared:
    """Everything that a reload puts in place at once, made from settings and the files that they name."""

    settings: Settings
    tls: ServerTls | None
    access: Access
    rules: Rules
    pins: dict[str, str]


def rules_of(settings: Settings) -> Rules:
    """Return the rules of all machines. Raises `SettingsError` if an `allow` names something unknown."""
    return Rules(_rules_of(settings, None), {name: _rules_of(settings, name) for name in settings.machines})


def _rules_of(settings: Settings, name: str | None) -> MachineRules:
    """Return the rules of a machine; for None the rules of all machines that the settings do not name."""
    machine = settings.machines.get(name) if name is not None else None
    where = "policy.allow" if machine is None else f"machines.{name}.allow"
    try:
        policy = csf.Policy(frozenset(settings.policy.allow + (machine.allow if machine else ())))
    except ValueError as error:
        raise SettingsError(f"{where}: {error}") from None
    if machine is None:
        return MachineRules(policy, require_ivt=settings.policy.require_ivt)
    fuses = bytes.fromhex(machine.fuses) if machine.fuses else None
    if why := check_fuse_value(fuses, machine.soc):
        raise SettingsError(f"machines.{name}.fuses: {why}")
    return MachineRules(
        policy,
        fuses,
        settings.policy.require_ivt if machine.require_ivt is None else machine.require_ivt,
        machine.keys_sha256.lower() if machine.keys_sha256 else None,
        machine.soc,
        machine.max_fuse_version,
    )


def rates_of(settings: Settings) -> dict[str, float | None]:
    """Return the rate of each caller, in requests per minute; None means the general one."""
    return {name: caller.rate for name, caller in settings.callers.items()}


def needs_restart(old: Settings, new: Settings) -> list[str]:
    """Return the keys whose new values have no effect before a restart, such as `listen.endpoint`."""
    return [key for key in _different(old, new) if not _is_reloaded(key)]


def in_force(started: T, new: T, where: str = "") -> T:
    """Return settings as a process has them that began with `started` and was reloaded with `new`."""
    values = {}
    for name in started.__struct_fields__:
        before, after = getattr(started, name), getattr(new, name)
        key = f"{where}{name}"
        if _is_reloaded(key):
            values[name] = after
        elif isinstance(before, msgspec.Struct) and isinstance(after, msgspec.Struct):
            values[name] = in_force(before, after, f"{key}.")
    return replace(started, **values)


def with_endpoint(settings: Settings, endpoint: str) -> Settings:
    """Return settings for a port that is open, of which a reload changes neither address nor mode.

    Raises `SettingsError` if they do not fit it: without callers, it must be loopback or a Unix socket.
    """
    if settings.listen.endpoint == endpoint:
        return settings
    fitting = replace(settings, listen=replace(settings.listen, endpoint=endpoint))
    check(fitting, "listen.endpoint does not change before a restart")
    return fitting


def check_same_kind(old: Settings, new: Settings) -> None:
    """Raise `SettingsError` if parts of the settings cannot change without a restart, though others depend on them."""
    if (old.listen.tls.certificate is None) != (new.listen.tls.certificate is None):
        raise SettingsError("listen.tls: a running daemon cannot begin or end to use TLS; restart it")
    before, after = ({name: one.max_sessions for name, one in each.pkcs11.tokens.items()} for each in (old, new))
    if before != after:
        raise SettingsError(
            "pkcs11.tokens: a running daemon cannot add or remove tokens, or change max_sessions; restart it"
        )


def _is_reloaded(key: str) -> bool:
    return any(key == one or key.startswith(f"{one}.") for one in _RELOADED)


def _different(old: Any, new: Any, where: str = "") -> Iterator[str]:
    for name in old.__struct_fields__:
        before, after = getattr(old, name), getattr(new, name)
        key = f"{where}{name}"
        if isinstance(before, msgspec.Struct) and isinstance(after, msgspec.Struct):
            yield from _different(before, after, f"{key}.")
        elif before != after:
            yield key
