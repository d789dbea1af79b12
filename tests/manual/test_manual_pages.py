"""The man pages are those of the code, and man shows them without a complaint."""

from __future__ import annotations

import argparse
import os
import re
import subprocess
import tomllib
from functools import cache
from pathlib import Path

import pytest
from docutils.core import publish_string

from digsigd.client._internal.settings import ENVIRONMENT
from digsigd.tap import Options
from etc.manual import configuration
from etc.manual.pages import PAGES, roff
from etc.manual.programs import arguments, commands, programs
from etc.manual.rest import paragraph, text_of

ROOT = Path(__file__).parent.parent.parent


@cache
def source(name: str) -> str:
    return roff(name, "1.2.3", "2026-01-31")


@cache
def shown(name: str) -> str:
    """What man shows on a wide terminal, in one line, without emphasis and hyphenation."""
    done = man(name)
    assert done.returncode == 0, done.stderr
    return " ".join(re.sub(r".\x08", "", done.stdout).split())


def man(name: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "MANWIDTH": "500", "LC_ALL": "C.UTF-8", "MAN_KEEP_FORMATTING": ""}
    return subprocess.run(
        ["man", "--warnings", "--no-hyphenation", "--no-justification", "--local-file", "-"],
        input=source(name), env=environment, capture_output=True, text=True, check=False,
    )  # fmt: skip


@pytest.mark.parametrize("name", PAGES)
def test_man_shows_a_page_without_a_warning(name: str) -> None:
    """Its name, section and version are there."""
    done = man(name)
    assert (done.returncode, done.stderr) == (0, "")
    text = shown(name)
    assert f"{name}({PAGES[name]})" in text
    assert "1.2.3" in text
    assert "2026-01-31" in text


def leaves(name: str, parser: argparse.ArgumentParser) -> dict[str, argparse.ArgumentParser]:
    """The commands that have no commands below them, by their command lines."""
    below = commands(parser)
    if not below:
        return {name: parser}
    return {line: leaf for command, one in below.items() for line, leaf in leaves(f"{name} {command}", one).items()}


@pytest.mark.parametrize("name", ["digsign", "digsign-cst", "digsigd"])
def test_a_page_has_every_command_and_option(name: str) -> None:
    """Each with its help, as --help shows it."""
    text = shown(name)
    for line, parser in leaves(name, programs()[name]).items():
        assert line in text
        for action in arguments(parser):
            for option in action.option_strings:
                assert re.search(rf"(?<![\w-]){re.escape(option)}(?![\w-])", text), f"{line}: {option}"
            expected = " ".join(str(parser._get_formatter()._expand_help(action)).replace("`", "").split())
            assert expected in text, f"{line}: {action.dest}"


def test_a_hidden_option_is_not_in_the_page() -> None:
    """`digsigd record list --request` is only an older name."""
    assert "--client-request" in shown("digsigd")
    assert not re.search(r"(?<![\w-])--request(?![\w-])", shown("digsigd"))


def test_the_page_of_the_plugin_has_every_option() -> None:
    """With what each expects, and its help."""
    text = shown("twistd-digsigd")
    options = Options()
    for option in options.longOpt:
        # `--config=FILE`, or `--check` and its help.
        help_text = " ".join(options.docs[option.rstrip("=")].split())
        value = r"[^ ]+" if option.endswith("=") else ""
        assert re.search(rf"--{re.escape(option)}{value} {re.escape(help_text)}", text), option
    assert "=VALUE" not in text, "add what the option expects to etc/manual/plugin.py"


@pytest.mark.parametrize("name", ["digsign", "digsign-cst"])
def test_the_pages_of_the_client_have_every_variable(name: str) -> None:
    """Those of the table in the code, with a description."""
    for variable in ENVIRONMENT:
        assert re.search(rf"{variable} \w", shown(name)), variable


def test_the_page_of_the_configuration_has_every_setting() -> None:
    """Each name, each default or example, and each comment of the file, in its table."""
    text = shown("digsigd.toml")
    file = configuration.FILE.read_text()
    names = re.findall(r'^#?(?:([\w-]+)|"[^"]+") = ', file, re.MULTILINE)
    found = [name for table in configuration.tables(file) for one in table.settings for name in one.names]
    assert len(found) == len(names) > 60
    for table in configuration.tables(file):
        assert table.header in text
        for one in table.settings:
            assert ", ".join(one.names) in text
            assert all(" ".join(line.split()) in text for line in one.lines)
            assert " ".join(one.comment.replace("`", "").split()) in text, one.names


def test_an_uncommented_configuration_is_the_file_that_the_page_is_about() -> None:
    """Its lines without the `#` are TOML, with the tables that the page has."""
    tables = list(configuration.tables(configuration.FILE.read_text()))
    lines = [
        line for table in tables for line in (table.header, *(line for one in table.settings for line in one.lines))
    ]
    assert tomllib.loads("\n".join(lines)).keys() >= {"listen", "keys", "cst", "callers"}


@pytest.mark.parametrize("line", ["key = ", "[listen", "endpoint: 3", "  # indented"])
def test_a_line_that_is_not_understood_is_an_error(line: str) -> None:
    """It would be missing in the page."""
    with pytest.raises(ValueError, match="line 2"):
        list(configuration.tables(f"# A comment.\n{line}\n"))


def test_a_comment_that_is_about_nothing_is_an_error() -> None:
    """It would be missing in the page, too."""
    with pytest.raises(ValueError, match="without a setting"):
        list(configuration.tables("# Preamble.\n\n[listen]\n#endpoint = 1\n# More.\n\n# About x.\n#x = 1\n"))


@pytest.mark.parametrize(
    "text", ["a * b", "*a*", "|x|", "name_ and `code`", "- no list", "1. none", "tcp:9999", "\\fB", ".TH"]
)
def test_text_is_shown_as_it_is(text: str) -> None:
    """Nothing in a help text or a comment becomes markup, but `code` loses its backquotes."""
    options = {"output_encoding": "unicode", "halt_level": 2}
    environment = {**os.environ, "MANWIDTH": "200", "LC_ALL": "C.UTF-8"}
    for made in (paragraph(text), text_of(text)):
        page = publish_string(f"page\n====\n\nSection\n-------\n\n{made}", writer="manpage", settings_overrides=options)
        done = subprocess.run(
            ["man", "-l", "-"], input=page, env=environment, capture_output=True, text=True, check=True
        )
        assert text.replace("`", "") in [line.strip() for line in re.sub(r".\x08", "", done.stdout).splitlines()]
