"""Parses CSF descriptions: a strict subset of what cst reads, with line and column in every error.

It is strict where cst is dangerously lax (numbers of more than 32 bits, greedy strings, wrong kinds of values), and lax
where real builds are (case, spaces, comments anywhere, continued lines). Time is linear in the length of the text.
"""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from itertools import pairwise, takewhile
from typing import Any

from digsigd.csf import grammar
from digsigd.csf.errors import CsfSyntaxError, quoted
from digsigd.csf.grammar import CommandForm, Grammar
from digsigd.csf.lexer import Token, logical_lines
from digsigd.csf.model import AuthenticateData, Description, Place, Refusable
from digsigd.csf.values import Value, fold

MAX_COMMANDS = 128
MAX_ARGUMENTS = 16


def parse(text: bytes, *, max_bytes: int = 1 << 20) -> Description:
    """Read a CSF description for HAB4 of at most `max_bytes` bytes. Raises `CsfSyntaxError`."""
    commands = read_commands(text, grammar.HAB4, max_bytes)
    blocks = [block for command in commands if isinstance(command, AuthenticateData) for block in command.blocks]
    if len(blocks) > grammar.MAX_BLOCKS:
        raise CsfSyntaxError(
            f"the CSF description has {len(blocks)} blocks; at most {grammar.MAX_BLOCKS} are signed",
            *blocks[grammar.MAX_BLOCKS].place,
        )
    return Description(tuple(commands))


def read_commands(text: bytes, language: Grammar, max_bytes: int) -> list[Any]:
    """Read the commands of a text of at most `max_bytes` bytes, at least one. Raises `CsfSyntaxError`."""
    commands: list[Any] = []
    current: _Open | None = None
    for tokens in logical_lines(text, max_bytes):
        if tokens[0].kind == "[":
            if current is not None:
                commands.append(current.close())
            current = _Open(tokens, language)
            if len(commands) == MAX_COMMANDS:
                raise CsfSyntaxError(f"more than {MAX_COMMANDS} commands", *tokens[0].place)
        elif current is None:
            raise CsfSyntaxError("a CSF description begins with [Header]", *tokens[0].place)
        else:
            current.add(tokens)
    if current is None:
        raise CsfSyntaxError("the CSF description is empty; it must begin with [Header]")
    return [*commands, current.close()]


def command_name(tokens: Sequence[Token]) -> list[str]:
    """Return the words of a command's name from the tokens of its line. Raises `CsfSyntaxError`."""
    words = leading_words(tokens[1:])
    end = 1 + len(words)
    if not words or end >= len(tokens) or tokens[end].kind != "]":
        raise CsfSyntaxError("put the command's name between [ and ]", *tokens[min(end, len(tokens) - 1)].place)
    if len(tokens) > end + 1:
        raise CsfSyntaxError("nothing may follow a command's name on its line", *tokens[end + 1].place)
    return words


def leading_words(tokens: Sequence[Token]) -> list[str]:
    """Return the texts of the words before the first token that is not a word."""
    return [token.text for token in takewhile(lambda one: one.kind == "word", tokens)]


class _Open:
    """A command whose arguments are being read."""

    def __init__(self, tokens: list[Token], language: Grammar) -> None:
        self._place: Place = tokens[0].place
        self._language = language
        words = command_name(tokens)
        name = fold("".join(words))
        self._refused = language.refused.get(name)
        found = language.commands.get(name)
        if found is None and self._refused is None:
            raise _unknown_command(language, " ".join(words), name, self._place)
        self._command = found
        self._arguments: dict[str, Any] = {}
        self._seen: set[str] = set()

    def add(self, tokens: list[Token]) -> None:
        """Read one argument."""
        words = leading_words(tokens)
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
            raise _unknown_argument(self._language, self._command, label, name, tokens[0].place)
        value = Value(argument.label, tokens[0].place, _groups(tokens[len(words) + 1 :]))
        self._arguments[argument.field] = argument.kind.read(value)
        place_field = f"{argument.field}_place"
        if place_field in self._command.places:
            self._arguments[place_field] = value.groups[0][0].place

    def close(self) -> Any:
        """Return the whole command. Raises `CsfSyntaxError` if an argument is missing."""
        if self._command is None:
            return Refusable(name=self._refused or "", place=self._place)
        for argument in self._command.arguments.values():
            if argument.required and argument.field not in self._arguments:
                raise CsfSyntaxError(f"[{self._command.name}] needs {argument.label}", *self._place)
        return self._command.make(**self._arguments, place=self._place)


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


def _unknown_command(language: Grammar, shown: str, name: str, place: Place) -> CsfSyntaxError:
    if name in language.foreign_commands:
        return CsfSyntaxError(
            f"[{shown[:60]}] is a command of {language.other}; the description is for {language.target}",
            *place,
            hint=language.hint,
        )
    known = {**{key: one.name for key, one in language.commands.items()}, **language.refused}
    near = difflib.get_close_matches(name[:64], known, 1)
    names = ", ".join(one.name for one in language.commands.values())
    advice = f"did you mean [{known[near[0]]}]?" if near else f"the commands are {names}"
    return CsfSyntaxError(f"the command {quoted(shown)} is not known: {advice}", *place)


def _unknown_argument(language: Grammar, form: CommandForm, shown: str, name: str, place: Place) -> CsfSyntaxError:
    if name in language.foreign_labels:
        return CsfSyntaxError(
            f"{shown} is an argument of {language.other}; the description is for {language.target}",
            *place,
            hint=language.hint,
        )
    known = {key: one.label for key, one in form.arguments.items()}
    near = difflib.get_close_matches(name[:64], known, 1)
    advice = f"did you mean {known[near[0]]}?" if near else f"it has {', '.join(known.values()) or 'none'}"
    return CsfSyntaxError(f"[{form.name}] has no argument {quoted(shown)}: {advice}", *place)
