"""Tables and certificates that have other names here than on the signing host, found there by their content.

Scripts of vendors give theirs names of their own (Digi's SRK_table.bin, CSF_1_crt.pem of Foundries.io), and cst takes
whatever file has that name. A file that lies here is compared with what the host tells of its public files, nothing of
it is sent, and where the same is there under another name, the description that is sent says that one.
"""

from __future__ import annotations

import hashlib
import os
import stat
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from digsigd.cli.console import Console, shown
from digsigd.cli.cst_description import Job, NamedKey
from digsigd.client._internal.machine_keys import MachineKeys
from digsigd.csf.errors import quoted
from digsigd.csf.lexer import MAX_STRING
from digsigd.csf.members import base_of
from digsigd.csf.model import Place
from digsigd.hab import HabError
from digsigd.hab.certificate import load_file

# An SRK table tells its size in 16 bits, and a certificate of a key of 4096 bits has 2 KiB.
_LARGEST = 64 << 10


def local_keys(job: Job) -> dict[NamedKey, bytes]:
    """What lies here of the tables and certificates that a description names."""
    found = {}
    for key in job.keys:
        path = Path(os.fsdecode(key.name.encode()))
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
    """What came of comparing: the host's `names` for those that have another name there, by place in the description.

    `same` are those that the host has, by what it says, and `others` those that were told to be others there.
    """

    names: dict[Place, str] = field(default_factory=dict)
    same: set[NamedKey] = field(default_factory=set)
    others: set[NamedKey] = field(default_factory=set)


def compared(local: Mapping[NamedKey, bytes], keys: MachineKeys, console: Console) -> Compared:
    """Find what lies here among the host's.

    Where another file has that name on the host, and nothing there is the same, this is told.
    """
    tables = {one.name: one.data for one in keys.srk_tables}
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
                    f"{shown(quoted(key.name))}: the signing host has another file of that name, and signs with it"
                )
            continue
        found.same.add(key)
        if alike != same and '"' not in same[0] and len(same[0].encode()) <= MAX_STRING:
            found.names[key.place] = same[0]
    return found


def digest_of(data: bytes) -> bytes | None:
    """That of a certificate; None for what is none."""
    try:
        return hashlib.sha256(load_file(data).der).digest()
    except HabError:
        return None
