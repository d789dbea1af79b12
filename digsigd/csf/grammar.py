"""The commands of HAB4 and their arguments: NXP Code Signing Tool User Guide, "CSF Description Language"."""

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


def _form(name: str, make: type, *arguments: Argument, ignored: tuple[str, ...] = ()) -> tuple[str, CommandForm]:
    fields = {one.name for one in dataclasses.fields(make)}
    return fold(name), CommandForm(
        name,
        make,
        {fold(one.label): one for one in arguments},
        frozenset(fold(label) for label in ignored),
        frozenset(one for one in fields if one.endswith("_place")),
    )


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
        _form(
            "Header",
            model.Header,
            Argument("Version", "version", values.version(), required=True),
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
        _form(
            "Install SRK",
            model.InstallSrk,
            _FILE,
            Argument("Source index", "source_index", values.number(4), required=True),
            _HASH,
        ),
        _form("Install CSFK", model.InstallCsfk, _FILE, _CERTIFICATE_FORMAT),
        _form("Install NOCAK", model.InstallNocak, _FILE, _CERTIFICATE_FORMAT),
        _form("Authenticate CSF", model.AuthenticateCsf, _ENGINE, _CONFIGURATION, _SIGNATURE_FORMAT),
        _form(
            "Install Key",
            model.InstallKey,
            _VERIFICATION_INDEX,
            Argument("Target index", "target_index", values.number(5), required=True),
            _FILE,
            _CERTIFICATE_FORMAT,
            _HASH,
        ),
        _form(
            "Authenticate Data",
            model.AuthenticateData,
            _VERIFICATION_INDEX,
            _ENGINE,
            _CONFIGURATION,
            _SIGNATURE_FORMAT,
            Argument("Blocks", "blocks", values.blocks(MAX_BLOCKS), required=True),
        ),
        _form(
            "Unlock",
            model.Unlock,
            _ENGINE_NEEDED,
            _FEATURES,
            Argument("UID", "uid", values.octets(8)),
        ),
        _form("Set Engine", model.SetEngine, _HASH_NEEDED, _ENGINE_NEEDED, _CONFIGURATION),
        _form("Init", model.Init, _ENGINE_NEEDED, _FEATURES),
        _form("NOP", model.Nop),
    ]
)

# Read, so that the refusal can say what and where, but never written for cst.
REFUSED = {fold(name): name for name in ("Set MID", "Write Data", "Check Data", "Install Secret Key", "Decrypt Data")}
AHAB_ONLY = frozenset({"installcertificate"})
