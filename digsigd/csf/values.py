"""The kinds of values of arguments: how each is read from tokens, and written."""

from __future__ import annotations

import difflib
import re
from collections.abc import Callable, Collection
from dataclasses import dataclass
from typing import Any

from digsigd.csf.errors import CsfSyntaxError, quoted
from digsigd.csf.lexer import MAX_STRING, Token
from digsigd.csf.model import Block, Place
from digsigd.hab import engines

_NUMBER = re.compile(r"0[xX][0-9A-Fa-f]{1,16}|0[0-7]{0,22}|[1-9][0-9]{0,19}")

# The values that both cst 3.4.1 and 4.0.1 know, as they are written; the hashes are the same for every argument. The
# hash ANY is left out, which names no algorithm, and the engine configurations that begin with DSC_BE, with which cst
# corrupts its memory.
HASHES = ("sha1", "sha256", "sha512")
ENGINES = tuple(sorted(engines.NUMBERS))
CONFIGURATIONS = ("IN_SWAP_8", "IN_SWAP_16", "OUT_SWAP_8", "OUT_SWAP_16", "DSC_SWAP_8", "DSC_SWAP_16", "KEEP")
FEATURES = tuple(feature for features in engines.UNLOCKS.values() for feature in features)


@dataclass(frozen=True, slots=True)
class Value:
    """The value after `=`: groups of tokens that commas separate."""

    label: str
    place: Place
    groups: tuple[tuple[Token, ...], ...]

    def wrong(self, what: str, token: Token | None = None) -> CsfSyntaxError:
        """Build an error at a token of this value, else at its label."""
        return CsfSyntaxError(f"{self.label}: {what}", *(token.place if token else self.place))

    def single(self) -> tuple[Token, ...]:
        """Return the only group. Raises `CsfSyntaxError` if there is not exactly one."""
        if len(self.groups) != 1:
            raise self.wrong("has several values; it takes one" if self.groups else "has no value")
        return self.groups[0]

    def token(self) -> Token:
        """Return the only token. Raises `CsfSyntaxError` if there is not exactly one."""
        tokens = self.single()
        if len(tokens) != 1:
            raise self.wrong("takes one value", tokens[1])
        return tokens[0]


@dataclass(frozen=True, slots=True)
class Kind:
    """A kind of value: `read` reads it from tokens (raises `CsfSyntaxError`), `write` returns its text."""

    read: Callable[[Value], Any]
    write: Callable[[Any], str]


def _number(value: Value, token: Token, limit: int = 1 << 32) -> int:
    if token.kind != "word" or not _NUMBER.fullmatch(token.text):
        raise value.wrong(f"{quoted(token.text)} is not a number (decimal, octal from 0, hexadecimal from 0x)", token)
    text = token.text.lower()
    number = int(text, 16) if text.startswith("0x") else int(text, 8 if text.startswith("0") else 10)
    if number >= limit:
        raise value.wrong(f"{token.text} is more than {limit - 1}", token)
    return number


def number(limit: int) -> Kind:
    """Return the kind for an unsigned number below `limit`."""
    return Kind(lambda value: _number(value, value.token(), limit), lambda n: f"{n:#x}" if n > 9 else str(n))


def fold(text: str) -> str:
    """Return a name or keyword in the form in which cst compares it: lower case, without spaces and underscores."""
    return text.replace(" ", "").replace("_", "").lower()


def _keyword(value: Value, group: tuple[Token, ...], known: tuple[str, ...]) -> str:
    if any(token.kind != "word" for token in group):
        raise value.wrong(f"takes one of {', '.join(known)}", group[0])
    text = " ".join(token.text for token in group)
    for name in known:
        if fold(name) == fold(text):
            return name
    near = difflib.get_close_matches(text.lower()[:64], [name.lower() for name in known], 1)
    meant = next((name for name in known if name.lower() in near), None)
    advice = f"did you mean {meant}?" if meant else f"the values are {', '.join(known)}"
    if all(any(fold(token.text) == fold(name) for name in known) for token in group):
        advice = "separate values with commas"
    raise value.wrong(f"{quoted(text)} is not known: {advice}", group[0])


def keyword(*known: str) -> Kind:
    """Return the kind for one of these words, in any case."""
    return Kind(lambda value: _keyword(value, value.single(), known), str)


def keywords(*known: str) -> Kind:
    """Return the kind for several of these words, each at most once."""

    def read(value: Value) -> tuple[str, ...]:
        if not value.groups:
            raise value.wrong("has no value")
        words = tuple(_keyword(value, group, known) for group in value.groups)
        if len(set(words)) != len(words):
            raise value.wrong("has a value twice")
        return words

    return Kind(read, ", ".join)


