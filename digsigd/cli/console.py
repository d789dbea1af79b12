"""What people read: tables, errors that say what to do, and whether there is a terminal."""

from __future__ import annotations

import io
import os
import sys
from collections.abc import Sequence
from typing import TextIO

from digsigd import Error
from digsigd.client._internal.errors import ClientSettingsError
from digsigd.text import one_line


class Trouble(Error):
    """A command cannot go on: what, and what to do next. It ends with `code`."""

    def __init__(self, what: str, *, hint: str = "", code: int = 1) -> None:
        super().__init__(what, hint=hint)
        self.code = code


# Green, red, yellow, grey: SGR parameters of ECMA-48, 8.3.117.
_COLOURS = {"good": "32", "bad": "31", "note": "33", "dim": "2"}


class Console:
    """Standard output and error. Colours only on a terminal, and not where NO_COLOR is set."""

    def __init__(self, out: TextIO | None = None, err: TextIO | None = None) -> None:
        # With a stream closed (>&-) Python has None for it.
        self.out = out or sys.stdout or io.StringIO()
        self.err = err or sys.stderr or io.StringIO()
        self._coloured = self.out.isatty() and not os.environ.get("NO_COLOR")

    def say(self, text: str = "") -> None:
        """A line of the result."""
        print(text, file=self.out)

    def tell(self, text: str) -> None:
        """A line about what is going on, which is no result."""
        print(text, file=self.err, flush=True)

    def coloured(self, text: str, colour: str) -> str:
        """The text as "good", "bad", "note" or "dim"."""
        return f"\x1b[{_COLOURS[colour]}m{text}\x1b[0m" if self._coloured else text

    def table(self, heads: Sequence[str], rows: Sequence[Sequence[str]], *, indent: str = "") -> None:
        """A table with columns as wide as what is in them."""
        widths = [max(len(cell) for cell in column) for column in zip(heads, *rows, strict=True)]
        for row in (heads, *rows):
            line = "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
            self.say(indent + (self.coloured(line, "dim") if row is heads else line))

    def trouble(self, error: Error) -> int:
        """Say what went wrong and what to do about it. Return the exit code.

        That is what a `Trouble` says, 2 for a mistake in the configuration, 1 for any other error.
        """
        print(f"digsign: {error.diagnostics()}", file=self.err)
        if isinstance(error, Trouble):
            return error.code
        return 2 if isinstance(error, ClientSettingsError) else 1


def shown(text: str) -> str:
    """Text of a file or a server as one line without control characters, so that it cannot draw on the terminal."""
    return one_line(text)
