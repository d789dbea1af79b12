"""The supervisor: opens the port, starts the workers, replaces those that die, and keeps what they share."""

from __future__ import annotations

import atexit
import os
import signal
from collections.abc import Callable, Coroutine, Iterable, Sequence
from contextlib import suppress
from functools import partial
from typing import Any, TypeVar

from twisted.application.service import IServiceCollection, Service
from twisted.internet.defer import Deferred, DeferredLock, gatherResults
from twisted.internet.error import CannotListenError, ReactorNotRunning
from twisted.internet.interfaces import IDelayedCall, IListeningPort
from twisted.internet.protocol import Factory
from twisted.internet.threads import deferToThreadPool
from twisted.logger import Logger

from digsigd import __version__
from digsigd.listening import address_of, begin_listening, server_endpoint
from digsigd.log import LineObserver
from digsigd.notices import Notices
from digsigd.process_life import ProcessLife
from digsigd.reactor import Reactor, reactor_of
from digsigd.reloading import in_force
from digsigd.settings import Settings, SettingsError
from digsigd.signing.cage import protect_memory
from digsigd.workers.board import Board
from digsigd.workers.child import Child, Shared, WorkerGone, WorkerHangs
from digsigd.workers.metrics import HostMetrics
from digsigd.workers.ports import keep_for_workers
from digsigd.workers.queues import HostQueues
from digsigd.workers.watch import Watch
from digsigd.workers.wire import settings_as_text

T = TypeVar("T")
# So many workers that ended before they were ready, one after the other, end the daemon.
MOST_IN_VAIN = 5
# The pause before a worker is replaced, in seconds: none after a long life, then longer each time.
_FIRST_PAUSE, _LONGEST_PAUSE, _LONG_LIFE = 0.5, 30.0, 60.0
# How much longer than `daemon.shutdown_grace` workers may take to end, in seconds: less than systemd waits.
_LAST_SECONDS = 10.0
# How long a worker may take to say what is missing, in seconds.
_PATIENCE = 15.0


