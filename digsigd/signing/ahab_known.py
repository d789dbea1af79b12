"""The checks of a tarball's keys for AHAB, which are not made again while all that they depend on is the same."""

from __future__ import annotations

from collections.abc import Sequence

from digsigd import ahab
from digsigd.csf.ahab import Description
from digsigd.errors import BadTarball, Refused
from digsigd.keys.tarball import KeyTarball
from digsigd.signing.ahab_keys import Named, check_certificates, check_chip, check_table, table_of
from digsigd.signing.key_kinds import check_kind
from digsigd.signing.private_keys import check_match

# Of how many descriptions it is remembered that a tarball's keys are good for them. A machine's builds have a few.
MOST_KNOWN = 32


def checked_table(
    tarball: KeyTarball,
    named: Named,
    description: Description,
    machine: str,
    fuse_value: bytes | None,
    chip: ahab.AhabChip | None,
    pairs: Sequence[tuple[str, str]],
) -> ahab.SrkTable | ahab.SrkArray:
    """Return the SRK table that a description names, once its keys are found good for it, the machine and the chip.

    `pairs` are the certificates and private keys that cst uses. Raises `Refused` or `BadTarball`.
    """
    known = tarball.checked
    asked = (named, description, fuse_value, chip, tuple(pairs))
    table = known.get(asked)
    if isinstance(table, ahab.SrkTable | ahab.SrkArray):
        return table
    try:
        table = table_of(tarball.members, named)
    except (BadTarball, Refused):
        check_kind(tarball.members, machine, of_ahab=True)
        raise
    check_table(table, named, description, machine, fuse_value, chip)
    check_chip(chip, table, description)
    check_certificates(table, named, description, tarball.members)
    for certificate, key in pairs:
        check_match(tarball, certificate, key)
    if len(known) >= MOST_KNOWN:
        known.clear()
    known[asked] = table
    return table
