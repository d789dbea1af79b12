"""The console of a command: lines, tables, errors with hints, and colours on a terminal."""

from __future__ import annotations

import io
import os
import sys
from collections.abc import Sequence
from typing import TextIO

from digsigd import Error
from digsigd.client import ClientSettingsError
from digsigd.text import one_line


class Trouble(Error):
    """A command failed: `what` happened, the `hint` says what to do. `code` is the exit code."""

    def __init__(self, what: str, *, hint: str = "", code: int = 1) -> None:
        super().__init__(what, hint=hint)
        self.code = code


# Green, red, yellow, grey: SGR parameters of ECMA-48, 8.3.117.
_COLOURS = {"good": "32", "bad": "31", "note": "33", "dim": "2"}


class Console:
    """Standard output and error. Colours are used only on a terminal and if NO_COLOR is not set."""

    def __init__(self, out: TextIO | None = None, err: TextIO | None = None, *, prog: str = "digsign") -> None:
        self._prog = prog
        # Python sets a stream to None if it is closed (>&-).
        self.out = out or sys.stdout or io.StringIO()
        self.err = err or sys.stderr or io.StringIO()
        self._coloured = self.out.isatty() and not os.environ.get("NO_COLOR")

    def say(self, text: str = "") -> None:
        """Print a line of the result on standard output."""
        print(text, file=self.out)

    def tell(self, text: str) -> None:
        """Print a line about progress on standard error."""
        print(text, file=self.err, flush=True)

    def coloured(self, text: str, colour: str) -> str:
        """Return the text in a colour: "good", "bad", "note" or "dim"."""
        return f"\x1b[{_COLOURS[colour]}m{text}\x1b[0m" if self._coloured else text

    def table(self, heads: Sequence[str], rows: Sequence[Sequence[str]], *, indent: str = "") -> None:
        """Print a table with columns as wide as their contents."""
        widths = [max(len(cell) for cell in column) for column in zip(heads, *rows, strict=True)]
        for row in (heads, *rows):
            line = "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
            self.say(indent + (self.coloured(line, "dim") if row is heads else line))

    def trouble(self, error: Error) -> int:
        """Print an error with its hint, and return the exit code.

        It is the code of a `Trouble`, 2 for a `ClientSettingsError`, and 1 for any other error.
        """
        print(f"{self._prog}: {error.diagnostics()}", file=self.err)
        if isinstance(error, Trouble):
            return error.code
        return 2 if isinstance(error, ClientSettingsError) else 1


def shown(text: str) -> str:
    """Return text of a file or a server as one line without control characters, which could alter the terminal."""
    return one_line(text)
