"""From the bytes of a CSF description to its logical lines, each a list of tokens with their places."""

from __future__ import annotations

import io
import re
from collections.abc import Iterator
from typing import NamedTuple

from digsigd.csf.errors import CsfSyntaxError, quoted
from digsigd.csf.model import Place

MAX_LINE = 16 << 10
# cst copies paths into buffers of 256 bytes.
MAX_STRING = 255
# 64 blocks are 320 words and marks. A line of a million commas would cost a hundred times its size in memory.
MAX_TOKENS = 1024

_TOKEN = re.compile(
    r'[ \t\f\v]*+(?:(?P<comment>\#.*)|(?P<string>"[^"]*")|(?P<mark>[\[\]=,])'
    r'|(?P<continued>\\[ \t]*(?:\#.*)?$)|(?P<word>[^ \t\f\v\[\]=,"#\\]+)|$)'
)
_COMMENT = re.compile(r"[ \t\f\v]*#")


class Token(NamedTuple):
    """A word, a string (without its quotes) or one of the marks `[ ] = ,`."""

    kind: str
    text: str
    place: Place


def logical_lines(data: bytes, max_bytes: int) -> Iterator[list[Token]]:
    """The lines that hold anything, with what a backslash continues joined. Raises `CsfSyntaxError`."""
    if len(data) > max_bytes:
        raise CsfSyntaxError(f"a CSF description of {len(data)} bytes; at most {max_bytes} are read")
    pending: list[Token] = []
    continued = False
    for number, content in enumerate(io.BytesIO(data.removeprefix(b"\xef\xbb\xbf")), 1):
        # Latin-1 maps every byte to one character: comments may hold anything, and columns count bytes.
        line = content.decode("latin-1").removesuffix("\n").removesuffix("\r")
        # To cst the end of a comment is no end of a line: a comment of its own does not end what is continued.
        if continued and _COMMENT.match(line):
            continue
        tokens, continued = _tokens(line, number)
        pending += tokens
        if len(pending) > MAX_TOKENS:
            raise CsfSyntaxError(
                f"more than {MAX_TOKENS} words and marks in a line and what continues it", *pending[MAX_TOKENS].place
            )
        if not continued and pending:
            yield pending
            pending = []
    if pending:
        yield pending


def _tokens(line: str, number: int) -> tuple[list[Token], bool]:
    """The tokens of one line, and whether the next one continues it."""
    if len(line) > MAX_LINE:
        raise CsfSyntaxError(f"the line has {len(line)} characters; at most {MAX_LINE} are read", number)
    tokens: list[Token] = []
    position = 0
    while position < len(line):
        match = _TOKEN.match(line, position)
        if match is None:
            wrong = len(line) - len(line[position:].lstrip(" \t\f\v"))
            if line[wrong] == '"':
                raise CsfSyntaxError("the quotation mark is never closed", number, wrong + 1)
            raise CsfSyntaxError(f"{quoted(line[wrong])} does not belong here", number, wrong + 1)
        position = match.end()
        kind = match.lastgroup
        if kind is None:
            break
        content, place = match[kind], (number, match.start(kind) + 1)
        if kind == "continued":
            return tokens, True
        if kind == "string":
            tokens.append(Token(kind, _string(content[1:-1], place), place))
        elif kind == "word":
            if not (content.isascii() and content.isprintable()):
                raise CsfSyntaxError(f"{quoted(content)} is no word of the language", *place)
            tokens.append(Token(kind, content, place))
        elif kind == "mark":
            tokens.append(Token(content, content, place))
    return tokens, False


def _string(content: str, place: Place) -> str:
    if len(content) > MAX_STRING:
        raise CsfSyntaxError(f"a string of {len(content)} bytes; cst takes at most {MAX_STRING}", *place)
    try:
        text = content.encode("latin-1").decode("utf-8")
    except UnicodeDecodeError:
        raise CsfSyntaxError("the string is not UTF-8", *place) from None
    if not text.isprintable():
        raise CsfSyntaxError("the string holds control characters", *place)
    return text
