"""A signer inside the test: real cst, queue, threads and key store, and the tools that a test puts in cst's place."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from twisted.internet import reactor as installed
from twisted.internet.defer import Deferred
from twisted.python.threadpool import ThreadPool

from digsigd import csf
from digsigd.csf.cst_files import artifact
from digsigd.keys import KeyStore
from digsigd.keys.file import FileSource
from digsigd.keys.source import TARBALL
from digsigd.signing.cst import CstRunner
from digsigd.signing.pkcs11 import Access, Token, Tokens
from digsigd.signing.queue import Queue
from digsigd.signing.request import Artifact, Signed, SigningRequest
from digsigd.signing.rules import MachineRules
from digsigd.signing.signer import RunBounds, Signer
from digsigd.signing.sums import copied
from digsigd.signing.threads import in_threads_of
from digsigd.signing.tools import CstTools
from digsigd.signing.workdir import Workdir
from digsigd.testing import TrialPki
from tests.helpers.daemons import MACHINE
from tests.helpers.descriptors import open_descriptors

reactor: Any = installed


class CountedThreads:
    """Threads that also note the names of the functions that they were given, and of those that have ended."""

    def __init__(self, pool: ThreadPool) -> None:
        self._call = in_threads_of(reactor, pool)
        self.called: list[str] = []
        self.ended: list[str] = []

    def __call__(self, function: Callable[..., Any], *args: Any, **kwargs: Any) -> Deferred[Any]:
        def noted(result: Any) -> Any:
            self.ended.append(function.__name__)
            return result

        self.called.append(function.__name__)
        return self._call(function, *args, **kwargs).addBoth(noted)


class SignerInTest:
    """A `Signer` with the keys of one machine below a folder; a test may change its rules and tokens before a call."""

    def __init__(self, folder: Path, cst_base: Path) -> None:
        self.folder = folder
        self.rules = MachineRules(csf.Policy())
        self.bounds = RunBounds()
        self.queue = Queue(1, 0, clock=reactor)
        self.tokens: dict[str, Token] = {}
        self.access = Access(None)
        self.workdirs: list[Workdir] = []
        self._cst_base = cst_base
        self._tools: dict[str, Path] = {}
        self._pool = ThreadPool(1, 4)
        self._pool.start()
        self.threads, self.digest_threads = CountedThreads(self._pool), CountedThreads(self._pool)
        self.runner = CstRunner(reactor, timeout=60)

    def stop(self) -> None:
        self._pool.stop()

    def put_tarball(self, tarball: bytes) -> None:
        path = self.folder / "keys" / MACHINE / TARBALL
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(tarball)

    def put_keys(self, pki: TrialPki, **changes: bytes) -> None:
        """The machine's keys, of which some are others: `CSF1_key` is the content of the one file that this names."""
        files = dict(pki.files)
        for name, data in changes.items():
            role, _, what = name.rpartition("_")
            files[next(one for one in files if role in one and f"{what}." in one)] = data
        self.put_tarball(TrialPki(files, pki.kind, pki.fast_auth, pki.srk_table).tarball())

    def put_tool(self, text: str) -> str:
        """A tool written in shell, in cst's place; the version to ask for."""
        version = f"fake{len(self._tools)}"
        path = self._tools[version] = self.folder / version
        path.write_text(f"#!/bin/sh\n{text}\n")
        path.chmod(0o755)
        return version

    def request(
        self, text: str | bytes, data: Mapping[str, bytes], *, version: str = "3.4.1", backend: str = "ssl"
    ) -> SigningRequest:
        """A request to sign these artifacts, which lie beside each other outside of the work directory."""
        uploads = self.folder / f"uploads-{secrets.token_hex(4)}"
        uploads.mkdir()
        artifacts = []
        for number, (name, content) in enumerate(data.items()):
            path = uploads / str(number)
            path.write_bytes(content)
            artifacts.append(Artifact(path, name, len(content)))
        return SigningRequest(
            request_id=secrets.token_hex(8),
            machine=MACHINE,
            cst_version=version,
            description=text.encode() if isinstance(text, str) else text,
            artifacts=tuple(artifacts),
            backend=backend,
        )

    def signer(self, keep: float = 0) -> Signer:
        source = FileSource(
            self.folder / "keys", max_tarball=1 << 20, timeout=60, clock=reactor, in_thread=self.threads
        )  # fmt: skip
        return Signer(
            tools=CstTools(self._cst_base, self._tools),
            runner=self.runner,
            queue=self.queue,
            keys=KeyStore(source, keep=keep, clock=reactor, in_thread=self.threads, max_unpacked=1 << 22),
            rules=lambda _: self.rules,
            bounds=self.bounds,
            in_thread=self.threads,
            in_digest_thread=self.digest_threads,
            tokens=Tokens(self.tokens, self.access, login_timeout=60),
        )

    def open_artifacts(self) -> set[str]:
        """Those of its requests that this process has open, with or without a name."""
        return {one for one in open_descriptors() if f"{self.folder}/" in one and "/artifact" in one}

    def workdir(self) -> Workdir:
        path = self.folder / f"work-{len(self.workdirs)}"
        path.mkdir(mode=0o700)
        self.workdirs.append(Workdir(path))
        return self.workdirs[-1]

    def upload(self, request: SigningRequest, *, in_memory: bool = True) -> tuple[SigningRequest, Workdir]:
        """A request with its files in a new work directory, as after an upload."""
        path = self.workdir().path
        workdir = self.workdirs[-1] = Workdir(path, in_memory=in_memory)
        artifacts = []
        for number, one in enumerate(request.artifacts):
            with one.path.open("rb") as source:
                sums = copied(source, workdir.create(artifact(number)), one.size)
            artifacts.append(replace(one, path=path / artifact(number), sums=sums))
        return replace(request, artifacts=tuple(artifacts)), workdir

    async def sign(self, request: SigningRequest) -> Signed:
        """Sign in a new work directory, the last of `workdirs`."""
        return await self.signer().sign(request, self.workdir())
