"""CSF descriptions as values: one class for each command of HAB4.

Source of commands, arguments and their values: NXP Code Signing Tool User Guide, "CSF Description Language"; what it
leaves open was tested with cst 3.4.1 and 4.0.1. Numbers are unsigned and of 32 bits unless a field says otherwise.
Places are not compared.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TypeAlias

# (line, column) from 1; (0, 0) for what was not parsed from a text.
Place: TypeAlias = tuple[int, int]
NOWHERE: Place = (0, 0)


@dataclass(frozen=True, slots=True)
class Block:
    """`length` bytes at `offset` of `file`, which are at `address` in the board's memory."""

    address: int
    offset: int
    length: int
    file: str
    place: Place = field(default=NOWHERE, compare=False, repr=False)
    file_place: Place = field(default=NOWHERE, compare=False, repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class Placed:
    """What every command has: the place of its name."""

    place: Place = field(default=NOWHERE, compare=False, repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class Header(Placed):
    """The properties of the whole CSF. `version` is (4, 0) to (4, 5). An engine configuration of () stands for 0."""

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
class InstallSrk(Placed):
    """Key number `source_index` (from 0) of the table in `file`."""

    file: str
    source_index: int
    hash_algorithm: str | None = None
    hash_algorithm_place: Place = field(default=NOWHERE, compare=False, repr=False)
    file_place: Place = field(default=NOWHERE, compare=False, repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class InstallCsfk(Placed):
    """The certificate of the key that signs the commands."""

    file: str
    certificate_format: str | None = None
    file_place: Place = field(default=NOWHERE, compare=False, repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class InstallNocak(Placed):
    """Fast authentication: the certificate of the SRK, which signs commands and data."""

    file: str
    certificate_format: str | None = None
    file_place: Place = field(default=NOWHERE, compare=False, repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class AuthenticateCsf(Placed):
    """A signature over the commands."""

    engine: str | None = None
    engine_configuration: tuple[str, ...] | None = None
    signature_format: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class InstallKey(Placed):
    """A certificate for slot `target_index` (2 to 4), verified with the key in `verification_index`."""

    file: str
    verification_index: int
    target_index: int
    certificate_format: str | None = None
    hash_algorithm: str | None = None
    hash_algorithm_place: Place = field(default=NOWHERE, compare=False, repr=False)
    file_place: Place = field(default=NOWHERE, compare=False, repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class AuthenticateData(Placed):
    """A signature over blocks, verified with the key in `verification_index`."""

    blocks: tuple[Block, ...]
    verification_index: int
    engine: str | None = None
    engine_configuration: tuple[str, ...] | None = None
    signature_format: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Unlock(Placed):
    """Features of an engine to leave unlocked for what boots. `uid` is the field-return unique id, 8 bytes."""

    engine: str
    features: tuple[str, ...] | None = None
    uid: tuple[int, ...] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class SetEngine(Placed):
    """The engine that computes hashes in the following commands."""

    engine: str
    hash_algorithm: str
    engine_configuration: tuple[str, ...] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Init(Placed):
    """Features of an engine to initialise."""

    engine: str
    features: tuple[str, ...] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Nop(Placed):
    """A command without effect."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Refusable(Placed):
    """A command that is read but never signed. Only its name is kept."""

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
