"""That a CSF blob is of the files that lie here, before it goes into an image."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from contextlib import ExitStack
from datetime import UTC, datetime

from digsigd import hab
from digsigd.cli.console import Trouble, shown
from digsigd.cli.cst_description import Job, NamedKey
from digsigd.cli.cst_names import digest_of
from digsigd.cli.files import mapped
from digsigd.hab.csf_blob import SRK_TABLE, X509, InstallKey


def prove(blob: bytes, job: Job) -> hab.Verified:
    """Verify a blob against the blocks of the description and the files as they are now. Raises `Trouble`.

    The server has done so with its own tables. This tells of a file that was written anew meanwhile, and of an answer
    that is for somebody else.
    """
    try:
        parsed = hab.CsfBlob.parse(blob)
        table = next(
            (
                parsed.object_at(one)
                for one in parsed.commands
                if isinstance(one, InstallKey) and one.protocol == SRK_TABLE
            ),
            b"",
        )
        with ExitStack() as stack:
            files = [hab.File.of(stack.enter_context(mapped(one.path))) for one in job.files]
            digests = [hab.digest_blocks("sha256", blocks, files) for blocks in job.blocks]
        return hab.verify(
            blob,
            srk_table=table,
            expected_blocks=job.blocks,
            source_index=job.source_index,
            digests=digests,
            now=datetime.now(UTC),
        )
    except hab.HabError as error:
        names = " and ".join(shown(str(one.path)) for one in job.files)
        raise Trouble(
            f"the server's answer does not hold for {names}, so it is not written: {error}",
            hint="was the file changed during the upload? If not, what is between here and the server?",
        ) from None


def strangers(blob: bytes, local: Mapping[NamedKey, bytes]) -> list[NamedKey]:
    """Which of the tables and certificates that lie here are not those in a blob that holds."""
    parsed = hab.CsfBlob.parse(blob)
    tables, certificates = set(), {hashlib.sha256(one[4:]).digest() for one in parsed.loose}
    for command in parsed.commands:
        if isinstance(command, InstallKey) and command.protocol == SRK_TABLE:
            tables.add(parsed.object_at(command))
        elif isinstance(command, InstallKey) and command.protocol == X509:
            certificates.add(hashlib.sha256(parsed.object_at(command)[4:]).digest())
    return [key for key, data in local.items() if (digest_of(data) or data) not in certificates | tables]
