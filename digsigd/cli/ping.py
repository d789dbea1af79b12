"""`digsign ping`: ask a signing host whether it can sign, and which keys it has for a machine."""

from __future__ import annotations

import argparse
import os
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from digsigd.cli.console import Console, Trouble, shown
from digsigd.cli.server import ask_server
from digsigd.client._internal.settings import add_server_arguments

if TYPE_CHECKING:
    from digsigd.client import CertificateInfo, ClientError, ClientSettings, MachineKeys, SigningClient

HELP = """Ask a signing host whether it can sign and, with --machine, which keys it has for that machine.

The exit code is 0 only if the host is ready and, with --machine, has the machine's keys and signs with the version of
cst and the backend that --cst and --backend name. The request is sent once, without retries.
"""


@dataclass
class _Found:
    """The host's answers: what it lacks, and a machine's keys or the error instead of them."""

    version: str
    missing: list[str]
    keys: MachineKeys | None = None
    error: ClientError | None = None


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of `digsign ping`."""
    add_server_arguments(parser)


def run(options: argparse.Namespace, console: Console) -> int:
    """Ask the host, print its answers, and return the exit code. Raises `Trouble` and `ClientError`."""
    from digsigd.client._internal.settings import from_options

    settings = replace(from_options(options, os.environ), retries=0)
    found = ask_server(settings, lambda client: _ask(client, settings), console, quiet=True)
    console.say(f"server   {shown(settings.server)}")
    if found.version:
        console.say(f"version  {shown(found.version)}")
    console.say(f"ready    {console.coloured('no', 'bad') if found.missing else console.coloured('yes', 'good')}")
    for line in found.missing:
        console.say(f"         {shown(line)}")
    if found.keys is not None:
        _show(found.keys, console)
    _judge(found, settings)
    return 0


async def _ask(client: SigningClient, settings: ClientSettings) -> _Found:
    from digsigd.client import ClientError

    found = _Found(await client.alive(), await client.ready())
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
    for one in keys.ahab_tables:
        console.say(f"AHAB     {shown(', '.join(dict.fromkeys(one.keys)))}")
        console.say(f"         {shown(one.name)}, for containers of version {0 if one.version == 1 else 2}")
        for name, value in (("sha256", one.sha256), ("sha512", one.sha512)):
            if chips := _chips_of(one.version, name):
                console.say(f"fuses    {value.hex()}")
                console.say(f"         {name} of the table, of {chips}")
    if not keys.certificates:
        console.say("         no certificates: the keys are on a token, or the host cannot sign for this machine")
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


def _chips_of(version: int, name: str) -> str:
    """Return the chips whose fuses have this hash of an SRK table for AHAB of this version, "" if there are none."""
    from digsigd.ahab import CHIPS

    wanted = 0 if version == 1 else 2
    return ", ".join(one.title for one in CHIPS if wanted in one.versions and one.fuse_hash_cell == name)


def _part(certificate: CertificateInfo) -> str:
    """Return how a certificate relates to the SRK table."""
    if certificate.is_srk:
        return "SRK"
    return "signed by SRK" if certificate.srk else "not in the table"


def _judge(found: _Found, settings: ClientSettings) -> None:
    """Raise `Trouble`, or the host's error, unless the host has everything that was asked for."""
    if (error := found.error) is not None:
        if error.status == 404 and error.problem != "no-keys":
            error.hint = (
                "this server does not report the keys of machines: it may be an older version or another server\n"
                "to sign with it, set the names of the keys in digsign.toml: see docs/client.md"
            )
        raise error
    if found.missing:
        raise Trouble("the signing host is not ready", hint="ask its operator to fix what is listed above")
    if found.keys is None:
        return
    if settings.cst is not None and settings.cst not in found.keys.versions:
        raise Trouble(
            f"the signing host has no cst {settings.cst}",
            hint=f"it has {', '.join(found.keys.versions) or 'none'}: set --cst, DIGSIGN_CST, or cst in digsign.toml",
        )
    if settings.backend is not None and settings.backend not in found.keys.backends:
        raise Trouble(
            f"the signing host does not sign with backend {settings.backend} for this machine and this caller",
            hint=f"it signs with {', '.join(found.keys.backends) or 'none'}: set --backend or DIGSIGN_BACKEND",
        )
