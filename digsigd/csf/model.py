"""CSF descriptions as values: one class for each command of HAB4.

Source of commands, arguments and their values: NXP Code Signing Tool User Guide, "CSF Description Language"; what it
leaves open was tried on cst 3.4.1 and 4.0.1. Numbers are unsigned and of 32 bits unless a field says otherwise.
Positions do not take part in comparing.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TypeAlias

# (line, column) from 1; (0, 0) for what was not parsed from a text.
Place: TypeAlias = tuple[int, int]
NOWHERE: Place = (0, 0)


@dataclass(frozen=True, slots=True)
class Block:
    """`length` bytes at `offset` of `file`, which stand at `address` on the target."""

    address: int
    offset: int
    length: int
    file: str
    place: Place = field(default=NOWHERE, compare=False, repr=False)
    file_place: Place = field(default=NOWHERE, compare=False, repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Command:
    place: Place = field(default=NOWHERE, compare=False, repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class Header(_Command):
    """What the whole CSF is: `version` is (4, 0) to (4, 5). An engine configuration of () is 0, everywhere."""

    version: tuple[int, int]
    hash_algorithm: str = "sha256"
    engine: str | None = None
    engine_configuration: tuple[str, ...] | None = None
    certificate_format: str = "X509"
    signature_format: str = "CMS"
    mode: str | None = None
    target: str | None = None
    hash_algorithm_place: Place = field(default=NOWHERE, compare=False, repr=False)
    mode_place: Place = field(default=NOWHERE, compare=False, repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class InstallSrk(_Command):
    """Key number `source_index` (from 0) of the table in `file`."""

    file: str
    source_index: int
    hash_algorithm: str | None = None
    hash_algorithm_place: Place = field(default=NOWHERE, compare=False, repr=False)
    file_place: Place = field(default=NOWHERE, compare=False, repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class InstallCsfk(_Command):
    """The certificate of the key that signs the commands."""

    file: str
    certificate_format: str | None = None
    file_place: Place = field(default=NOWHERE, compare=False, repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class InstallNocak(_Command):
    """Fast authentication: the certificate of the SRK, which then signs commands and data itself."""

    file: str
    certificate_format: str | None = None
    file_place: Place = field(default=NOWHERE, compare=False, repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class AuthenticateCsf(_Command):
    """Sign the commands."""

    engine: str | None = None
    engine_configuration: tuple[str, ...] | None = None
    signature_format: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class InstallKey(_Command):
    """A certificate put into `target_index` (2 to 4), verified by the key in `verification_index`."""

    file: str
    verification_index: int
    target_index: int
    certificate_format: str | None = None
    hash_algorithm: str | None = None
    hash_algorithm_place: Place = field(default=NOWHERE, compare=False, repr=False)
    file_place: Place = field(default=NOWHERE, compare=False, repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class AuthenticateData(_Command):
    """Sign blocks with the key in `verification_index`."""

    blocks: tuple[Block, ...]
    verification_index: int
    engine: str | None = None
    engine_configuration: tuple[str, ...] | None = None
    signature_format: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Unlock(_Command):
    """Leave `features` of `engine` unlocked for what boots. `uid` is the field-return unique id, 8 bytes."""

    engine: str
    features: tuple[str, ...] | None = None
    uid: tuple[int, ...] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class SetEngine(_Command):
    """The engine that computes hashes from here on."""

    engine: str
    hash_algorithm: str
    engine_configuration: tuple[str, ...] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Init(_Command):
    """Initialise features of an engine."""

    engine: str
    features: tuple[str, ...] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Nop(_Command):
    """Nothing."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Refusable(_Command):
    """A command that is read and never signed, by its name; its arguments do not matter for that."""

    name: str


Command: TypeAlias = (
    Header
    | InstallSrk
    | InstallCsfk
    | InstallNocak
    | AuthenticateCsf
    | InstallKey
    | AuthenticateData
    | Unlock
    | SetEngine
    | Init
    | Nop
    | Refusable
)


@dataclass(frozen=True, slots=True)
class Description:
    """The commands of a CSF description, in order."""

    commands: tuple[Command, ...]
