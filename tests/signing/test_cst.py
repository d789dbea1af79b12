"""Running cst: real processes, good and bad ones, and nothing left of any."""

from __future__ import annotations

import errno
import json
import os
import re
import shutil
import signal
import struct
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from twisted.internet import reactor
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.task import Clock

from digsigd.errors import Busy, CstFailed, CstTimeout
from digsigd.signing import process
from digsigd.signing.cst import KEPT_OUTPUT, CstRun, CstRunner, Limits, describe
from digsigd.signing.process import DRAIN, Excerpt
from tests.helpers.descriptors import open_descriptors

if TYPE_CHECKING:
    from tests.helpers.tools import ToolFolder

FOREVER = "exec sleep 1000"
# A child in a session of its own that holds the output; its process id is in the file `pid`.
LEAVE_GROUP = "setsid sh -c 'echo $$ > pid; exec sleep 1000' & while [ ! -s pid ]; do sleep 0.01; done; "


def clocked() -> tuple[Clock, CstRunner]:
    """A runner with real processes whose deadlines come when the test says so."""
    clock = Clock()
    return clock, CstRunner(reactor, timeout=120, kill_after=5, clock=clock)


# How a run goes and what it says


async def test_a_tool_runs_in_its_directory_with_its_arguments_as_they_are(
    tool_folder: ToolFolder, runner: CstRunner
) -> None:
    """No shell reads the arguments, and the working directory is the one asked for."""
    tool = tool_folder.python("import json, os, sys; print(json.dumps([os.getcwd(), sys.argv[1:]]))")
    arguments = ["-o", "a b", "$(touch x)", "`touch y`", "; touch z", "'\"", "*", "--", "a\nb", "", "-c", "ü"]
    run = await tool_folder.run(runner, tool, *arguments)
    assert json.loads(run.output) == [str(tool_folder.cwd), arguments]
    assert (run.exit_code, run.signal) == (0, None)
    assert list(tool_folder.cwd.iterdir()) == []


async def test_a_directory_with_a_strange_name_is_only_a_name(tool_folder: ToolFolder, runner: CstRunner) -> None:
    """The directory is no text for the shell either."""
    for name in ("-P", "$(touch x)", "a b;c", "-"):
        folder = tool_folder.cwd / name
        folder.mkdir()
        run = await runner.run(tool_folder.shell("pwd -P"), [], cwd=str(folder), limits=Limits(9, 1 << 30, 9, 20))
        assert run.output.decode() == f"{folder}\n"


async def test_output_keeps_the_order_in_which_it_was_written(tool_folder: ToolFolder, runner: CstRunner) -> None:
    """Stdout and stderr share one pipe: cst puts the failure on one and the cause on the other."""
    tool = tool_folder.shell("for i in 1 2 3 4 5; do echo out $i; echo err $i >&2; done")
    run = await tool_folder.run(runner, tool)
    assert run.output.decode() == "".join(f"out {i}\nerr {i}\n" for i in range(1, 6))


async def test_standard_input_is_empty(tool_folder: ToolFolder, runner: CstRunner) -> None:
    """A tool that asks for a pass phrase gets the end of a file, and waits for nobody."""
    run = await tool_folder.run(runner, tool_folder.shell("read x || echo nothing; readlink /proc/$$/fd/0"))
    assert run.output == b"nothing\n/dev/null\n"


async def test_garbage_on_the_output_is_kept_as_it_is(tool_folder: ToolFolder, runner: CstRunner) -> None:
    """Output is bytes, of any kind."""
    tool = tool_folder.python("import os; os.write(1, bytes(range(256)) * 64)")
    assert (await tool_folder.run(runner, tool)).output == bytes(range(256)) * 64


async def test_a_tool_that_ends_without_a_word_or_a_file_is_reported_as_it_ended(
    tool_folder: ToolFolder, runner: CstRunner
) -> None:
    """Exit code 0 and nothing else: what that means is the caller's to judge."""
    run = await tool_folder.run(runner, tool_folder.shell("exit 0"))
    assert (run.exit_code, run.signal, run.output) == (0, None, b"")
    assert describe(run) == "ended with exit code 0"
    assert list(tool_folder.cwd.iterdir()) == []


async def test_the_exit_code_is_the_tools_own(tool_folder: ToolFolder, runner: CstRunner) -> None:
    """Nothing in between changes it."""
    for code in (1, 2, 125, 255):
        run = await tool_folder.run(runner, tool_folder.shell(f"exit {code}"))
        assert (run.exit_code, run.signal) == (code, None)
        assert describe(run) == f"ended with exit code {code}"


