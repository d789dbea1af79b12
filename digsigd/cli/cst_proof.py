"""Verify that a CSF blob is for the local files, before it goes into an image."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from contextlib import ExitStack
from datetime import UTC, datetime

from digsigd import hab
from digsigd.cli.console import Trouble, shown
from digsigd.cli.cst_description import Job
from digsigd.cli.cst_files import NamedKey
from digsigd.cli.cst_names import digest_of
from digsigd.client._internal.files import mapped


def prove(blob: bytes, job: Job) -> hab.Verified:
    """Verify a blob against the blocks of the description and the current files. Raises `Trouble`.

    The host has verified it against its tables. This finds files that changed during the upload, and responses to
    other requests.
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
            f"the host's CSF fails verification with {names}, so it was not written: {error}",
            hint="check that the file did not change during the upload, and that no proxy alters the response",
        ) from None


def strangers(blob: bytes, local: Mapping[NamedKey, bytes]) -> list[NamedKey]:
    """Return the local tables and certificates that are not in a verified blob."""
    parsed = hab.CsfBlob.parse(blob)
    table = parsed.srk_table()
    used = {hashlib.sha256(one).digest() for one in parsed.certificates()} | {table.data if table is not None else b""}
    return [key for key, data in local.items() if (digest_of(data) or data) not in used]
