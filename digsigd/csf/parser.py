"""Parses CSF descriptions: a strict subset of what cst reads, with line and column in every error.

It is strict where cst is dangerously lax (numbers of more than 32 bits, greedy strings, wrong kinds of values), and lax
where real builds are (case, spaces, comments anywhere, continued lines). Time is linear in the length of the text.
"""

from __future__ import annotations

import difflib
from itertools import pairwise
from typing import Any

from digsigd.csf import grammar
from digsigd.csf.errors import CsfSyntaxError, quoted
from digsigd.csf.lexer import Token, logical_lines
from digsigd.csf.model import AuthenticateData, Command, Description, Place, Refusable
from digsigd.csf.values import Value, fold

MAX_COMMANDS = 128
MAX_ARGUMENTS = 16


def parse(text: bytes, *, max_bytes: int = 1 << 20) -> Description:
    """Read a CSF description of at most `max_bytes` bytes. Raises `CsfSyntaxError`."""
    commands: list[Command] = []
    current: _Open | None = None
    for tokens in logical_lines(text, max_bytes):
        if tokens[0].kind == "[":
            if current is not None:
                commands.append(current.close())
            current = _Open(tokens)
            if len(commands) == MAX_COMMANDS:
                raise CsfSyntaxError(f"more than {MAX_COMMANDS} commands", *tokens[0].place)
        elif current is None:
            raise CsfSyntaxError("a CSF description begins with [Header]", *tokens[0].place)
        else:
            current.add(tokens)
    if current is None:
        raise CsfSyntaxError("the CSF description is empty; it must begin with [Header]")
    commands.append(current.close())
    blocks = [block for command in commands if isinstance(command, AuthenticateData) for block in command.blocks]
    if len(blocks) > grammar.MAX_BLOCKS:
        raise CsfSyntaxError(
            f"the CSF description has {len(blocks)} blocks; at most {grammar.MAX_BLOCKS} are signed",
            *blocks[grammar.MAX_BLOCKS].place,
        )
    return Description(tuple(commands))


class _Open:
    """A command whose arguments are being read."""

    def __init__(self, tokens: list[Token]) -> None:
        self._place: Place = tokens[0].place
        words: list[str] = []
        for token in tokens[1:]:
            if token.kind != "word":
                break
            words.append(token.text)
        end = 1 + len(words)
        if not words or end >= len(tokens) or tokens[end].kind != "]":
            raise CsfSyntaxError("put the command's name between [ and ]", *tokens[min(end, len(tokens) - 1)].place)
        if len(tokens) > end + 1:
            raise CsfSyntaxError("nothing may follow a command's name on its line", *tokens[end + 1].place)
        name = fold("".join(words))
        self._refused = grammar.REFUSED.get(name)
        found = grammar.COMMANDS.get(name)
        if found is None and self._refused is None:
            raise _unknown_command(" ".join(words), name, self._place)
        self._command = found
        self._arguments: dict[str, Any] = {}
        self._seen: set[str] = set()

    def add(self, tokens: list[Token]) -> None:
        """Read one argument."""
        words: list[str] = []
        for token in tokens:
            if token.kind != "word":
                break
            words.append(token.text)
        if not words or len(words) == len(tokens) or tokens[len(words)].kind != "=":
            raise CsfSyntaxError("expected [Command] or Argument = value", *tokens[0].place)
        label = " ".join(words)
        name = fold("".join(words))
        if name in self._seen:
            raise CsfSyntaxError(f"{quoted(label)} is given twice", *tokens[0].place)
        if len(self._seen) == MAX_ARGUMENTS:
            raise CsfSyntaxError(f"more than {MAX_ARGUMENTS} arguments", *tokens[0].place)
        self._seen.add(name)
        if self._command is None or name in self._command.ignored:
            return
        argument = self._command.arguments.get(name)
        if argument is None:
            known = {key: one.label for key, one in self._command.arguments.items()}
            near = difflib.get_close_matches(name[:64], known, 1)
            advice = f"did you mean {known[near[0]]}?" if near else f"it has {', '.join(known.values()) or 'none'}"
            raise CsfSyntaxError(f"[{self._command.name}] has no argument {quoted(label)}: {advice}", *tokens[0].place)
        value = Value(argument.label, tokens[0].place, _groups(tokens[len(words) + 1 :]))
        self._arguments[argument.field] = argument.kind.read(value)
        place_field = f"{argument.field}_place"
        if place_field in self._command.places:
            self._arguments[place_field] = value.groups[0][0].place

    def close(self) -> Command:
        """Return the whole command. Raises `CsfSyntaxError` if an argument is missing."""
        if self._command is None:
            return Refusable(name=self._refused or "", place=self._place)
        for argument in self._command.arguments.values():
            if argument.required and argument.field not in self._arguments:
                raise CsfSyntaxError(f"[{self._command.name}] needs {argument.label}", *self._place)
        command: Command = self._command.make(**self._arguments, place=self._place)
        return command


def _groups(tokens: list[Token]) -> tuple[tuple[Token, ...], ...]:
    """Return the groups of tokens between commas; an empty tuple without tokens."""
    if not tokens:
        return ()
    groups: list[list[Token]] = [[]]
    uri = tokens[0].text.startswith("pkcs11:")
    for token in tokens:
        if token.kind == "," and not uri:
            groups.append([])
        elif token.kind in {"[", "]", "="} and not uri:
            raise CsfSyntaxError(f"{quoted(token.text)} is not allowed in a value", *token.place)
        else:
            groups[-1].append(token)
    if not groups[0]:
        raise CsfSyntaxError("the value begins with a comma", *tokens[0].place)
    if not groups[-1]:
        raise CsfSyntaxError(
            "the value ends with a comma",
            *tokens[-1].place,
            hint="put a \\ at the end if it continues on the next line",
        )
    for before, group in pairwise(groups):
        if not group:
            raise CsfSyntaxError("a value is missing between two commas", *before[-1].place)
    return tuple(tuple(group) for group in groups)


def _unknown_command(shown: str, name: str, place: Place) -> CsfSyntaxError:
    if name in grammar.AHAB_ONLY:
        return CsfSyntaxError(f"[{shown[:60]}] is a command of AHAB; this host signs only for HAB4", *place)
    known = {**{key: one.name for key, one in grammar.COMMANDS.items()}, **grammar.REFUSED}
    near = difflib.get_close_matches(name[:64], known, 1)
    names = ", ".join(one.name for one in grammar.COMMANDS.values())
    advice = f"did you mean [{known[near[0]]}]?" if near else f"the commands are {names}"
    return CsfSyntaxError(f"the command {quoted(shown)} is not known: {advice}", *place)
