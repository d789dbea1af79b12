"""Clients that post to a daemon all the time, whatever happens to it, and keep what was answered."""

from __future__ import annotations

import hashlib
from threading import Event, Lock, Thread
from typing import Self

import httpx

from digsigd.testing import TrialPki
from tests.helpers.daemons import Daemon


class Clients:
    """So many clients, from `with` to its end. `signed` has the SHA-256 of each CSF blob that was answered with 200."""

    def __init__(self, daemon: Daemon, pki: TrialPki, number: int = 4) -> None:
        self.signed: list[str] = []
        self.statuses: list[int] = []
        self.reset = 0
        self._daemon = daemon
        self._pki = pki
        self._over = Event()
        self._lock = Lock()
        self._threads = [Thread(target=self._run) for _ in range(number)]

    def __enter__(self) -> Self:
        for one in self._threads:
            one.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        for one in self._threads:
            one.join()

    def count(self, status: int) -> int:
        """Return how many answers had this status."""
        with self._lock:
            return self.statuses.count(status)

    def answered(self) -> list[str]:
        """Return the SHA-256 of each CSF blob that was answered so far."""
        with self._lock:
            return list(self.signed)

    def _run(self) -> None:
        with httpx.Client() as client:
            while not self._over.is_set():
                if not self._post(client):
                    self._over.wait(0.05)

    def _post(self, client: httpx.Client) -> bool:
        """Post once. Return whether it was signed."""
        try:
            answer = self._daemon.post(self._pki, client=client)
        except httpx.TransportError:
            with self._lock:
                self.reset += 1
            return False
        with self._lock:
            self.statuses.append(answer.status_code)
            if answer.status_code == 200:
                self.signed.append(hashlib.sha256(answer.content).hexdigest())
        return answer.status_code == 200
