"""`twistd digsigd --check`: report what a configuration means, and try everything it names."""

from __future__ import annotations

import os
import secrets
from collections.abc import Collection
from typing import IO

from digsigd._parts import Parts
from digsigd.csf.members import is_key
from digsigd.errors import DigsigError
from digsigd.listening import certificate_state, try_to_listen
from digsigd.metrics_port import KEY
from digsigd.reactor import Reactor, SigningReactor, reactor_of
from digsigd.settings import Settings, SettingsError
from digsigd.signing.libraries import describe, for_modules
from digsigd.signing.machine_keys import MachineKeys
from digsigd.signing.selftest import prove
from digsigd.signing.tools import CstTool
from digsigd.signing.trial import request_for, trials


async def check(
    reactor: Reactor, settings: Settings, config: str | None, out: IO[str], machines: Collection[str] = ()
) -> None:
    """Print a line for each check to `out`. `config` is the name of the configuration file, None for no file.

    `machines` are machines whose keys are checked besides those of the configuration. Raises `SystemExit` with 1 if a
    check failed.
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
    report.say("workers", _workers(settings))
    await _check_endpoint(settings.listen.endpoint, "listen.endpoint", reactor_of(reactor), report, "listens on")
    if settings.metrics.endpoint is not None:
        report.say("metrics", f"{settings.metrics.endpoint}, path /metrics")
        await _check_endpoint(settings.metrics.endpoint, KEY, reactor_of(reactor), report, "metrics")
    try:
        parts.start()
    except DigsigError as error:
        report.fail("workdir", error.for_operator())
        raise SystemExit(1) from None
    except SettingsError as error:
        report.fail("cage", str(error))
        raise SystemExit(1) from None
    try:
        canary = () if settings.canary.machine is None else (settings.canary.machine,)
        await _check_parts(parts, settings, tuple(dict.fromkeys((*settings.machines, *canary, *machines))), report)
    finally:
        await parts.stop(0)
    if report.failed:
        raise SystemExit(1)


def _workers(settings: Settings) -> str:
    """Return how many processes sign, and what they share."""
    if settings.worker_count == 1:
        return "1 process"
    return (
        f"{settings.worker_count} processes and their supervisor; limits are those of the host"
        f" ({settings.cst.max_running} cst at a time), listen.max_connections is divided"
    )


async def _check_endpoint(endpoint: str, key: str, reactor: SigningReactor, report: _Report, topic: str) -> None:
    try:
        in_use = await try_to_listen(reactor, endpoint, key=key)
        state = certificate_state(endpoint)
    except SettingsError as error:
        report.fail(topic, str(error))
        return
    if in_use:
        report.warn(topic, in_use)
    if state is not None and state[1]:
        (report.warn if state[0] else report.fail)(topic, state[1])


async def _check_parts(parts: Parts, settings: Settings, machines: tuple[str, ...], report: _Report) -> None:
    report.say("cage", parts.cage.told)
    for layer in parts.cage.missing:
        report.say("cage", f"does not work here: {layer}")
    report.say("workdir", f"{parts.workdir}")
    if parts.root.left_alone:
        report.say("workdir", f"not removed, remove it yourself if it is not in use: {parts.root.left_alone}")
    await _check_safety(parts, report)
    try:
        await parts.keys.check()
        report.say("key store", str(parts.source))
        if not machines:
            report.warn(
                "key store",
                "no key tarball was fetched: name a machine with --machine, or in the configuration as [machines.NAME]",
            )
    except DigsigError as error:
        report.fail("key store", error.for_operator())
    await _check_record(parts, report)
    tools = parts.tools.available()
    if not tools:
        report.fail("cst", f"no cst found in {settings.cst.base}: get one with `etc/get-cst --base DIR`")
    working = []
    for tool in tools:
        if problem := await _problem_of(parts, tool):
            report.fail(f"cst {tool.version}", problem)
        else:
            report.say(f"cst {tool.version}", f"{tool.executable} signs, with {describe(tool.libraries)}")
            if parts.tokens and for_modules(tool.libraries) != tool.libraries:
                report.say(f"cst {tool.version}", "uses this system's libraries for tokens, because they are newer")
            working.append(tool.version)
    for name, text, usable in parts.tokens.describe():
        (report.say if usable else report.fail)(f"token {name}", text)
    for machine in machines:
        await _check_machine(parts, machine, working, report)


async def _check_safety(parts: Parts, report: _Report) -> None:
    try:
        for one in await parts.findings():
            report.warn("not safe", str(one))
    except DigsigError as error:
        report.fail("key store", error.for_operator())


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


async def _check_machine(parts: Parts, machine: str, versions: list[str], report: _Report) -> None:
    """Read a machine's key tarball, and sign a trial image with each of its SRKs and the newest cst that works."""
    try:
        facts = await parts.machines.facts(machine)
        members = (await parts.keys.get(machine)).tarball.members
    except DigsigError as error:
        report.fail(machine, error.for_operator())
        return
    fuses = ", ".join(facts.fuse_values)
    report.say(machine, f"{len(facts.certificates)} certificates, fuse value {fuses}, sha256 {facts.sha256}")
    if not versions:
        return
    signed: list[str] = []
    tried = list(trials(facts, members, soc=parts.machines.soc(machine), cst_version=versions[-1]))
    for trial in tried:
        workdir = parts.root.new(f"c{secrets.token_hex(8)}")
        try:
            request = await parts.in_thread(request_for, trial.text, machine, versions[-1], workdir)
            (await parts.direct.sign(request)).close()
            signed.append(f"{trial.srk}{trial.remark}")
        except DigsigError as error:
            report.fail(machine, f"SRK {trial.srk}{trial.remark} cannot sign: {error.for_operator()}")
        finally:
            await parts.in_thread(workdir.remove)
    if signed:
        report.say(machine, f"signs with SRK {', '.join(signed)}")
    if not tried:
        report.warn(
            machine,
            f"not tried: no SRK has {_lacking(facts)}"
            if any(is_key(name) for name in members)
            else "not tried: the tarball has no private keys, so they must be on a token",
        )


def _lacking(facts: MachineKeys) -> str:
    """Return what an SRK must have to be tried."""
    hab = "certificates named CSF... and IMG... with their private keys"
    of_ahab = "its own certificate with its private key"
    return " or ".join(text for text, tables in ((hab, facts.tables), (of_ahab, facts.ahab_tables)) if tables)


class _Report:
    """A printer of result lines. `failed` is true once a failure was printed.

    It goes on without output if the reader of `out` has closed it, as `head` does.
    """

    def __init__(self, out: IO[str]) -> None:
        self.failed = False
        self._closed = False
        self._out = out

    def say(self, topic: str, text: str) -> None:
        """Print a line for a check that succeeded."""
        self._line("ok", topic, text)

    def warn(self, topic: str, text: str) -> None:
        """Print a line for what a daemon can start with, and an operator should look at."""
        self._line("warn", topic, text)

    def fail(self, topic: str, text: str) -> None:
        """Print a line for a check that failed."""
        self.failed = True
        self._line("FAILED", topic, text)

    def _line(self, result: str, topic: str, text: str) -> None:
        if self._closed:
            return
        try:
            print(f"{result:7}{topic:15} {text}", file=self._out, flush=True)
        except BrokenPipeError:
            self._closed = True
            self._flush_nowhere()
        except OSError as error:
            self._flush_nowhere()
            raise SystemExit(f"digsigd: cannot print the results: {error.strerror}") from None

    def _flush_nowhere(self) -> None:
        # Python flushes again at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), self._out.fileno())
