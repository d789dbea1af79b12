"""Choose the keys of a machine that sign, by their names in CSF descriptions."""

from __future__ import annotations

from dataclasses import dataclass

from digsigd.client._internal.errors import ClientError
from digsigd.client._internal.machine_keys import CertificateInfo, MachineKeys
from digsigd.client._internal.settings import ClientSettings
from digsigd.csf.members import base_of


@dataclass(frozen=True, slots=True)
class KeyNames:
    """The names of an SRK table and of certificates: of the CSF and IMG keys, or with fast authentication of the SRK.

    For AHAB they are those of the SRK, and of the SGK if one signs. They are names of files in the machine's key
    tarball, as `key_names` finds them, or URIs of keys on a token.
    """

    table: str
    csf_certificate: str | None = None
    image_certificate: str | None = None
    srk_certificate: str | None = None
    sgk_certificate: str | None = None


def configured_names(settings: ClientSettings, *, fast_auth: bool) -> KeyNames | None:
    """Return the names of the keys in the settings, None if the settings have none.

    Raises `ClientError` if the settings have some of the needed names, but not all.
    """
    needed = {"srk_table": settings.srk_table}
    if fast_auth:
        needed["srk_certificate"] = settings.srk_certificate
    else:
        needed["csf_certificate"] = settings.csf_certificate
        needed["image_certificate"] = settings.image_certificate
    if not _complete(needed) or settings.srk_table is None:
        return None
    if fast_auth:
        return KeyNames(settings.srk_table, srk_certificate=settings.srk_certificate)
    return KeyNames(settings.srk_table, settings.csf_certificate, settings.image_certificate)


def configured_ahab_names(settings: ClientSettings, *, sgk: bool) -> KeyNames | None:
    """Return the names of the keys for AHAB in the settings, None if the settings have none.

    Raises `ClientError` if the settings have some of the needed names, but not all.
    """
    needed = {"srk_table": settings.srk_table, "srk_certificate": settings.srk_certificate}
    if sgk:
        needed["sgk_certificate"] = settings.sgk_certificate
    if not _complete(needed) or settings.srk_table is None:
        return None
    return KeyNames(
        settings.srk_table,
        srk_certificate=settings.srk_certificate,
        sgk_certificate=settings.sgk_certificate if sgk else None,
    )


def _complete(needed: dict[str, str | None]) -> bool:
    """Return whether all names are set, False if none is. Raises `ClientError` if only some are."""
    missing = [name for name, value in needed.items() if value is None]
    if missing and len(missing) < len(needed):
        given = [name for name in needed if name not in missing]
        raise ClientError(
            f"the configuration sets {_listed(given)}, but not {_listed(missing)}",
            hint="set all of them, or none to use the names that the signing host reports",
        )
    return not missing


def key_names(keys: MachineKeys, *, srk: int, fast_auth: bool) -> KeyNames:
    """Return the names for SRK number `srk`, counted from 1, from the keys that the host reports.

    Only the file name of a certificate shows its use, CSF... or IMG..., as NXP's scripts name them (CST User Guide,
    "Generating HAB4 Keys and Certificates"). Raises `ClientError` unless there is exactly one of each.
    """
    if keys.ahab_tables and not keys.srk_tables:
        raise ClientError(
            f"machine {keys.machine!r} has no SRK table for HAB; its table is for AHAB",
            hint="check the machine name: --machine",
        )
    table = only([one.name for one in keys.srk_tables], "SRK table", "srk_table", keys)
    of_srk = [one for one in keys.certificates if one.srk == srk and one.is_in(table)]
    if fast_auth:
        found = [one.name for one in of_srk if one.is_srk]
        return KeyNames(table, srk_certificate=only(found, f"certificate of SRK {srk}", "srk_certificate", keys))

    def named(role: str, key: str) -> str:
        found = [one.name for one in of_srk if not one.is_srk and _role(one) == role]
        return only(found, f"{role} certificate signed by SRK {srk}", key, keys)

    return KeyNames(table, named("CSF", "csf_certificate"), named("IMG", "image_certificate"))


def _role(certificate: CertificateInfo) -> str:
    return base_of(certificate.name)[:3].upper()


def only(found: list[str], what: str, key: str, keys: MachineKeys) -> str:
    """Return the only name that was found for `what`, which the setting `key` names. Raises `ClientError`."""
    if len(found) == 1:
        return found[0]
    if found:
        raise ClientError(
            f"machine {keys.machine!r} has more than one {what}: {', '.join(found)}",
            hint=f"set {key} and the other names in digsign.toml: see docs/client.md",
        )
    there = ", ".join(f"{one.name}{_signer(one)}" for one in keys.certificates) or "no certificates"
    raise ClientError(
        f"machine {keys.machine!r} has no {what}; it has {there}",
        hint=f"choose another SRK with --srk, or set {key} and the other names in digsign.toml",
    )


def _signer(certificate: CertificateInfo) -> str:
    if certificate.srk is None:
        return ""
    return f" (SRK {certificate.srk})" if certificate.is_srk else f" (signed by SRK {certificate.srk})"


def _listed(names: list[str]) -> str:
    return " and ".join(names)
