"""The `Host` and `Origin` headers: a web page must not sign through a browser that can reach this host.

A page can send a form to any address. It shows in `Origin`, and in `Host` if the page's own name was made to point to
this host (DNS rebinding).
"""

from __future__ import annotations

import re
from ipaddress import ip_address
from urllib.parse import urlsplit

from digsigd.errors import NotAllowed
from digsigd.settings import Settings
from digsigd.settings.endpoints import options

LOCAL_NAMES = frozenset({"localhost", "127.0.0.1", "::1"})
# RFC 9110, 7.2: a name, an IPv4 address or an IPv6 address in brackets, and a port.
_HOST = re.compile(r"(\[[0-9A-Fa-f:.]+\]|[^\[\]:@/\s]+)(?::(\d{0,5}))?")


def allowed_hosts(settings: Settings) -> frozenset[str]:
    """Return the names that clients may call this host by: those of the settings, localhost, and where it listens."""
    interfaces = {value for name, value in options(settings.listen.endpoint) if name == "interface"}
    return LOCAL_NAMES | {_canonical(one) for one in (*settings.listen.allowed_hosts, *interfaces)}


def check_host(host: str, allowed: frozenset[str], address: str) -> None:
    """Raise `NotAllowed` if a `Host` header names another host. `address` is where the connection arrived, or empty.

    A request without the header is allowed: browsers always send it.
    """
    name = host_in(host)
    if host and name not in allowed and (name is None or name != _canonical(address)):
        raise NotAllowed(
            "the Host header does not name this signing host",
            hint="use its address, or ask its operator to add the name to listen.allowed_hosts",
        )


def check_origin(origins: list[str], host: str) -> None:
    """Raise `NotAllowed` if a request comes from a web page of another host than `host`, the `Host` header.

    Programs send no `Origin`; browsers send it with each form.
    """
    for origin in origins:
        try:
            place = urlsplit(origin).netloc
        except ValueError:
            place = ""
        if not place or place.lower() != host.lower():
            raise NotAllowed("requests of web pages are refused", hint="send the request without an Origin header")


def host_in(host: str) -> str | None:
    """Return the host of a `Host` header in its canonical form; None if it is malformed."""
    found = _HOST.fullmatch(host)
    return _canonical(found[1]) if found else None


def _canonical(host: str) -> str:
    name = host.strip("[]").lower().removesuffix(".")
    try:
        address = ip_address(name)
    except ValueError:
        return name
    mapped = getattr(address, "ipv4_mapped", None)
    return str(mapped or address)
