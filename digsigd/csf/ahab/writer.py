"""Writes CSF descriptions for AHAB: the text for cst, made only from values."""

from __future__ import annotations

from digsigd.csf.ahab import grammar
from digsigd.csf.ahab.model import Description
from digsigd.csf.writer import write_commands

_FORMS = {form.make: form for form in grammar.COMMANDS.values()}


def write(description: Description) -> bytes:
    """Return the text of a description, from which `digsigd.csf.ahab.parse` reads an equal one."""
    return write_commands(description.commands, _FORMS)
