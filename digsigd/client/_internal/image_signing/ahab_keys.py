"""Choose the keys of a machine that sign AHAB containers, and check them before an upload."""

from __future__ import annotations

from dataclasses import dataclass, field

from digsigd import ahab
from digsigd.ahab import AhabChip, SrkArray, SrkRecord
from digsigd.ahab.chips import Refused
from digsigd.client._internal.api import SigningClient
from digsigd.client._internal.errors import ClientError
from digsigd.client._internal.image_signing.key_names import KeyNames, configured_ahab_names, only
from digsigd.client._internal.machine_keys import AhabTableInfo, CertificateInfo, MachineKeys, newest_cst
from digsigd.csf.members import base_of
from digsigd.image.ahab_model import AhabPlan, block_length

# The first cst that signs containers of version 2; older ones ignore the version.
_FOR_VERSION_2 = (4, 0, 0)
# By their bytes.
_HASHES = {32: "SHA-256", 64: "SHA-512"}


@dataclass(frozen=True, slots=True)
class AhabChoice:
    """The choice of keys as given by the caller; `chosen_ahab_keys` completes it. `srk` counts from 1."""

    machine: str
    cst_version: str | None
    names: KeyNames | None
    srk: int
    sgk: bool
    fuse_value: bytes | None


@dataclass(frozen=True, slots=True)
class AhabKeys:
    """The keys and the cst that sign. `srk_table` is the machine's table, None if the host was not asked.

    `fuse_value` is that of the boards: the one given, else that of the table for the chip, if it is known.
    """

    names: KeyNames
    cst_version: str
    srk_table: bytes | None = field(repr=False)
    fuse_value: bytes | None


async def chosen_ahab_keys(client: SigningClient, plan: AhabPlan, chip: AhabChip, choice: AhabChoice) -> AhabKeys:
    """Return the keys that sign: those of `choice`, else those in the settings, else those that the host reports.

    Raises `ClientError`, also if the boards have other fuses, `AhabError` if the chip does not accept the keys, and
    `ImageError` if there is no room for their signatures.
    """
    settings = client.settings
    if choice.sgk:
        _check_rule(chip, "a certificate (SGK)", chip.sgk)
    names = choice.names or configured_ahab_names(settings, sgk=choice.sgk)
    if names is not None:
        names = _checked_names(names, sgk=choice.sgk)
    version = choice.cst_version or settings.cst
    if names is not None and version is not None:
        _check_cst(version, plan)
        return AhabKeys(names, version, None, choice.fuse_value)
    keys = await client.machine_keys(choice.machine)
    version = version or newest_cst(keys)
    _check_cst(version, plan)
    if names is None:
        names = ahab_key_names(keys, version=plan.version, srk=choice.srk, sgk=choice.sgk)
    info = next((one for one in keys.ahab_tables if one.name == names.table), None)
    if info is None:
        return AhabKeys(names, version, None, choice.fuse_value)
    fuse_value = _check_table(info, chip, choice)
    certificate = next((one for one in keys.certificates if one.name == names.sgk_certificate), None)
    _check_room(info, certificate, plan, choice)
    return AhabKeys(names, version, info.data, fuse_value)


def ahab_key_names(keys: MachineKeys, *, version: int, srk: int, sgk: bool) -> KeyNames:
    """Return the names of keys for containers of `version` (0 or 2), from the keys that the host reports.

    `srk` is the number of the SRK, from 1. With `sgk` a certificate named SGK... that it signed, the first one if there
    are several (ahab_pki_tree.sh: SGK1_1, SGK1_2). Raises `ClientError` unless there is exactly one of each.
    """
    wanted = 2 if version == 2 else 1
    tables = [one.name for one in keys.ahab_tables if one.version == wanted]
    what = f"SRK table for AHAB containers of version {version}"
    if not tables and (keys.srk_tables or keys.ahab_tables):
        other = "of the other version" if keys.ahab_tables else "for HAB"
        raise ClientError(
            f"machine {keys.machine!r} has no {what}; its table is {other}",
            hint=f"add the table that srktool -a {wanted} makes to the machine's key tarball"
            if keys.ahab_tables
            else "check the machine name: --machine",
        )
    table = only(tables, what, "srk_table", keys)
    of_srk = [one for one in keys.certificates if one.srk == srk and one.is_in(table)]
    own = [one.name for one in of_srk if one.is_srk]
    source = only(own, f"certificate of SRK {srk}", "srk_certificate", keys)
    if not sgk:
        return KeyNames(table, srk_certificate=source)
    signed = sorted(
        (base_of(one.name), one.name) for one in of_srk if not one.is_srk and base_of(one.name)[:3].upper() == "SGK"
    )
    first = [name for base, name in signed if base.upper().startswith(f"SGK{srk}_1_")]
    found = first or [name for _, name in signed]
    if not found:
        raise _no_sgk(keys, srk, table)
    name = only(found, f"SGK certificate signed by SRK {srk}", "sgk_certificate", keys)
    return KeyNames(table, srk_certificate=source, sgk_certificate=name)


