"""Publish checkpoints: append them to files, send them to syslog, post them to URLs."""

from __future__ import annotations

import os
import syslog
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

from treq.client import HTTPClient
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IDelayedCall
from twisted.internet.threads import deferToThreadPool
from twisted.logger import Logger
from twisted.python.threadpool import ThreadPool
from twisted.web.client import HTTPConnectionPool
from twisted.web.http_headers import Headers

from digsigd.http.agent import PlainAgent, bounded_agent
from digsigd.http.body import body_of
from digsigd.http.endpoints import Endpoints
from digsigd.http.reactor import Reactor

# How long a server may take to answer, in seconds.
_PATIENCE = 10.0


class Publisher:
    """Publishes the newest checkpoint, at most every `interval` seconds. A failed one is followed by the next.

    One at a time: the next waits until all destinations have the one before, or have failed, so that they get them in
    order.

    `destinations` are file:///PATH, "syslog", and http(s) URLs. Checkpoints of a file are appended, each with an empty
    line behind it.
    """

    log = Logger()

    def __init__(self, destinations: Sequence[str], *, interval: float, reactor: Reactor, pool: ThreadPool) -> None:
        self._destinations = tuple(destinations)
        self._interval = interval
        self._reactor = reactor
        self._pool = pool
        self._newest = ""
        self._later: IDelayedCall | None = None
        self._under_way: Deferred[None] | None = None

    def offer(self, note: str) -> None:
        """Publish a checkpoint, now or within the interval, unless a newer one comes first."""
        if not self._destinations:
            return
        self._newest = note
        self._publish()

    def stop(self) -> Deferred[None]:
        """Publish what was not published yet. The Deferred fires when that is done, or has failed."""
        if self._later is not None and self._later.active():
            self._later.cancel()
        self._later = None
        note, self._newest = self._newest, ""
        return Deferred.fromCoroutine(self._last(note))

    async def _last(self, note: str) -> None:
        if self._under_way is not None:
            await self._under_way
        await self._to_all(note)

    def _publish(self) -> None:
        """Begin with the newest, unless one is under way or the interval is not over: then at the end of both."""
        if self._later is not None or self._under_way is not None or not self._newest:
            return
        note, self._newest = self._newest, ""
        self._later = self._reactor.callLater(self._interval, self._interval_over)
        self._under_way = Deferred.fromCoroutine(self._to_all(note))
        self._under_way.addCallback(self._ended)

    def _interval_over(self) -> None:
        self._later = None
        self._publish()

    def _ended(self, _: None) -> None:
        self._under_way = None
        self._publish()

    async def _to_all(self, note: str) -> None:
        if not note:
            return
        for one in self._destinations:
            try:
                if one.startswith(("http://", "https://")):
                    await Deferred.fromCoroutine(self._post(one, note)).addTimeout(_PATIENCE, self._reactor)
                else:
                    await deferToThreadPool(self._reactor, self._pool, _write, one, note)  # type: ignore[arg-type]
            except Exception as error:  # noqa: BLE001 - signing does not depend on it
                self.log.error(
                    "cannot publish a checkpoint to {destination}: {error}",
                    destination=_shown(one), error=str(error) or type(error).__name__, event="checkpoint",
                )  # fmt: skip

    async def _post(self, url: str, note: str) -> None:
        endpoints = Endpoints(self._reactor, connect_timeout=_PATIENCE, trust_root=None, certificate=None)
        agent = PlainAgent(bounded_agent(endpoints, self._reactor, HTTPConnectionPool(self._reactor, False)), url)
        reactor: Any = self._reactor
        response: Any = await HTTPClient(agent).post(
            agent.url_for_treq, data=note.encode(), headers=Headers({"Content-Type": ["text/plain; charset=utf-8"]}),
            allow_redirects=False, unbuffered=True, reactor=reactor,
        )  # fmt: skip
        await body_of(response, max_bytes=1 << 16, idle=_PATIENCE, clock=self._reactor, only_begin=True)
        if response.code // 100 != 2:
            raise OSError(f"status {response.code}")


def _write(destination: str, note: str) -> None:
    """Append to a file, or send to syslog, which wants one line. Raises `OSError`."""
    if destination == "syslog":
        syslog.syslog(syslog.LOG_NOTICE | syslog.LOG_AUTHPRIV, "digsigd checkpoint " + note.replace("\n", "\\n"))
        return
    path = Path(unquote(urlsplit(destination).path))
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
    with os.fdopen(descriptor, "w", encoding="utf-8") as file:
        file.write(note + "\n")


def _shown(destination: str) -> str:
    parts = urlsplit(destination)
    return destination if not parts.netloc else f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path}"
