"""A worker: the signing service of a process that shares its port and the limits of the host with others."""

from __future__ import annotations

import os
import signal
import socket
from collections.abc import Callable, Coroutine
from contextlib import suppress
from functools import partial
from threading import Timer
from typing import Any

from msgspec.structs import replace
from twisted.internet.defer import Deferred
from twisted.internet.error import ReactorNotRunning
from twisted.internet.interfaces import IReactorTime, IStreamServerEndpoint

from digsigd._measuring import layout_of
from digsigd._parts import Parts
from digsigd.daemon import Daemon
from digsigd.log import LineObserver
from digsigd.metrics.cells import Cells
from digsigd.reactor import Reactor, reactor_of
from digsigd.reloading import Prepared, in_force
from digsigd.settings import Settings, SettingsError
from digsigd.signing.host import CST, Counts, Turns
from digsigd.workers.board import Board
from digsigd.workers.inherited import BOARD, CHANNEL, METRICS, PORT, Inherited
from digsigd.workers.ports import inherited_endpoint
from digsigd.workers.turns import Desk, SharedQueue
from digsigd.workers.wire import Channel, line_of, settings_from_text

# How long a worker may take to end after its supervisor, in seconds.
_LAST_SECONDS = 10.0


class SharedHost:
    """The host of a worker, as `digsigd.signing.host.Host`: what it shares, it asks the supervisor or the board for."""

    def __init__(self, channel: Channel, board: Board, generation: int, in_reactor: Callable[..., object]) -> None:
        self.counts: Counts = board
        self.desk = Desk(channel)
        # The number of the last reload.
        self.generation = generation
        self._channel = channel
        self._board = board
        self._in_reactor = in_reactor
        self._asked: dict[int, Deferred[list[str]]] = {}
        self._last = 0

    def queue(
        self,
        name: str,
        max_running: int,
        max_waiting: int,
        *,
        clock: IReactorTime,
        share: float = 1.0,
        limited: Callable[[str], bool] = lambda _: True,
    ) -> Turns:
        """Implement `Host.queue`."""
        return SharedQueue(
            name,
            max_running,
            max_waiting,
            desk=self.desk,
            board=self._board if name == CST else None,
            clock=clock,
            share=share,
            limited=limited,
        )

    def token_tried(self, name: str, *, proven: bool, failed: str) -> None:
        """Implement `Host.token_tried`. It may be called in any thread."""
        self._in_reactor(self._channel.say, "token", name, self.generation, proven, failed)

    async def missing(self, own: Callable[[], Coroutine[Any, Any, list[str]]]) -> list[str]:  # noqa: ARG002
        """Implement `Host.missing`: the supervisor asks all workers, this one too."""
        self._last = number = self._last + 1
        answer: Deferred[list[str]] = Deferred()
        self._asked[number] = answer
        self._channel.say("missing", number)
        return await answer

    def told(self, number: int, missing: list[str]) -> None:
        """Take what the supervisor has found to be missing."""
        self._asked.pop(number).callback(missing)


