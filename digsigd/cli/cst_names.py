"""Find local SRK tables and certificates on the signing host by content, where the host has other names for them.

Scripts of vendors use different names (Digi's SRK_table.bin, CSF_1_crt.pem of Foundries.io), and cst uses any file with
the name in the description. A local file is compared with the public files that the host reports, and not sent. If the
host has the same file under another name, that name goes into the description that is sent.
"""

from __future__ import annotations

import hashlib
import stat
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from digsigd.cli.console import Console, shown
from digsigd.cli.cst_files import NamedKey, local_path
from digsigd.client import MachineKeys
from digsigd.csf.errors import quoted
from digsigd.csf.lexer import MAX_STRING
from digsigd.csf.members import base_of
from digsigd.csf.model import Place
from digsigd.hab import HabError
from digsigd.hab.certificate import load_file

# Bytes. An SRK table has a 16-bit length, and a certificate of a 4096-bit key has 2 KiB.
_LARGEST = 64 << 10


def local_keys(keys: Iterable[NamedKey]) -> dict[NamedKey, bytes]:
    """Return the contents of those of the tables and certificates that exist as local files."""
    found = {}
    for key in keys:
        path = local_path(key.name)
        try:
            if stat.S_ISREG(path.stat().st_mode):
                with path.open("rb") as file:
                    data = file.read(_LARGEST + 1)
                if len(data) <= _LARGEST:
                    found[key] = data
        except OSError:
            continue
    return found


@dataclass
class Compared:
    """The result of a comparison: the host's `names` for keys with another name there, by place in the description.

    `same` are the keys that the host reports with the same content, `others` those with a different content there.
    """

    names: dict[Place, str] = field(default_factory=dict)
    same: set[NamedKey] = field(default_factory=set)
    others: set[NamedKey] = field(default_factory=set)


def compared(local: Mapping[NamedKey, bytes], keys: MachineKeys, console: Console) -> Compared:
    """Find the local files among the host's keys.

    Prints a line if the host has a different file with that name and none with the same content.
    """
    tables = {one.name: one.data for one in keys.srk_tables} | {one.name: one.data for one in keys.ahab_tables}
    certificates = {one.name: one.sha256 for one in keys.certificates if one.sha256 is not None}
    found = Compared()
    for key, data in local.items():
        digest = digest_of(data)
        there = certificates if digest is not None else tables
        same = [name for name, one in there.items() if one == (digest or data)]
        alike = [name for name in there if base_of(name) == base_of(key.name)]
        if not same:
            if alike:
                found.others.add(key)
                console.tell(
                    f"{shown(quoted(key.name))}: the signing host has a different file with this name, and uses that"
                )
            continue
        found.same.add(key)
        if alike != same and '"' not in same[0] and len(same[0].encode()) <= MAX_STRING:
            found.names[key.place] = same[0]
    return found


def digest_of(data: bytes) -> bytes | None:
    """Return the SHA-256 of a certificate's DER; None if the data are not a certificate."""
    try:
        return hashlib.sha256(load_file(data).der).digest()
    except HabError:
        return None
