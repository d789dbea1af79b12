"""Clients of a fleet, as one process: `python -m tests.fleet.clients FILE`. It prints a line of JSON for each image.

FILE is JSON with the fields of `Task`. The clients sign until there are `images`, and then until standard input ends.
"""

from __future__ import annotations

import hashlib
import json
import sys
import threading
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from twisted.internet.defer import Deferred, gatherResults

from digsigd import ahab, hab
from digsigd.client import ClientError, ClientSettings, SigningClient, run
from digsigd.testing import TrialAhabImage, TrialImage

# Each image is another one: this many bytes of its code are its number.
_NUMBER = 8
# Of so many images one is a file for AHAB, with this name.
_AHAB_EVERY, AHAB_NAME = 5, "flash.bin"


@dataclass(frozen=True, kw_only=True)
class Task:
    """What the clients do.

    `callers` has a name, a file with a certificate and its key (or ""), and a token (or "") for each kind of client;
    the clients are of these kinds in turn. `code` is the size of an image without its header, in bytes. `srk_table` and
    `fuse_value` are in hex. Those with `ahab_` are for files with AHAB containers, of which the first is signed.
    """

    url: str
    ca_file: str
    callers: list[tuple[str, str, str]]
    clients: int
    images: int
    code: int
    machine: str
    description: str
    srk_table: str
    fuse_value: str
    ahab_machine: str
    ahab_description: str
    ahab_srk_table: str
    ahab_fuse_value: str
    folder: str


def ahab_file_of(number: int) -> TrialAhabImage:
    """Return the file for AHAB with this number."""
    return TrialAhabImage.make(number.to_bytes(_NUMBER), b"atf", b"u-boot")


def image_of(number: int, code: int) -> TrialImage:
    """Return the image with this number: no two have the same signature."""
    return TrialImage.make(number.to_bytes(_NUMBER) + bytes(range(251)) * (code // 251))


def description_blocks(code: int) -> str:
    """Return the `Blocks` of all these images."""
    return image_of(0, code).blocks("spl.bin")


class _Crowd:
    def __init__(self, task: Task, reactor: Any) -> None:
        self.task = task
        self.reactor = reactor
        self.begun = 0
        self.released = False
        threading.Thread(target=self._wait_for_end, daemon=True).start()

    def _wait_for_end(self) -> None:
        sys.stdin.read()
        self.released = True

    async def run(self) -> None:
        await gatherResults([Deferred.fromCoroutine(self._client(number)) for number in range(self.task.clients)])

    async def _client(self, number: int) -> None:
        task = self.task
        caller, certificate, token = task.callers[number % len(task.callers)]
        retries: list[str] = []
        settings = ClientSettings(
            server=task.url, ca_file=Path(task.ca_file), token=token or None, retries=50,
            client_certificate=Path(certificate) if certificate else None,
        )  # fmt: skip
        client = SigningClient(settings, reactor=self.reactor, on_retry=retries.append)
        path = Path(task.folder) / f"client-{number}.bin"
        while self.begun < task.images or not self.released:
            self.begun += 1
            of_ahab = not self.begun % _AHAB_EVERY
            image = ahab_file_of(self.begun) if of_ahab else image_of(self.begun, task.code)
            path.write_bytes(image.data)
            result: dict[str, Any] = {"image": self.begun, "caller": caller, "began": time.monotonic()}
            try:
                sign = self._sign_ahab if isinstance(image, TrialAhabImage) else self._sign
                answer, result["record"] = await sign(client, path)
                result["ended"] = time.monotonic()
                self._verify(image, answer)
                result["blob"] = hashlib.sha256(answer).hexdigest()
            except (ClientError, hab.HabError, ahab.AhabError) as error:
                result["error"] = str(error)
            result["artifact"] = hashlib.sha256(image.data).hexdigest()
            result["retries"], retries[:] = list(retries), []
            print(json.dumps(result), flush=True)  # noqa: T201 - a program

    async def _sign(self, client: SigningClient, path: Path) -> tuple[bytes, str]:
        """Return the answer, and the id of its entry in the record."""
        task = self.task
        signed = await client.sign(
            machine=task.machine, description=task.description.encode(), artifact=path, artifact_name="spl.bin",
            cst_version="3.4.1",
        )  # fmt: skip
        return signed.blob, signed.record

    async def _sign_ahab(self, client: SigningClient, path: Path) -> tuple[bytes, str]:
        task, to = self.task, path.with_suffix(".signed")
        to.touch()
        signed = await client.sign_file(
            machine=task.ahab_machine, description=task.ahab_description.encode(), artifact=path,
            artifact_name=AHAB_NAME, to=to, cst_version="3.4.1", soc_type="mx93",
        )  # fmt: skip
        return to.read_bytes(), signed.record

    def _verify(self, image: TrialImage | TrialAhabImage, blob: bytes) -> None:
        if isinstance(image, TrialAhabImage):
            ahab.verify(
                blob, image.containers[0][0], srk_table=bytes.fromhex(self.task.ahab_srk_table),
                fuse_value=bytes.fromhex(self.task.ahab_fuse_value), original=image.data,
            )  # fmt: skip
            return
        block = hab.Block(image.address, 0, image.signed_size)
        hab.verify(
            blob, srk_table=bytes.fromhex(self.task.srk_table), expected_blocks=[[block]], source_index=0,
            digests=[hab.digest_blocks("sha256", [block], [hab.File.of(image.data)])],
            fuse_value=bytes.fromhex(self.task.fuse_value), now=None,
        )  # fmt: skip


def main() -> None:
    """Run the clients of the task in the file."""
    task = Task(**json.loads(Path(sys.argv[1]).read_text()))
    run(lambda reactor: _Crowd(task, reactor).run())


if __name__ == "__main__":
    main()
