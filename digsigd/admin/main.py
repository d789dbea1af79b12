"""`digsigd`: the commands for operators of a signing host."""

from __future__ import annotations

import sys
from collections.abc import Sequence

from digsigd.cli.commands import Program

COMMANDS = {
    "run": "run the daemon in the foreground, or check its configuration",
    "token": "make a token for a caller",
    "check": "check the configuration as the systemd unit runs it",
    "explain": "show what a caller may do with a machine's keys, and why",
    "record": "read, verify, prove and prune the record of what was signed",
}
PROGRAM = Program("digsigd", "Run and administer a signing host for i.MX boards.", "digsigd.admin", COMMANDS)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command, and return the exit code: 0 for success, 1 for an error, 2 for a wrong command line."""
    return PROGRAM.run(arguments)


if __name__ == "__main__":
    sys.exit(main())
