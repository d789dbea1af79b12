"""Endpoint strings: what they say about the interfaces to listen on."""

from __future__ import annotations

import ipaddress
import re


def is_local(endpoint: str) -> bool:
    """Return whether an endpoint string certainly listens on loopback or a Unix socket only."""
    parts = options(endpoint)
    if parts[0] == (None, "unix"):
        return True
    interfaces = [value for name, value in parts if name == "interface"]
    return (
        parts[0] in {(None, "tcp"), (None, "tcp6"), (None, "ssl")}
        and bool(interfaces)
        and all(map(_is_loopback, interfaces))
    )


def with_backlog(endpoint: str, backlog: int) -> str:
    """Return an endpoint string with this backlog, unless it has one or its kind has none."""
    parts = options(endpoint)
    if parts[0] not in {(None, "tcp"), (None, "tcp6"), (None, "ssl"), (None, "unix")}:
        return endpoint
    if any(name == "backlog" for name, _ in parts):
        return endpoint
    return f"{endpoint}:backlog={backlog}"


def _is_loopback(interface: str) -> bool:
    if interface == "localhost":
        return True
    try:
        return ipaddress.ip_address(interface).is_loopback
    except ValueError:
        return False


def options(endpoint: str) -> list[tuple[str | None, str]]:
    """Return the parts of an endpoint string as (name, value), with None for parts without a name.

    The form: Twisted, `serverFromString`. Colons separate parts, the first equals sign ends a name, and a backslash
    escapes both. If an option is repeated, Twisted uses the last one.
    """
    parts: list[list[str]] = [[""]]
    for escaped, plain in re.findall(r"\\(.)|(.)", endpoint, re.DOTALL):
        if plain == ":":
            parts.append([""])
        elif plain == "=" and len(parts[-1]) == 1:
            parts[-1].append("")
        else:
            parts[-1][-1] += escaped or plain
    return [(part[0] if len(part) == 2 else None, part[-1]) for part in parts]
