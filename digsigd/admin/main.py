"""`digsigd`: the commands for operators of a signing host."""

from __future__ import annotations

import sys
from collections.abc import Sequence

from digsigd.cli.commands import run_command

COMMANDS = {
    "run": "run the daemon in the foreground, or check its configuration",
    "token": "make a token for a caller",
    "explain": "show what a caller may do with a machine's keys, and why",
    "record": "read, verify, prove and prune the record of what was signed",
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command, and return the exit code: 0 for success, 1 for an error, 2 for a wrong command line."""
    description = "Run and administer a signing host for i.MX boards."
    return run_command("digsigd", description, "digsigd.admin", COMMANDS, arguments)


if __name__ == "__main__":
    sys.exit(main())