@pytest.mark.parametrize("name", ["SEGV", "ABRT", "TERM", "KILL", "HUP", "PIPE"])
async def test_a_crash_is_told_by_the_name_of_its_signal(tool_folder: ToolFolder, runner: CstRunner, name: str) -> None:
    """A signal is not mistaken for an exit code, and none is ignored because Python ignores it."""
    run = await tool_folder.run(runner, tool_folder.shell(f"kill -{name} $$"))
    assert (run.exit_code, run.signal) == (None, signal.Signals[f"SIG{name}"])
    assert describe(run) == f"was killed by SIG{name}"


def test_describe_knows_signals_without_a_name() -> None:
    """Real-time signals have no names of their own."""
    assert describe(CstRun(None, 42, b"", 0.1)) == "was killed by signal 42"
    assert describe(CstRun(None, signal.SIGXCPU, b"", 0.1)) == "exceeded its CPU limit"


# What cannot be started


def never_started(error: CstFailed, path: object) -> None:
    """The operator gets the path, the client does not."""
    assert error.what == "cst could not be started"
    assert str(path) in error.detail
    assert str(path) not in error.for_client()


async def test_a_missing_executable_is_told_before_anything_starts(tool_folder: ToolFolder, runner: CstRunner) -> None:
    """Clearly, and without a path for the client."""
    with pytest.raises(CstFailed) as caught:
        await tool_folder.run(runner, str(tool_folder.folder / "no-cst"))
    never_started(caught.value, tool_folder.folder / "no-cst")
    assert "No such file" in caught.value.detail
    assert runner.running == 0


# Runs that have no process because descriptors ran out: in a process, and a group, that the test can lose.
WITHOUT_DESCRIPTORS = """
import os, resource, sys
from twisted.internet import task
from twisted.internet.defer import ensureDeferred
from digsigd.errors import Busy
from digsigd.signing.cst import CstRunner, Limits

async def main(reactor):
    runner = CstRunner(reactor)
    resource.setrlimit(resource.RLIMIT_NOFILE, (64, 64))
    failed = []
    for spare in range(7):
        held = []
        try:
            while True:
                held.append(os.open(os.devnull, os.O_RDONLY))
        except OSError:
            for descriptor in held[len(held) - spare:]:
                os.close(descriptor)
            del held[len(held) - spare:]
        try:
            await runner.run("/bin/true", [], cwd="/", limits=Limits(9, 1 << 30, 9, 20))
        except Busy as error:
            assert str(error).startswith("this signing host has too many files open"), error
            failed.append(spare)
        for descriptor in held:
            os.close(descriptor)
    assert 0 in failed and 1 in failed, failed
    await runner.stop(0)
    assert runner.running == 0
    print("still here", flush=True)

task.react(lambda reactor: ensureDeferred(main(reactor)))
"""


def test_a_run_without_a_process_is_never_signalled() -> None:
    """It is told to come again, and stopping ends neither the daemon nor its group: group 0 is the daemon's own."""
    done = subprocess.run(
        [sys.executable, "-c", WITHOUT_DESCRIPTORS], capture_output=True, text=True, start_new_session=True
    )
    assert (done.returncode, done.stdout) == (0, "still here\n"), done.stderr


def test_a_process_that_was_not_started_is_not_signalled(monkeypatch: pytest.MonkeyPatch) -> None:
    """Stopping and killing have nothing to send a signal to before there is a process."""
    sent: list[tuple[int, int]] = []
    monkeypatch.setattr(os, "killpg", lambda *call: sent.append(call))
    monkeypatch.setattr(os, "kill", lambda *call: sent.append(call))
    for stopped in (process.GroupProcess.stop, process.GroupProcess.kill):
        clock = Clock()
        stopped(process.GroupProcess(clock, timeout=9, kill_after=9, keep_output=9, on_over=lambda _: None))
        clock.advance(100)
    assert sent == []


async def test_what_may_not_be_executed_is_told(tool_folder: ToolFolder, runner: CstRunner) -> None:
    """A file without the right, and a directory that seems to have it."""
    plain = tool_folder.folder / "plain"
    plain.write_text("#!/bin/sh\n")
    for path, reason in ((plain, "not executable"), (tool_folder.folder, "not a regular file")):
        with pytest.raises(CstFailed) as caught:
            await tool_folder.run(runner, str(path))
        never_started(caught.value, path)
        assert reason in caught.value.detail


