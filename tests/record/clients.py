"""Clients that post to a daemon all the time, whatever happens to it, and keep what was answered."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Mapping
from threading import Event, Lock, Thread
from typing import Any, Self

import httpx

from digsigd import hab
from digsigd.testing import TrialPki
from tests.helpers.daemons import IMAGE, Daemon
from tests.helpers.proof import proven


class Clients:
    """So many clients, from `with` to its end.

    `signed` has the SHA-256 of each CSF blob that was answered with 200. `wrong` says which of these a board would
    refuse, and which 503 have no Retry-After. `answers` has the status and the text of each answer by the request's id.
    """

    def __init__(
        self, daemon: Daemon, pki: TrialPki, number: int = 4, headers: Mapping[str, str] | None = None, **fields: Any
    ) -> None:
        self.signed: list[str] = []
        self.statuses: list[int] = []
        self.wrong: list[str] = []
        self.answers: dict[str, tuple[int, str]] = {}
        self.reset = 0
        self._headers = headers or {}
        self._fields = fields
        self._last: tuple[float, float] = (0.0, 0.0)
        self._number = 0
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

    def signs_since(self, moment: float) -> float | None:
        """Return the seconds from `moment` (monotonic) to the latest 200 of a request sent after it; None without one.

        Look often: it is the first such 200 if this is called before the next.
        """
        with self._lock:
            sent, answered = self._last
            return answered - moment if sent >= moment else None

    def _run(self) -> None:
        with httpx.Client() as client:
            while not self._over.is_set():
                if not self._post(client):
                    self._over.wait(0.05)

    def _post(self, client: httpx.Client) -> bool:
        """Post once. Return whether it was signed."""
        with self._lock:
            self._number += 1
            name = f"client-{self._number}"
        sent = time.monotonic()
        try:
            answer = self._daemon.post(
                self._pki, client=client, headers={**self._headers, "X-Request-Id": name}, **self._fields
            )
        except httpx.TransportError:
            with self._lock:
                self.reset += 1
            return False
        wrong = self._judge(answer)
        with self._lock:
            self.statuses.append(answer.status_code)
            self.answers[name] = (answer.status_code, "" if answer.status_code == 200 else answer.text)
            if wrong:
                self.wrong.append(f"{name}: {wrong}")
            if answer.status_code == 200:
                self.signed.append(hashlib.sha256(answer.content).hexdigest())
                self._last = (sent, time.monotonic())
        return answer.status_code == 200

    def _judge(self, answer: httpx.Response) -> str:
        if answer.status_code == 200:
            try:
                proven(self._pki, IMAGE, answer.content)
            except hab.HabError as error:
                return str(error)
        if answer.status_code == 503 and not answer.headers.get("Retry-After", "").isdigit():
            return "503 without Retry-After"
        return ""
