"""`digsign`: the commands, and what is common to them.

Each command is a module with `HELP` (its arguments explained), `add_arguments(parser)` and `run(options, console)`,
which gives the exit code or raises `digsigd.Error`. It is imported when it is used, and imports what is heavy (Twisted,
cryptography) inside `run`: `digsign --help` is there at once.
"""

from __future__ import annotations

import argparse
import os
import signal
import sys
from collections.abc import Sequence
from importlib import import_module
from typing import Any

from digsigd import Error
from digsigd.cli.console import Console, Trouble

COMMANDS = {
    "sign": "sign an image: find its parts, have them signed, insert the CSFs, verify the whole",
    "verify": "prove a signed image offline, as the boot ROM, SPL and U-Boot would",
    "inspect": "show what a file is: IVT, FIT, CSF blob, SRK table or key tarball",
    "fuses": "the words to burn for an SRK table, and the commands that do it",
    "pki": "make keys: a HAB4 PKI in the layout of the key tarball",
    "ping": "ask a signing host whether it is ready, and what it has for a machine",
    "cst": "NXP's cst, with the signing done by a server",
}


class _Once(argparse.Action):
    """`--version`: looked up only where it is asked for."""

    def __call__(self, parser: argparse.ArgumentParser, *_: Any) -> None:
        from importlib.metadata import version

        parser.exit(message=f"digsign {version('digsigd')}\n")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command; the result is the exit code: 0 for done, 1 for trouble, 2 for a wrong command line."""
    arguments = sys.argv[1:] if arguments is None else arguments
    parser = argparse.ArgumentParser(
        prog="digsign",
        description="Sign images for i.MX boards (HAB4) by a signing host, and prove the result.",
        epilog="digsign COMMAND --help explains a command.",
    )
    parser.add_argument("--version", nargs=0, action=_Once, help="show the version and exit")
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", required=True)
    chosen = next((word for word in arguments if not word.startswith("-")), None)
    for name, text in COMMANDS.items():
        if name != chosen:
            commands.add_parser(name, help=text, add_help=False)
            continue
        module = import_module(f"digsigd.cli.{name}")
        command = commands.add_parser(
            name, help=text, description=module.HELP, formatter_class=argparse.RawDescriptionHelpFormatter
        )
        module.add_arguments(command)
        command.set_defaults(run=module.run)
    options = parser.parse_args(arguments)
    return guarded(lambda console: int(options.run(options, console)))


def guarded(run: Any) -> int:
    """Run with a console, and return the exit code.

    Errors of ours, Ctrl-C and a reader that went away end in a code of their own, not in a traceback. This is the one
    place that shows errors.
    """
    console = Console()
    for number in (signal.SIGTERM, signal.SIGHUP):
        # What is half-written is taken away on the way out; nohup stays what it is.
        if signal.getsignal(number) == signal.SIG_DFL:
            signal.signal(number, _ended)
    try:
        code: int = run(console)
        console.out.flush()
    except Error as error:
        return console.trouble(error)
    except KeyboardInterrupt:
        console.tell("digsign: interrupted")
        return 130
    except BrokenPipeError:
        # Whoever read has seen enough; nothing is to be written at exit either.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 141
    except OSError as error:
        if error.filename is not None:
            raise
        # Standard output, on a full disk. What was done is done, but nobody has read of it.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return console.trouble(Trouble(f"the output cannot be written: {error.strerror}"))
    return code


def _ended(number: int, _: object) -> None:
    """Leave as shells have it for whoever a signal ends."""
    raise SystemExit(128 + number)


if __name__ == "__main__":
    sys.exit(main())
