"""Writes CSF descriptions: the text for cst, made only from values."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from digsigd.csf import grammar
from digsigd.csf.model import Description, Refusable

_FORMS = {form.make: form for form in grammar.COMMANDS.values()}


def write(description: Description) -> bytes:
    """Return the text of a CSF description, from which `digsigd.csf.parse` reads an equal one."""
    return write_commands(description.commands, _FORMS)


def write_commands(commands: Sequence[Any], forms: Mapping[Any, grammar.CommandForm]) -> bytes:
    """Return the text of commands, `forms` by their classes."""
    return "\n".join(_command(command, forms) for command in commands).encode()


def _command(command: Any, forms: Mapping[Any, grammar.CommandForm]) -> str:
    if isinstance(command, Refusable):
        return f"[{command.name}]\n"
    form = forms[type(command)]
    lines = [f"[{form.name}]"]
    for argument in form.arguments.values():
        value = getattr(command, argument.field, None)
        if value is not None:
            lines.append(f"{argument.label} = {argument.kind.write(value)}")
    return "\n".join(lines) + "\n"
