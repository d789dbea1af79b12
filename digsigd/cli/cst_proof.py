"""That a CSF blob is of the file that lies here, before it goes into an image."""

from __future__ import annotations

from datetime import UTC, datetime

from digsigd import hab
from digsigd.cli.console import Trouble, shown
from digsigd.cli.cst_description import Job
from digsigd.cli.files import mapped
from digsigd.hab.csf import SRK_TABLE, InstallKey


def prove(blob: bytes, job: Job) -> hab.Verified:
    """Verify a blob against the blocks of the description and the file as it is now. Raises `Trouble`.

    The server has done so with its own tables. This tells of a file that was written anew meanwhile, and of an answer
    that is for somebody else.
    """
    expected = [[hab.Block(one.address, one.offset, one.length) for one in blocks] for blocks in job.blocks]
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
        with mapped(job.path) as data:
            digests = [hab.digest_blocks("sha256", blocks, [hab.File.of(data)]) for blocks in expected]
        return hab.verify(
            blob,
            srk_table=table,
            expected_blocks=expected,
            source_index=job.source_index,
            digests=digests,
            now=datetime.now(UTC),
        )
    except hab.HabError as error:
        raise Trouble(
            f"the server's answer does not hold for {shown(str(job.path))}, so it is not written: {error}",
            hint="was the file changed during the upload? If not, what is between here and the server?",
        ) from None
