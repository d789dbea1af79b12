"""A folder with tools to run in cst's place, and a look at what they left running."""

from __future__ import annotations

import os
import subprocess
import sys
import uuid
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from twisted.internet import reactor
from twisted.internet.defer import Deferred
from twisted.internet.task import Clock, deferLater

from digsigd.signing.cst import CstRun, CstRunner, Limits


def own_mounts() -> list[str]:
    """The command before one that is to have mounts of its own, as a user who may do that there."""
    alone = ["unshare", "--mount", *([] if os.geteuid() == 0 else ["--user", "--map-root-user"])]
    if subprocess.run([*alone, "true"], capture_output=True, check=False).returncode:
        # In a chroot, whose root is not mounted.
        alone += ["--propagation", "unchanged"]
    return alone


ROOMY = Limits(cpu_seconds=60, memory=4 << 30, file_size=64 << 20, open_files=64)


@dataclass
class ToolFolder:
    """A directory to run in, tools to run, and a mark in the environment of whatever comes of a run."""

    folder: Path
    mark: str = field(default_factory=lambda: f"run-{uuid.uuid4().hex}")

    def __post_init__(self) -> None:
        self.cwd = self.folder / "here"
        self.cwd.mkdir()

    def shell(self, text: str) -> str:
        """A tool written in shell."""
        return self._tool("#!/bin/sh\n" + text)

    def python(self, text: str) -> str:
        """A tool written in Python."""
        return self._tool(f"#!{sys.executable} -ES\n" + text)

    def _tool(self, text: str) -> str:
        path = self.folder / f"tool-{uuid.uuid4().hex}"
        path.write_text(text)
        path.chmod(0o755)
        return str(path)

    async def run(
        self,
        runner: CstRunner,
        tool: str,
        *arguments: str,
        limits: Limits = ROOMY,
        timeout: float | None = None,
    ) -> CstRun:
        return await runner.run(
            tool,
            arguments,
            cwd=str(self.cwd),
            limits=limits,
            environment={"RUN_MARK": self.mark},
            timeout=timeout,
        )

    def start(self, runner: CstRunner, tool: str, *arguments: str) -> Deferred[CstRun]:
        return Deferred.fromCoroutine(self.run(runner, tool, *arguments))

    async def until(self, true: Callable[[], object]) -> None:
        """Wait for something outside of this process; the test's own timeout bounds it."""
        while not true():
            await deferLater(reactor, 0.005)

    async def wrote(self, name: str) -> str:
        """Wait for a file of the tool, whole with its last newline; its text."""
        path = self.cwd / name
        await self.until(lambda: path.exists() and path.read_text().endswith("\n"))
        return path.read_text().strip()

    async def over(self, deferred: Deferred[CstRun], clock: Clock) -> None:
        """Let a clock run until a run is over."""
        while not self.fired(deferred):
            clock.advance(0.05)
            await deferLater(reactor, 0.005)

    def fired(self, deferred: Deferred[CstRun]) -> bool:
        """Whether it has its result. A cancelled one is called at once, and waits for its coroutine."""
        return deferred.called and not deferred.paused

    def left(self) -> list[str]:
        """The processes that carry the mark and are more than zombies, in any group and session."""
        found = []
        for process in Path("/proc").glob("[0-9]*"):
            try:
                if self.mark.encode() in (process / "environ").read_bytes():
                    found.append(f"{process.name}: {(process / 'cmdline').read_bytes()!r}")
            except OSError:
                continue
        return found
