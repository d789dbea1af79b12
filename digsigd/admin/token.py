"""`digsigd token new`: make a token for a caller."""

from __future__ import annotations

import argparse
import re
from datetime import UTC, datetime, timedelta

from digsigd.cli.console import Console, Trouble

HELP = """Make a token for a caller, and print it with the lines for the configuration of the signing host.

  digsigd token new NAME [--days DAYS]

The token is printed on standard output, the lines for the configuration on standard error. The host needs only the
token's SHA-256: give the token to the build, and keep it nowhere else. It cannot be shown again.
"""
DAYS = 365


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of `digsigd token`."""
    parser.add_argument("action", choices=["new"], metavar="new", help="what to do")
    parser.add_argument("name", metavar="NAME", help="the caller: NAME of [callers.NAME]")
    parser.add_argument("--days", type=int, default=DAYS, help=f"after how many days the token ends (default: {DAYS})")


def run(options: argparse.Namespace, console: Console) -> int:
    """Print a new token and its configuration, and return 0. Raises `Trouble` for a wrong name or number of days."""
    from digsigd.callers.tokens import new_token, sha256_of
    from digsigd.settings.caller_checks import CALLER, CALLER_FORM

    if not re.fullmatch(CALLER, options.name):
        raise Trouble(f"{options.name!r} is not a caller name: expected {CALLER_FORM}", code=2)
    if not 1 <= options.days <= 36500:
        raise Trouble("--days must be 1 to 36500", code=2)
    token = new_token()
    end = (datetime.now(UTC) + timedelta(days=options.days)).replace(microsecond=0)
    console.say(token)
    name = options.name if re.fullmatch("[A-Za-z0-9_-]+", options.name) else f'"{options.name}"'
    console.tell(
        f"\nAdd these lines to the configuration of the signing host:\n\n"
        f"[[callers.{name}.tokens]]\n"
        f'sha256 = "{sha256_of(token.encode()).hex()}"\n'
        f"not_after = {end:%Y-%m-%dT%H:%M:%SZ}\n\n"
        f"A new caller also needs its rights, above these lines. What is not listed is not allowed:\n\n"
        f"[callers.{name}]\n"
        f'machines = ["MACHINE"]\n'
        f'backends = ["ssl"]\n'
        f'cst_versions = ["*"]\n'
    )
    return 0
