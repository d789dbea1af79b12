"""Splits the bytes of a CSF description into logical lines, each a list of tokens with their places."""

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
# What a line of more than ASCII has, as Latin-1: strings and comments, characters of UTF-8, and other bytes.
_WIDE = re.compile(r'"[^"]*"|#.*|[\xc2-\xf4][\x80-\xbf]{1,3}|[\x80-\xff]')
# cst ignores every byte that is not of the language. Of these, invisible ones are blanks here as well: text that was
# copied from a web page, a PDF or a chat has no-break spaces and zero-width spaces. Latin-1 has only the first.
_BLANKS = frozenset(
    "\u00a0\u00ad\u200b\u200c\u200d\u202f\u205f\u2060\u3000\ufeff" + "".join(map(chr, range(0x2000, 0x200B)))
)
_LATIN_BLANK = "\xa0"
# CP/M and DOS end a text with Ctrl-Z, and barebox ends its description with NUL, as C does.
_END = b"\0\x1a \t\f\v\r\n"
_QUOTES = frozenset("\u2018\u2019\u201a\u201b\u201c\u201d\u201e\u201f\u2032\u2033\u00ab\u00bb\u2039\u203a\uff02")
_UTF_16 = (b"\xff\xfe", b"\xfe\xff")


class Token(NamedTuple):
    """A word, a string (without its quotes) or one of the marks `[ ] = ,`."""

    kind: str
    text: str
    place: Place


def logical_lines(data: bytes, max_bytes: int) -> Iterator[list[Token]]:
    """Yield the lines that are not empty, joined where a backslash continues them. Raises `CsfSyntaxError`."""
    if len(data) > max_bytes:
        raise CsfSyntaxError(f"the CSF description has {len(data)} bytes; at most {max_bytes} are read")
    if data.startswith(_UTF_16):
        raise CsfSyntaxError("the CSF description is UTF-16", 1, 1, hint="save it as UTF-8, or as plain text")
    pending: list[Token] = []
    continued = False
    for number, content in enumerate(io.BytesIO(data.rstrip(_END).removeprefix(b"\xef\xbb\xbf")), 1):
        # Latin-1 maps every byte to one character: comments can have any bytes, and columns count bytes.
        line = content.decode("latin-1").removesuffix("\n").rstrip("\r")
        if not line.isascii():
            line = _WIDE.sub(_blanked, line)
        # For cst a line with only a comment does not end a continued line.
        if continued and _COMMENT.match(line):
            continue
        tokens, continued = _tokens(line, number)
        pending += tokens
        if len(pending) > MAX_TOKENS:
            raise CsfSyntaxError(
                f"more than {MAX_TOKENS} words and marks in a line with its continuation lines",
                *pending[MAX_TOKENS].place,
            )
        if not continued and pending:
            yield pending
            pending = []
    if pending:
        yield pending


def _blanked(found: re.Match[str]) -> str:
    """Return as many spaces for a blank, and everything else unchanged."""
    text = found[0]
    if text == _LATIN_BLANK or (text[0] not in '"#' and _as_utf_8(text) in _BLANKS):
        return " " * len(text)
    return text


def _as_utf_8(text: str) -> str | None:
    try:
        return text.encode("latin-1").decode("utf-8")
    except UnicodeDecodeError:
        return None


def _tokens(line: str, number: int) -> tuple[list[Token], bool]:
    """Return the tokens of one line, and whether the next line continues it."""
    if len(line) > MAX_LINE:
        raise CsfSyntaxError(f"the line has {len(line)} characters; at most {MAX_LINE} are read", number)
    tokens: list[Token] = []
    position = 0
    while position < len(line):
        match = _TOKEN.match(line, position)
        if match is None:
            wrong = len(line) - len(line[position:].lstrip(" \t\f\v"))
            if line[wrong] == '"':
                raise CsfSyntaxError("the quotation mark is not closed", number, wrong + 1)
            raise CsfSyntaxError(f"{quoted(line[wrong])} is not allowed here", number, wrong + 1)
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
                raise _foreign(content, place)
            tokens.append(Token(kind, content, place))
        elif kind == "mark":
            tokens.append(Token(content, content, place))
    return tokens, False


def _string(content: str, place: Place) -> str:
    if len(content) > MAX_STRING:
        raise CsfSyntaxError(f"the string has {len(content)} bytes; cst accepts at most {MAX_STRING}", *place)
    try:
        text = content.encode("latin-1").decode("utf-8")
    except UnicodeDecodeError:
        raise CsfSyntaxError("the string is not UTF-8", *place) from None
    if not text.isprintable():
        unseen = next(c for c in text if not c.isprintable())
        raise CsfSyntaxError(f"the string contains U+{ord(unseen):04X}, which is invisible", *place)
    return text


def _foreign(word: str, place: Place) -> CsfSyntaxError:
    """Build the error for the first character of a word that is not allowed in words."""
    at = next(at for at, c in enumerate(word) if not (c.isascii() and c.isprintable()))
    line, column = place[0], place[1] + at
    wide = _WIDE.match(word, at)
    shown = _as_utf_8(wide[0]) if wide else word[at]
    if shown is None:
        return CsfSyntaxError(f"the byte {ord(word[at]):#04x} is not allowed", line, column)
    if shown in _QUOTES:
        return CsfSyntaxError(
            f"{shown} (U+{ord(shown):04X}) is not a quotation mark of CSF descriptions",
            line,
            column,
            hint='put file names into plain quotation marks: "',
        )
    name = f"{shown} (U+{ord(shown):04X})" if shown.isprintable() else f"the character U+{ord(shown):04X}"
    return CsfSyntaxError(f"{name} is not allowed here", line, column)
