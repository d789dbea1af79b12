"""The common part of commands that use a signing host."""

from __future__ import annotations

import sys
import time
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, TypeVar

from digsigd.cli.console import Console, shown

if TYPE_CHECKING:
    from digsigd.client import ClientSettings, SigningClient
    from digsigd.http.reactor import Reactor

T = TypeVar("T")
# Bytes. Smaller uploads finish too fast to show progress.
_WORTH_SHOWING = 1 << 20


class Progress:
    """The progress of an upload: a bar with the rate on a terminal, a line every ten seconds in a log."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._live = console.err.isatty()
        self._began = self._last = 0.0
        self._drawn = False

    def __call__(self, sent: int, total: int) -> None:
        """Show that `sent` of `total` bytes are sent."""
        if total < _WORTH_SHOWING:
            return
        now = time.monotonic()
        if not sent or not self._began:
            self._began = self._last = now
        # A log shows only uploads that take more than ten seconds.
        if now - self._last < (0.1 if self._live else 10.0) and not (self._drawn and sent >= total):
            return
        self._last = now
        rate = sent / max(now - self._began, 0.001)
        text = f"{sent / 2**20:.1f} of {total / 2**20:.1f} MiB, {rate / 2**20:.1f} MiB/s"
        if not self._live:
            self._console.tell(f"uploaded {text}")
            return
        filled = 30 * sent // total
        print(f"\r  [{'#' * filled}{' ' * (30 - filled)}] {text}\x1b[K", end="", file=self._console.err, flush=True)
        self._drawn = True
        if sent >= total:
            self.clear()

    def clear(self) -> None:
        """Remove the bar before other lines are printed."""
        if self._drawn:
            print("\r\x1b[K", end="", file=self._console.err, flush=True)
            self._drawn = False


def ask_server(
    settings: ClientSettings, ask: Callable[[SigningClient], Awaitable[T]], console: Console, *, quiet: bool = False
) -> T:
    """Run `ask` with a new client, and return its result. Raises `ClientError`, also without a response."""
    from digsigd.client import SigningClient, run

    progress = Progress(console)

    def retrying(text: str) -> None:
        progress.clear()
        console.tell(f"digsign: {shown(text)}")

    async def session(reactor: Reactor) -> T:
        client = SigningClient(
            settings, reactor=reactor, progress=None if quiet else progress, on_retry=None if quiet else retrying
        )
        try:
            return await ask(client)
        finally:
            await client.close()

    try:
        return run(session)
    finally:
        progress.clear()
        sys.stderr.flush()
