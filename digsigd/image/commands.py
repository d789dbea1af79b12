"""Describe the commands of a CSF, and find those that U-Boot refuses."""

from __future__ import annotations

from digsigd import hab
from digsigd.hab import csf_blob, engines


def describe(parsed: hab.CsfBlob, command: csf_blob.Command) -> tuple[str, str]:
    """Return a command's name as in CSF descriptions, and what it does."""
    if isinstance(command, csf_blob.OtherCommand):
        return csf_blob.NAMES[command.tag], _engine(command)
    if isinstance(command, csf_blob.Authenticate):
        if not command.blocks:
            return "Authenticate CSF", f"{parsed.header_length} bytes of commands"
        size = sum(length for _, length in command.blocks)
        blocks = "1 block" if len(command.blocks) == 1 else f"{len(command.blocks)} blocks"
        if command.protocol == csf_blob.AEAD:
            return "Decrypt Data", f"{size} bytes in {blocks}: only a chip with the key can decrypt them"
        return "Authenticate Data", f"{size} bytes in {blocks} with key {command.key}"
    if command.protocol == csf_blob.SRK_TABLE:
        return "Install SRK", f"SRK {command.source + 1} of the table"
    if command.protocol == csf_blob.BLOB:
        return "Install Secret Key", f"wrapped by one chip, in memory at {command.data_offset:#x}"
    name = "Install CSFK" if command.flags == csf_blob.INSTALL_CSFK_FLAG else f"Install Key {command.target}"
    return name, hab.subject_of(parsed.object_at(command)[4:])


def is_secret(command: csf_blob.Command) -> bool:
    """Return whether the command is for encrypted images: only a chip with the key can check it."""
    return not isinstance(command, csf_blob.OtherCommand) and command.protocol in {csf_blob.BLOB, csf_blob.AEAD}


def refused_by_u_boot(command: csf_blob.Command) -> bool:
    """Return whether U-Boot refuses a CSF with this command before HAB checks it: hab.c, csf_is_valid."""
    if not isinstance(command, csf_blob.OtherCommand):
        return False
    if command.tag == csf_blob.SET:
        return command.parameter == csf_blob.SET_MID
    return command.tag in {csf_blob.WRITE_DATA, csf_blob.CHECK_DATA}


def keys_of(parsed: hab.CsfBlob) -> tuple[tuple[int, bytes], ...]:
    """Return (slot, key) for what a CSF puts into HAB's key store: a certificate, or an SRK's index in its table."""
    return tuple(
        (
            command.target,
            bytes([command.source]) if command.protocol == csf_blob.SRK_TABLE else parsed.object_at(command)[4:],
        )
        for command in parsed.commands
        if isinstance(command, csf_blob.InstallKey) and command.protocol in {csf_blob.SRK_TABLE, csf_blob.X509}
    )


def _engine(command: csf_blob.OtherCommand) -> str:
    """Return the engine and the features of an Unlock, or ""."""
    if command.tag != csf_blob.UNLOCK or len(command.body) < 4:
        return ""
    engine, bits = engines.name(command.parameter), int.from_bytes(command.body[:4])
    if command.parameter != engines.CAAM:
        return f"{engine} {bits:#x}"
    return " ".join([engine, *engines.features(command.parameter, bits)])
