"""The thread pools of a signing service."""

from __future__ import annotations

import os
from collections.abc import Callable
from functools import partial
from threading import Thread
from typing import ParamSpec, TypeVar

from twisted.internet.defer import Deferred
from twisted.internet.threads import deferToThreadPool
from twisted.python.threadpool import ThreadPool

from digsigd.reactor import SigningReactor
from digsigd.record.keyfile import StateFolder
from digsigd.record.publish import Publisher
from digsigd.record.recorder import DatabaseRecorder, record_url
from digsigd.settings import Settings, state_folder_of
from digsigd.signing.hashing import Hashing
from digsigd.signing.threads import in_threads_of

P = ParamSpec("P")
T = TypeVar("T")
# How many threads may wait for a key store that does not answer. They are separate from the threads that verify.
_KEY_THREADS = 16
# For the page: one verifies an image, two read tarballs, one makes HTML.
_PAGE_THREADS = 4


class Pools:
    """The thread pools of one run of the service: a stopped pool cannot start again."""

    def __init__(self, reactor: SigningReactor, max_running: int, *, pages: bool) -> None:
        self._reactor = reactor
        # All threads start with the pools: later the host may have no room for one more, and a pool that could not
        # start a thread cannot be stopped.
        self._work = ThreadPool(max_running + 2, max_running + 2, name="digsigd")
        # Digests of large artifacts take seconds. They have a separate pool, so that no other request waits for it.
        self._digests = ThreadPool(max_running, max_running, name="digsigd-digests")
        # What arrives is hashed in a third: threads of the others wait for it.
        hashes = max(2, os.cpu_count() or 1)
        self._hashes = ThreadPool(hashes, hashes, name="digsigd-hashes")
        self.hashing = Hashing(reactor, self._hashes)
        self._keys = ThreadPool(_KEY_THREADS, _KEY_THREADS, name="digsigd-keys")
        # A thread that waits for a dead file server must not keep the process from ending.
        self._keys.threadFactory = partial(Thread, daemon=True)  # type: ignore[assignment]
        self.in_thread = in_threads_of(reactor, self._work)
        self.in_digest_thread = in_threads_of(reactor, self._digests)
        # The page has its own: what it reads and verifies must not keep requests to sign from theirs.
        self._page = ThreadPool(_PAGE_THREADS, _PAGE_THREADS, name="digsigd-page") if pages else None
        self.in_page_thread = in_threads_of(reactor, self._page or self._work)
        # For a database that may not answer: whoever waits does so until its thread is free again.
        self.in_record_thread = in_threads_of(reactor, self._keys)

    def in_key_thread(self, function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> Deferred[T]:
        """Call a blocking function in a thread that does not keep the process from ending."""
        return deferToThreadPool(self._reactor, self._keys, function, *args, **kwargs)

    def publisher_of(self, settings: Settings) -> Publisher:
        """Return what publishes checkpoints. A file on a file server may hang, as a key store may."""
        record = settings.record
        return Publisher(
            record.checkpoints, interval=record.checkpoint_interval, reactor=self._reactor, pool=self._keys
        )

    def recorder_of(self, settings: Settings, publisher: Publisher) -> DatabaseRecorder | None:
        """Return what writes the record, in a thread of its own; None if the settings want none."""
        record = settings.record
        if record.url == "none":
            return None
        folder = StateFolder(state_folder_of(settings))
        return DatabaseRecorder(
            record_url(record.url, folder),
            folder=folder,
            reactor=self._reactor,
            timeout=record.timeout,
            published=publisher.offer if record.checkpoints else None,
        )

    def start(self) -> None:
        """Start all pools."""
        for pool in (self._work, self._digests, self._hashes, self._keys, self._page):
            if pool is not None:
                pool.start()

    def stop(self) -> None:
        """Stop all pools. Wait for the threads that work for requests, but not for those that wait for a key store."""
        self._work.stop()
        self._digests.stop()
        self._hashes.stop()
        if self._page is not None:
            self._page.stop()
        if self._keys.working:
            self._keys.adjustPoolsize(0, 0)
        else:
            self._keys.stop()
