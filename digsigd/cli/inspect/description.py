"""Describe a CSF description, command by command."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from digsigd.cli.inspect.facts import Fact, Hex, Part, Table

if TYPE_CHECKING:
    from digsigd.csf import Description

# The first word outside comments; cst accepts a byte order mark before it.
_START = re.compile(rb"(?:\xef\xbb\xbf)?(?:[ \t\r\n]|#[^\n]*\n)*\[[ \t]*header[ \t]*\]", re.IGNORECASE)
# Bytes: the default limit of a signing host.
LARGEST = 1 << 20


def is_description(start: bytes) -> bool:
    """Return whether a text starts like a CSF description."""
    return _START.match(start) is not None


def describe_description(data: bytes) -> Part:
    """Return a description of the commands, up to the first that cannot be read."""
    from digsigd import csf
    from digsigd.csf import ahab
    from digsigd.csf.model import AuthenticateData

    if ahab.is_ahab(data):
        from digsigd.cli.inspect.ahab_description import describe_ahab_description

        return describe_ahab_description(data)
    part = Part("csf-description", f"CSF description, {len(data)} bytes")
    try:
        description = csf.parse(data)
    except csf.CsfError as error:
        part.damage.append(str(error))
        description = _before(data, error.line)
    rows: list[tuple[Fact, ...]] = []
    blocks: list[tuple[Fact, ...]] = []
    for command in description.commands:
        lines = csf.write(csf.Description((command,))).decode().splitlines()
        arguments = [line for line in lines[1:] if not line.startswith("Blocks")]
        if isinstance(command, AuthenticateData):
            arguments.append(f"{len(command.blocks)} block{'s' if len(command.blocks) > 1 else ''}")
            for one in command.blocks:
                blocks.append((command.place[0], Hex(one.address), Hex(one.offset), Hex(one.length), one.file))
        rows.append((command.place[0], lines[0].strip("[]"), "; ".join(arguments)))
    part.tables = [
        Table("commands", ("line", "command", "arguments"), rows),
        Table("blocks", ("line", "address", "offset", "length", "file"), blocks),
    ]
    if not part.damage:
        try:
            csf.check(description, csf.Policy())
        except csf.CsfError as error:
            part.notes.append(f"a signing host refuses it unless its operator allows more: {error}")
    return part


def _before(data: bytes, line: int | None) -> Description:
    """Return the commands before the wrong one, which has this line; none if these cannot be read either."""
    from digsigd import csf

    try:
        return csf.parse(whole_commands(data, line))
    except csf.CsfError:
        return csf.Description(())


def whole_commands(data: bytes, line: int | None) -> bytes:
    """Return the text of the commands before the one that has this line."""
    lines = data.split(b"\n", line or 1)[: line or 1]
    start = max((number for number, text in enumerate(lines) if text.lstrip().startswith(b"[")), default=0)
    return b"\n".join(lines[:start])
