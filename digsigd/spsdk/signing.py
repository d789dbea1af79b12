"""Has the host sign the container as it signs for everybody, and takes the signature out of its answer."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from digsigd import ahab
from digsigd.client import MachineKeys, SigningClient
from digsigd.client._internal.machine_keys import AhabTableInfo, newest_cst
from digsigd.client._internal.threads import in_thread
from digsigd.csf.ahab import AuthenticateData, Description, Header, InstallSrk, write
from digsigd.spsdk.answer import signature_of
from digsigd.spsdk.configuration import Configuration
from digsigd.spsdk.errors import ProviderError
from digsigd.spsdk.place import Place, copied
from digsigd.spsdk.region import Region, parse_region

# What the file is called in the description and in the host's log.
_NAME = "image.bin"
# The version of SRK tables for containers of version 0.
_TABLE = 1
_SPSDKS_TABLE = (
    "srk_table in SPSDK's configuration needs the machine's four certificates in order, the table's hash_algorithm, and"
    " flag_ca: true if they are CA certificates"
)


@dataclass(frozen=True, slots=True)
class RawSignature:
    """A signature as SPSDK wants it, and the host's remarks: ECDSA as r and s, each as long as the curve; RSA-PSS."""

    raw: bytes = field(repr=False)
    notes: tuple[str, ...] = ()


async def signature_length(client: SigningClient, configuration: Configuration) -> int:
    """Return the length in bytes of the signatures that the machine's SRKs make.

    SPSDK wants to know it before there is a container. Raises `ClientError`, and `ProviderError` if the machine has
    several tables with keys of different sizes, and the configuration names none.
    """
    keys = await client.machine_keys(configuration.machine)
    named = configuration.settings.srk_table
    tables = [one for one in keys.ahab_tables if one.version == _TABLE and named in (None, one.name)]
    lengths = {_signature_bytes(one) for one in tables}
    if not lengths:
        what = (
            f"no SRK table {named!r} for containers of version 0"
            if named
            else "no SRK table for containers of version 0"
        )
        raise _no_table(configuration.machine, keys, what, "this signer signs no other containers; digsign sign does")
    if len(lengths) > 1:
        raise ProviderError(
            f"machine {configuration.machine!r} has SRK tables with keys of different sizes:"
            f" {', '.join(one.name for one in tables)}",
            hint="set srk_table=NAME",
        )
    return lengths.pop()


async def sign_region(client: SigningClient, configuration: Configuration, data: bytes, folder: Path) -> RawSignature:
    """Return the host's signature over `data`, a container up to its signature. `folder` is an empty directory.

    The file with the images is uploaded with a description of what SPSDK has decided; the host makes the container and
    proves it, images and all. Its signature is returned only if it is one over `data`. Raises `ClientError`, and
    `ProviderError` if `data` is anything else, its images are not in the file, or the host's container differs.
    """
    region = parse_region(data)
    copy, signed = folder / "image", folder / "signed"
    place = await in_thread(client.reactor, copied, configuration.image, copy, region)
    keys = await client.machine_keys(configuration.machine)
    description = _description(region, place, configuration, keys)
    signed.touch()
    answer = await client.sign_file(
        machine=configuration.machine,
        description=write(description),
        artifact=copy,
        artifact_name=_NAME,
        to=signed,
        cst_version=configuration.settings.cst or newest_cst(keys),
        backend=configuration.settings.backend or "ssl",
        soc_type=configuration.chip.name if configuration.chip is not None else None,
    )
    raw = await in_thread(client.reactor, signature_of, signed, place, region, configuration.chip)
    return RawSignature(raw, answer.notes)


def _description(region: Region, place: Place, configuration: Configuration, keys: MachineKeys) -> Description:
    """Return the description of what SPSDK has decided: key, revocations, container. The host checks each."""
    container = region.container
    table = _table(region, configuration, keys)
    return Description(
        (
            Header(version=(1, 0)),
            InstallSrk(
                file=table,
                source=_certificate(table, region, configuration, keys),
                source_index=container.srk_index,
                source_set="OEM",
                revocations=container.revoke_mask,
            ),
            AuthenticateData(file=_NAME, offsets=(place.offset, place.block_offset)),
        )
    )


def _table(region: Region, configuration: Configuration, keys: MachineKeys) -> str:
    """Return the name of the machine's SRK table that the container has."""
    named = configuration.settings.srk_table
    same = [one.name for one in keys.ahab_tables if one.data == region.table]
    if named is not None and named in same:
        return named
    if same and named is None:
        return same[0]
    what = f"another SRK table {named!r} than the container" if named else "not the SRK table of the container"
    raise _no_table(configuration.machine, keys, what, _SPSDKS_TABLE)


def _no_table(machine: str, keys: MachineKeys, what: str, hint: str) -> ProviderError:
    there = ", ".join(one.name for one in keys.ahab_tables) or "none"
    return ProviderError(f"machine {machine!r} has {what}; its SRK tables for AHAB are: {there}", hint=hint)


def _certificate(table: str, region: Region, configuration: Configuration, keys: MachineKeys) -> str:
    """Return the name of the certificate of the container's SRK."""
    if configuration.settings.srk_certificate is not None:
        return configuration.settings.srk_certificate
    number = region.container.srk_index + 1
    found = [one.name for one in keys.certificates if one.is_srk and one.srk == number and one.is_in(table)]
    if len(found) != 1:
        raise ProviderError(
            f"machine {configuration.machine!r} has {len(found) or 'no'} certificates of SRK {number}"
            + (f": {', '.join(found)}" if found else ""),
            hint="set srk_certificate=NAME",
        )
    return found[0]


def _signature_bytes(info: AhabTableInfo) -> int:
    table = ahab.parse_table(info.data)
    records = table.records if isinstance(table, ahab.SrkTable) else ()
    return max((one.signature_size for one in records), default=0)
