"""From the text of a description to a verified CSF blob, by the steps of the daemon and the real cst."""

from __future__ import annotations

import struct
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from digsigd import csf, hab
from digsigd.csf import model
from digsigd.hab import csf_blob as blobs

_TIMEOUT = 60.0
# HABv4 API Reference Manual: HAB_ENG_*, HAB_CAAM_UNLOCK_*, HAB_SNVS_UNLOCK_*, HAB_OCOTP_UNLOCK_*, HAB_ALG_*.
ENGINES = {
    None: 0, "ANY": 0, "SCC": 0x03, "RTIC": 0x05, "SAHARA": 0x06, "CSU": 0x0A, "SRTC": 0x0C, "DCP": 0x1B, "CAAM": 0x1D,
    "SNVS": 0x1E, "OCOTP": 0x21, "DTCP": 0x22, "HDCP": 0x24, "ROM": 0x36, "SW": 0xFF,
}  # fmt: skip
FEATURES = {
    "MID": 1, "RNG": 2, "MFG": 4, "LP SWR": 1, "ZMK WRITE": 2,
    "FIELD RETURN": 1, "SRK REVOKE": 2, "SCS": 4, "JTAG": 8,
}  # fmt: skip
SHA256 = 0x17
SET_ENGINE = 0x03  # HAB_VAR_CFG_ITM_ENG
# What cst writes where NOP has nothing to say.
UNUSED = 0xAE


@dataclass(frozen=True)
class Artifact:
    """What a build sends beside its description."""

    name: str
    data: bytes = field(repr=False)

    @classmethod
    def of_size(cls, name: str, size: int) -> Artifact:
        """Bytes of a pattern of a prime length, so that blocks of one length have digests of their own."""
        pattern = bytes(range(251))
        return cls(name, (pattern * (size // len(pattern) + 1))[:size])

    @classmethod
    def named_by(cls, text: bytes) -> Artifact:
        """What the first block of a description names, as long as its blocks need."""
        blocks = [
            block
            for command in csf.parse(text).commands
            if isinstance(command, model.AuthenticateData)
            for block in command.blocks
        ]
        name = blocks[0].file.replace("\\", "/").rpartition("/")[2]
        return cls.of_size(name, max(block.offset + block.length for block in blocks))


@dataclass(frozen=True)
class Signature:
    """What came of signing one description."""

    plan: csf.Resolved
    blob: hab.CsfBlob
    verified: hab.Verified


class CstRefusedError(Exception):
    """cst ended with something else than 0, or wrote nothing."""


def plan(text: bytes, members: Mapping[str, bytes], artifact: Artifact, *allow: str) -> csf.Resolved:
    """Parse, check and resolve a description as the daemon does."""
    description = csf.parse(text)
    csf.check(description, csf.Policy(frozenset(allow)))
    return csf.resolve(description, members=members, artifacts={artifact.name: len(artifact.data)})


@dataclass
class Signer:
    """Runs a real cst over what the writer writes."""

    cst: Path
    folder: Path
    runs: int = 0

    def sign(self, text: bytes, members: Mapping[str, bytes], artifact: Artifact, *allow: str) -> Signature:
        """Sign with the files that the plan asks for and nothing else, and verify the result."""
        planned = plan(text, members, artifact, *allow)
        self.runs += 1
        folder = self.folder / str(self.runs)
        for needed in planned.files:
            path = folder / needed.name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(members[needed.member])
        (folder / "artifact").write_bytes(artifact.data)
        (folder / "description.csf").write_bytes(csf.write(planned.description))
        done = subprocess.run(
            [self.cst, "-i", "description.csf", "-o", "csf.bin"],
            cwd=folder, env={"PATH": "/usr/bin:/bin"}, capture_output=True, timeout=_TIMEOUT, check=False,
        )  # fmt: skip
        if done.returncode or not (folder / "csf.bin").is_file():
            raise CstRefusedError(f"{done.returncode}: {done.stdout.decode()} {done.stderr.decode()}")
        blob = (folder / "csf.bin").read_bytes()
        blocks = [[hab.Block(one.address, one.offset, one.length) for one in command] for command in planned.blocks]
        verified = hab.verify(
            blob,
            srk_table=members[planned.srk_table],
            expected_blocks=blocks,
            source_index=planned.source_index,
            digests=[
                hab.digest_blocks(planned.hash_algorithm, command, [hab.File.of(artifact.data)]) for command in blocks
            ],
        )
        return Signature(planned, hab.CsfBlob.parse(blob), verified)


def meaning(description: csf.Description) -> list[tuple[Any, ...]]:
    """What HAB4's commands in the blob must be, from the values alone."""
    header = description.commands[0]
    assert isinstance(header, model.Header)
    result: list[tuple[Any, ...]] = []
    for command in description.commands[1:]:
        match command:
            case model.InstallSrk():
                result.append(("install", 0, blobs.SRK_TABLE, SHA256, command.source_index, 0))
            case model.InstallCsfk():
                result.append(("install", blobs.INSTALL_CSFK_FLAG, blobs.X509, 0, 0, 1))
            case model.InstallKey():
                result.append(("install", 0, blobs.X509, 0, command.verification_index, command.target_index))
            case model.AuthenticateCsf():
                result.append(("authenticate", 1, ENGINES[command.engine or header.engine], ()))
            case model.AuthenticateData():
                pairs = tuple((block.address, block.length) for block in command.blocks)
                engine = ENGINES[command.engine or header.engine]
                result.append(("authenticate", command.verification_index, engine, pairs))
            case model.Unlock() | model.Init():
                tag = blobs.UNLOCK if isinstance(command, model.Unlock) else blobs.INIT
                bits = sum(FEATURES[one] for one in command.features or ())
                body = struct.pack(">I", bits) if command.features else b""
                body += bytes(command.uid or ()) if isinstance(command, model.Unlock) else b""
                result.append(("other", tag, ENGINES[command.engine], body))
            case model.SetEngine():
                result.append(("other", blobs.SET, SET_ENGINE, bytes([0, SHA256, ENGINES[command.engine], 0])))
            case model.Nop():
                result.append(("other", blobs.NOP, UNUSED, b""))
    says = [one for one in description.commands if isinstance(one, model.Unlock | model.Init)]
    if header.engine == "CAAM" and not any("RNG" in (one.features or ()) for one in says):
        # cst adds this by itself, at the end.
        result.append(("other", blobs.UNLOCK, ENGINES["CAAM"], struct.pack(">I", FEATURES["RNG"])))
    return result


def commands(blob: hab.CsfBlob) -> list[tuple[Any, ...]]:
    """The commands of a blob in the form of `meaning`."""
    result: list[tuple[Any, ...]] = []
    for one in blob.commands:
        match one:
            case blobs.InstallKey():
                result.append(("install", one.flags, one.protocol, one.hash_algorithm, one.source, one.target))
            case blobs.Authenticate():
                result.append(("authenticate", one.key, one.engine, one.blocks))
            case blobs.OtherCommand():
                result.append(("other", one.tag, one.parameter, one.body))
    return result
