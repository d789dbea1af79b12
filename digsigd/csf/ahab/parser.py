"""Parses CSF descriptions for AHAB: a strict subset of what cst reads, with line and column in every error.

cst skips `-` (it reads -1 as 1), cuts long numbers, and lets a repeated command overwrite the former. What
`digsigd.csf.parser` reads is the same for both: commands, arguments, comments, continued lines.
"""

from __future__ import annotations

from itertools import islice

from digsigd.csf.ahab.grammar import AHAB
from digsigd.csf.ahab.model import Description
from digsigd.csf.errors import CsfSyntaxError
from digsigd.csf.lexer import logical_lines
from digsigd.csf.parser import command_name, leading_words, read_commands
from digsigd.csf.values import fold

# How many lines, without comments, are searched for the target: descriptions begin with it.
_MOST_LINES = 1024


def parse(text: bytes, *, max_bytes: int = 1 << 20) -> Description:
    """Read a CSF description for AHAB of at most `max_bytes` bytes. Raises `CsfSyntaxError`."""
    return Description(tuple(read_commands(text, AHAB, max_bytes)))


def is_ahab(text: bytes, *, max_bytes: int = 1 << 20) -> bool:
    """Return whether the first [Header] of a text has `Target = AHAB`; False for what cannot be read up to there.

    Reads no further than this header, or 1,024 lines. Never raises: whichever parser is called then says what is wrong.
    """
    # Descriptions for HAB, which are most of them, are read once.
    if b"ahab" not in text.lower().translate(None, b' \t\v\f\r\n\\"'):
        return False
    in_header = False
    try:
        for tokens in islice(logical_lines(text, max_bytes), _MOST_LINES):
            if tokens[0].kind == "[":
                if in_header:
                    return False
                in_header = fold("".join(command_name(tokens))) == "header"
            elif in_header and fold("".join(words := leading_words(tokens))) == "target":
                return fold("".join(leading_words(tokens[len(words) + 1 :]))) == "ahab"
    except CsfSyntaxError:
        return False
    return False
