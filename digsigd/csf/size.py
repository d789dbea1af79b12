"""The size of a CSF's commands, calculated before cst makes them.

cst writes all commands into one buffer of 768 bytes, and a longer CSF overwrites what is after it: cst reports success
and writes a wrong CSF, or crashes. 768 is also the limit of HAB4: HAB_CSF_BYTES_MAX in NXP's HAB library.
"""

from __future__ import annotations

from digsigd.csf.model import (
    AuthenticateCsf,
    AuthenticateData,
    Command,
    Description,
    Header,
    Init,
    InstallCsfk,
    InstallKey,
    InstallSrk,
    Nop,
    SetEngine,
    Unlock,
)

MAX_BYTES = 768
# What cst 3.4.1 and 4.0.1 append if the header has Engine = CAAM and no command unlocks or initialises RNG.
_RNG_UNLOCK = 8


def command_size(command: Command) -> int:
    """Return the size of a command in the CSF blob in bytes; 0 for one that adds nothing, such as Install NOCAK."""
    match command:
        case Header() | Nop():
            return 4
        case InstallSrk() | InstallCsfk() | InstallKey() | AuthenticateCsf():
            return 12
        case AuthenticateData():
            return 12 + 8 * len(command.blocks)
        case Unlock():
            return 4 + 4 * bool(command.features) + len(command.uid or ())
        case Init():
            return 4 + 4 * bool(command.features)
        case SetEngine():
            return 8
    return 0


def appended_size(description: Description) -> int:
    """Return the size in bytes of the command that cst appends to those of the CSF description."""
    header = description.commands[0]
    if not isinstance(header, Header) or header.engine != "CAAM":
        return 0
    named = any(isinstance(one, Unlock | Init) and "RNG" in (one.features or ()) for one in description.commands)
    return 0 if named else _RNG_UNLOCK


def csf_size(description: Description) -> int:
    """Return the length in bytes that the CSF's header will have: all commands, with the one that cst appends."""
    return sum(command_size(command) for command in description.commands) + appended_size(description)
