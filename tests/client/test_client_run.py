"""A reactor for one command, in processes of their own: what comes of it, and how signals end it."""

from __future__ import annotations

import signal
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

START = """
import sys
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.task import deferLater
from twisted.internet.threads import deferToThread
from digsigd.client._internal.run import run

def tell(text):
    print(text, flush=True)
"""


def started(code: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", START + textwrap.dedent(code)],
        stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip


def rest_of(process: subprocess.Popen[str]) -> tuple[str, str]:
    """What it says until it ends. One that hangs is ended."""
    try:
        return process.communicate(timeout=60)
    except subprocess.TimeoutExpired:
        process.kill()
        process.communicate()
        raise


def ended(code: str) -> tuple[int, str, str]:
    process = started(code)
    out, err = rest_of(process)
    return process.returncode, out, err


def test_it_gives_what_the_coroutine_returns() -> None:
    """And says nothing of its own, whatever Twisted has to log."""
    code = """
    from twisted.python import log

    async def work(reactor):
        log.msg("chatter")
        log.err(ValueError("of Twisted"))
        Deferred().errback(ValueError("nobody hears of"))
        await deferLater(reactor, 0.01)
        return await deferToThread(lambda: 42)

    tell(run(work))
    """
    assert ended(code) == (0, "42\n", "")


def test_it_raises_what_the_coroutine_raises() -> None:
    """At once, or later; whether the function is a coroutine or gives something else that is awaited."""
    code = """
    class Mine(Exception):
        pass

    def work(reactor):
        return deferLater(reactor, 0.01, raising)

    def raising():
        raise Mine("why")

    try:
        run(work)
    except Mine as error:
        tell(f"caught {error}")
    """
    assert ended(code) == (0, "caught why\n", "")
    code = """
    async def work(reactor):
        raise SystemExit(7)

    run(work)
    """
    assert ended(code) == (7, "", "")


WAITS = """
import atexit
atexit.register(tell, "at exit")

async def work(reactor):
    try:
        tell("waiting")
        await Deferred()
    except CancelledError:
        tell("cancelled")
        await deferLater(reactor, 0.1)
        tell("cleaned up")
        raise

try:
    run(work)
finally:
    tell("finally")
"""


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, -signal.SIGINT), (signal.SIGTERM, 143)])
def test_a_signal_cancels_and_waits(number: signal.Signals, code: int) -> None:
    """The coroutine ends in order, then the process as signals have it."""
    process = started(WAITS)
    assert process.stdout is not None
    assert process.stdout.readline() == "waiting\n"
    process.send_signal(number)
    out, err = rest_of(process)
    assert out.splitlines() == ["cancelled", "cleaned up", "finally", "at exit"]
    assert process.returncode == code
    assert ("KeyboardInterrupt" in err) == (number == signal.SIGINT)


def test_a_signal_while_nothing_can_be_cancelled_yet() -> None:
    """Before the reactor runs."""
    code = """
    import os, signal

    async def work(reactor):
        try:
            await Deferred()
        finally:
            tell("ended")

    from twisted.internet import reactor
    reactor.callWhenRunning(os.kill, os.getpid(), signal.SIGINT)
    try:
        run(work)
    except KeyboardInterrupt:
        tell("interrupted")
    """
    assert ended(code) == (0, "ended\ninterrupted\n", "")


def test_a_signal_while_the_coroutine_begins() -> None:
    """It is cancelled once, and waited for."""
    code = """
    import os, signal

    async def work(reactor):
        os.kill(os.getpid(), signal.SIGINT)
        try:
            await Deferred()
        finally:
            await deferLater(reactor, 0.1)
            tell("cleaned up")

    try:
        run(work)
    except KeyboardInterrupt:
        tell("interrupted")
    """
    assert ended(code) == (0, "cleaned up\ninterrupted\n", "")


def test_a_second_signal_does_not_wait() -> None:
    """Where cleaning up takes for ever."""
    code = """
    async def work(reactor):
        try:
            tell("waiting")
            await Deferred()
        except CancelledError:
            tell("cancelled")
            await Deferred()

    try:
        run(work)
    except KeyboardInterrupt:
        tell("interrupted")
    """
    process = started(code)
    assert process.stdout is not None
    assert process.stdout.readline() == "waiting\n"
    process.send_signal(signal.SIGINT)
    assert process.stdout.readline() == "cancelled\n"
    process.send_signal(signal.SIGINT)
    assert rest_of(process) == ("interrupted\n", "")


def test_a_result_in_spite_of_a_signal_is_none() -> None:
    """Whoever pressed Ctrl-C wants no more."""
    code = """
    async def work(reactor):
        try:
            tell("waiting")
            await Deferred()
        except CancelledError:
            return 42

    try:
        tell(run(work))
    except KeyboardInterrupt:
        tell("interrupted")
    """
    process = started(code)
    assert process.stdout is not None
    assert process.stdout.readline() == "waiting\n"
    process.send_signal(signal.SIGINT)
    assert rest_of(process) == ("interrupted\n", "")


def test_a_thread_that_hangs_holds_nobody() -> None:
    """A name server that does not answer, for example."""
    code = """
    from threading import Event

    def hang():
        tell("hanging")
        Event().wait()

    async def work(reactor):
        await deferToThread(hang)

    try:
        run(work)
    except KeyboardInterrupt:
        tell("interrupted")
    """
    process = started(code)
    assert process.stdout is not None
    assert process.stdout.readline() == "hanging\n"
    process.send_signal(signal.SIGINT)
    assert rest_of(process) == ("interrupted\n", "")


@pytest.mark.parametrize("name", ["SIGINT", "SIGTERM"])
def test_a_signal_is_noticed_that_ends_no_system_call(name: str) -> None:
    """It comes just before the main thread waits for events, or, as here, in another thread."""
    code = f"""
    import signal
    from threading import Event, get_ident

    def hang():
        signal.pthread_kill(get_ident(), signal.{name})
        Event().wait()

    async def work(reactor):
        await deferToThread(hang)

    try:
        run(work)
    except (KeyboardInterrupt, SystemExit) as error:
        tell(repr(error))
    """
    says = "KeyboardInterrupt()" if name == "SIGINT" else "SystemExit(143)"
    assert ended(code) == (0, says + "\n", "")


def test_the_signals_are_as_before_afterwards() -> None:
    """Also where the coroutine failed."""
    code = """
    import signal

    def now():
        signals = [signal.getsignal(one) for one in (signal.SIGINT, signal.SIGTERM, signal.SIGCHLD)]
        wakeup = signal.set_wakeup_fd(-1)
        signal.set_wakeup_fd(wakeup)
        return [*signals, wakeup]

    before = now()

    async def work(reactor):
        raise ValueError

    try:
        run(work)
    except ValueError:
        tell(before == now())
    """
    assert ended(code) == (0, "True\n", "")


def test_a_second_run_says_that_there_is_none() -> None:
    """A reactor starts once."""
    code = """
    async def work(reactor):
        return 1

    run(work)
    try:
        run(work)
    except RuntimeError as error:
        tell(error)
    """
    assert ended(code) == (0, "run() can be called only once in a process: a reactor cannot be restarted\n", "")


def test_it_is_only_for_programs() -> None:
    """The library itself installs no reactor and touches no log: nothing of it imports `run`."""
    folder = Path(__file__).parents[2] / "digsigd/client/_internal"
    for path in folder.glob("*.py"):
        assert "_internal.run import" not in path.read_text(), path
