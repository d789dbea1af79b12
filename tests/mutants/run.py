"""Runs tests against changes: one pytest for a group of modules, one forked process for each change."""

from __future__ import annotations

import gc
import importlib
import os
import resource
import signal
import sys
import time
import traceback
from collections import Counter, defaultdict
from collections.abc import Callable
from pathlib import Path
from types import FrameType, FunctionType, ModuleType
from typing import Any, TypeAlias

import pytest
from _pytest.runner import runtestprotocol

from tests.mutants.graft import graft, graft_users, loaded
from tests.mutants.groups import GROUPS
from tests.mutants.operators import Mutant
from tests.mutants.records import Records

# Seconds of work that a change may take: one that loops is noticed by that. The tests that are chosen for it take a
# fraction of this as long as nothing is wrong.
_LONGEST = 20
_CHOSEN = 10.0
_STUCK = 600
_MEMORY = 4 << 30
# A test that takes longer, in seconds, is not run for every change: what only such a one notices wants a quicker one.
_SLOW = 2.0
_Tracer: TypeAlias = Callable[[FrameType, str, Any], Any]
_OPTIONS = ("-q", "--no-header", "-p", "no:twisted", "--tb=native", "--timeout=0", "--hypothesis-profile=mutants")
_BROKEN = 3
# Results are written after so many.
_KEPT = 20


def run(root: Path, records: Records, chosen: list[str], seconds: float) -> int:
    """Try all changes of these modules; the result is an exit code."""
    end = time.monotonic() + seconds
    fine = True
    for group in GROUPS:
        modules = [module for module in chosen if module in group.modules(root)]
        if not modules:
            continue
        # Each group in a process of its own: pytest keeps what it has loaded.
        child = os.fork()
        if not child:
            try:
                plugin = _Mutating(root, records, modules, end)
                tests = [str(root / one) for one in group.tests if (root / one).exists()]
                without = [f"--deselect={one}" if "::" in one else f"--ignore={root / one}" for one in group.without]
                code = pytest.main([*_OPTIONS, *without, *tests], plugins=[plugin])
                sys.stdout.flush()
                os._exit(0 if code == 0 and plugin.fine else 1)
            except BaseException:  # noqa: BLE001 -- whatever it is, it must not go on as the parent does
                traceback.print_exc()
                os._exit(1)
        fine = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0 and fine
    return 0 if fine else 1


