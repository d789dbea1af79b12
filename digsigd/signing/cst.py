"""Run cst, or any other program, with limits on all resources and no processes left afterwards."""

from __future__ import annotations

import errno
import os
import signal
import stat
from collections.abc import Mapping, Sequence
from contextlib import AbstractAsyncContextManager, nullcontext
from dataclasses import dataclass, field

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorProcess, IReactorTime

from digsigd.errors import Busy, CstFailed, CstTimeout, shutting_down
from digsigd.signing.process import GroupProcess
from digsigd.signing.start import NAME, NOTHING, Needs, Script, Start, words_of
from digsigd.signing.start import Limits as Limits

# How many bytes of a run's output are kept: its start and its end.
KEPT_OUTPUT = 64 << 10

# A shell that could not start a program ends with one of these (POSIX.1-2017, XCU 2.8.2).
_NOT_STARTED = frozenset({126, 127})
# No process can be started at the moment, but later: fork(2), pipe(2), and EBADF of posix_spawn if the daemon has
# descriptors above a limit that was lowered. The launcher says so in the words of strerror(3).
_EXHAUSTED = {
    errno.EAGAIN: "this signing host can start no more processes",
    errno.ENOMEM: "this signing host can start no more processes",
    errno.EMFILE: "this signing host has too many files open",
    errno.ENFILE: "this signing host has too many files open",
    errno.EBADF: "this signing host has too many files open",
}


@dataclass(frozen=True, slots=True)
class CstRun:
    """How a run ended: with `exit_code`, or with `signal` if it was killed; the other is None.

    `output` is stdout and stderr in order of arrival, at most 64 KiB. `seconds` is the duration by the clock, after
    `waited` seconds for a slot.
    """

    exit_code: int | None
    signal: int | None
    output: bytes = field(repr=False)
    seconds: float
    limits: Limits | None = None
    waited: float = 0.0

    @property
    def ran_out_of_cpu(self) -> bool:
        """Whether the run was killed at its CPU limit."""
        return self.signal == signal.SIGXCPU


def describe(run: CstRun) -> str:
    """Return how a run ended, as the end of a sentence: "was killed by SIGSEGV"."""
    if run.signal is None:
        return f"ended with exit code {run.exit_code}"
    if run.signal == signal.SIGXCPU:
        return "exceeded its CPU limit" + (f" of {run.limits.cpu_seconds} s" if run.limits else "")
    if run.signal == signal.SIGXFSZ:
        return "exceeded its file size limit" + (f" of {run.limits.file_size} bytes" if run.limits else "")
    try:
        return f"was killed by {signal.Signals(run.signal).name}"
    except ValueError:
        return f"was killed by signal {run.signal}"


def why_not_executable(path: str) -> str:
    """Return why this process cannot execute the file `path`, or an empty text if it can."""
    try:
        mode = os.stat(path).st_mode  # noqa: PTH116 - three times faster, and called for each request
    except OSError as error:
        return error.strerror or str(error)
    if not stat.S_ISREG(mode):
        return "not a regular file"
    return "" if os.access(path, os.X_OK) else "not executable"


