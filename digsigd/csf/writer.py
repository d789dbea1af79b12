"""Writes CSF descriptions: the text for cst, made only from values."""

from __future__ import annotations

from digsigd.csf import grammar
from digsigd.csf.model import Command, Description, Refusable

_FORMS = {form.make: form for form in grammar.COMMANDS.values()}


def write(description: Description) -> bytes:
    """Return the text of a CSF description, from which `digsigd.csf.parse` reads an equal one."""
    return "\n".join(_command(command) for command in description.commands).encode()


def _command(command: Command) -> str:
    if isinstance(command, Refusable):
        return f"[{command.name}]\n"
    form = _FORMS[type(command)]
    lines = [f"[{form.name}]"]
    for argument in form.arguments.values():
        value = getattr(command, argument.field, None)
        if value is not None:
            lines.append(f"{argument.label} = {argument.kind.write(value)}")
    return "\n".join(lines) + "\n"
