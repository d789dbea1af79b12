"""A systemd unit as a command that runs its program in the same way once more: systemd.unit(5), systemd-run(1)."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator, Sequence

from digsigd.cli.console import Trouble

# What is of the daemon's life and not of how it runs, and what systemd-run sets itself.
_NOT_PASSED_ON = re.compile(
    r"Type|Exec\w*|Restart\w*|StartLimit\w*|Watchdog\w*|Timeout\w*|NotifyAccess|PIDFile|BusName|Sockets|FileDescriptor\w*"
    r"|RemainAfterExit|GuessMainPID|SuccessExitStatus|OOMPolicy|KillMode|KillSignal|SendSIG\w*|FinalKillSignal"
    r"|StandardInput|StandardOutput|StandardError|RuntimeDirectoryPreserve|Slice"
)
_RUNS = re.compile(r"/\S*digsigd run")
_FOLDERS = {"t": "/run", "S": "/var/lib", "C": "/var/cache", "L": "/var/log", "E": "/etc"}


def properties(text: str) -> Iterator[tuple[str, str]]:
    """Yield the names and values of `[Service]`, in their order, from a unit and its drop-ins, one after the other."""
    section = ""
    for line in re.sub(r"\\\n(?:[ \t]*[#;].*\n)*", " ", text).splitlines():
        line = line.strip()
        if line.startswith("["):
            section = line
        elif section == "[Service]" and "=" in line and line[0] not in "#;":
            name, _, value = line.partition("=")
            yield name.strip(), value.strip()


def command(text: str, unit: str, extra: Sequence[str]) -> list[str]:
    """Return the words that run `ExecStart=` of a unit with `extra` arguments, in a unit of the same kind.

    `text` is the unit with its drop-ins, `unit` its name. It gets a runtime directory beside the daemon's, which
    systemd removes at the end. The user is the daemon's, so that it can read the same files, and its state is not given
    to another user. Raises `Trouble`.
    """
    prefix = unit.removesuffix(".service").partition("@")[0]
    own = f"{prefix}-check"
    found = [(name, _expanded(name, value, unit, own)) for name, value in properties(text)]
    starts = _last_list(value for name, value in found if name == "ExecStart")
    if len(starts) != 1:
        raise Trouble(f"{unit} has {len(starts)} commands in ExecStart=; expected one, `digsigd run`")
    words = shlex.split(starts[0].lstrip("-:!"))
    if not words or not (_RUNS.fullmatch(" ".join(words[:2])) or (words[0][0] == "/" and "digsigd" in words[1:])):
        raise Trouble(
            f"ExecStart={starts[0]} of {unit} is not the command of a daemon: expected /.../digsigd run ..., or"
            " /.../twistd ... digsigd"
        )
    passed = [(name, value) for name, value in found if not _NOT_PASSED_ON.fullmatch(name)]
    passed = [(name, f"{own}" if name == "RuntimeDirectory" and value else value) for name, value in passed]
    if _is_dynamic(found) and not any(name == "User" and value for name, value in found):
        passed.append(("User", prefix))
    run = ["systemd-run", f"--unit={own}", "--pipe", "--wait", "--collect", "--quiet", "--service-type=exec"]
    return [*run, *(f"--property={name}={value}" for name, value in passed), "--", *words, *extra]


def _last_list(values: Iterator[str]) -> list[str]:
    """Return a list as systemd has it: an empty value removes what came before."""
    found: list[str] = []
    for value in values:
        found = [*found, value] if value else []
    return found


def _is_dynamic(found: Sequence[tuple[str, str]]) -> bool:
    values = [value for name, value in found if name == "DynamicUser"]
    return bool(values) and values[-1].lower() in {"1", "yes", "true", "on"}


def _expanded(name: str, value: str, unit: str, own: str) -> str:
    """Return a value with its specifiers replaced: systemd-run takes each character as it is."""

    def one(found: re.Match[str]) -> str:
        letter = found[1]
        if letter == "%":
            return "%"
        if letter in _FOLDERS:
            return _FOLDERS[letter]
        if letter in "nNp":
            return unit if letter == "n" else unit.removesuffix(".service")
        if letter == "d":
            return f"/run/credentials/{own}.service"
        if _NOT_PASSED_ON.fullmatch(name) and name != "ExecStart":
            return found[0]
        raise Trouble(f"{name}={value} of {unit} has %{letter}, which cannot be replaced here; write it out")

    return re.sub(r"%(.)", one, value)
