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


def prove(blob: bytes, job: Job) -> hab.Verified:
    """Verify a blob against the blocks of the description and the files as they are now. Raises `Trouble`.

    The server has done so with its own tables. This tells of a file that was written anew meanwhile, and of an answer
    that is for somebody else.
    """
    try:
        table = hab.CsfBlob.parse(blob).srk_table()
        with ExitStack() as stack:
            files = [hab.File.of(stack.enter_context(mapped(one.path))) for one in job.files]
            digests = [hab.digest_blocks("sha256", blocks, files) for blocks in job.blocks]
        return hab.verify(
            blob,
            srk_table=table.data if table is not None else b"",
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
    table = parsed.srk_table()
    used = {hashlib.sha256(one).digest() for one in parsed.certificates()} | {table.data if table is not None else b""}
    return [key for key, data in local.items() if (digest_of(data) or data) not in used]
