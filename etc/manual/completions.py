"""Completions for bash, zsh and fish, made with shtab from the command lines."""

from __future__ import annotations

import argparse
from pathlib import Path

import shtab

from etc.manual.programs import arguments, commands, helps

# Where Debian's shells look below share/ for the completion of a program.
SHELLS = {
    "bash": "bash-completion/completions/{}",
    "zsh": "zsh/vendor-completions/_{}",
    "fish": "fish/vendor_completions.d/{}.fish",
}
_FOLDERS = {"DIR", "FOLDER"}
# What cst's options take as text.
_FILES = {"CSF", "OUT"}


def completion(parser: argparse.ArgumentParser, shell: str) -> str:
    """Return the completion of a program for "bash", "zsh" or "fish": files where a file is expected."""
    _prepare(parser)
    return shtab.complete(parser, shell=shell) + "\n"


def _prepare(parser: argparse.ArgumentParser) -> None:
    for action in arguments(parser):
        if action.metavar in _FOLDERS:
            action.complete = shtab.DIRECTORY  # type: ignore[attr-defined]
        elif action.type is Path or action.metavar in _FILES:
            action.complete = shtab.FILE  # type: ignore[attr-defined]
    for name, command in commands(parser).items():
        # What shells show beside the name is the first line of the description.
        command.description = helps(parser)[name]
        _prepare(command)
