"""`digsign ping`: is the signing host there, can it sign, and what has it for a machine."""

from __future__ import annotations

import argparse
import os
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from digsigd.cli.console import Console, Trouble, shown
from digsigd.cli.server import ask_server
from digsigd.client._internal.settings import add_server_arguments

if TYPE_CHECKING:
    from digsigd.client._internal.api import CertificateInfo, ClientError, MachineKeys, SigningClient
    from digsigd.client._internal.settings import ClientSettings

HELP = """Ask a signing host whether it is there and can sign, and with --machine, what it has for that machine.

Ends with 0 only if the host is ready, and has the machine's keys where they are asked for, with the version of cst and
the backend that --cst and --backend name. It is asked once, without further tries.
"""


@dataclass
class _Found:
    """What the host says: what it lacks, and a machine's keys or why it does not tell of them."""

    missing: list[str]
    keys: MachineKeys | None = None
    error: ClientError | None = None


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """What `digsign ping` takes."""
    add_server_arguments(parser)


def run(options: argparse.Namespace, console: Console) -> int:
    """Ask, and show what was found."""
    from digsigd.client._internal.settings import from_options

    settings = replace(from_options(options, os.environ), retries=0)
    found = ask_server(settings, lambda client: _ask(client, settings), console, quiet=True)
    console.say(f"server   {shown(settings.server)}")
    console.say(f"ready    {console.coloured('no', 'bad') if found.missing else console.coloured('yes', 'good')}")
    for line in found.missing:
        console.say(f"         {shown(line)}")
    if found.keys is not None:
        _show(found.keys, console)
    _judge(found, settings)
    return 0


async def _ask(client: SigningClient, settings: ClientSettings) -> _Found:
    from digsigd.client._internal.api import ClientError

    await client.alive()
    found = _Found(await client.ready())
    if settings.machine is not None:
        try:
            found.keys = await client.machine_keys(settings.machine)
        except ClientError as error:
            found.error = error
    return found


def _show(keys: MachineKeys, console: Console) -> None:
    from datetime import UTC, datetime

    console.say(f"machine  {keys.machine}")
    console.say(f"         key tarball, sha256 {keys.tarball_sha256}")
    console.say(f"         cst {', '.join(keys.versions) or 'none'}; backend {', '.join(keys.backends) or 'none'}")
    for table in keys.srk_tables:
        console.say(f"fuses    {table.fuse_value.hex()}")
        console.say(f"         {shown(table.name)}")
    if not keys.certificates:
        console.say("         no certificates: its keys are on a token, or it cannot sign")
        return
    console.say()
    now = datetime.now(UTC)
    in_order = sorted(keys.certificates, key=lambda one: (one.srk or 9, not one.is_srk, one.name))
    rows = [
        (
            str(one.srk or "-"),
            _part(one),
            shown(one.name),
            f"{one.not_after:%Y-%m-%d}{' (expired)' if one.not_after < now else ''}",
        )
        for one in in_order
    ]
    console.table(("SRK", "PART", "CERTIFICATE", "VALID UNTIL"), rows)


def _part(certificate: CertificateInfo) -> str:
    """Return how a certificate relates to the SRK table."""
    if certificate.is_srk:
        return "SRK"
    return "signed by SRK" if certificate.srk else "not in the table"


def _judge(found: _Found, settings: ClientSettings) -> None:
    """Raise `Trouble`, or what the host said, unless all that was asked for is there."""
    if (error := found.error) is not None:
        if error.status == 404 and error.problem != "no-keys":
            error.hint = (
                "this server does not report the keys of machines: it may be older, or not digsigd\n"
                "it may still sign if digsign.toml names the keys: see docs/client.md"
            )
        raise error
    if found.missing:
        raise Trouble("the signing host is not ready", hint="the lines above say what is missing; ask its operator")
    if found.keys is None:
        return
    if settings.cst is not None and settings.cst not in found.keys.versions:
        raise Trouble(
            f"the signing host has no cst {settings.cst}",
            hint=f"it has {', '.join(found.keys.versions) or 'none'}: pass --cst, DIGSIGN_CST, or cst in digsign.toml",
        )
    if settings.backend is not None and settings.backend not in found.keys.backends:
        raise Trouble(
            f"the signing host does not sign with backend {settings.backend} for this machine, or not for you",
            hint=f"it offers {', '.join(found.keys.backends) or 'none'}: pass --backend, or set DIGSIGN_BACKEND",
        )