async def test_a_program_for_another_machine_is_told(tool_folder: ToolFolder, runner: CstRunner) -> None:
    """The kernel refuses it, and no shell tries to read it as a script."""
    header = bytearray(Path(sys.executable).resolve().read_bytes())
    struct.pack_into("<H", header, 18, 0xFEED)  # e_machine, ELF specification
    foreign = tool_folder.folder / "foreign"
    foreign.write_bytes(header)
    foreign.chmod(0o755)
    with pytest.raises(CstFailed) as caught:
        await tool_folder.run(runner, str(foreign))
    never_started(caught.value, foreign)
    assert "Exec format error" in caught.value.detail


async def test_a_script_without_its_interpreter_is_told(tool_folder: ToolFolder, runner: CstRunner) -> None:
    """The file is there and executable, and still cannot be run."""
    tool = tool_folder.folder / "orphan"
    tool.write_text("#!/no/such/interpreter\n")
    tool.chmod(0o755)
    with pytest.raises(CstFailed) as caught:
        await tool_folder.run(runner, str(tool))
    never_started(caught.value, tool)


async def test_a_missing_directory_is_told(tool_folder: ToolFolder, runner: CstRunner) -> None:
    """The tool does not run somewhere else instead."""
    with pytest.raises(CstFailed) as caught:
        await runner.run(
            tool_folder.shell("pwd"), [], cwd=str(tool_folder.cwd / "gone"), limits=Limits(9, 1 << 30, 9, 20)
        )
    assert str(tool_folder.cwd / "gone") in caught.value.detail


async def test_what_a_tool_says_is_not_in_the_error_of_its_start(tool_folder: ToolFolder, runner: CstRunner) -> None:
    """A wrapper around cst that ends with 127 has no way to put a secret into the log."""
    with pytest.raises(CstFailed) as caught:
        await tool_folder.run(runner, tool_folder.shell("echo PIN 123456; exit 127"))
    assert "123456" not in str(caught.value)
    assert "exit code 127" in caught.value.detail


async def test_a_relative_executable_is_a_mistake_of_the_caller(tool_folder: ToolFolder, runner: CstRunner) -> None:
    """It would be searched for in the directory of a request, or in PATH."""
    for name in ("sh", "./cst", ""):
        with pytest.raises(ValueError, match="must be absolute"):
            await tool_folder.run(runner, name)


def test_a_host_without_setsid_cannot_have_a_runner(monkeypatch: pytest.MonkeyPatch) -> None:
    """That is known at the start, not at the first request."""
    monkeypatch.setattr(shutil, "which", lambda name, **_: None if name == "setsid" else f"/bin/{name}")
    with pytest.raises(CstFailed) as caught:
        CstRunner(reactor)
    assert caught.value.detail == "setsid is missing"


