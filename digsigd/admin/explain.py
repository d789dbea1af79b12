"""`digsigd explain`: what a caller may do with a machine's keys, and which line of the configuration says so."""

from __future__ import annotations

import argparse
import os
from pathlib import Path

from digsigd.cli.console import Console, Trouble, shown

HELP = """Show what a caller may do with the keys of a machine, and which line of the configuration says so.

The exit code is 0 if the caller may sign for the machine, 1 if not. Only the configuration is read, not the files that
it names.
"""
CONFIG = Path("/etc/digsigd/digsigd.toml")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of `digsigd explain`."""
    parser.add_argument("caller", metavar="CALLER", help="NAME of [callers.NAME]")
    parser.add_argument("machine", metavar="MACHINE", help="the machine, as builds name it")
    parser.add_argument("--config", "-c", type=Path, default=CONFIG, help=f"the configuration (default: {CONFIG})")


def run(options: argparse.Namespace, console: Console) -> int:
    """Print the explanation, and return 0 or 1. Raises `SettingsError` and `Trouble`."""
    from digsigd.callers.explain import explain
    from digsigd.names import MACHINE, MACHINE_FORM
    from digsigd.settings import load

    if not MACHINE.fullmatch(options.machine):
        raise Trouble(f"{options.machine!r} is not a machine name: expected {MACHINE_FORM}", code=2)
    # Credentials are not read, so that any folder does for them.
    settings = load(options.config, {"CREDENTIALS_DIRECTORY": "/run/credentials/digsigd.service", **os.environ})
    try:
        found = explain(
            settings,
            options.caller,
            options.machine,
            name=options.config.name,
            text=options.config.read_text("utf-8"),
        )
    except KeyError:
        raise Trouble(
            f"there is no caller {shown(options.caller)!r} in {options.config}",
            hint=f"callers are: {', '.join(settings.callers)}",
        ) from None
    for proof in found.proofs:
        console.say(f"known by   {shown(proof)}")
    for reason in found.reasons:
        word = console.coloured("allowed", "good") if reason.allowed else console.coloured("refused", "bad")
        console.say(f"{word}    {shown(reason.what):32}  {shown(reason.why)}")
    console.say()
    verb = "may" if found.may_sign else "may not"
    console.say(f"{shown(options.caller)} {verb} sign for {options.machine}")
    return 0 if found.may_sign else 1
