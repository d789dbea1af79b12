"""Checks what a host signs: the commands of a CSF description and their order, before any key is fetched."""

from __future__ import annotations

import re
from dataclasses import dataclass

from digsigd.csf.engines import Engines
from digsigd.csf.errors import CsfPolicyError
from digsigd.csf.members import base_of
from digsigd.csf.model import (
    AuthenticateCsf,
    AuthenticateData,
    Command,
    Description,
    Header,
    Init,
    InstallCsfk,
    InstallKey,
    InstallNocak,
    InstallSrk,
    Nop,
    Refusable,
    SetEngine,
    Unlock,
)
from digsigd.csf.size import MAX_BYTES, appended_size, command_size
from digsigd.csf.uri import is_uri
from digsigd.hab.engines import INITS, NUMBERS, OF_ONE_CHIP, UNLOCKS

# What an operator can allow beyond the safe features, by its name in the configuration. Each leaves something unlocked
# for all that boots; none lets a CSF description touch a file of this host.
ALLOWABLE_UNLOCKS = {
    "unlock-snvs-lp-swr": ("SNVS", "LP SWR"),
    "unlock-snvs-zmk-write": ("SNVS", "ZMK WRITE"),
    "unlock-ocotp-field-return": ("OCOTP", "FIELD RETURN"),
    "unlock-ocotp-srk-revoke": ("OCOTP", "SRK REVOKE"),
    "unlock-ocotp-scs": ("OCOTP", "SCS"),
    "unlock-ocotp-jtag": ("OCOTP", "JTAG"),
}
# The same for AHAB, checked in `digsigd.csf.ahab.policy`: the arguments that need it.
ALLOWABLE_OF_AHAB = {
    "ahab-revocations": "Revocations",
    "ahab-permissions": "Permissions",
    "ahab-permissions-data": "Permissions Data",
    "ahab-uuid": "UUID",
    "ahab-fuse-version": "Fuse Version",
    "ahab-check-all-signatures": "Check All Signatures",
    "ahab-fast-boot": "Fast Boot",
    "ahab-several-containers": "Offsets",
}
ALLOWABLE = (*ALLOWABLE_UNLOCKS, *ALLOWABLE_OF_AHAB)
_SAFE = {("CAAM", "MID"), ("CAAM", "RNG"), ("CAAM", "MFG")}
_WHY_REFUSED = {
    "Set MID": "U-Boot refuses images with it",
    "Write Data": "it can write to any register of the board, and U-Boot refuses images with it",
    "Check Data": "U-Boot refuses images with it",
    "Install Secret Key": "cst would write a key file on this host; encrypted boot is not signed here",
    "Decrypt Data": "cst would encrypt files of this host in place; encrypted boot is not signed here",
}


@dataclass(frozen=True, slots=True)
class Policy:
    """What a host allows: `allow` are names from `ALLOWABLE`. Raises `ValueError` for other names."""

    allow: frozenset[str] = frozenset()

    def __post_init__(self) -> None:
        """Raise `ValueError` for unknown names."""
        for name in self.allow:
            if name not in ALLOWABLE:
                raise ValueError(f"{name!r} cannot be allowed; allowed can be: {', '.join(ALLOWABLE)}")


def check(description: Description, policy: Policy) -> None:
    """Raise `CsfPolicyError` if this host does not sign the CSF description."""
    commands = description.commands
    if not isinstance(commands[0], Header):
        raise CsfPolicyError("the first command must be [Header]", *commands[0].place)
    _check_header(commands[0])
    state = _State()
    engines = Engines(commands[0])
    for command in commands[1:]:
        _check_command(command, policy)
        state.take(command)
        if isinstance(command, AuthenticateCsf | AuthenticateData | SetEngine):
            engines.take(command)
    state.end(commands[-1])
    _check_size(description)