class Supervisor(Service):
    """The service of a daemon with several workers. It signs nothing.

    `read` returns the settings anew for SIGHUP, `options` are the command line of a worker below twistd.
    """

    log = Logger()
    name = "digsigd"

    def __init__(
        self,
        settings: Settings,
        *,
        reactor: Reactor | None,
        read: Callable[[], Settings],
        observer: Callable[[], LineObserver | None],
        options: Sequence[str],
    ) -> None:
        self.settings = settings
        self._reactor = reactor_of(reactor)
        self._read = read
        self._options = options
        self._life = ProcessLife(self._reactor, observer=observer, hung_up=self._hung_up)
        self._notices = Notices(self._reactor, self._state)
        self._count = settings.worker_count
        self._children: dict[int, Child] = {}
        # Replacements that wait for their pause, by number; how long the next one is; how many started in vain.
        self._pending: dict[int, IDelayedCall] = {}
        self._pause = 0.0
        self._in_vain = 0
        self._listens = self._gave_up = False
        self._stopping: Deferred[None] | None = None
        self._reloading = DeferredLock()
        self._watch = Watch(self._reactor, self._children.values, self._hung)
        # Counts the reloads. A worker that was started before the last one is replaced.
        self._generation = 0
        # What is known about the PINs of tokens: whether they have worked, and why not.
        self._tokens: dict[str, tuple[bool, str]] = {}

    def setServiceParent(self, parent: IServiceCollection) -> None:
        """Implement `IService.setServiceParent`. If the parent is the application, also set its log observer."""
        self._life.observe(parent, self.settings.daemon.log_level)
        super().setServiceParent(parent)

    def startService(self) -> None:
        """Open the port and start the workers. Raises `SystemExit` with one line if that is not possible."""
        protect_memory()
        try:
            self._open()
            for number in range(1, self._count + 1):
                self._start(number)
        except (SettingsError, CannotListenError, OSError) as error:
            raise SystemExit(f"digsigd: {error}") from None
        super().startService()
        self._life.take_signals()
        self._watch.start()

    def stopService(self) -> Deferred[None]:
        """Tell the workers to finish what they have accepted. The Deferred fires when all have ended."""
        super().stopService()
        over: Deferred[None] = Deferred()
        self._stopping = over
        self._notices.stopping(self.settings.daemon.shutdown_grace)
        self._watch.stop()
        for call in self._pending.values():
            call.cancel()
        self._pending.clear()
        if self._children:
            self.log.info("stopping {count} workers", count=len(self._children), event="stopping")
        for child in self._children.values():
            child.say("stop")
        killing = self._reactor.callLater(self.settings.daemon.shutdown_grace + _LAST_SECONDS, self._kill)
        over.addBoth(lambda _: killing.cancel() if killing.active() else None)
        over.addBoth(lambda _: self._port.stopListening())
        over.addBoth(lambda _: self._metrics.stop())
        over.addBoth(lambda _: self.log.info("stopped", event="stopped"))
        over.addBoth(lambda _: self._notices.close())
        # The port is closed last: what waits in its queue is for the workers, as long as they accept.
        self._port.stopReading()
        self._check_over()
        return over

    def _open(self) -> None:
        """Open the port, and what is shared. Raises `SettingsError`, `CannotListenError` and `OSError`."""
        endpoint = self.settings.listen.endpoint
        factory = Factory()
        factory.noisy = False
        opened: list[IListeningPort] = []
        make = partial(server_endpoint, self._reactor)
        begin_listening(endpoint, self.settings.listen.backlog, make, factory).addCallback(opened.append)
        if not opened:
            raise SettingsError(f"daemon.workers: several workers cannot listen on {endpoint!r}; set it to 1")
        self._port: Any = opened[0]
        self._descriptor = keep_for_workers(self._port, endpoint)
        self._shared = Board.make(self._count + 1)
        self._board = Board(os.dup(self._shared), 0, self._count + 1, clock=self._reactor)
        self._queues = HostQueues(self.settings, self._board, clock=self._reactor)
        self._metrics = HostMetrics(self.settings, self._count, reactor=self._reactor)
        self._metrics.start()

    def _state(self) -> str:
        ready = sum(child.is_ready for child in self._children.values())
        return f"{self._queues.state}, {ready} of {self._count} workers"

    # Life and death of workers.

    def _start(self, number: int) -> None:
        self._pending.pop(number, None)
        child = Child(number, self._generation, said=self._said, ended=self._ended)
        shared = Shared(self._shared, self._descriptor, self._metrics.descriptor)
        child.start(self._reactor, self._options, self.settings, self._count, shared)
        self._children[number] = child
        for name, known in self._tokens.items():
            child.say("token", name, self._generation, *known)

    def _replace(self, number: int) -> None:
        try:
            self._start(number)
        except OSError as error:
            pause = self._pause = min(max(2 * self._pause, _FIRST_PAUSE), _LONGEST_PAUSE)
            self.log.error(
                "worker {worker} cannot be started: {why}; another try in {pause:g} s",
                worker=number, why=error.strerror, pause=pause, event="worker-ended",
            )  # fmt: skip
            self._pending[number] = self._reactor.callLater(pause, self._replace, number)

    def _is_ready(self, child: Child) -> None:
        child.is_ready = True
        self._show_ready()
        self._in_vain = 0
        if child.generation != self._generation:
            child.signal(signal.SIGTERM)
            return
        self.log.info("worker {worker} is ready (process {pid})", worker=child.number, pid=child.pid, event="worker")
        if not self._listens and all(one.is_ready for one in self._children.values()):
            self._listens = True
            self.log.info(
                "listening on {address} (digsigd {version})",
                address=address_of(self._port), version=__version__, event="listening",
            )  # fmt: skip
            self._notices.ready()

    def _ended(self, child: Child, how: str) -> None:
        del self._children[child.number]
        self._queues.gone(child.number)
        self._board.clear(child.number)
        self._show_ready()
        self._metrics.ended(child.number, replaced=self._stopping is None)
        if self._stopping is not None or self._gave_up:
            self._check_over()
            return
        if not child.is_ready:
            self._in_vain += 1
            # As long as another one signs, it goes on doing that.
            in_vain = self._in_vain >= MOST_IN_VAIN and not any(one.is_ready for one in self._children.values())
            if (child.failed and not self._listens) or in_vain:
                self._give_up(f"worker {child.number} cannot start: {child.failed or how}")
                return
        long = child.is_ready and self._reactor.seconds() - child.since >= _LONG_LIFE
        pause, self._pause = (0.0 if long else self._pause), min(max(2 * self._pause, _FIRST_PAUSE), _LONGEST_PAUSE)
        if long:
            self._pause = _FIRST_PAUSE
        self.log.error(
            "worker {worker} {how}{why}; another one starts{when}",
            worker=child.number, how=how, why=f" ({child.failed})" if child.failed else "",
            when=f" in {pause:g} s" if pause else " now", event="worker-ended",
        )  # fmt: skip
        self._pending[child.number] = self._reactor.callLater(pause, self._replace, child.number)

    def _show_ready(self) -> None:
        self._metrics.show_ready(sum(one.is_ready for one in self._children.values()))

    def _give_up(self, why: str) -> None:
        """End the daemon with exit code 1."""
        self._gave_up = True
        self.log.error("{why}", why=why, event="start-failed")
        # twistd has no other way to end with an exit code once the reactor ran. By then its pidfile is removed.
        atexit.register(self._exit)
        with suppress(ReactorNotRunning):  # SIGTERM came at the same moment
            self._reactor.stop()

    def _exit(self) -> None:
        self._life.settle()
        os._exit(1)

    def _kill(self) -> None:
        for child in self._children.values():
            self.log.error("worker {worker} does not end: killed", worker=child.number, event="worker-ended")
            child.signal(signal.SIGKILL)

    def _hung(self, child: Child) -> None:
        self.log.error("worker {worker} does not answer: killed", worker=child.number, event="worker-ended")
        child.signal(signal.SIGKILL)

    def _check_over(self) -> None:
        if self._stopping is not None and not self._children and not self._stopping.called:
            self._stopping.callback(None)

    # What workers say.

    def _said(self, child: Child, message: list[Any]) -> None:
        verb, *rest = message
        if verb == "enter":
            self._queues.enter(child.number, child.say, *rest)
        elif verb == "leave":
            self._queues.leave(child.number, *rest)
        elif verb == "ready":
            self._is_ready(child)
        elif verb == "failed":
            (child.failed,) = rest
        elif verb == "token":
            self._token_tried(child, *rest)
        elif verb == "missing":
            Deferred.fromCoroutine(self._tell_missing(child, *rest))

    def _token_tried(self, child: Child, name: str, generation: int, proven: bool, failed: str) -> None:
        if generation != self._generation:
            return  # about a PIN that a reload has replaced
        self._tokens[name] = (proven, failed)
        for other in self._children.values():
            if other is not child:
                other.say("token", name, generation, proven, failed)

    async def _tell_missing(self, child: Child, number: int) -> None:
        numbers = range(1, self._count + 1)
        found = dict(zip(numbers, await _all(self._missing(one) for one in numbers), strict=True))
        every = [line for line in found[child.number] if all(line in lines for lines in found.values())]
        child.say("told", number, every + [
            f"worker {one}: {line}" for one, lines in found.items() for line in lines if line not in every
        ])  # fmt: skip

    async def _missing(self, number: int) -> list[str]:
        child = self._children.get(number)
        if child is None or not child.is_ready:
            return ["is not running"]
        try:
            lines: list[str] = await self._answer(child, "missing")
        except WorkerGone as error:
            return [str(error)]
        return lines

    def _answer(self, child: Child, what: str, *values: Any) -> Deferred[Any]:
        """Ask a worker, with a time limit. The Deferred fails with `WorkerGone`."""

        def late(*_: object) -> None:
            raise WorkerHangs("does not answer")

        return child.ask(what, *values).addTimeout(_PATIENCE, self._reactor, onTimeoutCancel=late)

    # Reloading: all workers take new settings, or none.

    def _hung_up(self) -> None:
        Deferred.fromCoroutine(self._reload())

    async def _reload(self) -> None:
        refused = True
        await self._reloading.acquire()
        self._notices.reloading()
        try:
            settings = await deferToThreadPool(self._reactor, self._reactor.getThreadPool(), self._read)
            await self._take(settings)
            refused = False
        except SettingsError as error:
            self.log.error("not reloaded: {error} (everything is as before)", error=str(error), event="reloaded")
        except Exception:  # noqa: BLE001 - the daemon goes on with what it has
            self.log.failure("not reloaded, everything is as before", event="reloaded")
        finally:
            self._notices.reloaded(refused=refused)
            self._reloading.release()

    async def _take(self, settings: Settings) -> None:
        """Put new settings in place in all workers. Raises `SettingsError` if one of them cannot use them."""
        ready = [child for child in self._children.values() if child.is_ready]
        if not ready:
            raise SettingsError("no worker is ready; try again")
        text = settings_as_text(settings).decode()
        answers = await _all(self._prepared(child, text) for child in ready)
        if refused := next(filter(None, answers), None):
            raise SettingsError(refused)
        if "" not in answers:
            raise SettingsError("no worker is left that could try it; try again")
        self._generation += 1
        # A worker that is started later has what the others have, so nothing that needs a restart.
        self.settings = in_force(self.settings, settings)
        self._tokens.clear()
        self._queues.callers = len(settings.callers)
        self._life.set_level(settings.daemon.log_level)
        for child in ready:
            child.generation = self._generation
        for child in self._children.values():
            if child.is_ready and child.generation != self._generation:
                # It became ready meanwhile, with what was before.
                child.signal(signal.SIGTERM)
        restart = await _all(self._committed(child) for child in ready)
        if keys := next(filter(None, restart), []):
            self.log.warn("changed, but needs a restart: {keys}", keys=", ".join(keys), event="reloaded")
        self.log.info("reloaded", event="reloaded")

    async def _prepared(self, child: Child, text: str) -> str | None:
        """Return why a worker cannot use settings; empty if it can, None if it is gone: another will."""
        try:
            return str(await self._answer(child, "prepare", text) or "")
        except WorkerHangs as error:
            return f"worker {child.number} {error}"
        except WorkerGone:
            return None

    async def _committed(self, child: Child) -> list[str]:
        """Return the keys that need a restart. A worker that does not answer is replaced."""
        try:
            keys: list[str] = await self._answer(child, "commit", self._generation)
        except WorkerGone:
            child.signal(signal.SIGKILL)
            return []
        return keys


async def _all(asking: Iterable[Coroutine[Any, Any, T]]) -> list[T]:
    """Run coroutines at the same time, and return their results."""
    results: list[T] = await gatherResults([Deferred.fromCoroutine(one) for one in asking])
    return results