async def test_a_start_that_the_system_refuses_is_told(
    tool_folder: ToolFolder, runner: CstRunner, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No process, no descriptor and no run is left of it."""
    before = open_descriptors()

    def refused(*args: Any, **kwargs: Any) -> int:
        raise OSError(errno.EPERM, "Operation not permitted")

    monkeypatch.setattr(os, "posix_spawnp", refused)
    with pytest.raises(CstFailed) as caught:
        await tool_folder.run(runner, tool_folder.shell("true"))
    assert "not permitted" in caught.value.detail
    assert runner.running == 0
    assert not open_descriptors() - before


# What a run gets to see


async def test_nothing_of_the_daemons_environment_reaches_the_tool(
    tool_folder: ToolFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The environment is made from nothing, plus what the runner and the run were told to add."""
    monkeypatch.setenv("DIGSIGSERVER_YUBIHSM_PASSWORD", "s3cret")
    monkeypatch.setenv("LD_PRELOAD_NOT", "s3cret")
    runner = CstRunner(reactor, environment={"PKCS11_MODULE_PATH": "/m.so", "OPENSSL_CONF": "/mine"})
    tool = tool_folder.python("print(open('/proc/self/environ', 'rb').read())")
    run = await tool_folder.run(runner, tool)
    assert b"s3cret" not in run.output
    environment = dict(pair.split("=", 1) for pair in eval(run.output).decode().split("\0") if pair)  # noqa: S307
    assert environment == {
        "PATH": "/usr/bin:/bin",
        "HOME": str(tool_folder.cwd),
        "TMPDIR": str(tool_folder.cwd),
        "LC_ALL": "C",
        "OPENSSL_CONF": "/mine",
        "PKCS11_MODULE_PATH": "/m.so",
        "RUN_MARK": tool_folder.mark,
    }


async def test_openssl_reads_no_configuration_unless_told(tool_folder: ToolFolder, runner: CstRunner) -> None:
    """The host's openssl.cnf may load engines; a run starts without."""
    assert (await tool_folder.run(runner, tool_folder.shell("echo $OPENSSL_CONF"))).output == b"/dev/null\n"


async def test_no_descriptor_of_the_daemon_reaches_the_tool(tool_folder: ToolFolder, runner: CstRunner) -> None:
    """Not even one that a library made inheritable."""
    with (tool_folder.folder / "secret").open("w") as file:
        os.set_inheritable(file.fileno(), True)
        tool = tool_folder.python(
            "import os; print(sorted(int(n) for n in os.listdir('/proc/self/fd') if int(n) < 100))"
        )
        run = await tool_folder.run(runner, tool)
    # The fourth is that of listing them.
    assert json.loads(run.output) == [0, 1, 2, 3]


async def test_a_run_leads_a_session_and_a_group_of_its_own(tool_folder: ToolFolder, runner: CstRunner) -> None:
    """So no signal to it can hit the daemon, and no terminal's signal hits it. Its files are private."""
    tool = tool_folder.python("import os; print(os.getpid(), os.getpgid(0), os.getsid(0), os.umask(0))")
    pid, group, session, umask = (int(n) for n in (await tool_folder.run(runner, tool)).output.split())
    assert pid == group == session
    assert session != os.getsid(0)
    assert umask == 0o077


async def test_starting_does_not_fork_the_daemon(
    tool_folder: ToolFolder, runner: CstRunner, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A fork of a large process would block it for tens of milliseconds."""
    monkeypatch.setattr(os, "fork", lambda: pytest.fail("forked"))
    assert (await tool_folder.run(runner, tool_folder.shell("echo fine"))).output == b"fine\n"


# Limits


async def test_every_limit_is_set_and_cannot_be_raised_again(tool_folder: ToolFolder, runner: CstRunner) -> None:
    """Hard limits equal soft ones, but for CPU time, where the hard one is a second later; no core dumps."""
    run = await tool_folder.run(
        runner, tool_folder.shell("cat /proc/self/limits"), limits=Limits(7, 300 << 20, 1000 * 512 + 1, 33)
    )
    limits = {row[:26].strip(): row[26:].split()[:2] for row in run.output.decode().splitlines()}
    assert limits["Max cpu time"] == ["7", "8"]
    assert limits["Max address space"] == [str(300 << 20)] * 2
    assert limits["Max file size"] == [str(1001 * 512)] * 2
    assert limits["Max open files"] == ["33"] * 2
    assert limits["Max core file size"] == ["0"] * 2


async def test_a_tool_that_uses_too_much_cpu_time_is_stopped(tool_folder: ToolFolder, runner: CstRunner) -> None:
    """With a signal of its own, so that it can be told from a crash."""
    run = await tool_folder.run(
        runner, tool_folder.shell("while :; do :; done"), limits=Limits(1, 1 << 30, 1 << 20, 30)
    )
    assert run.ran_out_of_cpu
    assert describe(run) == "exceeded its CPU limit of 1 s"


async def test_a_tool_that_wants_too_much_memory_gets_none(tool_folder: ToolFolder, runner: CstRunner) -> None:
    """The host keeps its memory, and the tool says what it says."""
    tool = tool_folder.python("bytearray(1 << 30)")
    run = await tool_folder.run(runner, tool, limits=Limits(60, 256 << 20, 1 << 20, 30))
    assert run.exit_code == 1
    assert b"MemoryError" in run.output


async def test_a_tool_that_writes_too_large_a_file_is_stopped(tool_folder: ToolFolder, runner: CstRunner) -> None:
    """At the limit, to the byte, although Python itself ignores the signal."""
    tool = tool_folder.shell("exec dd if=/dev/zero of=big bs=4096 count=1000")
    run = await tool_folder.run(runner, tool, limits=Limits(60, 1 << 30, 64 << 10, 30))
    assert run.signal == signal.SIGXFSZ
    assert describe(run) == "exceeded its file size limit of 65536 bytes"
    assert (tool_folder.cwd / "big").stat().st_size == 64 << 10


async def test_a_tool_that_opens_too_many_files_is_refused(tool_folder: ToolFolder, runner: CstRunner) -> None:
    """The count includes the three that it starts with."""
    tool = tool_folder.python(
        "files = []\ntry:\n  while True: files.append(open('/dev/null'))\nexcept OSError: print(len(files))"
    )
    run = await tool_folder.run(runner, tool, limits=Limits(60, 1 << 30, 1 << 20, 20))
    assert int(run.output) == 20 - 3


async def test_a_crash_dumps_no_core(tool_folder: ToolFolder, runner: CstRunner) -> None:
    """A core would hold private keys."""
    await tool_folder.run(runner, tool_folder.shell("ulimit -c unlimited 2>/dev/null; kill -QUIT $$"))
    run = await tool_folder.run(runner, tool_folder.shell("kill -QUIT $$"))
    assert run.signal == signal.SIGQUIT
    assert list(tool_folder.cwd.iterdir()) == []


def test_a_limit_above_the_daemons_own_is_lowered_to_it(tool_folder: ToolFolder) -> None:
    """A service with limits of its own, as systemd sets them, still runs cst."""
    program = (
        "import resource, sys\n"
        "from twisted.internet import task\n"
        "from twisted.internet.defer import ensureDeferred\n"
        "from digsigd.signing.cst import CstRunner, Limits\n"
        "for which, hard in ((resource.RLIMIT_NOFILE, 50), (resource.RLIMIT_CPU, 60)):\n"
        "    resource.setrlimit(which, (hard, hard))\n"
        "async def main(reactor):\n"
        "    run = await CstRunner(reactor).run('/bin/cat', ['/proc/self/limits'], cwd='/',\n"
        "        limits=Limits(cpu_seconds=120, memory=1 << 30, file_size=1 << 20, open_files=64))\n"
        "    print(run.output.decode())\n"
        "task.react(lambda reactor: ensureDeferred(main(reactor)))\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    limits = {row[:26].strip(): row[26:].split()[:2] for row in done.stdout.splitlines()}
    assert limits["Max open files"] == ["50", "50"]
    assert limits["Max cpu time"] == ["60", "60"]


# Output without end


async def test_long_output_is_read_to_its_end_and_kept_in_part(tool_folder: ToolFolder, runner: CstRunner) -> None:
    """The tool never waits for room in the pipe; its first and its last words are kept."""
    tool = tool_folder.shell("echo FIRST; head -c 20000000 /dev/zero | tr '\\0' x; echo; echo LAST; touch done")
    run = await tool_folder.run(runner, tool)
    assert run.exit_code == 0
    assert (tool_folder.cwd / "done").exists()
    assert len(run.output) <= KEPT_OUTPUT
    assert run.output.startswith(b"FIRST\nxxx")
    assert run.output.endswith(b"xxx\nLAST\n")
    cut = re.search(rb"\n\[\.\.\. (\d+) bytes cut \.\.\.\]\n", run.output)
    assert cut is not None
    assert len(run.output) - len(cut[0]) + int(cut[1]) == len(b"FIRST\n") + 20000000 + len(b"\nLAST\n")


async def test_endless_output_ends_with_the_deadline(tool_folder: ToolFolder) -> None:
    """It fills neither the memory nor the pipe on the way."""
    with pytest.raises(CstTimeout):
        await tool_folder.run(CstRunner(reactor, timeout=0.3), tool_folder.shell("exec yes"))


@given(st.lists(st.binary(max_size=200)), st.integers(128, 400))
def test_an_excerpt_has_the_start_and_the_end_and_never_more_than_its_size(pieces: list[bytes], size: int) -> None:
    """However the text comes in pieces; a text that fits is whole."""
    excerpt, text = Excerpt(size), b"".join(pieces)
    for piece in pieces:
        excerpt.add(piece)
    kept = bytes(excerpt)
    assert len(kept) <= size
    if len(text) <= size - 64:
        assert kept == text
    if kept != text:
        half = size // 2
        assert kept[:half] == text[:half]
        assert text.endswith(kept[len(kept) - (size - half - 64) :])
        assert re.fullmatch(rb"\n\[\.\.\. [1-9]\d* bytes cut \.\.\.\]\n", kept[half : len(kept) - (size - half - 64)])


# Stopping


async def test_a_tool_that_runs_too_long_is_stopped(tool_folder: ToolFolder) -> None:
    """With its children, and the error says how long it had."""
    runner = CstRunner(reactor, timeout=0.2)
    with pytest.raises(CstTimeout, match=r"within 0.2 s"):
        await tool_folder.run(runner, tool_folder.shell("sleep 1000 & sleep 1000 | sleep 1000"))
    assert tool_folder.left() == []
    assert runner.running == 0


async def test_one_run_may_have_a_deadline_of_its_own(tool_folder: ToolFolder, runner: CstRunner) -> None:
    """For what must not take as long as signing may."""
    with pytest.raises(CstTimeout, match=r"within 0.1 s"):
        await tool_folder.run(runner, tool_folder.shell(FOREVER), timeout=0.1)


async def test_a_tool_that_ignores_term_is_killed(tool_folder: ToolFolder) -> None:
    """Exactly `kill_after` seconds later; until then the run is not over."""
    clock, runner = clocked()
    tool = tool_folder.python(
        "import os, signal, time\n"
        "signal.signal(signal.SIGTERM, lambda *_: open('termed', 'a').write('x\\n'))\n"
        # The child says when it is ready: Python drops signals that come before os.fork() has returned in the child.
        "if os.fork() == 0: open('ready', 'w').write('x\\n')\n"
        # Not pause(2): the signal may come just before it.
        "while True: time.sleep(0.01)\n"
    )
    ended = tool_folder.start(runner, tool)
    await tool_folder.wrote("ready")
    clock.advance(119.9)
    assert not (tool_folder.cwd / "termed").exists()
    clock.advance(0.1)
    await tool_folder.until(
        lambda: (tool_folder.cwd / "termed").exists() and (tool_folder.cwd / "termed").read_text() == "x\nx\n"
    )
    clock.advance(4.9)
    assert not tool_folder.fired(ended)
    assert len(tool_folder.left()) == 2
    clock.advance(0.1)
    await tool_folder.over(ended, clock)
    with pytest.raises(CstTimeout):
        await ended
    assert tool_folder.left() == []


async def test_a_tool_that_ends_well_after_its_deadline_still_ran_too_long(tool_folder: ToolFolder) -> None:
    """TERM may make it exit with 0: that is no success."""
    clock, runner = clocked()
    ended = tool_folder.start(
        runner, tool_folder.shell("trap 'exit 0' TERM; echo x > ready; while :; do sleep 0.01; done")
    )
    await tool_folder.wrote("ready")
    clock.advance(120)
    await tool_folder.over(ended, clock)
    with pytest.raises(CstTimeout):
        await ended


async def test_cancelling_stops_the_tool_and_waits_until_it_is_gone(tool_folder: ToolFolder) -> None:
    """Only then may the caller remove the directory, so only then the Deferred fires."""
    clock, runner = clocked()
    ended = tool_folder.start(
        runner,
        tool_folder.shell("trap 'echo x > termed' TERM; sleep 1000 & echo x > ready; while :; do sleep 0.01; done"),
    )
    await tool_folder.wrote("ready")
    ended.cancel()
    await tool_folder.wrote("termed")
    ended.cancel()
    assert not tool_folder.fired(ended)
    assert runner.running == 1
    assert tool_folder.left() != []
    clock.advance(5)
    await tool_folder.over(ended, clock)
    with pytest.raises(CancelledError):
        await ended
    assert tool_folder.left() == []
    assert runner.running == 0


async def test_a_run_can_be_cancelled_in_the_moment_of_its_start(tool_folder: ToolFolder, runner: CstRunner) -> None:
    """Before it has a group of its own, too: the daemon's group gets no signal."""
    for _ in range(10):
        ended = tool_folder.start(runner, tool_folder.shell(FOREVER))
        ended.cancel()
        with pytest.raises(CancelledError):
            await ended
        assert tool_folder.left() == []


async def test_a_run_can_be_cancelled_while_its_output_is_held_open(tool_folder: ToolFolder) -> None:
    """After the tool has ended, too, cancelling ends the wait."""
    clock, runner = clocked()
    ended = tool_folder.start(runner, tool_folder.shell(LEAVE_GROUP + "exit 0"))
    pid = int(await tool_folder.wrote("pid"))
    await tool_folder.until(lambda: runner_has_reaped(runner))
    ended.cancel()
    with pytest.raises(CancelledError):
        await ended
    assert clock.seconds() == 0
    os.kill(pid, signal.SIGKILL)
    await tool_folder.until(lambda: tool_folder.left() == [])


def runner_has_reaped(runner: CstRunner) -> bool:
    return all(run._exited for run in runner._runs)


# Children that stay


@pytest.mark.parametrize(
    "text",
    [
        "sleep 1000 & echo done",
        "( ( sleep 1000 & ) & ) ; echo done",
        "( sleep 1000 >/dev/null 2>&1 & ) ; echo done",
        "( trap '' TERM HUP INT; sleep 1000 & ) ; echo done",
        "for i in 1 2 3 4 5 6 7 8; do sleep 1000 & done; echo done",
    ],
    ids=["child", "double fork", "without the output", "deaf to TERM", "many"],
)
async def test_who_stays_behind_in_the_group_is_killed_when_the_tool_ends(
    tool_folder: ToolFolder, runner: CstRunner, text: str
) -> None:
    """The answer is the tool's and waits for none of them."""
    run = await tool_folder.run(runner, tool_folder.shell(text))
    assert (run.exit_code, run.output) == (0, b"done\n")
    assert tool_folder.left() == []


async def test_who_left_the_group_with_the_output_delays_the_answer_only_so_long(tool_folder: ToolFolder) -> None:
    """Such a one cannot be found by its group; it is not listened to any longer."""
    clock, runner = clocked()
    ended = tool_folder.start(runner, tool_folder.shell(LEAVE_GROUP + "echo done; exit 3"))
    pid = int(await tool_folder.wrote("pid"))
    try:
        await tool_folder.until(lambda: runner_has_reaped(runner))
        clock.advance(0.01)
        assert not tool_folder.fired(ended)
        await tool_folder.over(ended, clock)
        run = await ended
        assert (run.exit_code, run.output) == (3, b"done\n")
        assert run.seconds < 3 * DRAIN
        assert runner.running == 0
    finally:
        os.kill(pid, signal.SIGKILL)
    await tool_folder.until(lambda: tool_folder.left() == [])


def test_a_zombie_is_not_alive() -> None:
    """In a container whose first process reaps nobody, zombies stay for ever; no run waits for them."""
    with subprocess.Popen(["/bin/cat"], stdin=subprocess.PIPE, process_group=0) as cat:
        assert process._lives(cat.pid)
        assert cat.stdin is not None
        cat.stdin.close()
        os.waitid(os.P_PID, cat.pid, os.WEXITED | os.WNOWAIT)
        assert process._signal_group(cat.pid, 0)
        assert not process._lives(cat.pid)
        cat.wait()
        assert not process._signal_group(cat.pid, 0)


# Shutting down


async def test_stopping_waits_for_what_runs(tool_folder: ToolFolder) -> None:
    """Within the grace a run ends as if nothing were; nothing new begins."""
    clock, runner = clocked()
    run = tool_folder.start(
        runner, tool_folder.shell("echo x > ready; while [ ! -e go ]; do sleep 0.01; done; echo done")
    )
    await tool_folder.wrote("ready")
    stopped = Deferred.fromCoroutine(runner.stop(30))
    with pytest.raises(Busy, match="shutting down"):
        await tool_folder.run(runner, tool_folder.shell("true"))
    clock.advance(29)
    assert not stopped.called
    (tool_folder.cwd / "go").touch()
    assert (await run).output == b"done\n"
    await stopped
    assert runner.running == 0
    assert clock.getDelayedCalls() == []


async def test_stopping_kills_what_outlives_the_grace(tool_folder: ToolFolder) -> None:
    """All of it, and is over when it is gone."""
    clock, runner = clocked()
    deaf = tool_folder.shell("trap '' TERM; sleep 1000 & echo x > $1; while :; do sleep 0.01; done")
    runs = [tool_folder.start(runner, deaf, f"ready{i}") for i in range(3)]
    for i in range(3):
        await tool_folder.wrote(f"ready{i}")
    assert runner.running == 3
    stopped = Deferred.fromCoroutine(runner.stop(30))
    again = Deferred.fromCoroutine(runner.stop(31))
    clock.advance(30)
    for run in runs:
        await tool_folder.over(run, clock)
        with pytest.raises(Busy, match="shutting down"):
            await run
    await stopped
    await again
    assert tool_folder.left() == []
    assert clock.getDelayedCalls() == []


async def test_stopping_without_a_run_takes_no_time(runner: CstRunner) -> None:
    """There is nobody to wait for."""
    await runner.stop(1000)


# In the long run


async def test_runs_leave_no_descriptor_and_no_timer(tool_folder: ToolFolder) -> None:
    """Whether they end well, fail, crash, are cancelled or run out of time."""
    clock = Clock()
    runner = CstRunner(reactor, clock=clock)
    tools = [tool_folder.shell(text) for text in ("echo x", "exit 1", "kill -SEGV $$", "exit 127")]
    await tool_folder.run(runner, tools[0])
    before = open_descriptors()
    for _ in range(5):
        for tool in tools:
            ended = tool_folder.start(runner, tool)
            await tool_folder.over(ended.addErrback(lambda failure: failure.trap(CstFailed)), clock)
        ended = tool_folder.start(runner, tool_folder.shell(FOREVER))
        ended.cancel()
        await tool_folder.over(ended.addErrback(lambda failure: failure.trap(CancelledError)), clock)
    assert not open_descriptors() - before
    assert clock.getDelayedCalls() == []
    assert runner.running == 0


async def test_runs_at_the_same_time_do_not_mix(tool_folder: ToolFolder, runner: CstRunner) -> None:
    """Each has its own output, directory and end."""
    tool = tool_folder.shell("echo start $1; sleep 0.0$1; echo end $1; exit $1")
    runs = [tool_folder.start(runner, tool, str(number)) for number in range(8)]
    assert runner.running == 8
    for number, run in enumerate(runs):
        done = await run
        assert (done.exit_code, done.output.decode()) == (number, f"start {number}\nend {number}\n")
    assert runner.running == 0


# The real one


def check_with_openssl(folder: Path) -> None:
    """Raise unless the signature over the image is right."""
    (folder / "signature.der").write_bytes(data_signature((folder / "csf.bin").read_bytes()))
    command = "openssl cms -verify -binary -inform DER -in signature.der -content image.bin -noverify"
    subprocess.run(
        [*command.split(), "-certfile", "crts/IMG1_crt.pem", "-out", "/dev/null"],
        cwd=folder,
        check=True,
        capture_output=True,
    )


@pytest.mark.parametrize("version", ["3.4.1", "4.0.1"])
async def test_a_real_cst_signs(
    tool_folder: ToolFolder, runner: CstRunner, cst_base: Path, signing_folder: Path, version: str
) -> None:
    """In a private directory and within tight limits; openssl agrees with the signature."""
    shutil.copytree(signing_folder, tool_folder.cwd, dirs_exist_ok=True)
    cst = str(cst_base / f"cst-{version}/linux64/bin/cst")
    limits = Limits(cpu_seconds=10, memory=256 << 20, file_size=1 << 20, open_files=64)
    run = await tool_folder.run(runner, cst, "-i", "trial.csf", "-o", "csf.bin", limits=limits)
    assert run.exit_code == 0, run.output.decode()
    check_with_openssl(tool_folder.cwd)


@pytest.mark.parametrize("version", ["3.4.1", "4.0.1"])
async def test_a_real_cst_says_why_it_refuses(
    tool_folder: ToolFolder, runner: CstRunner, cst_base: Path, signing_folder: Path, version: str
) -> None:
    """Its exit code and its words arrive."""
    shutil.copytree(signing_folder, tool_folder.cwd, dirs_exist_ok=True)
    (tool_folder.cwd / "keys/CSF1_key.pem").unlink()
    cst = str(cst_base / f"cst-{version}/linux64/bin/cst")
    run = await tool_folder.run(runner, cst, "-i", "trial.csf", "-o", "csf.bin")
    assert run.exit_code == 1
    assert b"CSF1" in run.output
    assert not (tool_folder.cwd / "csf.bin").exists()


def data_signature(blob: bytes) -> bytes:
    """The CMS signature of the first command with blocks of a CSF blob (HABv4 API reference, CSF)."""
    length, position = struct.unpack_from(">xH", blob)[0], 4
    while position < length:
        tag, size = struct.unpack_from(">BH", blob, position)
        if tag == 0xCA and size > 12:
            (offset,) = struct.unpack_from(">I", blob, position + 8)
            (signature,) = struct.unpack_from(">xH", blob, offset)
            return blob[offset + 4 : offset + signature]
        position += size
    raise AssertionError("no signature over data")
