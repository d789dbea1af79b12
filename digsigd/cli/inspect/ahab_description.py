"""Describe a CSF description for AHAB, command by command."""

from __future__ import annotations

from digsigd.cli.inspect.facts import Fact, Hex, Part, Table


def describe_ahab_description(data: bytes) -> Part:
    """Return a description of the commands, up to the first that cannot be read."""
    from digsigd import csf
    from digsigd.cli.inspect.description import whole_commands
    from digsigd.csf import ahab
    from digsigd.csf.ahab import AuthenticateData, Description
    from digsigd.csf.model import Refusable

    part = Part("ahab-csf-description", f"CSF description for AHAB, {len(data)} bytes")
    try:
        description = ahab.parse(data)
    except csf.CsfError as error:
        part.damage.append(str(error))
        try:
            description = ahab.parse(whole_commands(data, error.line))
        except csf.CsfError:
            description = Description(())
    rows: list[tuple[Fact, ...]] = []
    containers: list[tuple[Fact, ...]] = []
    for command in description.commands:
        if isinstance(command, Refusable):
            rows.append((command.place[0], command.name, ""))
            continue
        lines = ahab.write(Description((command,))).decode().splitlines()
        rows.append((command.place[0], lines[0].strip("[]"), "; ".join(line.strip() for line in lines[1:])))
        if isinstance(command, AuthenticateData):
            containers.append((command.place[0], Hex(command.offsets[0]), Hex(command.offsets[1]), command.file))
    part.tables = [
        Table("commands", ("line", "command", "arguments"), rows),
        Table("containers", ("line", "header", "signature block", "file"), containers),
    ]
    if not part.damage:
        try:
            ahab.check(description, csf.Policy())
        except csf.CsfError as error:
            part.notes.append(f"a signing host refuses it unless its operator allows more: {error}")
    return part
