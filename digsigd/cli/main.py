"""`digsign`: the client's commands."""

from __future__ import annotations

import sys
from collections.abc import Sequence

from digsigd.cli.commands import Program

COMMANDS = {
    "sign": "sign an image: find its parts, sign them, insert the CSFs, verify the whole image",
    "verify": "verify a signed image offline, as the boot ROM, SPL and U-Boot would",
    "inspect": "show what a file is: IVT, FIT, CSF blob, SRK table or key tarball",
    "fuses": "show the words to burn for an SRK table, and the commands that burn them",
    "pki": "make keys: a HAB4 PKI in the layout of the key tarball",
    "ping": "ask a signing host whether it is ready, and which keys it has for a machine",
    "cst": "a replacement for NXP's cst that signs with a signing host",
}
PROGRAM = Program(
    "digsign",
    "Sign images for i.MX boards (HAB4) with a signing host, and verify the result.",
    "digsigd.cli",
    COMMANDS,
)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command, and return the exit code: 0 for success, 1 for an error, 2 for a wrong command line."""
    return PROGRAM.run(arguments)


if __name__ == "__main__":
    sys.exit(main())
