"""Send an answer that is a file: a piece at a time, as fast as the client reads, and never the whole file in memory."""

from __future__ import annotations

from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IDelayedCall, IPushProducer, IReactorTime
from twisted.logger import Logger
from zope.interface import implementer

from digsigd.errors import DigsigError
from digsigd.signing.signed_file import SignedFile
from digsigd.signing.sums import CHUNK
from digsigd.signing.threads import InThread

# A file up to this size, in bytes, is read in the reactor's thread: handing it to another takes as long.
_SMALL = CHUNK


@implementer(IPushProducer)
class Sending:
    """One answer on its way. `idle` and `longest` limit the seconds without progress, and in all.

    The connection is aborted at these limits, or if the file cannot be read or has changed: the client then gets fewer
    bytes than `Content-Length` says.
    """

    log = Logger()

    def __init__(
        self,
        request: Any,
        file: SignedFile,
        *,
        in_thread: InThread,
        clock: IReactorTime,
        idle: float,
        longest: float,
        who: dict[str, str],
    ) -> None:
        self._request = request
        self._file = file
        self._in_thread = in_thread
        self._clock = clock
        self._idle = idle
        self._longest = longest
        self._who = who
        # Fires when the client has read what was written; None while it may be written.
        self._resumed: Deferred[None] | None = None
        self._timer: IDelayedCall | None = None

    async def send(self) -> None:
        """Write the file, after the headers. Returns when all is written; cancelled when the connection is lost."""
        end = self._clock.callLater(self._longest, self.abort, f"the answer was not read within {self._longest:g} s")
        self._request.registerProducer(self, True)
        try:
            await self._write_all()
        finally:
            self._stop_timer()
            if end.active():
                end.cancel()
            if self._request.channel is not None:
                self._request.unregisterProducer()

    async def _write_all(self) -> None:
        offset, size = 0, self._file.size
        while offset < size:
            length = min(CHUNK, size - offset)
            try:
                if size <= _SMALL:
                    data = self._file.read(offset, length)
                else:
                    data = await self._in_thread(self._file.read, offset, length)
            except DigsigError as error:
                self.abort(error.for_operator())
                # What was lost is noticed as the end of the connection, which cancels this.
                await Deferred()
                return
            self._request.write(data)
            offset += length
            if self._resumed is not None:
                await self._resumed

    def pauseProducing(self) -> None:
        """Write no more: the client has not read what was written."""
        if self._resumed is None:
            self._resumed = Deferred()
            why = f"the answer was not read for {self._idle:g} s"
            self._timer = self._clock.callLater(self._idle, self.abort, why)

    def resumeProducing(self) -> None:
        """Write again."""
        self._stop_timer()
        resumed, self._resumed = self._resumed, None
        if resumed is not None:
            resumed.callback(None)

    def stopProducing(self) -> None:
        """Do nothing: who waits for `send` cancels it when the connection is lost."""

    def _stop_timer(self) -> None:
        if self._timer is not None and self._timer.active():
            self._timer.cancel()
        self._timer = None

    def abort(self, why: str) -> None:
        """Abort the connection, which cancels `send`. `why` is for the log."""
        self.log.error("the connection is aborted: {why}", why=why, **self._who, event="not-sent")
        if self._request.channel is not None:
            self._request.channel.transport.abortConnection()
