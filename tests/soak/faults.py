"""What goes wrong around a daemon while clients are answered: each fault can begin and end."""

from __future__ import annotations

import contextlib
import os
import re
import resource
import shlex
import signal
import subprocess
import threading
from collections.abc import Mapping
from hashlib import sha256
from pathlib import Path
from typing import Any, ClassVar

from digsigd.testing import TrialPki
from tests.daemon.test_full_and_late import SMALL, inside
from tests.daemon.test_own_user import OwnUser
from tests.helpers.daemons import MACHINE, TOKEN, Daemon
from tests.soak.stores import Store

# A number that no other test uses: all processes of a user count for its limit.
_USER = 61190
# Short times only where they are the fault: on a busy machine something else may take as long.
_ONCE = "[keys]\ntries = 1\n"
_SHORT = f"{_ONCE}connect_timeout = 4\nidle_timeout = 4\ntimeout = 4\n"


class Fault:
    """One fault. `statuses` is what clients may be told meanwhile besides 200, `shows` whether they must be told it."""

    statuses: ClassVar[frozenset[int]] = frozenset()
    shows = True
    config = ""
    # What clients send besides a good request.
    headers: ClassVar[Mapping[str, str]] = {}
    fields: ClassVar[Mapping[str, Any]] = {}

    def __init__(self, folder: Path, cst_base: Path, pki: TrialPki, other_pki: TrialPki) -> None:
        self.folder = folder
        self.cst_base = cst_base
        self.pki = pki
        self.other_pki = other_pki
        self.daemon = self.made()
        self.daemon.put_keys(MACHINE, pki.tarball())

    def environ(self) -> dict[str, str]:
        """The daemon's environment, besides its record."""
        return {}

    def made(self) -> Daemon:
        environ = {"STATE_DIRECTORY": str(self.folder / "state"), **self.environ()}
        return Daemon(self.folder, self.cst_base, self.config, environ=environ)

    def begin(self) -> None: ...

    def end(self) -> None: ...

    def close(self) -> None:
        """Remove what the fault itself made; the daemon has ended."""


class _KeyStore(Fault):
    """The key store is a web server."""

    how: ClassVar[str]
    config = _ONCE

    def environ(self) -> dict[str, str]:
        self._store = Store(self.pki.tarball(), self.other_pki.tarball())
        return {"DIGSIGSERVER_KEYFILE_URI": self._store.url}

    def begin(self) -> None:
        self._store.become(self.how)

    def end(self) -> None:
        self._store.become("good")

    def close(self) -> None:
        self._store.close()


class KeyStoreDown(_KeyStore):
    """Nothing listens where the key store was."""

    how = "down"
    statuses = frozenset({502})


class KeyStoreSlow(_KeyStore):
    """It answers later than the daemon waits."""

    how = "slow"
    config = _SHORT
    statuses = frozenset({504})


class KeyStoreTruncated(_KeyStore):
    """It closes each connection in the middle of the tarball."""

    how = "truncated"
    statuses = frozenset({502})


class KeyStoreWrong(_KeyStore):
    """It sends the keys of somebody else, which are not the pinned ones."""

    how = "wrong"
    statuses = frozenset({500})

    def made(self) -> Daemon:
        self.config += f'[machines.{MACHINE}]\nkeys_sha256 = "{sha256(self.pki.tarball()).hexdigest()}"\n'
        return super().made()


class KeyStoreNonsense(_KeyStore):
    """It sends what is no tarball."""

    how = "nonsense"
    statuses = frozenset({500})


class FullWorkdir(Fault):
    """Nothing fits into the work directory any more."""

    statuses = frozenset({503})

    def environ(self) -> dict[str, str]:
        return {"DAEMON_PREFIX": SMALL}

    def begin(self) -> None:
        # What requests remove meanwhile makes room: it is filled until nothing more fits. It never shrinks: a request
        # that fails then finds a full directory, too, when it looks for the cause.
        for _ in range(5):
            with contextlib.suppress(OSError), (inside(self.daemon) / "filling").open("ab", buffering=0) as file:
                room = os.statvfs(inside(self.daemon))
                file.write(bytes(room.f_bavail * room.f_frsize))

    def end(self) -> None:
        (inside(self.daemon) / "filling").unlink()


class _Cst(Fault):
    """A program in cst's place, which is the real one while there is no fault."""

    does: ClassVar[str]
    limits = ""
    fields: ClassVar[Mapping[str, Any]] = {"cstversion": "odd"}

    def made(self) -> Daemon:
        real = shlex.quote(str(self.cst_base / "cst-3.4.1/linux64/bin/cst"))
        tool = self.folder / "odd"
        self._now = self.folder / "now"
        tool.write_text(f'#!/bin/sh\nif [ -e "{self._now}" ]; then\n{self.does}\nfi\nexec {real} "$@"\n')
        tool.chmod(0o755)
        self.config = f'[cst]\n{self.limits}[cst.versions]\nodd = "{tool}"\n'
        return super().made()

    def begin(self) -> None:
        self._now.touch()

    def end(self) -> None:
        self._now.unlink()


