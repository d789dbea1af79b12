"""`twistd digsigd --check`: say what a configuration means, and reach everything it names, without listening."""

from __future__ import annotations

from typing import IO, Any

from twisted.internet.defer import Deferred

from digsigd.errors import DigsigError
from digsigd.service import SigningService
from digsigd.settings import Settings, SettingsError


def check(reactor: Any, settings: Settings, config: str | None, out: IO[str]) -> Deferred[None]:
    """Print a line for each thing checked; ends the process with 1 if anything is missing."""
    return Deferred.fromCoroutine(_check(reactor, settings, config, out))


async def _check(reactor: Any, settings: Settings, config: str | None, out: IO[str]) -> None:
    failed = 0

    def say(topic: str, text: str, *, wrong: bool = False) -> None:
        nonlocal failed
        failed += wrong
        print(f"{'FAILED' if wrong else 'ok':7}{topic:15}{text}", file=out, flush=True)

    def say_error(topic: str, error: DigsigError) -> None:
        say(topic, " | ".join(part for part in (error.what, error.detail, error.hint) if part), wrong=True)

    say("configuration", config or "defaults and environment")
    try:
        service = SigningService(settings, reactor=reactor, listen=False)
    except SettingsError as error:
        say("configuration", str(error), wrong=True)
        raise SystemExit(1) from None
    who = f"callers: {', '.join(settings.callers)}" if settings.callers else "nobody has to say who they are"
    say("listens on", f"{settings.listen.endpoint} ({who})")
    try:
        service.startService()
    except DigsigError as error:
        say_error("workdir", error)
        raise SystemExit(1) from None
    try:
        say("workdir", f"{service.workdir}")
        if service.left_alone:
            say("workdir", f"left alone, remove it yourself if it is nobody's: {service.left_alone}")
        try:
            await service.keys.check()
            say("key store", str(service.source))
        except DigsigError as error:
            say_error("key store", error)
        tools = service.tools.available()
        if not tools:
            say("cst", f"no version below {settings.cst.base}: `etc/get-cst --base DIR` gets one", wrong=True)
        for tool in tools:
            problem = await service.prove(tool)
            say(f"cst {tool.version}", problem or f"{tool.executable} signs", wrong=problem is not None)
        for name, text, usable in service.tokens.describe():
            say(f"token {name}", text, wrong=not usable)
        for machine in settings.machines:
            try:
                say(f"{machine}", await service.describe_keys(machine))
            except DigsigError as error:
                say_error(machine, error)
    finally:
        await service.stopService()
    if failed:
        raise SystemExit(1)
