"""Checks what a host signs of a CSF description for AHAB, before any key is fetched.

cst ends with 0 for most of what is refused here: a repeated command, a key that revokes itself.
"""

from __future__ import annotations

from collections.abc import Iterable
from itertools import pairwise

from digsigd.csf.ahab.model import (
    CONTAINER_HEADER,
    IMAGE_ENTRY,
    MOST_IMAGES,
    AuthenticateData,
    Command,
    Description,
    Header,
    InstallCertificate,
    InstallSrk,
)
from digsigd.csf.errors import CsfPolicyError
from digsigd.csf.model import Place, Refusable
from digsigd.csf.policy import Policy

# Each is a run of cst. The files of imx-mkimage and of NXP's scripts have two or three that are not NXP's.
MAX_CONTAINERS = 8
# The permission to sign containers, bit 0 of `Permissions`: uboot-imx, doc/imx/ahab.
SIGNS_CONTAINERS = 0x1
_SEVERAL = "ahab-several-containers"


def check(description: Description, policy: Policy) -> None:
    """Raise `CsfPolicyError` if this host does not sign the description."""
    _check_commands(description.commands)
    header = description.header
    if header.mode is not None:
        raise CsfPolicyError("Mode = HSM makes placeholders instead of signatures", *header.mode_place)
    _check_srk(description.srk, header, policy)
    if description.certificate is not None:
        _check_certificate(description.certificate, header, policy)
    _check_containers(description.data, policy)


def _check_commands(commands: tuple[Command, ...]) -> None:
    """Check that [Header] is first, that no required command is missing, and that none but data is given twice."""
    if not isinstance(commands[0], Header):
        raise CsfPolicyError("the first command must be [Header]", *commands[0].place)
    seen: set[type] = set()
    for command in commands:
        if isinstance(command, Refusable):
            raise CsfPolicyError(
                f"[{command.name}] is not signed: cst would write a key file on this host; encrypted boot is not signed"
                " here",
                *command.place,
            )
        if type(command) in seen and not isinstance(command, AuthenticateData):
            raise CsfPolicyError(
                f"[{_NAMES[type(command)]}] is given twice; cst would use only the last one", *command.place
            )
        seen.add(type(command))
    for needed in (InstallSrk, AuthenticateData):
        if needed not in seen:
            raise CsfPolicyError(f"the CSF description has no [{_NAMES[needed]}]", commands[-1].place[0])


_NAMES: dict[type, str] = {
    Header: "Header",
    InstallSrk: "Install SRK",
    InstallCertificate: "Install Certificate",
    AuthenticateData: "Authenticate Data",
}


def _check_srk(command: InstallSrk, header: Header, policy: Policy) -> None:
    if command.source_set != "OEM":
        raise CsfPolicyError(
            f"Source set = {command.source_set}: only NXP signs with NXP's keys; the chip would compare the table with"
            " NXP's fuses",
            *command.source_set_place,
            hint="write Source set = OEM",
        )
    mask, place = command.revocations, command.revocations_place
    if mask >> command.source_index & 1:
        raise CsfPolicyError(
            f"Revocations = {mask:#x} revokes the key with Source index = {command.source_index}, which signs: the chip"
            " refuses the container",
            *place,
        )
    if mask:
        _need(
            policy,
            "ahab-revocations",
            f"Revocations = {mask:#x}: the chip burns the mask on ahab_commit, permanently",
            place,
        )
    if command.check_all_signatures is not None:
        place = command.check_all_signatures_place
        _need_version_2(header, "Check All Signatures", place)
        if command.check_all_signatures != "Fuse":
            _need(policy, "ahab-check-all-signatures", f"Check All Signatures = {command.check_all_signatures}", place)
    if command.fast_boot is not None:
        _need_version_2(header, "Fast Boot", command.fast_boot_place)
        if command.fast_boot:
            _need(policy, "ahab-fast-boot", f"Fast Boot = {command.fast_boot:#x}", command.fast_boot_place)


