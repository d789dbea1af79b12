"""The man pages: reStructuredText in text/, with the options of the programs put in, made into roff by docutils."""

from __future__ import annotations

import argparse
from pathlib import Path

from docutils.core import publish_string

from digsigd.client._internal.settings import ENVIRONMENT
from etc.manual import configuration, plugin
from etc.manual.programs import arguments, commands, helps, programs
from etc.manual.rest import bold, escaped, heading, italic, item, paragraph, text_of

TEXT = Path(__file__).parent / "text"
# The pages, and their sections of the manual.
PAGES = {"digsign": 1, "digsign-cst": 1, "digsigd": 8, "twistd-digsigd": 8, "digsigd.toml": 5}
# Variables without an option.
_ONLY_VARIABLES = {
    "DIGSIGN_TOKEN": "the access token itself; there is no option, since a command line is visible to all users",
    "DIGSIGN_ALLOW_PLAIN_HTTP": "`true` permits sending a token over http to another computer",
}


def roff(name: str, version: str, date: str) -> str:
    """Return a man page. `date` is that of the release, as 2026-01-31."""
    about, _, text = (TEXT / f"{name}.rst").read_text().partition("\n")
    fields = {"Manual section": PAGES[name], "Manual group": "digsigd", "Version": f"digsigd {version}", "Date": date}
    head = [_overlined(name, "="), _overlined(about, "-"), *(f":{field}: {value}" for field, value in fields.items())]
    for mark, make in _MAKERS.items():
        if mark in text:
            text = text.replace(mark, make(name))
    done = publish_string(
        "\n".join([*head, text]),
        source_path=f"{name}.rst",
        writer="manpage",
        settings_overrides={
            "halt_level": 2,  # warnings
            "report_level": 2,
            "_disable_config": True,
            "input_encoding": "unicode",
            "output_encoding": "unicode",
        },
    )
    return str(done)


def _overlined(text: str, mark: str) -> str:
    return f"{mark * len(text)}\n{text}\n{mark * len(text)}\n"


def _environment(_: str) -> str:
    """Return the variables that set what options of `digsign sign` set, and those that have no option."""
    options = {one.dest: one.help for one in arguments(commands(programs()["digsign"])["sign"])}
    items = []
    for variable, setting in ENVIRONMENT.items():
        text = options.get(setting) or _ONLY_VARIABLES[variable]
        items.append(item(bold(variable), paragraph(text)))
    return "\n".join(items)


def _synopsis(name: str) -> str:
    """Return the command line of a program without commands."""
    return _line(name, programs()[name])


def _options(name: str) -> str:
    return _list_of(programs()[name])


def _commands(name: str) -> str:
    """Return each command of a program: its command line, description and options."""
    parser = programs()[name]
    return "\n".join(_command(f"{name} {command}", one, "-") for command, one in commands(parser).items())


def _command(name: str, parser: argparse.ArgumentParser, mark: str) -> str:
    below = commands(parser)
    blocks = [heading(name, mark)]
    if not below:
        blocks.append(_line(name, parser))
    blocks.append(text_of(parser.description or ""))
    if not below:
        blocks.append(_list_of(parser))
        return "\n".join(blocks)
    # The options of `digsigd record` are those of its commands.
    for command, one in below.items():
        line = _line(f"{name} {command}", one)
        blocks.append(item(line.strip(), text_of(one.description or ""), _list_of(one)))
    return "\n".join(blocks)


def _line(name: str, parser: argparse.ArgumentParser) -> str:
    """Return a command line: required options, [*OPTION*...], and arguments."""
    shown = arguments(parser)
    words = [bold(name)]
    for action in shown:
        if action.option_strings and action.required:
            words.append(f"{bold(action.option_strings[-1])} {italic(_value(action))}")
    if any(action.option_strings and not action.required for action in shown):
        words.append(f"[{italic('OPTION')} ...]")
    for action in shown:
        if not action.option_strings:
            value = italic(_value(action))
            words.append(
                f"[{value}]" if action.nargs == "?" else f"{value} ..." if action.nargs in {"+", "*"} else value
            )
    return " ".join(words) + "\n"


def _list_of(parser: argparse.ArgumentParser) -> str:
    """Return the options and arguments with their help."""
    items = []
    for action in arguments(parser):
        value = "" if action.nargs == 0 else _value(action)
        words = [_named(name, value) for name in action.option_strings] or [italic(value)]
        items.append(item(", ".join(words), paragraph(_help(parser, action))))
    return "\n".join(items)


def _named(name: str, value: str) -> str:
    return f"{bold(name)} {italic(value)}" if value else bold(name)


def _value(action: argparse.Action) -> str:
    if isinstance(action.metavar, str):
        return action.metavar
    if action.choices is not None:
        return "|".join(str(one) for one in action.choices)
    return action.dest.upper() if action.option_strings else action.dest


def _help(parser: argparse.ArgumentParser, action: argparse.Action) -> str:
    return parser._get_formatter()._expand_help(action)  # noqa: SLF001 - argparse has no other way


def _list_of_commands(name: str) -> str:
    return "\n".join(item(bold(command), escaped(text)) + "\n" for command, text in helps(programs()[name]).items())


_MAKERS = {
    ".. synopsis\n": _synopsis,
    ".. environment\n": _environment,
    ".. options\n": _options,
    ".. commands\n": _commands,
    ".. list of commands\n": _list_of_commands,
    ".. options of the plugin\n": lambda _: plugin.options(),
    ".. preamble\n": lambda _: configuration.preamble(),
    ".. settings\n": lambda _: configuration.settings(),
}
