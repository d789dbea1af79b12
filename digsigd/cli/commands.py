"""What the commands of `digsign` and of `digsigd` have in common.

Each command is a module with `HELP` (the text of --help), `add_arguments(parser)` and `run(options, console)`, which
returns the exit code or raises `digsigd.Error`. It is imported when it is used, and imports heavy modules (Twisted,
cryptography) inside `run`, which keeps `--help` fast.
"""

from __future__ import annotations

import argparse
import os
import signal
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from importlib import import_module
from typing import Any

from digsigd import Error
from digsigd.cli.console import Console, Trouble


class _Once(argparse.Action):
    """The action of `--version`, which looks the version up only if it is used."""

    def __call__(self, parser: argparse.ArgumentParser, *_: Any) -> None:
        from importlib.metadata import version

        sys.stdout.write(f"{parser.prog} {version('digsigd')}\n")
        parser.exit()


@dataclass(frozen=True, slots=True)
class Program:
    """A program with commands: its name, a line about it, and its modules in `package`, each with a line for --help."""

    name: str
    description: str
    package: str
    commands: Mapping[str, str]

    def parser(self, *only: str) -> argparse.ArgumentParser:
        """Return the parser of the command line, with the options of the commands in `only`. Others are only listed."""
        parser = argparse.ArgumentParser(
            prog=self.name,
            description=self.description,
            epilog=f"See {self.name} COMMAND --help for the options of a command.",
        )
        parser.add_argument("--version", nargs=0, action=_Once, help="show the version and exit")
        parsers = parser.add_subparsers(dest="command", metavar="COMMAND", required=True)
        for name, text in self.commands.items():
            if name not in only:
                parsers.add_parser(name, help=text, add_help=False)
                continue
            module = import_module(f"{self.package}.{name}")
            command = parsers.add_parser(
                name, help=text, description=module.HELP, formatter_class=argparse.RawDescriptionHelpFormatter
            )
            module.add_arguments(command)
            command.set_defaults(run=module.run)
        return parser

    def run(self, arguments: Sequence[str] | None) -> int:
        """Run a command, and return the exit code: 0 for success, 1 for an error, 2 for a wrong command line."""
        arguments = sys.argv[1:] if arguments is None else arguments
        chosen = next((word for word in arguments if not word.startswith("-")), "")
        options = self.parser(chosen).parse_args(arguments)
        return guarded(lambda console: int(options.run(options, console)), prog=self.name)


def guarded(run: Callable[[Console], int], *, prog: str = "digsign") -> int:
    """Call `run` with a console, and return the exit code.

    digsigd's errors, Ctrl-C and a closed pipe lead to an exit code, not to a traceback. Only this function prints
    errors.
    """
    console = Console(prog=prog)
    for number in (signal.SIGTERM, signal.SIGHUP):
        # SystemExit lets temporary files be removed; under nohup the signal stays ignored.
        if signal.getsignal(number) == signal.SIG_DFL:
            signal.signal(number, _ended)
    try:
        code = run(console)
        console.out.flush()
    except Error as error:
        return console.trouble(error)
    except KeyboardInterrupt:
        console.tell(f"{prog}: interrupted")
        return 130
    except BrokenPipeError:
        # The reader has closed the pipe; prevent a second error when Python flushes at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 141
    except OSError as error:
        if error.filename is not None:
            raise
        # Standard output, on a full disk. The command is done, but its output is lost.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return console.trouble(Trouble(f"the output cannot be written: {error.strerror}"))
    return code


def _ended(number: int, _: object) -> None:
    """Exit with the code that shells use for a process ended by a signal."""
    raise SystemExit(128 + number)