class Worker(Daemon):
    """One of several workers. It ends with its supervisor."""

    def __init__(
        self, given: Inherited, *, reactor: Reactor | None, observer: Callable[[], LineObserver | None]
    ) -> None:
        made = reactor_of(reactor)
        self._given = given
        self._socket = socket.socket(fileno=CHANNEL)
        self._channel = Channel(self._told, self._orphaned)
        board = Board(BOARD, given.number, given.count + 1, clock=made)
        self._cells = Cells(layout_of(given.settings, given.count), given.number, METRICS)
        self._host = SharedHost(self._channel, board, given.generation, made.callFromThread)
        self._prepared: Prepared | None = None
        # The number of the last question to prepare.
        self._preparing = 0
        self._is_over = False
        try:
            super().__init__(
                _for_one(given.settings, given.count), reactor=reactor, read=lambda: self.settings, observer=observer
            )
        except SettingsError as error:
            raise self._failed(str(error)) from None

    def startService(self) -> None:
        """Start. Raises `SystemExit` after the supervisor was told why it cannot start."""
        try:
            super().startService()
        except SystemExit as error:
            raise self._failed(str(error).removeprefix("digsigd: ")) from None
        with self._socket:
            self._channel.adopt(self._reactor, self._socket.fileno())

    def stopService(self) -> Deferred[None]:
        """Stop, as `SigningService.stopService`."""

        def over(result: Any) -> Any:
            self._is_over = True
            return result

        return super().stopService().addBoth(over)

    def _failed(self, why: str) -> SystemExit:
        with suppress(OSError):  # the supervisor is gone
            self._socket.sendall(line_of("failed", why))
        return SystemExit(1)

    def _new_parts(self) -> Parts:
        return Parts(
            self.settings, reactor=self._reactor, host=self._host, cells=self._cells, number=self._given.number
        )

    def _serve_metrics(self) -> None:
        """Leave the endpoint of the metrics to the supervisor."""

    def _endpoint(self, endpoint: str) -> IStreamServerEndpoint:
        return inherited_endpoint(self._reactor, endpoint, PORT)

    def _is_listening(self, port: Any) -> None:
        super()._is_listening(port)
        # One at a time: connections that come at once are for all workers.
        port.numberAccepts = 1

    def _say_listening(self, address: str) -> None:  # noqa: ARG002
        self._channel.say("ready")

    async def _warn(self) -> None:
        # What is not safe is the same for all of them.
        await (self._parts.warn() if self._given.number == 1 else self._parts.readiness.warn())

    def _hung_up(self) -> None:
        """Leave a reload to the supervisor: all workers take new settings, or none."""

    # What the supervisor says.

    def _told(self, message: list[Any]) -> None:
        verb, *rest = message
        if verb == "turn":
            self._host.desk.given(*rest)
        elif verb == "busy":
            self._host.desk.refused(*rest)
        elif verb == "token":
            self._learn(*rest)
        elif verb == "told":
            self._host.told(*rest)
        elif verb == "stop":
            self._end()
        elif verb == "ask":
            Deferred.fromCoroutine(self._answer(*rest))

    def _learn(self, name: str, generation: int, proven: bool, failed: str) -> None:
        if generation == self._host.generation:
            self._parts.tokens.learn(name, proven=proven, failed=failed)

    async def _answer(self, number: int, what: str, *values: Any) -> None:
        try:
            if what == "missing":
                answer: Any = await self.missing()
            elif what == "ping":
                answer = ""
            elif what == "prepare":
                answer = await self._prepare(number, *values)
            else:
                answer = self._commit(*values)
        except Exception:  # noqa: BLE001 - another worker starts, with what this one could not take
            self.log.failure("cannot answer the supervisor", event="unexpected")
            self._end()
            return
        self._channel.say("answer", number, answer)

    async def _prepare(self, number: int, text: str) -> str:
        """Read what new settings name, and return why they cannot be used; an empty text if they can."""
        settings = _for_one(settings_from_text(text.encode()), self._given.count)
        self._prepared, self._preparing = None, number
        try:
            prepared = await self._parts.in_thread(self._parts.prepare, settings)
        except SettingsError as error:
            return str(error)
        if number == self._preparing:  # else the supervisor has not waited for it, and asked again
            self._prepared = prepared
        return ""

    def _commit(self, generation: int) -> list[str]:
        """Put what was prepared in place. Return the keys that need a restart."""
        prepared, self._prepared = self._prepared, None
        if prepared is None:
            raise RuntimeError("nothing was prepared")
        self._host.generation = generation
        restart = self._parts.reload(prepared)
        self.settings = in_force(self.settings, prepared.settings)
        self._life.set_level(self.settings.daemon.log_level)
        if self._given.number == 1:
            Deferred.fromCoroutine(self._parts.warn_unsafe())
        return restart

    def _end(self) -> None:
        # It may have received SIGTERM itself.
        with suppress(ReactorNotRunning):
            self._reactor.stop()

    def _orphaned(self) -> None:
        """End now: the supervisor is gone, and with it the limits of the host."""
        if self._is_over:
            return  # Twisted closes the channel as the last of all
        self.log.warn("the supervisor has ended", event="stopping")
        timer = Timer(_LAST_SECONDS, partial(os.kill, os.getpid(), signal.SIGKILL))
        timer.daemon = True
        timer.start()
        Deferred.fromCoroutine(self._parts.hurry())
        self._end()


def _for_one(settings: Settings, count: int) -> Settings:
    """Return the settings of one of `count` workers, which has its part of the connections."""
    connections = max(-(-settings.listen.max_connections // count), 8)
    return replace(settings, listen=replace(settings.listen, max_connections=connections))
