"""That a CSF blob is of the files that lie here, before it goes into an image."""

from __future__ import annotations

from contextlib import ExitStack
from datetime import UTC, datetime

from digsigd import hab
from digsigd.cli.console import Trouble, shown
from digsigd.cli.cst_description import Job
from digsigd.cli.files import mapped
from digsigd.hab.csf import SRK_TABLE, InstallKey


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
