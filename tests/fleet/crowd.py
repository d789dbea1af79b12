"""The clients' process, as the tests see it: what each image became, and a wait for so many more."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import asdict
from pathlib import Path
from threading import Condition, Thread
from typing import Any, Self

from tests.fleet.clients import Task

ROOT = Path(__file__).parent.parent.parent


class Crowd:
    """All clients of a fleet, from `with` to its end, when they have signed all images. `results` has them in order."""

    def __init__(self, task: Task, folder: Path, seconds: float) -> None:
        self.results: list[dict[str, Any]] = []
        self._seconds = seconds
        self._changed = Condition()
        (folder / "task.json").write_text(json.dumps(asdict(task)))
        self._errors = folder / "clients.log"
        with self._errors.open("wb") as errors:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "tests.fleet.clients", folder / "task.json"],
                cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=errors, text=True,
            )  # fmt: skip
        self._reader = Thread(target=self._read)
        self._reader.start()

    @property
    def pid(self) -> int:
        return self._process.pid

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: object, *_: object) -> None:
        """Wait until all images are signed; after an error, end the clients."""
        assert self._process.stdin is not None
        try:
            if kind is not None:
                self._process.kill()
            self._process.stdin.close()
            self._process.wait(self._seconds)
        except subprocess.TimeoutExpired:
            self._process.kill()
            raise
        finally:
            self._process.wait()
            self._reader.join()
            assert self._process.stdout is not None
            self._process.stdout.close()
        if kind is None:
            assert self._process.returncode == 0, self._errors.read_text()

    def wait_for(self, number: int) -> None:
        """Wait until so many images have been answered since the clients began."""
        with self._changed:
            done = self._changed.wait_for(
                lambda: len(self.results) >= number or self._process.poll() is not None, self._seconds
            )
        assert done, f"{len(self.results)} of {number} images: {self._errors.read_text()}"
        assert len(self.results) >= number, self._errors.read_text()

    def wait_for_more(self, number: int) -> None:
        """Wait until so many images have been answered from now on."""
        self.wait_for(len(self.results) + number)

    def _read(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            with self._changed:
                self.results.append(json.loads(line))
                self._changed.notify_all()
        with self._changed:
            self._changed.notify_all()
