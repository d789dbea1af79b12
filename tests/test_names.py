"""The forms of names: one for server and client, written once, without a way to lead elsewhere."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from digsigd import names
from digsigd.text import one_line

SOURCES = [path for path in (Path(__file__).parent.parent / "digsigd").rglob("*.py") if path.name != "names.py"]


@pytest.mark.parametrize("pattern", [names.MACHINE, names.VERSION, names.REQUEST_ID], ids=lambda one: one.pattern)
def test_each_pattern_is_written_once(pattern: re.Pattern[str]) -> None:
    """No other module has one of its own."""
    assert [path for path in SOURCES if pattern.pattern in path.read_text()] == []


def test_each_form_is_told_once() -> None:
    """Neither are the words that say it to people."""
    for words in (names.MACHINE_FORM, names.VERSION_FORM):
        assert [path for path in SOURCES if words in path.read_text()] == []


def test_control_characters_are_escaped_in_one_place() -> None:
    """But for `csf`, which imports nothing of the rest."""
    found = [path.name for path in SOURCES if "unicode_escape" in path.read_text()]
    assert sorted(found) == ["errors.py", "text.py"]


@pytest.mark.parametrize("text", ["", ".", "..", "a/b", "a\\b", "a\n", "a\0", "~", "x" * 65, "ä", "a b", "$a"])
def test_no_name_leads_elsewhere(text: str) -> None:
    """A path, a line end or a space is in no name, and none is a folder's own or its parent's."""
    for pattern in (names.MACHINE, names.VERSION, names.REQUEST_ID):
        assert not pattern.fullmatch(text)


def test_where_names_end() -> None:
    """A machine's may begin with a sign, but not with a dot, and has 64 characters; a version has 32."""
    for machine in ("-a", "+a", "_", "a.b", "m" * 64):
        assert names.MACHINE.fullmatch(machine)
    assert not names.MACHINE.fullmatch(".a")
    assert not names.VERSION.fullmatch("-1")
    assert names.VERSION.fullmatch("v" * 32)
    assert not names.VERSION.fullmatch("v" * 33)


@given(st.text())
def test_one_line_is_one_line(text: str) -> None:
    """Whatever a text holds, its line can be printed, and what could be already is as it was."""
    line = one_line(text)
    assert line.isprintable()
    assert (line == text) == text.isprintable()
