"""Tell keys for HAB from keys for AHAB: a description for the one is no reason to search the tarball of the other."""

from __future__ import annotations

from collections.abc import Mapping

from digsigd.errors import Refused
from digsigd.signing import ahab_keys, key_checks


def check_kind(members: Mapping[str, bytes], machine: str, *, of_ahab: bool) -> None:
    """Raise `Refused` if a machine's SRK tables are all for HAB and the description is for AHAB, or the reverse."""
    has_hab = bool(key_checks.tables_of(members, ""))
    has_ahab = next(ahab_keys.tables_of(members), None) is not None
    if (has_hab, has_ahab) != (of_ahab, not of_ahab):
        return
    theirs, ours = ("HAB", "AHAB") if of_ahab else ("AHAB", "HAB")
    raise Refused(
        f"csf: the description is for {ours}, but the keys of machine {machine!r} are for {theirs}",
        hint=f"check the machine name; a machine with {ours} needs a key tarball with an SRK table for {ours}",
    )
