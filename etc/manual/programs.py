"""The command lines of digsigd, as argparse has them."""

from __future__ import annotations

import argparse

from digsigd.admin.main import PROGRAM as DIGSIGD
from digsigd.cli import cst
from digsigd.cli.main import PROGRAM as DIGSIGN


def programs() -> dict[str, argparse.ArgumentParser]:
    """Return the parser of each program, with the options of all commands."""
    # It parses like getopt, from the same table.
    as_cst = argparse.ArgumentParser(prog="digsign-cst", description=cst.HELP)
    cst.add_arguments(as_cst)
    return {
        "digsign": DIGSIGN.parser(*DIGSIGN.commands),
        "digsign-cst": as_cst,
        "digsigd": DIGSIGD.parser(*DIGSIGD.commands),
    }


def commands(parser: argparse.ArgumentParser) -> dict[str, argparse.ArgumentParser]:
    """Return the commands below a parser, by their names."""
    for action in parser._actions:  # noqa: SLF001 - argparse has no other way
        if isinstance(action, argparse._SubParsersAction):  # noqa: SLF001
            return dict(action.choices)
    return {}


def helps(parser: argparse.ArgumentParser) -> dict[str, str]:
    """Return the line of --help for each command below a parser."""
    for action in parser._actions:  # noqa: SLF001
        if isinstance(action, argparse._SubParsersAction):  # noqa: SLF001
            return {one.dest: one.help or "" for one in action._choices_actions}  # noqa: SLF001
    return {}


def arguments(parser: argparse.ArgumentParser) -> list[argparse.Action]:
    """Return the options and arguments of a parser that --help shows, without commands."""
    return [
        action
        for action in parser._actions  # noqa: SLF001
        if not isinstance(action, argparse._SubParsersAction) and action.help != argparse.SUPPRESS  # noqa: SLF001
    ]
