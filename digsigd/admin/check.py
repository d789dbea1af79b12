"""`digsigd check`: check the configuration in a unit of the same kind as the daemon's."""

from __future__ import annotations

import argparse
import os
import shlex
import subprocess
from pathlib import Path

from digsigd.cli.console import Console, Trouble, shown

HELP = """Check the configuration as the daemon's systemd unit runs it, and try the keys and each cst by signing.

It runs the command of the unit with --check, as the same user, with the same credentials, groups and sandbox, in a
separate unit, while the daemon goes on. Drop-ins are followed. The exit code is that of --check: 0 if the daemon can
start and sign, else 1.
"""
UNIT = "digsigd.service"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of `digsigd check`."""
    parser.add_argument("--machine", action="append", default=[], metavar="NAME", help="also try this machine's keys")
    parser.add_argument("--unit", default=UNIT, help=f"the unit, or the path of a unit file (default: {UNIT})")
    parser.add_argument("--print", action="store_true", help="print the command instead of running it")


def run(options: argparse.Namespace, console: Console) -> int:
    """Run the check, and return its exit code. Raises `Trouble`."""
    from digsigd.admin.unit import command
    from digsigd.names import MACHINE, MACHINE_FORM

    for machine in options.machine:
        if not MACHINE.fullmatch(machine):
            raise Trouble(f"{machine!r} is not a machine name: expected {MACHINE_FORM}", code=2)
    name = Path(options.unit).name
    name = name if name.endswith(".service") else f"{name}.service"
    words = command(_text(options.unit), name, ["--check", *(f"--machine={one}" for one in options.machine)])
    if options.print:
        console.say(shlex.join(words))
        return 0
    if os.geteuid() != 0:
        raise Trouble("only root can start a unit", hint="run it with sudo")
    code = _run(words).returncode
    if code not in {0, 1}:
        own = next(word.removeprefix("--unit=") for word in words if word.startswith("--unit="))
        raise Trouble(
            f"systemd could not run the check in a unit like {shown(name)}: exit code {code}",
            hint=f"`systemd-analyze exit-status {code}` names the cause, `journalctl -u {own}` says more",
        )
    return code


def _text(unit: str) -> str:
    """Return a unit with its drop-ins, or a file as it is. Raises `Trouble`."""
    if "/" in unit:
        try:
            return Path(unit).read_text("utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise Trouble(f"{shown(unit)} cannot be read: {getattr(error, 'strerror', error)}") from None
    done = _run(["systemctl", "cat", "--no-pager", "--", unit], capture=True)
    if done.returncode:
        said = "; ".join(shown(line) for line in done.stderr.splitlines())
        raise Trouble(
            f"{shown(unit)}: {said or 'systemctl cat failed'}",
            hint="without systemd, use `digsigd run --config FILE --check --as USER`",
        )
    return done.stdout


def _run(words: list[str], *, capture: bool = False) -> subprocess.CompletedProcess[str]:
    try:
        return subprocess.run(words, check=False, capture_output=capture, text=True, stdin=subprocess.DEVNULL)
    except OSError as error:
        raise Trouble(
            f"{words[0]} cannot be run: {error.strerror}",
            hint="without systemd, use `digsigd run --config FILE --check --as USER`",
        ) from None