def _check_header(header: Header) -> None:
    if header.mode is not None:
        raise CsfPolicyError("Mode = HSM makes placeholders instead of signatures", *header.mode_place)
    if header.hash_algorithm != "sha256":
        raise CsfPolicyError(
            f"Hash Algorithm = {header.hash_algorithm}: HAB4 supports sha256 only",
            *header.hash_algorithm_place,
        )


def _check_command(command: Command, policy: Policy) -> None:
    if isinstance(command, Refusable):
        raise CsfPolicyError(f"[{command.name}] is not signed: {_WHY_REFUSED[command.name]}", *command.place)
    if isinstance(command, Unlock):
        _check_unlock(command, policy)
    if isinstance(command, InstallSrk) and command.hash_algorithm not in {None, "sha256"}:
        raise CsfPolicyError(
            f"Hash Algorithm = {command.hash_algorithm}: the fuses hold the sha256 of the SRK table",
            *command.hash_algorithm_place,
        )
    if isinstance(command, InstallKey) and command.hash_algorithm is not None:
        raise CsfPolicyError(
            "[Install Key] with a Hash Algorithm refers to its certificate by hash",
            *command.hash_algorithm_place,
            hint="leave it out; the CSF contains the certificate",
        )
    if isinstance(command, Init) and not _is_known(command):
        raise CsfPolicyError("[Init] is signed for CAAM RNG and SRTC only", *command.place)


def _is_known(command: Init) -> bool:
    known = INITS.get(NUMBERS[command.engine])
    return known is not None and tuple(known) == (command.features or ())


def _check_unlock(command: Unlock, policy: Policy) -> None:
    features = command.features
    if UNLOCKS.get(NUMBERS[command.engine]) == {}:
        # CST User Guide, table 24; SW is what barebox's scripts unlock on an i.MX 6ULL, whose ROM has no CAAM.
        if features or command.uid is not None:
            raise CsfPolicyError(f"[Unlock] of {command.engine} must not have Features or a UID", *command.place)
        return
    if not features:
        raise CsfPolicyError(f"[Unlock] of {command.engine} needs Features", *command.place)
    allowed = _SAFE | {what for name, what in ALLOWABLE_UNLOCKS.items() if name in policy.allow}
    for feature in features:
        if (command.engine, feature) in allowed:
            continue
        name = next((name for name, what in ALLOWABLE_UNLOCKS.items() if what == (command.engine, feature)), None)
        hint = f"the operator can allow it as {name!r}" if name else "of CAAM, MID, RNG and MFG are signed"
        raise CsfPolicyError(f"[Unlock] of {command.engine} {feature} is not signed", *command.place, hint=hint)
    if command.uid is not None and command.engine != "OCOTP":
        raise CsfPolicyError(f"[Unlock] of {command.engine} must not have a UID", *command.place)
    if (command.uid is not None) == OF_ONE_CHIP.isdisjoint(features):
        what = "must not have a UID" if command.uid is not None else "needs the chip's UID"
        raise CsfPolicyError(f"[Unlock] of OCOTP {', '.join(features)} {what}", *command.place)


def _check_size(description: Description) -> None:
    size = 0
    for command in description.commands:
        size += command_size(command)
        if size > MAX_BYTES:
            raise CsfPolicyError(
                f"with this command the CSF's commands have {size} bytes, but cst and HAB allow at most {MAX_BYTES}",
                *command.place,
                hint="sign fewer, longer blocks, or split the image into parts, each with its own CSF",
            )
    if size + appended_size(description) > MAX_BYTES:
        raise CsfPolicyError(
            f"the CSF's commands have {size} bytes and cst appends an Unlock of CAAM RNG of"
            f" {appended_size(description)}, but cst and HAB allow at most {MAX_BYTES}",
            *description.commands[-1].place,
            hint="sign fewer, longer blocks, or split the image into parts, each with its own CSF",
        )


def _plain(name: str) -> str:
    """Return a certificate's name without folders and ending: two names that differ only there can mean the same."""
    return name if is_uri(name) else re.sub(r"\.(pem|der)$", "", base_of(name))


