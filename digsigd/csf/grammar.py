"""The commands of HAB4 and their arguments: NXP Code Signing Tool User Guide, "CSF Description Language".

`digsigd.csf.ahab.grammar` has those of AHAB, in the same form.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from digsigd.csf import model, values
from digsigd.csf.values import Kind, fold

# More than any known image has. `digsigd.csf.size` checks that they fit into the CSF together with its other commands.
MAX_BLOCKS = 64


@dataclass(frozen=True, slots=True)
class Argument:
    """One argument: its label as it is written, its field in the model, and its kind of value."""

    label: str
    field: str
    kind: Kind
    required: bool = False


@dataclass(frozen=True, slots=True)
class CommandForm:
    """One command: its name as it is written, the class of the model, and its arguments by folded label.

    `ignored` are arguments of older versions that mean nothing to HAB4.
    """

    name: str
    make: Callable[..., Any]
    arguments: dict[str, Argument]
    ignored: frozenset[str]
    places: frozenset[str] = field(default=frozenset())


@dataclass(frozen=True, slots=True)
class Grammar:
    """The commands of one target by folded name.

    `refused` are commands that are read without their arguments. The names of commands and labels of arguments that
    only `other`, the other target, has are `foreign_commands` and `foreign_labels`, folded; `hint` says how a
    description is for that.
    """

    target: str
    commands: dict[str, CommandForm]
    refused: dict[str, str]
    other: str
    foreign_commands: frozenset[str]
    foreign_labels: frozenset[str]
    hint: str


def command_form(name: str, make: type, *arguments: Argument, ignored: tuple[str, ...] = ()) -> tuple[str, CommandForm]:
    """Return the form of a command, with its folded name, from the class of the model and its arguments."""
    fields = {one.name for one in dataclasses.fields(make)}
    return fold(name), CommandForm(
        name,
        make,
        {fold(one.label): one for one in arguments},
        frozenset(fold(label) for label in ignored),
        frozenset(one for one in fields if one.endswith("_place")),
    )


_VERSIONS = tuple((4, minor) for minor in range(6))
_WHICH_VERSIONS = "takes 4.0 to 4.5 for HAB4; HAB3 is not signed here, and descriptions for AHAB have Target = AHAB"
_HASH = Argument("Hash Algorithm", "hash_algorithm", values.keyword(*values.HASHES))
_HASH_NEEDED = dataclasses.replace(_HASH, required=True)
_ENGINE = Argument("Engine", "engine", values.keyword(*values.ENGINES))
_ENGINE_NEEDED = dataclasses.replace(_ENGINE, required=True)
_CONFIGURATION = Argument("Engine Configuration", "engine_configuration", values.configuration())
_CERTIFICATE_FORMAT = Argument("Certificate Format", "certificate_format", values.keyword("X509"))
_SIGNATURE_FORMAT = Argument("Signature Format", "signature_format", values.keyword("CMS"))
_FILE = Argument("File", "file", values.file(), required=True)
_FEATURES = Argument("Features", "features", values.keywords(*values.FEATURES))
_VERIFICATION_INDEX = Argument("Verification index", "verification_index", values.number(5), required=True)

COMMANDS: dict[str, CommandForm] = dict(
    [
        command_form(
            "Header",
            model.Header,
            Argument("Version", "version", values.version(_VERSIONS, _WHICH_VERSIONS), required=True),
            _HASH,
            _ENGINE,
            _CONFIGURATION,
            _CERTIFICATE_FORMAT,
            _SIGNATURE_FORMAT,
            Argument("Mode", "mode", values.keyword("HSM")),
            Argument("Target", "target", values.target()),
            # Of HAB3 and the first HAB4 tools: older cst ignored them, cst 3.4.1 refuses them.
            ignored=("Security Configuration", "UID", "Code"),
        ),
        command_form(
            "Install SRK",
            model.InstallSrk,
            _FILE,
            Argument("Source index", "source_index", values.number(4), required=True),
            _HASH,
        ),
        command_form("Install CSFK", model.InstallCsfk, _FILE, _CERTIFICATE_FORMAT),
        command_form("Install NOCAK", model.InstallNocak, _FILE, _CERTIFICATE_FORMAT),
        command_form("Authenticate CSF", model.AuthenticateCsf, _ENGINE, _CONFIGURATION, _SIGNATURE_FORMAT),
        command_form(
            "Install Key",
            model.InstallKey,
            _VERIFICATION_INDEX,
            Argument("Target index", "target_index", values.number(5), required=True),
            _FILE,
            _CERTIFICATE_FORMAT,
            _HASH,
        ),
        command_form(
            "Authenticate Data",
            model.AuthenticateData,
            _VERIFICATION_INDEX,
            _ENGINE,
            _CONFIGURATION,
            _SIGNATURE_FORMAT,
            Argument("Blocks", "blocks", values.blocks(MAX_BLOCKS), required=True),
        ),
        command_form(
            "Unlock",
            model.Unlock,
            _ENGINE_NEEDED,
            _FEATURES,
            Argument("UID", "uid", values.octets(8)),
        ),
        command_form("Set Engine", model.SetEngine, _HASH_NEEDED, _ENGINE_NEEDED, _CONFIGURATION),
        command_form("Init", model.Init, _ENGINE_NEEDED, _FEATURES),
        command_form("NOP", model.Nop),
    ]
)

# Read, so that the refusal can say what and where, but never written for cst.
REFUSED = {fold(name): name for name in ("Set MID", "Write Data", "Check Data", "Install Secret Key", "Decrypt Data")}
AHAB_ONLY = frozenset({"installcertificate"})
_AHAB_LABELS = (
    "Source", "Source set", "Revocations", "Check All Signatures", "Fast Boot", "Permissions", "Permissions Data",
    "UUID", "Fuse Version", "Signature", "Offsets",
)  # fmt: skip

HAB4 = Grammar(
    "HAB4",
    COMMANDS,
    REFUSED,
    "AHAB",
    AHAB_ONLY,
    frozenset(fold(label) for label in _AHAB_LABELS),
    "for AHAB, write Target = AHAB in [Header]",
)