def _check_certificate(command: InstallCertificate, header: Header, policy: Policy) -> None:
    _no_signature("Install Certificate", command.signature, command.signature_place)
    permissions, place = command.permissions, command.permissions_place
    if not permissions & SIGNS_CONTAINERS:
        raise CsfPolicyError(
            f"Permissions = {permissions:#x} has no bit 0, which allows the key to sign containers",
            *place,
            hint="write Permissions = 0x1",
        )
    if permissions != SIGNS_CONTAINERS:
        _need(
            policy, "ahab-permissions", f"Permissions = {permissions:#x} allows more than to sign containers", place,
            hint="write Permissions = 0x1",
        )  # fmt: skip
    for value, label, name, at in (
        (command.permissions_data, "Permissions Data", "ahab-permissions-data", command.permissions_data_place),
        (command.uuid, "UUID", "ahab-uuid", command.uuid_place),
        (
            None if command.fuse_version is None else (command.fuse_version,),
            "Fuse Version",
            "ahab-fuse-version",
            command.fuse_version_place,
        ),
    ):
        if value is None:
            continue
        _need_version_2(header, label, at)
        if any(value):
            _need(policy, name, f"{label} = {' '.join(f'{one:#x}' for one in value)}", at)


def _check_containers(data: tuple[AuthenticateData, ...], policy: Policy) -> None:
    for command in data:
        _no_signature("Authenticate Data", command.signature, command.signature_place)
        _check_offsets(command)
    if len(data) == 1:
        return
    if _SEVERAL not in policy.allow:
        raise CsfPolicyError(
            "several [Authenticate Data]: cst signs only the container of the last one",
            *data[1].place,
            hint="send one request per container in the order of the file, each with the file that the one before it"
            f" returned; or the operator can allow it as '{_SEVERAL}'",
        )
    if len(data) > MAX_CONTAINERS:
        raise CsfPolicyError(
            f"{len(data)} [Authenticate Data], but at most {MAX_CONTAINERS} are signed", *data[MAX_CONTAINERS].place
        )
    for before, command in pairwise(in_file_order(data)):
        if command.container_offset < before.block_offset:
            raise CsfPolicyError(
                f"the container at {command.container_offset:#x} is inside the one at {before.container_offset:#x},"
                f" whose signature block is at {before.block_offset:#x}",
                *command.offsets_place,
            )


def in_file_order(data: Iterable[AuthenticateData]) -> tuple[AuthenticateData, ...]:
    """Return the commands in the order of their containers in the file."""
    return tuple(sorted(data, key=lambda one: one.offsets))


def _check_offsets(command: AuthenticateData) -> None:
    header, block = command.offsets
    place = command.offsets_place
    if block <= header:
        raise CsfPolicyError(
            f"Offsets = {header:#x} {block:#x}: the signature block must be after the header", *place,
            hint="the offset of the container's header comes first",
        )  # fmt: skip
    images, rest = divmod(block - header - CONTAINER_HEADER, IMAGE_ENTRY)
    if rest or not 0 < images <= MOST_IMAGES:
        raise CsfPolicyError(
            f"Offsets = {header:#x} {block:#x}: no container has its signature block {block - header:#x} bytes after"
            f" its header; it is after {CONTAINER_HEADER:#x} bytes and {IMAGE_ENTRY:#x} for each of 1 to {MOST_IMAGES}"
            " images",
            *place,
            hint="imx-mkimage prints both offsets",
        )


def _no_signature(where: str, signature: str | None, place: Place) -> None:
    if signature is not None:
        raise CsfPolicyError(
            f"[{where}] with a Signature: cst would copy a file of this host into the image instead of signing",
            *place,
            hint="leave it out",
        )


def _need_version_2(header: Header, label: str, place: Place) -> None:
    if header.container_version != 2:
        raise CsfPolicyError(
            f"{label} is only in containers of version 2, but the description has Version = 1.0", *place,
            hint="leave it out",
        )  # fmt: skip


def _need(policy: Policy, name: str, what: str, place: Place, hint: str = "") -> None:
    """Raise `CsfPolicyError` unless the operator allows `name`."""
    if name not in policy.allow:
        allowing = f"the operator can allow it as '{name}'"
        raise CsfPolicyError(what, *place, hint=f"{hint}, or {allowing}" if hint else allowing)
