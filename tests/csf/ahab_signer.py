"""From the text of a description for AHAB to verified containers, by the steps of the daemon and a real cst."""

from __future__ import annotations

import gzip
import subprocess
import tarfile
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from digsigd import ahab as containers
from digsigd import csf
from digsigd.csf import ahab
from tests.helpers.descriptions import CstRefusedError

SAMPLES = Path(__file__).parents[1] / "samples/ahab"
_TIMEOUT = 60.0


@cache
def keys() -> Mapping[str, bytes]:
    """Trial keys for P-384: SRKs with CA flag, an SGK below each, tables of both versions."""
    with tarfile.open(SAMPLES / "keys/p384ca.tar.gz") as tar:
        return {one.name: file.read() for one in tar if (file := tar.extractfile(one)) is not None}


@cache
def unsigned(version: int) -> bytes:
    """The header of a container with two images, and an empty signature block, as imx-mkimage writes them."""
    with gzip.open(SAMPLES / "os-container-unsigned.bin.gz") as file:
        return bytes([version]) + file.read(0x120)[1:]


@dataclass
class AhabSigner:
    """Runs a real cst over what the writer writes."""

    cst: Path
    folder: Path
    runs: int = 0

    def sign(
        self, text: str, members: Mapping[str, bytes], artifact: bytes, *allow: str
    ) -> tuple[ahab.Resolved, list[containers.Verified]]:
        """Sign each container of an artifact `flash.bin`, and verify it with the table that the description names."""
        description = ahab.parse(text.encode())
        ahab.check(description, csf.Policy(frozenset(allow)))
        planned = ahab.resolve(description, members=members, artifacts={"flash.bin": len(artifact)})
        return planned, [self._run(planned, number, members, artifact) for number in range(len(planned.runs))]

    def _run(
        self, planned: ahab.Resolved, number: int, members: Mapping[str, bytes], artifact: bytes
    ) -> containers.Verified:
        self.runs += 1
        folder = self.folder / str(self.runs)
        for needed in planned.files:
            path = folder / needed.name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(members[needed.member])
        (run,), start = [planned.runs[number]], planned.containers[number][0]
        found = containers.read_header(artifact, start)
        (folder / run.data[0].file).write_bytes(containers.stub(artifact, found))
        (folder / "description.csf").write_bytes(ahab.write(run))
        done = subprocess.run(
            [self.cst, "-i", "description.csf", "-o", "signed.bin"],
            cwd=folder, env={"PATH": "/usr/bin:/bin"}, capture_output=True, timeout=_TIMEOUT, check=False,
        )  # fmt: skip
        if done.returncode or not (folder / "signed.bin").is_file():
            raise CstRefusedError(f"{done.returncode}: {done.stdout.decode()} {done.stderr.decode()}")
        signed = containers.spliced(found, (folder / "signed.bin").read_bytes(), artifact)
        digests = {(image.offset, image.size): image.digest for image in found.images}
        # Room for the images, whose bytes are not here: their hashes are those of the header.
        room = 0x4000 + max(image.offset + image.size for image in found.images)
        return containers.verify(
            signed.ljust(room, b"\0"),
            srk_table=members[planned.srk_table],
            srk_index=planned.source_index,
            digest=lambda _, offset, length: digests[offset, length],
        )
