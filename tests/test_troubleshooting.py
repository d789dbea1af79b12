"""docs/operate/troubleshooting.md: each message that it names is one that the code has."""

from __future__ import annotations

import ast
import re
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
TEXT = (ROOT / "docs/operate/troubleshooting.md").read_text()
# The first cells of the tables, which are messages.
MESSAGES = [
    message
    for row in re.findall(r"^\| (`.*?`) \| ", TEXT, re.MULTILINE)
    for message in re.findall(r"`([^`]+)`", row)
]  # fmt: skip
# What others print: Twisted, for an address in use.
OTHERS = {"Couldn't listen on …"}


@cache
def texts() -> str:
    """All texts of the code, one a line, with … for what is put in."""
    found: list[str] = []
    for path in (ROOT / "digsigd").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.JoinedStr):
                parts = [str(one.value) if isinstance(one, ast.Constant) else "…" for one in node.values]
                found.append("".join(parts))
            elif isinstance(node, ast.Constant) and isinstance(node.value, str):
                # Formats of log lines and of `str.format`.
                found.append(re.sub(r"\{[a-z_]+(?:[!:][^}]*)?\}", "…", node.value))
    return "\n".join(found)


@pytest.mark.parametrize("message", MESSAGES)
def test_each_message_is_one_of_the_code(message: str) -> None:
    """Word for word between the parts that differ."""
    if message in OTHERS:
        return
    pattern = r"[^\n]*?".join(re.escape(part) for part in message.split("…") if part)
    assert re.search(pattern, texts()), message


def test_there_are_messages_of_each_kind() -> None:
    """The tables are found, and a message that nobody prints would be, too."""
    assert len(MESSAGES) > 50
    assert "there are no keys for machine …" in MESSAGES
    assert "a message that nobody prints" not in texts()
