"""A program that forks writers of a log, and kills each at a random moment. Single-threaded, so that it may fork."""

from __future__ import annotations

import os
import random
import signal
import sys
import time
from pathlib import Path

from digsigd.record.database import Database, sqlite_url
from digsigd.record.entry import Entry
from digsigd.record.keyfile import StateFolder
from digsigd.record.log import Log, Pending


def write(folder: Path, out: int, round_: int) -> None:
    """Append until killed; say which requests would be answered."""
    state = StateFolder(folder)
    key = state.key()
    log = Log(Database(sqlite_url(folder / "record.sqlite")), key)
    log.check(state.last(key))
    number = 0
    while True:
        names = [f"{round_}-{number + one}" for one in range(3)]
        number += 3
        entries = [Entry.new({"outcome": "signed", "request": name, "reason": "x" * 700}) for name in names]
        _, note = log.append([Pending(one) for one in entries])
        state.keep(note)
        os.write(out, "".join(f"{name}\n" for name in names).encode())


def main(folder: Path, rounds: int, seed: int) -> None:
    chance = random.Random(seed)
    database = Database(sqlite_url(folder / "record.sqlite"))
    database.upgrade()
    database.close()
    for round_ in range(rounds):
        pid = os.fork()
        if not pid:
            try:
                write(folder, 1, round_)
            except BaseException as error:  # noqa: BLE001
                os.write(2, f"round {round_}: {error!r}\n".encode())
            os._exit(1)
        time.sleep(chance.random() * 0.15)
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]))