def _no_sgk(keys: MachineKeys, srk: int, table: str) -> ClientError:
    signers = {
        one.srk
        for one in keys.certificates
        if one.is_in(table) and not one.is_srk and base_of(one.name)[:3].upper() == "SGK"
    }
    others = " and ".join(str(number) for number in sorted(number for number in signers if number is not None))
    return ClientError(
        f"machine {keys.machine!r} has no SGK certificate signed by SRK {srk}",
        hint=f"choose another SRK with --srk: there are certificates signed by SRK {others}"
        if others
        else "leave out --sgk, so that the SRK signs; or set sgk_certificate and the other names in digsign.toml",
    )


def _checked_names(names: KeyNames, *, sgk: bool) -> KeyNames:
    """Return the names that the caller gives, those that are needed. Raises `ClientError` if one is missing."""
    if names.srk_certificate is None or (sgk and names.sgk_certificate is None):
        missing = "srk_certificate" if names.srk_certificate is None else "sgk_certificate"
        raise ClientError(f"the names of the keys have no {missing}, which signing for AHAB needs")
    return KeyNames(
        names.table, srk_certificate=names.srk_certificate, sgk_certificate=names.sgk_certificate if sgk else None
    )


def _check_cst(version: str, plan: AhabPlan) -> None:
    numbers = tuple(int(part) if part.isdigit() else 0 for part in version.split("."))
    if plan.version == 2 and numbers < _FOR_VERSION_2:
        raise ClientError(
            f"cst {version} does not sign AHAB containers of version 2",
            hint="set --cst 4.0.1 or later, DIGSIGN_CST, or cst in digsign.toml",
        )


def _check_table(info: AhabTableInfo, chip: AhabChip, choice: AhabChoice) -> bytes | None:
    """Check that the chip accepts the SRK and that its fuses have this table; return its fuse value, if it is known."""
    table = ahab.parse_table(info.data)
    record = _record(table, choice.srk)
    _check_rule(chip, f"{record.name} (SRK {choice.srk} of machine {choice.machine!r})", chip.allows(record.algorithm))
    try:
        value = ahab.fuse_value(table, chip)
    except ahab.NotConfirmed:
        value = None
    given = choice.fuse_value
    if given is None:
        return value
    known = {value} if value is not None else {info.sha256, info.sha512}
    if value is not None and len(given) != len(value):
        raise ClientError(
            f"--fuses has {2 * len(given)} digits, but {chip.title} has a {_HASHES[len(value)]} in its fuses, which has"
            f" {2 * len(value)}",
            hint="`digsign fuses --soc` prints it; for an SRK table made with the wrong hash, see docs/ahab.md",
        )
    if given not in known:
        have = " or ".join(sorted(one.hex() for one in known))
        raise ClientError(
            f"machine {choice.machine!r} has the fuse value {have}, --fuses says {given.hex()}",
            hint="boards with the fuses of --fuses would not boot the image; check the machine name: --machine",
        )
    return given


def _check_room(info: AhabTableInfo, certificate: CertificateInfo | None, plan: AhabPlan, choice: AhabChoice) -> None:
    """Check that the signature blocks fit in front of the images, as far as the kinds of the keys are known."""
    record = _record(ahab.parse_table(info.data), choice.srk)
    kinds = [_kind(record.name), _kind(certificate.key) if certificate is not None else None]
    if kinds[0] is None or (choice.sgk and kinds[1] is None):
        return
    plan.check_signable(block_length(kinds[0], version=plan.version, sgk=kinds[1]))


def _record(table: ahab.SrkTable | SrkArray, srk: int) -> SrkRecord:
    records = table.tables[0].records if isinstance(table, SrkArray) else table.records
    return records[srk - 1]


def _kind(name: str) -> str | None:
    """Return the kind of key for `block_length`: "p384" of "ECDSA P-384", "rsa2048" of "RSA-PSS 2048"."""
    family, _, size = name.partition(" ")
    kind = size.replace("-", "").lower() if family == "ECDSA" else f"rsa{size}"
    return kind if kind in {"p256", "p384", "p521", "rsa2048", "rsa3072", "rsa4096"} else None


def _check_rule(chip: AhabChip, what: str, rule: object) -> None:
    """Raise `AhabError` for what the chip is known to refuse."""
    if rule is False or isinstance(rule, Refused):
        why = rule.why if isinstance(rule, Refused) else "its firmware does not have it"
        raise ahab.AhabError(f"{what} is not for {chip.title}: {why}")