class _State:
    """Checks the order of commands that HAB4 requires, and the keys that they install and use."""

    def __init__(self) -> None:
        self._keys: dict[int, tuple[str, int]] = {}
        self._has_srk = False
        self._csfk: Command | None = None
        self._fast = False
        self._authenticated = False
        self._data = False

    def take(self, command: Command) -> None:
        """Check the next command after the header. Raises `CsfPolicyError`."""
        # HABv4 API, 4.3.3 and 4.3.4: commands that need no key can come before the first key.
        if not self._has_srk and not isinstance(command, Header | InstallSrk | Nop | SetEngine):
            raise CsfPolicyError("[Install SRK] must be the first command after [Header]", *command.place)
        match command:
            case Header():
                raise CsfPolicyError("[Header] is given twice", *command.place)
            case InstallSrk():
                if self._has_srk:
                    raise CsfPolicyError("[Install SRK] is given twice", *command.place)
                self._has_srk = True
            case InstallCsfk() | InstallNocak():
                self._install_csfk(command)
            case AuthenticateCsf():
                if self._authenticated:
                    raise CsfPolicyError("[Authenticate CSF] is given twice", *command.place)
                if self._csfk is None:
                    raise CsfPolicyError(
                        "[Authenticate CSF] must come after [Install CSFK] or [Install NOCAK]", *command.place
                    )
                self._authenticated = True
            case InstallKey():
                self._install_key(command)
            case AuthenticateData():
                self._authenticate(command)
            case Unlock() | Init():
                if not self._authenticated:
                    raise CsfPolicyError(
                        f"[{type(command).__name__}] must come after [Authenticate CSF]", *command.place
                    )
            case _:
                pass

    def _install_csfk(self, command: InstallCsfk | InstallNocak) -> None:
        if self._csfk is not None:
            raise CsfPolicyError("[Install CSFK] or [Install NOCAK] is given twice", *command.place)
        self._csfk = command
        self._fast = isinstance(command, InstallNocak)

    def _install_key(self, command: InstallKey) -> None:
        if not self._authenticated:
            raise CsfPolicyError("[Install Key] must come after [Authenticate CSF]", *command.place)
        if self._fast:
            raise CsfPolicyError("with [Install NOCAK] the SRK signs the data, and no key is installed", *command.place)
        if command.target_index < 2:
            raise CsfPolicyError("Target index must be 2, 3 or 4: 0 and 1 are the SRK and the CSF key", *command.place)
        key = _plain(command.file), command.verification_index
        if self._keys.get(command.target_index, key) != key:
            # HAB ignores the same key again: HABv4 API, 4.3.7.
            raise CsfPolicyError(f"a different key is already installed as {command.target_index}", *command.place)
        if command.verification_index != 0 and command.verification_index not in self._keys:
            raise CsfPolicyError(
                f"Verification index = {command.verification_index}: this key is not installed; 0 is the SRK",
                *command.place,
            )
        self._keys[command.target_index] = key

    def _authenticate(self, command: AuthenticateData) -> None:
        if not self._authenticated:
            raise CsfPolicyError("[Authenticate Data] must come after [Authenticate CSF]", *command.place)
        index = command.verification_index
        if (index != 0) if self._fast else (index not in self._keys):
            what = "0, the SRK" if self._fast else f"one of {sorted(self._keys)}" if self._keys else "an installed key"
            raise CsfPolicyError(f"Verification index = {index}: data must be verified with {what}", *command.place)
        for block in command.blocks:
            if block.length == 0:
                raise CsfPolicyError("the block is empty", *block.place)
        self._data = True

    def end(self, last: Command) -> None:
        """Raise `CsfPolicyError` if a required command is missing."""
        for there, name in (
            (self._has_srk, "Install SRK"),
            (self._csfk, "Install CSFK"),
            (self._authenticated, "Authenticate CSF"),
            (self._data, "Authenticate Data"),
        ):
            if not there:
                raise CsfPolicyError(f"the CSF description has no [{name}]", last.place[0])
