"""`twistd digsigd --check`: report what a configuration means, and try everything it names, without listening."""

from __future__ import annotations

import secrets
from typing import IO

from digsigd._parts import Parts
from digsigd.errors import DigsigError
from digsigd.reactor import Reactor, reactor_of
from digsigd.settings import Settings, SettingsError
from digsigd.signing.selftest import prove
from digsigd.signing.tools import CstTool


async def check(reactor: Reactor, settings: Settings, config: str | None, out: IO[str]) -> None:
    """Print a line for each check to `out`. `config` is the name of the configuration file, None for no file.

    Raises `SystemExit` with 1 if a check failed.
    """
    report = _Report(out)
    report.say("configuration", config or "defaults and environment")
    try:
        parts = Parts(settings, reactor=reactor_of(reactor))
    except SettingsError as error:
        report.fail("configuration", str(error))
        raise SystemExit(1) from None
    who = f"callers: {', '.join(settings.callers)}" if settings.callers else "authentication is off"
    report.say("listens on", f"{settings.listen.endpoint} ({who})")
    try:
        parts.start()
    except DigsigError as error:
        report.fail("workdir", error.for_operator())
        raise SystemExit(1) from None
    try:
        await _check_parts(parts, settings, report)
    finally:
        await parts.stop(0)
    if report.failed:
        raise SystemExit(1)


async def _check_parts(parts: Parts, settings: Settings, report: _Report) -> None:
    report.say("workdir", f"{parts.workdir}")
    if parts.root.left_alone:
        report.say("workdir", f"not removed, remove it yourself if it is not in use: {parts.root.left_alone}")
    try:
        await parts.keys.check()
        report.say("key store", str(parts.source))
    except DigsigError as error:
        report.fail("key store", error.for_operator())
    await _check_record(parts, report)
    tools = parts.tools.available()
    if not tools:
        report.fail("cst", f"no cst found in {settings.cst.base}: get one with `etc/get-cst --base DIR`")
    for tool in tools:
        if problem := await _problem_of(parts, tool):
            report.fail(f"cst {tool.version}", problem)
        else:
            report.say(f"cst {tool.version}", f"{tool.executable} signs")
    for name, text, usable in parts.tokens.describe():
        (report.say if usable else report.fail)(f"token {name}", text)
    for machine in settings.machines:
        try:
            report.say(machine, await _keys_of(parts, machine))
        except DigsigError as error:
            report.fail(machine, error.for_operator())


async def _check_record(parts: Parts, report: _Report) -> None:
    """Report whether the record can be opened, and the public half of its key."""
    if parts.recorder is None:
        report.say("record", "none: the configuration wants none")
        return
    await parts.recorder.opened()
    for line in parts.recorder.missing():
        report.fail("record", line)
    if not parts.recorder.missing():
        report.say("record", f"{parts.recorder.where}, key {parts.recorder.vkey}")


async def _problem_of(parts: Parts, tool: CstTool) -> str | None:
    """Return why a cst cannot sign on this host; None if it has signed a trial image."""
    workdir = parts.root.new(f"p{secrets.token_hex(8)}")
    try:
        return await prove(tool, parts.runner, workdir, parts.in_thread, parts.bounds)
    finally:
        await parts.in_thread(workdir.remove)


async def _keys_of(parts: Parts, machine: str) -> str:
    """Return a summary of a machine's key tarball. Raises the errors of `digsigd.errors`."""
    facts = await parts.machines.facts(machine)
    fuses = ", ".join(facts.fuse_values)
    return f"{len(facts.certificates)} certificates, fuse value {fuses}, sha256 {facts.sha256}"


class _Report:
    """A printer of result lines. `failed` is true once a failure was printed."""

    def __init__(self, out: IO[str]) -> None:
        self.failed = False
        self._out = out

    def say(self, topic: str, text: str) -> None:
        """Print a line for a check that succeeded."""
        print(f"{'ok':7}{topic:15}{text}", file=self._out, flush=True)

    def fail(self, topic: str, text: str) -> None:
        """Print a line for a check that failed."""
        self.failed = True
        print(f"{'FAILED':7}{topic:15}{text}", file=self._out, flush=True)
