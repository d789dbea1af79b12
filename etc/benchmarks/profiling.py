"""Where the CPU time of a request goes: by thread and by module, in milliseconds.

py-spy samples the Python stacks of a daemon under load. A sample belongs to the innermost of digsigd's own modules in
its stack, with what that module calls of Twisted and of other libraries; without one, to the library that is innermost.
The kernel says how much CPU time each thread has used, and the samples say how it divides. Samples of waits do not
count, because a thread that is woken up often is seen waiting too often: what waking costs is divided like the rest.
"""

from __future__ import annotations

import re
import subprocess
import sys
import tempfile
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from pathlib import Path

from etc.benchmarks import load, processes
from etc.benchmarks.cases import Case
from etc.benchmarks.daemon import daemon
from etc.benchmarks.ground import Ground

RATE = 400
# Steps below this many milliseconds are added up.
_SMALLEST = 0.05
_OURS = re.compile(r"\((?:.*/)?digsigd/([\w/]+)\.py:\d+\)$")
_LIBRARY = re.compile(r"\((?:.*/site-packages/)?(twisted/\w+|\w+)/[\w/]*\.py:\d+\)$")
_WAIT = re.compile(r"(?:Condition\.wait|Event\.wait|\w+\.doPoll|\w+\.poll) \(\S+\)$")
_THREAD = re.compile(r"thread \((\d+)\)(?:: \"?(.*?)\"?)?$")


class ProfileError(Exception):
    """py-spy that could not sample the daemon: what it said."""


def step_of(frames: Iterable[str]) -> str:
    """Return the step that a stack belongs to, from frames `function (file:line)`, outermost first."""
    library = ""
    for frame in reversed(list(frames)):
        if found := _OURS.search(frame):
            return found[1]
        if not library and (found := _LIBRARY.search(frame)):
            library = found[1]
    return library or "Python"


def samples(text: str) -> dict[int, Counter[str]]:
    """Return how often each thread, by its number, was seen in each step: from py-spy's raw output."""
    found: dict[int, Counter[str]] = defaultdict(Counter)
    for line in text.splitlines():
        stack, _, count = line.rpartition(" ")
        thread = next((match for one in stack.split(";") if (match := _THREAD.match(one))), None)
        frames = [one for one in stack.split(";") if not _THREAD.match(one)]
        if thread and frames and not _WAIT.search(frames[-1]):
            found[int(thread[1])][step_of(frames)] += int(count)
    return dict(found)


def table(
    seen: Mapping[int, Counter[str]], used_ms: Mapping[int, tuple[str, float]], main: int
) -> list[list[str | float]]:
    """Return rows of thread, step and milliseconds, the largest first within a thread; small ones added up.

    `used_ms` are name and CPU time of each thread for one request. Threads other than the main one are shown together.
    """
    parts: dict[str, Counter[str]] = {"reactor": Counter(), "other threads": Counter()}
    shares: dict[str, dict[str, float]] = {name: defaultdict(float) for name in parts}
    for number, (_, used) in used_ms.items():
        name = "reactor" if number == main else "other threads"
        counts = seen.get(number, Counter())
        total = sum(counts.values())
        if not total:
            shares[name]["woken up"] += used
        for step, count in counts.items():
            shares[name][step] += used * count / total
    rows: list[list[str | float]] = []
    for name, steps in shares.items():
        large = sorted(((ms, step) for step, ms in steps.items() if ms >= _SMALLEST), reverse=True)
        rows += [[name, f"`{step}`" if step != "woken up" else step, round(ms, 2)] for ms, step in large]
        rest = sum(ms for ms in steps.values() if ms < _SMALLEST)
        if rest:
            rows.append([name, "smaller steps", round(rest, 2)])
    return rows


def profile(ground: Ground, case: Case, *, seconds: int) -> list[list[str | float]]:
    """Profile a daemon for so long. Raises `ProfileError`, and as `measure` does."""
    ground.put_machine(case)
    log = ground.folder / "h2load-log"
    with daemon(ground, case) as running, tempfile.NamedTemporaryFile(suffix=".txt") as out:
        body = ground.body(case)
        warm = load.run(running.url, body, clients=case.clients, count=100, log=log)
        command: list[str | Path] = [
            Path(sys.executable).with_name("py-spy"), "record", "--pid", str(running.pid), "--duration", str(seconds),
            "--rate", str(RATE), "--threads", "--format", "raw", "--output", out.name,
        ]  # fmt: skip
        with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as spy:
            before, children = processes.threads(running.pid), processes.used(running.pid).children
            count = max(100, int(warm.per_second * (seconds + 1)))
            done = load.run(running.url, body, clients=case.clients, count=count, log=log)
            after, now = processes.threads(running.pid), processes.used(running.pid).children
            said, _ = spy.communicate()
        if spy.returncode:
            raise ProfileError(f"py-spy: {said.strip()[-500:]} (it needs root, or kernel.yama.ptrace_scope=0)")
        seen = samples(Path(out.name).read_text())
    each = 1000 / max(1, done.good)
    used = {number: (name, (cpu - before.get(number, (name, 0.0))[1]) * each) for number, (name, cpu) in after.items()}
    rows = table(seen, used, running.pid)
    return [*rows, ["cst", "a run and its start", round((now - children) * each, 2)]]