class CstRunner:
    """Runs cst, each run in a new session and process group, with a minimal environment.

    `start` is how, by default without a cage. After `timeout` seconds the run's group gets TERM, and `kill_after`
    seconds later KILL. The environment of a run is PATH, LC_ALL, OPENSSL_CONF, its directory as HOME and TMPDIR, and
    `environment`. `clock` is the reactor by default. Raises `CstFailed` if the host has no setsid or shell.
    """

    def __init__(
        self,
        reactor: IReactorProcess,
        *,
        timeout: float = 120.0,
        kill_after: float = 5.0,
        environment: Mapping[str, str] | None = None,
        clock: IReactorTime | None = None,
        start: Start | None = None,
    ) -> None:
        self._reactor = reactor
        self._clock = IReactorTime(reactor) if clock is None else clock
        self._timeout = timeout
        self._kill_after = kill_after
        self._environment = dict(environment or {})
        self._start: Start = Script() if start is None else start
        self._runs: set[GroupProcess] = set()
        self._stopped = False
        self._when_idle: list[Deferred[None]] = []

    def use(self, start: Start) -> None:
        """Start later runs in this way."""
        self._start = start

    @property
    def running(self) -> int:
        """The number of runs that have processes now."""
        return len(self._runs)

    async def run(
        self,
        executable: str,
        arguments: Sequence[str],
        *,
        cwd: str,
        limits: Limits,
        environment: Mapping[str, str] | None = None,
        timeout: float | None = None,
        slot: AbstractAsyncContextManager[object] | None = None,
        needs: Needs = NOTHING,
    ) -> CstRun:
        """Run `executable`, an absolute path, in the directory `cwd`. `timeout`, in seconds, replaces the default.

        `needs` is what it may use besides, if it runs in a cage. The process is prepared first, then waits for `slot`
        if one is given, and runs while it holds the slot. When this returns or raises, the process and its group are
        gone. Cancelling stops the run as its timeout does.

        Raises `CstFailed` if it cannot be started, `CstTimeout` after its timeout, `Busy` after `stop` or if there can
        be no more processes or open files now, and `ValueError` for a relative path.
        """
        if self._stopped:
            raise shutting_down()
        if not executable.startswith("/"):
            raise ValueError(f"the path of a program to run must be absolute, not {executable!r}")
        if problem := why_not_executable(executable):
            raise _not_started(f"{executable}: {problem}")
        command = [*self._start.command(cwd, limits, needs, executable), *words_of(executable, needs), *arguments]
        seconds = self._timeout if timeout is None else timeout
        process = GroupProcess(
            self._clock,
            timeout=seconds,
            kill_after=self._kill_after,
            keep_output=KEPT_OUTPUT,
            on_over=self._over,
        )
        inherited: list[int] = []
        try:
            inherited.append(process.make_gate())
            # /dev/null is stderr until the script redirects it to stdout. One pipe for both keeps the order.
            inherited.append(os.open(os.devnull, os.O_WRONLY | os.O_CLOEXEC))
            self._reactor.spawnProcess(
                process,
                command[0],
                command,
                env={
                    "PATH": "/usr/bin:/bin",
                    "HOME": cwd,
                    "TMPDIR": cwd,
                    "LC_ALL": "C",
                    "OPENSSL_CONF": os.devnull,
                    **self._environment,
                    **(environment or {}),
                },
                childFDs={0: inherited[0], 1: "r", 2: inherited[1]},
            )
        except OSError as error:
            process.close_gate()
            raise _not_started(f"{command[0]}: {error}", error.errno or 0) from error
        finally:
            for descriptor in inherited:
                os.close(descriptor)
        # Only a run that has a process is stopped with the others.
        self._runs.add(process)
        asked = self._clock.seconds()
        try:
            async with nullcontext() if slot is None else slot:
                began = self._clock.seconds()
                process.go()
                await process.over
        finally:
            if not process.over.called:
                # Cancelled or failed while it waited for its slot.
                process.stop()
                await process.over
        if process.reason == "timeout":
            raise CstTimeout(f"cst did not end within {seconds:g} s and was stopped")
        if process.reason == "stop":
            raise shutting_down()
        took = self._clock.seconds() - began
        run = CstRun(process.exit_code, process.signal, bytes(process.output), took, limits, began - asked)
        if run.exit_code in _NOT_STARTED:
            last = run.output.decode(errors="replace").strip().rpartition("\n")[2]
            # Show only the script's own text: a tool's output can contain secrets.
            if not last.startswith(NAME):
                raise _not_started(f"{executable}: {describe(run)}")
            words = (one for one in _EXHAUSTED if one != errno.EBADF)  # which would be a fault of the launcher
            cause = next((one for one in words if last.endswith(os.strerror(one))), 0)
            raise _not_started(f"{executable}: {last}", cause)
        return run

    async def stop(self, grace: float) -> None:
        """Refuse new runs, kill those that still run after `grace` seconds, and return when all are gone."""
        self._stopped = True
        if not self._runs:
            return
        idle: Deferred[None] = Deferred()
        self._when_idle.append(idle)
        killing = self._clock.callLater(grace, self._kill_all)
        try:
            await idle
        finally:
            if killing.active():
                killing.cancel()

    def _kill_all(self) -> None:
        for process in self._runs:
            process.kill("stop")

    def _over(self, process: GroupProcess) -> None:
        self._runs.discard(process)
        if not self._runs:
            idle, self._when_idle = self._when_idle, []
            for deferred in idle:
                deferred.callback(None)


def _not_started(detail: str, cause: int = 0) -> Busy | CstFailed:
    """Return the error of a run without a process. `cause` is the errno, if there is one."""
    if what := _EXHAUSTED.get(cause):
        return Busy(what, hint="try again later", detail=detail)
    return CstFailed("cst could not be started", hint="see the log of the signing host for the cause", detail=detail)
