"""CSF blobs that the real cst makes of trial keys and images, and what proves them."""

from __future__ import annotations

import hashlib
import subprocess
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any

from digsigd import hab
from digsigd.testing import TrialImage, TrialPki
from digsigd.testing.pki import KeyKind
from tests.helpers.keys import trial_keys

KINDS: tuple[KeyKind, ...] = ("rsa2048", "rsa3072", "rsa4096", "p256", "p384", "p521")
# Kinds whose keys are quick to make have as many SRKs as a table holds. Tables of one or two RSA keys have odd sizes,
# so that what follows them is padded.
SRKS: dict[KeyKind, int] = {"rsa2048": 4, "rsa3072": 2, "rsa4096": 1, "p256": 4, "p384": 2, "p521": 4}
IMAGE = TrialImage.of_size(0x4000)
ARTIFACT = "spl.bin"
WHOLE = hab.Block(IMAGE.address, 0, IMAGE.signed_size)


@dataclass(frozen=True)
class Signed:
    """A blob, and what `hab.verify` is told about it."""

    blob: bytes
    srk_table: bytes
    blocks: tuple[tuple[hab.Block, ...], ...]
    source_index: int = 0
    image: bytes = IMAGE.data

    @property
    def digests(self) -> list[bytes]:
        """What each command signs of the image, computed here and not by `hab`."""
        parts = (b"".join(self.image[one.offset : one.end] for one in blocks) for blocks in self.blocks)
        return [hashlib.sha256(part).digest() for part in parts]

    def verify(self, blob: bytes | None = None, **changed: Any) -> hab.Verified:
        """Verify it, or another blob in its place; `changed` are arguments of `hab.verify` to change."""
        arguments = {
            "srk_table": self.srk_table,
            "expected_blocks": self.blocks,
            "source_index": self.source_index,
            "digests": self.digests,
        }
        return hab.verify(self.blob if blob is None else blob, **{**arguments, **changed})

    def refused(self, blob: bytes | None = None, **changed: Any) -> hab.HabError:
        """How a change is refused; that it is accepted fails the test."""
        try:
            verified = self.verify(blob, **changed)
        except hab.HabError as error:
            return error
        raise AssertionError(f"accepted: {verified}")


class Signing:
    """Signs with the real cst in folders below `root`. Keys and plain blobs are made once."""

    def __init__(self, base: Path, new_folder: Callable[[], Path]) -> None:
        self._base = base
        self._new_folder = new_folder
        self._pki = cache(self._make_pki)
        self._plain = cache(self._sign_plain)

    def tool(self, version: str, name: str = "cst") -> Path:
        return self._base / f"cst-{version}/linux64/bin/{name}"

    def folder(self, files: Mapping[str, bytes]) -> Path:
        """A new folder with these files."""
        folder = self._new_folder()
        for name, content in files.items():
            path = folder / name
            path.parent.mkdir(exist_ok=True)
            path.write_bytes(content)
        return folder

    def pki(self, kind: KeyKind, fast: bool = False) -> TrialPki:
        """Keys with as many SRKs as `SRKS` says."""
        return self._pki(kind, fast)

    def plain(self, kind: KeyKind, version: str, fast: bool = False, srk: int = 1) -> Signed:
        """The whole image in one block, signed below SRK number `srk`."""
        return self._plain(kind, version, fast, srk)

    def _make_pki(self, kind: KeyKind, fast: bool) -> TrialPki:
        return trial_keys(kind, fast_auth=fast, srks=SRKS[kind], encrypted=False)

    def _sign_plain(self, kind: KeyKind, version: str, fast: bool, srk: int) -> Signed:
        return self.sign(self.pki(kind, fast), version, srk=srk)

    def sign(
        self,
        pki: TrialPki,
        version: str,
        *,
        srk: int = 1,
        image_srk: int | None = None,
        blocks: Sequence[hab.Block] = (WHOLE,),
        edit: Callable[[str], str] = lambda text: text,
        files: Mapping[str, bytes] | None = None,
        exit_code: int = 0,
    ) -> Signed:
        """Run cst, which must end with `exit_code`. `edit` changes the description, `files` some of the files."""
        text = edit(pki.csf(*(written(block) for block in blocks), srk=srk, image_srk=image_srk))
        given = {**pki.files, ARTIFACT: IMAGE.data, "description.csf": text.encode(), **(files or {})}
        folder = self.folder(given)
        command = [str(self.tool(version)), "-i", "description.csf", "-o", "csf.bin"]
        done = subprocess.run(command, cwd=folder, capture_output=True)
        assert done.returncode == exit_code, done.stdout + done.stderr
        blob = (folder / "csf.bin").read_bytes()
        return Signed(blob, given[pki.table()], (tuple(blocks),), srk - 1)


def judged(judge: Callable[[bytes], object], data: bytes) -> str | None:
    """How `data` is refused, None where it is not. Any error but hab's own fails the test."""
    try:
        judge(data)
    except hab.HabError as error:
        return str(error)
    return None


def written(block: hab.Block) -> str:
    """A block of the artifact as a CSF description has it."""
    return f'{block} "{ARTIFACT}"'


def strips(count: int, length: int = 0x10) -> list[hab.Block]:
    """The first part of the image as `count` blocks side by side."""
    return [hab.Block(IMAGE.address + at, at, length) for at in range(0, count * length, length)]


def changed_at(data: bytes, offset: int, mask: int = 0x01) -> bytes:
    """The same bytes but for some bits of one."""
    return data[:offset] + bytes([data[offset] ^ mask]) + data[offset + 1 :]


def written_at(data: bytes, offset: int, value: bytes) -> bytes:
    """The same bytes but for these at `offset`, which must be others than what is there.

    What is there must be the same in every run: bytes of keys, hashes and signatures are for `changed_at`.
    """
    changed = data[:offset] + value + data[offset + len(value) :]
    assert changed != data, f"{value.hex()} is what is at {offset:#x} already"
    return changed


def with_image(signed: Signed, image: bytes) -> Signed:
    """The same blob for another image."""
    return replace(signed, image=image)