class CstHanging(_Cst):
    """It does nothing and ignores TERM."""

    does = "trap '' TERM; while :; do sleep 100; done"
    limits = "timeout = 3\nkill_after = 0.2\n"
    statuses = frozenset({504})


class CstCrashing(_Cst):
    """It ends by a signal."""

    does = "kill -SEGV $$"
    statuses = frozenset({500})


class CstSpewing(_Cst):
    """It writes as fast as it can, for ever."""

    does = "exec yes 'Error: this line comes again and again'"
    limits = "timeout = 3\nkill_after = 0.2\n"
    statuses = frozenset({504})


class FullProcessTable(Fault):
    """The daemon's user may start no process and no thread more."""

    statuses = frozenset({503})
    headers: ClassVar[Mapping[str, str]] = {"Authorization": f"Bearer {TOKEN}"}

    def made(self) -> Daemon:
        return OwnUser(self.folder, self.cst_base, (), _USER)

    def begin(self) -> None:
        status = Path(f"/proc/{self.daemon.pid}/limits").read_text()
        found = re.search(r"^Max processes +(\S+)", status, re.MULTILINE)
        assert found is not None
        self._before = found[1]
        self._limit("1")

    def end(self) -> None:
        self._limit(self._before)

    def _limit(self, soft: str) -> None:
        # The user's own command: root may lack the capability for the processes of others.
        user = ["setpriv", f"--reuid={_USER}", f"--regid={_USER}", "--clear-groups"]
        subprocess.run([*user, "prlimit", "--pid", str(self.daemon.pid), f"--nproc={soft}:"], check=True)


class NoDescriptors(Fault):
    """The daemon can open nothing more: EMFILE."""

    statuses = frozenset({503})

    def begin(self) -> None:
        used = max(int(one.name) for one in Path(f"/proc/{self.daemon.pid}/fd").iterdir())
        _, hard = self._limits = resource.prlimit(self.daemon.pid, resource.RLIMIT_NOFILE)
        resource.prlimit(self.daemon.pid, resource.RLIMIT_NOFILE, (used // 2, hard))

    def end(self) -> None:
        resource.prlimit(self.daemon.pid, resource.RLIMIT_NOFILE, self._limits)


class _Repeated(Fault):
    """Something that happens again and again."""

    shows = False
    pause = 0.02

    def once(self, number: int) -> None: ...

    def begin(self) -> None:
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def _run(self) -> None:
        number = 0
        while not self._over.wait(self.pause):
            self.once(number)
            number += 1

    def end(self) -> None:
        self._over.set()
        self._thread.join()


class Reloads(_Repeated):
    """The configuration is read again and again: SIGHUP."""

    def once(self, number: int) -> None:
        os.kill(self.daemon.pid, signal.SIGHUP)


class ClockJumps(_Repeated):
    """The time of day jumps by hours, forward and back."""

    pause = 0.05

    def environ(self) -> dict[str, str]:
        library = self.folder / "clock.so"
        source = Path(__file__).with_name("clock.c")
        subprocess.run(["gcc", "-shared", "-fPIC", "-o", library, source], check=True)
        self._offset = self.folder / "offset"
        self._offset.write_bytes(bytes(8))
        return {"LD_PRELOAD": str(library), "CLOCK_OFFSET": str(self._offset)}

    def once(self, number: int) -> None:
        self.set_clock((7200, -7200, 36_000, -36_000, 0)[number % 5])

    def set_clock(self, offset: int) -> None:
        """Put the daemon's time of day off by so many seconds."""
        # The daemon has it mapped.
        with self._offset.open("r+b", buffering=0) as file:
            file.write(offset.to_bytes(8, "little", signed=True))

    def end(self) -> None:
        super().end()
        self.set_clock(0)


FAULTS: dict[str, type[Fault]] = {
    "key store down": KeyStoreDown,
    "key store slow": KeyStoreSlow,
    "key store truncated": KeyStoreTruncated,
    "key store wrong": KeyStoreWrong,
    "key store nonsense": KeyStoreNonsense,
    "work directory full": FullWorkdir,
    "cst hanging": CstHanging,
    "cst crashing": CstCrashing,
    "cst spewing": CstSpewing,
    "process table full": FullProcessTable,
    "no descriptors": NoDescriptors,
    "SIGHUP, 50 a second": Reloads,
    "clock jumps": ClockJumps,
}