def configuration() -> Kind:
    """Return the kind for an engine configuration: 0, or swap modes."""
    swaps = keywords(*CONFIGURATIONS)

    def read(value: Value) -> Any:
        groups = value.groups
        if len(groups) == 1 and len(groups[0]) == 1 and _NUMBER.fullmatch(groups[0][0].text):
            if _number(value, groups[0][0]) != 0:
                raise value.wrong(f"the only number allowed is 0; names: {', '.join(CONFIGURATIONS)}", groups[0][0])
            return ()
        return swaps.read(value)

    return Kind(read, lambda words: ", ".join(words) or "0")


def target() -> Kind:
    """Return the kind for the target, which is always HAB."""

    def read(value: Value) -> str:
        group = value.single()
        begins = fold(group[0].text) == "ahab"
        if begins and group[0].kind == "string":
            raise value.wrong("write AHAB without quotation marks", group[0])
        if begins or _keyword(value, group, ("HAB", "AHAB")) == "AHAB":
            raise value.wrong("the description is for AHAB, not for HAB4", group[0])
        return "HAB"

    return Kind(read, str)


def version(known: Collection[tuple[int, int]], which: str) -> Kind:
    """Return the kind for one of these versions, as 4.3 or 4 3; `which` tells about them in errors."""
    texts = {f"{major}.{minor}": (major, minor) for major, minor in known}

    def read(value: Value) -> tuple[int, int]:
        tokens = value.single()
        found = texts.get(".".join(token.text for token in tokens))
        if found is None or any(token.kind != "word" for token in tokens):
            raise value.wrong(which, tokens[0])
        return found

    return Kind(read, lambda pair: f"{pair[0]}.{pair[1]}")


def row(*names: str) -> Kind:
    """Return the kind for one number for each name, of 32 bits, without commas between them."""

    def read(value: Value) -> tuple[int, ...]:
        if len(value.groups) > 1:
            raise value.wrong(f"takes {' '.join(names)} once", value.groups[1][0])
        tokens = value.single()
        if len(tokens) != len(names):
            raise value.wrong(f"takes {len(names)} numbers without commas: {' '.join(names)}", tokens[0])
        return tuple(_number(value, token) for token in tokens)

    return Kind(read, lambda numbers: " ".join(f"{n:#x}" for n in numbers))


def octets(count: int) -> Kind:
    """Return the kind for `count` numbers below 256."""

    def read(value: Value) -> tuple[int, ...]:
        if len(value.groups) != count or any(len(group) != 1 for group in value.groups):
            raise value.wrong(f"takes {count} numbers separated by commas")
        return tuple(_number(value, group[0], 256) for group in value.groups)

    return Kind(read, lambda numbers: ", ".join(f"{n:#04x}" for n in numbers))


def file() -> Kind:
    """Return the kind for a file name in quotation marks; a PKCS #11 URI can be without them."""

    def read(value: Value) -> str:
        if value.groups and value.groups[0] and value.groups[0][0].text.startswith("pkcs11:"):
            return _uri(value, value.single())
        token = value.token()
        if token.kind != "string":
            raise value.wrong("takes a file name in quotation marks", token)
        if not token.text:
            raise value.wrong("the file name is empty", token)
        return token.text

    return Kind(read, lambda name: f'"{name}"')


def _uri(value: Value, tokens: tuple[Token, ...]) -> str:
    """Join the tokens of a URI: it can have `=` and `,`, so it can be many tokens, without spaces between them."""
    (line, column), text = tokens[0].place, tokens[0].text
    for token in tokens[1:]:
        # A string is two quotation marks longer than its text.
        if token.kind == "string" or token.place != (line, column + len(text)):
            raise value.wrong("a URI must not have spaces or anything after it", token)
        text += token.text
    if len(text) > MAX_STRING:
        raise value.wrong(f"the URI has {len(text)} bytes; cst accepts at most {MAX_STRING}", tokens[0])
    return text


def blocks(limit: int) -> Kind:
    """Return the kind for at most `limit` blocks, ADDRESS OFFSET LENGTH "FILE", with commas between them."""

    def read(value: Value) -> tuple[Block, ...]:
        if not value.groups:
            raise value.wrong("has no block")
        if len(value.groups) > limit:
            raise value.wrong(f"has {len(value.groups)} blocks; at most {limit} are signed", value.groups[limit][0])
        result = []
        for group in value.groups:
            if len(group) > 4 and group[3].kind == "string":
                raise value.wrong("separate blocks with commas", group[4])
            if len(group) != 4 or group[3].kind != "string" or not group[3].text:
                raise value.wrong('a block is ADDRESS OFFSET LENGTH "FILE"', group[0])
            address, offset, length = (_number(value, token) for token in group[:3])
            name = group[3]
            result.append(Block(address, offset, length, name.text, place=group[0].place, file_place=name.place))
        return tuple(result)

    def write(items: tuple[Block, ...]) -> str:
        # One block for each line: cst reads a line into a buffer.
        return ", \\\n".join(f'{b.address:#x} {b.offset:#x} {b.length:#x} "{b.file}"' for b in items)

    return Kind(read, write)
