"""The commands of AHAB and their arguments, as cst 3.4.1 and 4.0.1 know them.

Source: NXP Code Signing Tool User Guide, "CSF Description Language", AHAB.
"""

from __future__ import annotations

from digsigd.csf import grammar, values
from digsigd.csf.ahab import model
from digsigd.csf.grammar import Argument, command_form
from digsigd.csf.values import fold

_VERSIONS = ((1, 0), (2, 0))
_WHICH_VERSIONS = "takes 1.0 for containers of version 0, or 2.0 for containers of version 2"
_FILE = Argument("File", "file", values.file(), required=True)
_SIGNATURE = Argument("Signature", "signature", values.file())

COMMANDS = dict(
    [
        command_form(
            "Header",
            model.Header,
            Argument("Target", "target", values.keyword("AHAB"), required=True),
            Argument("Version", "version", values.version(_VERSIONS, _WHICH_VERSIONS), required=True),
            Argument("Mode", "mode", values.keyword("HSM")),
        ),
        command_form(
            "Install SRK",
            model.InstallSrk,
            _FILE,
            Argument("Source", "source", values.file(), required=True),
            Argument("Source index", "source_index", values.number(4), required=True),
            Argument("Source set", "source_set", values.keyword("OEM", "NXP"), required=True),
            Argument("Revocations", "revocations", values.number(1 << 4), required=True),
            Argument("Check All Signatures", "check_all_signatures", values.keyword("Fuse", "All")),
            Argument("Fast Boot", "fast_boot", values.number(1 << 3)),
        ),
        command_form(
            "Install Certificate",
            model.InstallCertificate,
            _FILE,
            Argument("Permissions", "permissions", values.number(1 << 8), required=True),
            # With a comma cst 4.0.1 takes the other words from uninitialised memory.
            Argument("Permissions Data", "permissions_data", values.row("A", "B", "C")),
            Argument("UUID", "uuid", values.row("A", "B", "C", "D")),
            # cst 4.0.1 writes the lowest byte of a larger number.
            Argument("Fuse Version", "fuse_version", values.number(1 << 8)),
            _SIGNATURE,
        ),
        command_form(
            "Authenticate Data",
            model.AuthenticateData,
            _FILE,
            Argument("Offsets", "offsets", values.row("HEADER", "BLOCK"), required=True),
            _SIGNATURE,
        ),
    ]
)

REFUSED = {fold(name): name for name in ("Install Secret Key",)}

_HAB4 = grammar.HAB4
AHAB = grammar.Grammar(
    "AHAB",
    COMMANDS,
    REFUSED,
    "HAB4",
    frozenset({*_HAB4.commands, *_HAB4.refused} - {*COMMANDS, *REFUSED}),
    frozenset(label for form in _HAB4.commands.values() for label in form.arguments)
    - frozenset(label for form in COMMANDS.values() for label in form.arguments),
    "for HAB4, leave Target = AHAB out of [Header]",
)
