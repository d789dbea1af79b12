"""What a caller may do with a machine's keys, and which line of the configuration says so."""

from __future__ import annotations

from dataclasses import dataclass

from digsigd.callers.model import pattern_for
from digsigd.callers.origins import line_of
from digsigd.csf.policy import ALLOWABLE
from digsigd.names import BACKENDS
from digsigd.settings import CallerSettings, Settings


@dataclass(frozen=True, slots=True)
class Reason:
    """One thing that is allowed or not, and why."""

    what: str
    allowed: bool
    why: str


@dataclass(frozen=True, slots=True)
class Explanation:
    """Everything about one caller and one machine. `may_sign` is false if no request could be signed."""

    proofs: tuple[str, ...]
    reasons: tuple[Reason, ...]
    may_sign: bool


class _Lines:
    """Says where a key is, as FILE:LINE and the key."""

    def __init__(self, name: str, text: str) -> None:
        self._name, self._text = name, text

    def of(self, *path: str) -> str:
        line = line_of(self._text, path)
        key = ".".join(path)
        return f"{self._name}:{line}: {key}" if line is not None else f"{key} is not set"


def explain(settings: Settings, caller: str, machine: str, *, name: str, text: str) -> Explanation:
    """Return what `caller` may do for `machine`. `text` is the content of the configuration file `name`.

    Raises `KeyError` if there are callers, but not this one.
    """
    lines = _Lines(name, text)
    if not settings.callers:
        open_to_all = "there are no [callers]: authentication is off, and everybody may do this"
        reasons = [Reason(f"machine {machine}", True, open_to_all)]
        reasons += [Reason(f"backend {one}", True, open_to_all) for one in BACKENDS]
        reasons += _unlocks(settings, None, machine, caller, lines)
        return Explanation((open_to_all,), tuple(reasons), True)
    chosen = settings.callers[caller]
    found = [_pattern("machine", machine, chosen.machines, lines.of("callers", caller, "machines"))]
    for backend in BACKENDS:
        where = lines.of("callers", caller, "backends")
        allowed = backend in chosen.backends
        found.append(
            Reason(f"backend {backend}", allowed, where if allowed or not chosen.backends else f"not in {where}")
        )
    where = lines.of("callers", caller, "cst_versions")
    versions = [Reason(f"cst {one}", True, where) for one in chosen.cst_versions]
    found += versions or [Reason("cst", False, where)]
    if settings.metrics.path:
        found.append(Reason("metrics", chosen.metrics, lines.of("callers", caller, "metrics")))
    may_sign = found[0].allowed and bool(chosen.backends) and bool(versions)
    found += _unlocks(settings, chosen, machine, caller, lines)
    return Explanation(tuple(_proofs(settings, chosen, caller, lines)), tuple(found), may_sign)


def _pattern(what: str, name: str, patterns: tuple[str, ...], where: str) -> Reason:
    found = pattern_for(name, patterns)
    why = f'"{found}" in {where}' if found is not None else f"no pattern matches in {where}" if patterns else where
    return Reason(f"{what} {name}", found is not None, why)


def _unlocks(
    settings: Settings, chosen: CallerSettings | None, machine: str, caller: str, lines: _Lines
) -> list[Reason]:
    """Return a reason for each command beyond the safe ones: the host must allow it, and the caller's table."""
    own = settings.machines.get(machine)
    reasons = []
    for name in ALLOWABLE:
        hosts = [
            lines.of(*path)
            for path, allow in (
                (("policy", "allow"), settings.policy.allow),
                (("machines", machine, "allow"), own.allow if own is not None else ()),
            )
            if name in allow
        ]
        callers = chosen is None or name in chosen.csf.allow
        why = " and ".join(hosts) or "neither policy.allow nor the machine's allow has it"
        if chosen is not None:
            where = lines.of("callers", caller, "csf", "allow")
            why += f"; {where}" if callers or not chosen.csf.allow else f"; not in {where}"
        reasons.append(Reason(f"csf {name}", bool(hosts) and callers, why))
    return reasons


def _proofs(settings: Settings, chosen: CallerSettings, caller: str, lines: _Lines) -> list[str]:
    """Return how the caller can prove who it is, without secrets."""
    found = []
    if chosen.token_file is not None:
        found.append(f"token in {chosen.token_file} ({lines.of('callers', caller, 'token_file')})")
    for number, token in enumerate(chosen.tokens):
        where = lines.of("callers", caller, "tokens", str(number))
        what = f"token {token.sha256[:8].lower()}" if token.sha256 is not None else f"token in {token.file}"
        until = f" until {token.not_after:%Y-%m-%d %H:%M %Z}" if token.not_after is not None else ""
        found.append(f"{what}{until} ({where})")
    found += [f"certificate {one} ({lines.of('callers', caller, 'certificate')})" for one in chosen.certificates]
    if settings.listen.proxy.caller_header is not None:
        header = settings.listen.proxy.caller_header
        found.append(f"{header}: {caller} from the proxy ({lines.of('listen', 'proxy', 'caller_header')})")
    return found
