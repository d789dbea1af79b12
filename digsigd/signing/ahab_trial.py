"""Trial requests for AHAB: a small container, and descriptions that sign it with each key of a machine."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import cache

from digsigd import ahab, csf
from digsigd.csf.ahab import AuthenticateData, Description, Header, InstallCertificate, InstallSrk, parse
from digsigd.signing.ahab_tables import NamedAhabTable
from digsigd.signing.machine_keys import MachineKeys, NamedCertificate

# Behind the longest signature block: 0x90 bytes, RSA-4096 (0xA58) and an SGK (0x420).
_IMAGE_OFFSET, _IMAGE_SIZE = 0x2000, 0x400
# The permission to sign containers.
_SIGNS = 1


@cache
def image(version: int) -> bytes:
    """Return a file with one container of this version, 0 or 2, at its start."""
    parts = ahab.place_images([bytes(range(256)) * (_IMAGE_SIZE // 256)], start=_IMAGE_OFFSET)
    return ahab.build_file([(0, ahab.build_container(parts, version=version), parts)])


def image_for(text: bytes) -> bytes:
    """Return the file that a description for AHAB can sign, by the version in it."""
    try:
        return image(parse(text).header.container_version)
    except (csf.CsfError, StopIteration):
        return image(0)


def descriptions(
    facts: MachineKeys, has_key: Callable[[str], bool], name: str, soc: str | None, cst_version: str
) -> Iterator[tuple[int, str, Description]]:
    """Yield the number of an SRK, a remark, and a description that signs the artifact `name` with it.

    Each SRK signs the container itself; then the first SRK that has one lets an SGK sign it. `has_key` returns whether
    a certificate's private key is there. `soc` says which tables are used; None: all. cst before 4 signs no containers
    of version 2.
    """
    usable = [one for one in facts.certificates if has_key(one.name)]
    for table in facts.ahab_tables:
        version = 0 if table.version == 1 else 2
        chip = ahab.chip_with(soc, version) if soc is not None else None
        if (chip is not None and version not in chip.versions) or (version == 2 and cst_version[:2] == "3."):
            continue
        mine = [one for one in usable if table.name in one.tables and one.srk is not None]
        remark = "" if version == 0 else " (version 2)"
        for srk in (one for one in mine if one.is_srk):
            yield srk.srk or 0, remark, _description(table, srk, None, name)
        if chip is not None and isinstance(chip.sgk, ahab.Refused):
            continue
        if (pair := _first_sgk(table, mine)) is not None:
            srk, sgk = pair
            yield srk.srk or 0, f"{remark} with an SGK", _description(table, srk, sgk, name)


def _first_sgk(
    table: NamedAhabTable, certificates: list[NamedCertificate]
) -> tuple[NamedCertificate, NamedCertificate] | None:
    """Return the first SRK with the CA flag that has a certificate (SGK), and this."""
    for sgk in (one for one in certificates if not one.is_srk):
        for srk in (one for one in certificates if one.is_srk and one.srk == sgk.srk):
            if table.records[(srk.srk or 1) - 1].is_ca:
                return srk, sgk
    return None


def _description(table: NamedAhabTable, srk: NamedCertificate, sgk: NamedCertificate | None, name: str) -> Description:
    version = (1, 0) if table.version == 1 else (2, 0)
    container = ahab.read_header(image(0 if table.version == 1 else 2))
    return Description(
        (
            Header(version=version),
            InstallSrk(
                file=table.name, source=srk.name, source_index=(srk.srk or 1) - 1, source_set="OEM", revocations=0
            ),
            *([InstallCertificate(file=sgk.name, permissions=_SIGNS)] if sgk is not None else []),
            AuthenticateData(file=name, offsets=(0, container.block_offset)),
        )
    )
