"""docs/callers.md and docs/security.md say what is so."""

from __future__ import annotations

import re
import textwrap
from pathlib import Path

from digsigd.settings import load

ROOT = Path(__file__).parent.parent.parent


def test_every_threat_names_tests_that_are_there() -> None:
    """A test that was renamed would leave a line without one."""
    text = (ROOT / "docs/security.md").read_text()
    sources = "".join(path.read_text() for path in (ROOT / "tests").rglob("test_*.py"))
    named = set(re.findall(r"`(test_[a-z0-9_]+)`", text))
    assert len(named) > 25
    assert {name for name in named if f"def {name}(" not in sources} == set()
    callers = text.split("## Callers")[1].split("\n## ")[0]
    for row in re.findall(r"^\| (?!threat|-)(.*) \|$", callers, re.MULTILINE):
        assert "`test_" in row, row


def test_the_examples_of_configurations_are_right(tmp_path: Path) -> None:
    """Each block of docs/callers.md that is TOML can be loaded."""
    text = (ROOT / "docs/callers.md").read_text()
    blocks = [textwrap.dedent(block) for block in re.findall(r"(?:^(?: {4}.*)?\n)+", text, re.MULTILINE)]
    examples = [block for block in blocks if block.strip().startswith("[")]
    assert len(examples) >= 4
    for example in examples:
        more = "[callers.x]\ntoken_file = 'x'\n" if "9999" in example else ""
        (tmp_path / "digsigd.toml").write_text(example + more)
        load(tmp_path / "digsigd.toml", {"CREDENTIALS_DIRECTORY": "/run/credentials/x"})