class _Mutating:
    """A plugin of pytest that runs all tests as they are, and then some of them against each change."""

    def __init__(self, root: Path, records: Records, modules: list[str], end: float) -> None:
        self.fine = False
        self._root = root
        self._records = records
        self._modules = modules
        self._end = end
        # For each function (file, qualified name) and each line the tests that run it; for each test how long it takes.
        self._callers: defaultdict[tuple[str, str], set[int]] = defaultdict(set)
        self._lines: defaultdict[tuple[str, int], defaultdict[str, set[int]]] = defaultdict(lambda: defaultdict(set))
        self._times: list[float] = []
        # How many changes each test has noticed: such a one is tried before others.
        self._noticed: Counter[str] = Counter()

    @pytest.hookimpl(tryfirst=True)
    def pytest_configure(self) -> None:
        """The same examples each time, and none is made small: that it fails is enough."""
        from hypothesis import HealthCheck, Phase, settings

        settings.register_profile(
            "mutants",
            database=None,
            deadline=None,
            derandomize=True,
            max_examples=40,
            phases=(Phase.explicit, Phase.generate),
            suppress_health_check=list(HealthCheck),
        )

    def pytest_runtestloop(self, session: pytest.Session) -> bool:
        """Instead of pytest's own."""
        if session.testsfailed:
            raise session.Failed("not all tests could be loaded")
        self._run_as_it_is(session)
        self.fine = not session.testsfailed
        if session.testsfailed:
            raise session.Failed("tests fail without any change")
        # What is there now is shared by all children for as long as nobody looks through it.
        gc.collect()
        gc.freeze()
        for module in self._modules:
            self.fine = self._try_module(session, module) and self.fine
        return True

    def _run_as_it_is(self, session: pytest.Session) -> None:
        """What session fixtures make is kept: the next test is never None."""
        for number, item in enumerate(session.items):
            began = _work()
            sys.settrace(self._tracer(number))
            try:
                following = session.items[(number + 1) % len(session.items)]
                item.config.hook.pytest_runtest_protocol(item=item, nextitem=following)
            finally:
                sys.settrace(None)
            self._times.append(_work() - began)

    def _tracer(self, number: int) -> _Tracer:
        files = {str(self._root / module) for module in self._modules}

        def called(frame: FrameType, event: str, _: Any) -> _Tracer | None:
            file = frame.f_code.co_filename
            if file not in files:
                return None
            if event == "call":
                self._callers[(file, frame.f_code.co_qualname)].add(number)
            # What is within a comprehension, on the same line, may be run by fewer.
            self._lines[(file, frame.f_lineno)][frame.f_code.co_qualname].add(number)
            return called

        return called

    def _try_module(self, session: pytest.Session, module: str) -> bool:
        current = importlib.import_module(module.removesuffix(".py").replace("/", "."))
        killed = self._records.killed(module)
        reasons = dict(self._records.reasons(module))
        found = self._records.mutants(module)
        alive, left = [], 0
        for mutant in found:
            if mutant.name in killed:
                continue
            if time.monotonic() > self._end:
                left += 1
                continue
            by = self._try(session, current, mutant)
            if by is None:
                alive.append(mutant)
                if mutant.name not in reasons:
                    print(f"\n{module}:{mutant.line}: SURVIVED {mutant.name}", flush=True)
            else:
                killed[mutant.name] = by
                self._noticed[by] += 1
                if not len(killed) % _KEPT:
                    self._records.keep(module, found, killed)
        self._records.keep(module, found, killed)
        unexplained = {one.name for one in alive} - set(reasons)
        stale = set(reasons) - {one.name for one in alive} if not left else set(reasons) & set(killed)
        print(f"\n{module}: {len(found)} changes, {len(killed)} noticed, {len(alive)} not, {left} not tried")
        for name in sorted(stale):
            print(f"  {module}: a reason for what does not survive: {name}")
        sys.stdout.flush()
        return not (unexplained or stale or left)

    def _tests_of(self, session: pytest.Session, file: str, mutant: Mutant) -> list[int]:
        """Those that run what is changed: first of files named for it, then a rare one and a quick one in turns.

        Of a test with many parameters, one before the second of any. Where no line is known, those that call the
        function; of what is in no function all that call the module.
        """
        rare: dict[int, int] = {}
        for line in mutant.lines:
            for numbers in self._lines.get((file, line), {}).values():
                rare.update((number, min(rare.get(number, len(numbers)), len(numbers))) for number in numbers)
        if not rare:
            # What has no functions of its own is used by others.
            calling = self._calling(file, mutant.where) or set(range(len(session.items)))
            rare = dict.fromkeys(calling, 0)
        turns: Counter[str] = Counter()
        order: dict[int, tuple[int, float]] = {}
        for number in sorted(rare, key=lambda number: self._times[number]):
            name = session.items[number].nodeid.partition("[")[0]
            turns[name] += 1
            order[number] = (turns[name], self._times[number])
        quick: list[int] = sorted(rare, key=order.__getitem__)
        few = sorted(rare, key=lambda number: (rare[number], order[number]))
        named = [number for number in quick if f"_{Path(file).stem}_" in f"{session.items[number].path.stem}_"]
        turns_of_both = [one for both in zip(few, quick, strict=True) for one in both]
        chosen: dict[int, None] = {}
        left = _CHOSEN
        for kept, ones in ((_CHOSEN / 2, named), (0, turns_of_both)):
            for number in ones:
                if number not in chosen and self._times[number] <= min(_SLOW, left - kept):
                    chosen[number] = None
                    left -= self._times[number]
        # Of these first what is quick, and has noticed much.
        return sorted(chosen, key=lambda n: self._times[n] / (1 + self._noticed[session.items[n].nodeid]))

    def _calling(self, file: str, where: str) -> set[int]:
        module = {n for (name, _), numbers in self._callers.items() if name == file for n in numbers}
        if where == "module":
            return module
        return {
            number
            for (name, function), numbers in self._callers.items()
            if name == file and (function == where or function.startswith(where + "."))
            for number in numbers
        } or module

    def _try(self, session: pytest.Session, module: ModuleType, mutant: Mutant) -> str | None:
        """What killed a change; None where nothing did."""
        numbers = self._tests_of(session, str(module.__file__), mutant)
        there, here = os.pipe()
        child = os.fork()
        if not child:
            os.close(there)
            self._in_child(session, module, mutant, numbers, here)
        os.close(here)
        with os.fdopen(there, "rb") as pipe:
            told = pipe.read()
        code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        if code == _BROKEN:
            raise RuntimeError(f"the run itself failed with: {mutant.name}: {told.decode()}")
        if code == 0:
            return None
        return told.decode() or {-signal.SIGALRM: "time", -signal.SIGPROF: "time"}.get(code, f"its end, {code}")

    def _in_child(
        self, session: pytest.Session, module: ModuleType, mutant: Mutant, numbers: list[int], pipe: int
    ) -> None:
        for one in (signal.SIGALRM, signal.SIGPROF):
            signal.signal(one, signal.SIG_DFL)
        signal.setitimer(signal.ITIMER_PROF, _LONGEST)
        signal.alarm(_STUCK)
        resource.setrlimit(resource.RLIMIT_AS, (_MEMORY, _MEMORY))
        quiet = os.open(os.devnull, os.O_WRONLY)
        os.dup2(quiet, 1)
        os.dup2(quiet, 2)
        try:
            try:
                fresh = loaded(module, mutant.tree())
                if _builds(module, mutant):
                    graft(module, fresh)
                    graft_users(module)
            except BaseException as error:  # noqa: BLE001 -- whatever the change does to the module
                os.write(pipe, f"import: {type(error).__name__}".encode())
                os._exit(1)
            graft(module, fresh)
            following = [*numbers[1:], 0]
            for number, other in zip(numbers, following, strict=False):
                item = session.items[number]
                reports = runtestprotocol(item, log=False, nextitem=session.items[other])
                if any(report.failed for report in reports):
                    os.write(pipe, item.nodeid.encode())
                    os._exit(1)
            os._exit(0)
        except BaseException:  # noqa: BLE001 -- told by the parent
            os.write(pipe, traceback.format_exc().encode())
        finally:
            os._exit(_BROKEN)


def _builds(module: ModuleType, mutant: Mutant) -> bool:
    """Whether others may have something of it since they were loaded: a constant, or a function made by a function."""
    outer = getattr(module, mutant.where.partition(".")[0], None)
    inner = "." in mutant.where or "lambda" in mutant.text
    return mutant.where == "module" or (inner and isinstance(outer, FunctionType))


def _work() -> float:
    """Seconds of work so far, of this process and of those that it has started and waited for."""
    times = os.times()
    return times.user + times.system + times.children_user + times.children_system
